"""Bringing a database to the schema of this program, and telling whether it is empty.

Rules: an empty or older database is migrated under the write lock, so two starts do not meet; a file that is no
database of this engine, or that a newer program migrated, is refused and not touched. Alembic is imported only when
there is something to migrate. The folder `migrations/` lies beside the package in a checkout and inside it when
installed. Left to others: the key file (`services.keyfile`), opening (`sqlite`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from policy_engine.errors import InputRefused, StartRefused, StoreUnavailable
from policy_engine.limits import LIMITS
from policy_engine.store.faults import DatabaseError, sentence
from policy_engine.store.sessions import database_path, is_postgres, make_engine

SCHEMA = "0009"
"""The newest migration; a test holds it equal to Alembic's head. Numbers have four digits, so that they compare."""

BUSY_SECONDS = 1.0

_OWN_TABLES = frozenset(("entries", "batches", "heads"))
_FOREIGN = "the file holds another program's database; name another file"
_NEWER = "a newer program migrated this database; use that program"
_OLDER = (
    "an older program made this database, and it is not migrated yet: keep a copy, open it once with this program "
    "(`policy-engine policy list` does), and ask again"
)
_MADE_BY = {"0003": "tree", "0004": "labels", "0005": "erased_keys"}
"""Of each migration that made tables which everybody who looks at a file reads, one of them."""

_FOLDERS = (Path(__file__).parent / "migrations", Path(__file__).parents[2] / "migrations")


def migrations_folder() -> Path:
    """Return the folder of migrations. Raises `StartRefused` when the installation lacks it."""
    for folder in _FOLDERS:
        if (folder / "env.py").is_file():
            return folder
    raise StartRefused("the migrations are missing from this installation; install the package again")


def prepare(database: str | Path) -> bool:
    """Create or migrate a database and return whether it is empty (no entry was ever written).

    A PostgreSQL database is never made or migrated here: its owner does (`install`). Raises `StartRefused` for a
    database that is not this engine's, is not migrated, was migrated by a newer program, or cannot be opened.
    """
    if is_postgres(str(database)):
        from policy_engine.store.pgmigrate import read_schema

        return read_schema(str(database), SCHEMA)
    path = database_path(database)
    if not path.parent.is_dir():
        raise StartRefused("the folder for the database does not exist", where="database")
    try:
        found = None
        if path.exists():
            with _connect(path, look=True) as connection:
                found = _schema(connection)
        with _connect(
            path, create=True, busy_seconds=BUSY_SECONDS if found == SCHEMA else LIMITS.migration_seconds
        ) as connection:
            if _schema(connection) != SCHEMA:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                if _schema(connection) != SCHEMA:  # another start may have migrated while this one waited
                    _upgrade(connection)
                connection.commit()
            return connection.execute(text("SELECT NOT EXISTS (SELECT 1 FROM heads)")).scalar() == 1
    except (SQLAlchemyError, DatabaseError) as error:
        raise StartRefused(sentence(error), where="database") from error
    except StoreUnavailable as error:
        raise StartRefused(error.message, where=error.where) from error


def require_known(path: Path) -> None:
    """Raise `StartRefused` for an SQLite file of another program, or of a newer or much older one; write nothing.

    For whoever looks at a file without opening the engine. What somebody took out of a file of ours is said elsewhere,
    and what an older program never made is not what somebody took out.
    """
    with _connect(path, look=True) as connection:
        tables = _tables(connection)
        if tables and not tables & _OWN_TABLES:
            raise StartRefused(_FOREIGN, where="database")
        if "alembic_version" in tables and lacks_tables(tables, _version(connection)):
            raise StartRefused(_OLDER, where="database")


def lacks_tables(tables: set[str], version: str | None) -> bool:
    """Return whether tables that everybody looks at are not there because the database is at an older migration."""
    later = {made for migration, made in _MADE_BY.items() if version is not None and migration > version}
    return bool(later) and not tables & later  # where some are there, others were taken out


def install(database: str) -> None:
    """Make or migrate the schema, functions and roles of a PostgreSQL database, as its owner.

    Raises `StartRefused` when the login may not, or the schema is another's or of a newer program, and `InputRefused`
    for a database of another kind.
    """
    if not is_postgres(database):
        raise InputRefused("only PostgreSQL is installed; an SQLite file is made by the first start", where="database")
    from policy_engine.store import pgfaults, pgmigrate

    engine = pgmigrate.make_engine(database)
    try:
        with engine.connect() as connection:
            pgmigrate.enter_schema(connection)
            pgmigrate.check_ours(connection, SCHEMA)
            _upgrade(connection)
            connection.commit()
    except pgfaults.ERRORS as error:
        raise pgmigrate.refusal(error) from error
    finally:
        engine.dispose()


@contextmanager
def _connect(
    path: Path, *, create: bool = False, look: bool = False, busy_seconds: float = BUSY_SECONDS
) -> Iterator[Connection]:
    engine = make_engine(path, create=create, look=look, busy_seconds=busy_seconds)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _schema(connection: Connection) -> str | None:
    """Return the migration a database is at; `None` for a new file."""
    tables = _tables(connection)
    if not tables:
        return None
    if "alembic_version" not in tables:
        raise StartRefused(_FOREIGN, where="database")
    return _version(connection)


def _tables(connection: Connection) -> set[str]:
    return set(connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'")).scalars())


def _version(connection: Connection) -> str | None:
    """Return the migration that a database names, if any. Raises `StartRefused` for one that this program knows not."""
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if found is not None and found > SCHEMA:
        raise StartRefused(_NEWER, where="database")
    return None if found is None else str(found)


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


@cache
def _template() -> bytes:
    """Return the bytes of an empty migrated database."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "template.db"
        prepare(path)
        return path.read_bytes()


def copy_template(destination: str | Path) -> Path:
    """Write an empty migrated database to a new file, without migrating again, and return its path.

    For tests, cases and demos, which need many. Raises `StartRefused` when the file exists.
    """
    path = database_path(destination)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise StartRefused("the database file exists already", where="database") from None
    with os.fdopen(handle, "wb") as file:
        file.write(_template())
    return path
