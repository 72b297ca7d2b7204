"""The schema: what the migrations build is what the metadata says, and it refuses what must never be."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pysqlite3.dbapi2 as dbapi
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from policy_engine.errors import InputRefused, StartRefused
from policy_engine.store.migrate import SCHEMA, copy_template, migrations_folder, prepare, require_known
from policy_engine.store.sessions import database_path, has_wal_fix, journal_mode
from policy_engine.store.sqlite import SqliteStore
from policy_engine.store.tables import metadata
from tests.store.samples import VAULT, Sample, SqliteDatabase, genesis

ROOT = Path(__file__).parents[2]


@pytest.fixture
def database(sqlite_database: SqliteDatabase) -> SqliteDatabase:
    """A file: what is tested here is about files."""
    return sqlite_database


def normal(sql: str) -> list[str]:
    """Return the parts of a CREATE TABLE in an order of their own, so that only what they say is compared."""
    words = " ".join(sql.replace('"', "").split())
    head, _, rest = words.partition("(")
    inner, _, tail = rest.rpartition(")")
    parts, depth, part = [], 0, ""
    for sign in inner + ",":
        depth += {"(": 1, ")": -1}.get(sign, 0)
        if sign == "," and depth == 0:
            parts.append(part.strip())
            part = ""
        else:
            part += sign
    return [head.strip(), *sorted(parts), *sorted(tail.replace(",", " ").split())]


def tables_of(path: Path) -> dict[str, list[str]]:
    """Return every table of a database file by name."""
    connection = dbapi.connect(str(path))
    try:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall()
        return {name: normal(sql) for name, sql in rows if name != "alembic_version"}
    finally:
        connection.close()


def test_migrations_build_what_the_metadata_says(tmp_path: Path) -> None:
    """Tables, columns, types, keys, constraints and options are the same in both; drift fails here."""
    prepare(tmp_path / "migrated.db")
    engine = create_engine(f"sqlite:///{tmp_path / 'created.db'}", module=dbapi)
    metadata.create_all(engine)
    engine.dispose()
    assert tables_of(tmp_path / "migrated.db") == tables_of(tmp_path / "created.db")


def test_the_newest_migration_is_the_one_this_program_expects() -> None:
    """`SCHEMA` is Alembic's only head."""
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()))
    assert ScriptDirectory.from_config(config).get_heads() == [SCHEMA]


def test_the_command_line_of_alembic_migrates(tmp_path: Path) -> None:
    """`alembic -x database=... upgrade head` builds the same schema for its owner alone, and refuses to go back."""
    path = tmp_path / "log.db"

    def alembic(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "alembic", *words]
        return subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **environment}, check=False
        )

    assert alembic("-x", f"database=sqlite:///{path}", "upgrade", "head").returncode == 0
    prepare(tmp_path / "other.db")
    assert tables_of(path) == tables_of(tmp_path / "other.db")
    assert path.stat().st_mode & 0o777 == 0o600
    assert prepare(path) is True
    down = alembic("downgrade", "base", POLICY_ENGINE_DATABASE=f"sqlite:///{path}")
    assert down.returncode != 0
    assert "restore a verified copy" in down.stderr


def test_a_new_database_is_its_owners_alone(tmp_path: Path) -> None:
    """Registers hold facts in clear, so nobody else may read the file, nor those beside it; an old file stays as is."""
    path = tmp_path / "new.db"
    before = os.umask(0o022)
    try:
        prepare(path)
        store = SqliteStore(path, VAULT)
        modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.glob("new.db*")}
        store.close()
    finally:
        os.umask(before)
    assert "new.db" in modes and set(modes.values()) == {0o600}
    path.chmod(0o640)
    prepare(path)
    assert path.stat().st_mode & 0o777 == 0o640


def test_an_existing_database_is_not_migrated_again(tmp_path: Path) -> None:
    """Preparing tells an empty database from one with entries, and changes neither."""
    path = tmp_path / "log.db"
    assert prepare(path) is True
    assert prepare(f"sqlite:///{path}") is True
    store = SqliteStore(path, VAULT)
    genesis(store)
    store.close()
    assert prepare(path) is False


def test_a_file_that_is_not_ours_is_refused_and_left_alone(tmp_path: Path) -> None:
    """Another program's database, a text file, a newer schema and a missing folder refuse to start."""
    foreign = tmp_path / "foreign.db"
    connection = dbapi.connect(str(foreign))
    connection.execute("CREATE TABLE theirs (a)")
    connection.close()
    text = tmp_path / "text.db"
    text.write_text("this is no database, however long it may be" * 40)
    newer = tmp_path / "newer.db"
    prepare(newer)
    connection = dbapi.connect(str(newer))
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    for path, message in (
        (foreign, "another program"),
        (text, "no database of this engine"),
        (newer, "newer program"),
        (tmp_path / "nowhere" / "log.db", "folder"),
    ):
        before = path.read_bytes() if path.exists() else None
        with pytest.raises(StartRefused, match=message):
            prepare(path)
        assert (path.read_bytes() if path.exists() else None) == before


def test_a_copied_template_is_an_empty_database(tmp_path: Path) -> None:
    """A copy is migrated and empty, has its own log, and never replaces a file."""
    paths = [copy_template(tmp_path / f"{name}.db") for name in "ab"]
    logs = set()
    for path in paths:
        assert prepare(path) is True
        store = SqliteStore(path, VAULT)
        genesis(store)
        head = store.head()
        assert head is not None
        logs.add(head.log_id)
        store.close()
    assert len(logs) == 2
    with pytest.raises(StartRefused, match="exists"):
        copy_template(paths[0])


def test_the_installation_must_have_its_migrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the folder of migrations the start is refused with what to do."""
    monkeypatch.setattr("policy_engine.store.migrate._FOLDERS", (tmp_path,))
    with pytest.raises(StartRefused, match="install"):
        prepare(tmp_path / "log.db")


FORBIDDEN = [
    "UPDATE entries SET public = x'00' WHERE seq = 1",
    "DELETE FROM entries WHERE seq = 1",
    "INSERT OR REPLACE INTO entries SELECT log_id, seq, x'00', leaf FROM entries WHERE seq = 1",
    "REPLACE INTO entries SELECT log_id, seq, x'00', leaf FROM entries",
    "UPDATE batches SET hash = '' WHERE batch_no = 1",
    "DELETE FROM batches WHERE batch_no = 1",
    "INSERT OR REPLACE INTO batches SELECT log_id, batch_no, first_seq, n, x'00', hash FROM batches",
    "INSERT OR REPLACE INTO batches SELECT log_id, 99, first_seq, n, x'00', hash FROM batches",
    "DELETE FROM bodies WHERE seq = 1",
    "UPDATE bodies SET sealed = x'00' WHERE seq = 1",
    "UPDATE bodies SET sealed = x'' WHERE seq = 1",
    "UPDATE bodies SET tags = x'' WHERE seq = 1",
    "UPDATE bodies SET sealed = x'', tags = x'', seq = 99 WHERE seq = 1",
    "UPDATE bodies SET sealed = x'', tags = x'', data_key = 'other' WHERE seq = 1",
    "INSERT OR REPLACE INTO bodies SELECT log_id, seq, data_key, x'00', tags FROM bodies",
    "UPDATE tags SET tag = x'00'",
    "DELETE FROM tags",
    "DELETE FROM state",
    "UPDATE state SET epoch = epoch - 1",
    "UPDATE state SET facts_revision = facts_revision - 1",
    "UPDATE state SET sample = 2",
    "INSERT INTO state SELECT 2, epoch, release, facts_revision, sample FROM state",
    "INSERT INTO entries VALUES ('a', 'text', x'00', x'00')",
]


@pytest.mark.parametrize("statement", FORBIDDEN)
@pytest.mark.parametrize("recursive", ["ON", "OFF"])
def test_the_log_is_append_only_for_any_program(database: SqliteDatabase, statement: str, recursive: str) -> None:
    """A program that opens the file and edits, deletes or replaces is stopped, with recursive triggers or without."""
    store = database.open()
    genesis(store)
    state = store.state()
    drafts = [Sample(state, instant=store.now(), until=2**62) for _ in range(2)]
    store.append(drafts, state)
    store.index_tags(9)
    connection = dbapi.connect(str(database.path))
    try:
        connection.execute(f"PRAGMA recursive_triggers = {recursive}")
        with pytest.raises(dbapi.IntegrityError):
            connection.execute(statement)
    finally:
        connection.rollback()
        connection.close()


def test_a_body_may_be_emptied_and_then_its_tags_may_go(database: SqliteDatabase) -> None:
    """Emptying a body with its tags is the one change the schema allows; verifying says that no entry allowed it."""
    store = database.open()
    genesis(store)
    state = store.state()
    store.append([Sample(state, instant=store.now(), until=2**62)], state)
    store.index_tags(9)
    connection = dbapi.connect(str(database.path))
    connection.execute("SAVEPOINT try_it")
    connection.execute("UPDATE bodies SET sealed = x'', tags = x'' WHERE seq = 1")
    connection.execute("DELETE FROM tags WHERE seq = 1")
    connection.execute("ROLLBACK TO try_it")
    connection.rollback()
    connection.close()


@pytest.mark.parametrize(
    ("version", "fixed"),
    [
        ((3, 40, 1), False),
        ((3, 44, 5), False),
        ((3, 44, 6), True),
        ((3, 45, 1), False),
        ((3, 50, 6), False),
        ((3, 50, 7), True),
        ((3, 51, 2), False),
        ((3, 51, 3), True),
        ((3, 53, 0), True),
    ],
)
def test_the_wal_bug_is_told_by_version(version: tuple[int, ...], fixed: bool) -> None:
    """A fixed SQLite uses WAL; one with the WAL-reset bug gets a rollback journal and a warning."""
    assert has_wal_fix(version) is fixed
    if fixed:
        assert journal_mode(version) == "WAL"
    else:
        with pytest.warns(RuntimeWarning, match="corrupt"):
            assert journal_mode(version) == "DELETE"


def test_a_store_works_on_a_rollback_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an older SQLite the same store appends and changes, only slower."""
    monkeypatch.setattr("policy_engine.store.sessions.journal_mode", lambda: "DELETE")
    path = tmp_path / "log.db"
    prepare(path)
    store = SqliteStore(path, VAULT)
    genesis(store)
    state = store.state()
    store.append([Sample(state, instant=store.now(), until=2**62)], state)
    store.close()
    assert not path.with_name("log.db-wal").exists()
    assert dbapi.connect(str(path)).execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_durability_settings_hold_on_every_connection(database: SqliteDatabase) -> None:
    """Writer and readers sync fully and use WAL: what commit reports has reached the disk."""
    store = database.open()
    for connection in (store._writer._connection, store._quick._connection):
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA foreign_keys").fetchone() == (1,)


@pytest.mark.parametrize("name", ["", "sqlite:///", ":memory:", "sqlite:///:memory:", "postgresql://x/y", "file:x"])
def test_a_database_is_a_file(name: str) -> None:
    """A database in memory, or of another kind, is refused: the log must outlive the process."""
    with pytest.raises(InputRefused):
        database_path(name)


def test_the_standard_library_never_opens_the_database() -> None:
    """No module of the product imports the standard `sqlite3`."""
    found = [
        str(path)
        for folder in ("policy_engine", "migrations")
        for path in (ROOT / folder).rglob("*.py")
        if "import sqlite3" in path.read_text() or "from sqlite3" in path.read_text()
    ]
    assert found == []


@pytest.mark.parametrize("version", ["0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008"])
def test_a_file_of_an_older_program_is_not_called_changed_by_hand(tmp_path: Path, version: str) -> None:
    """Who looks at it without opening it is told to migrate it, or sees it whole; once it is opened it is whole."""
    path = tmp_path / "older.db"
    engine = create_engine(f"sqlite:///{path}", module=dbapi)
    with engine.connect() as connection:
        config = Config()
        config.set_main_option("script_location", str(migrations_folder()))
        config.attributes["connection"] = connection
        command.upgrade(config, version)
        connection.commit()
    engine.dispose()
    if version < "0005":
        with pytest.raises(StartRefused, match="an older program made this database"):
            require_known(path)
    else:
        require_known(path)
        assert set(tables_of(path)) >= {"tree", "labels", "erased_keys", "pruned_ranges"}
    prepare(path)
    require_known(path)


def test_a_file_that_calls_itself_older_than_its_tables_is_looked_at(tmp_path: Path) -> None:
    """What was taken out of it is a finding, and not the work of an older program."""
    path = tmp_path / "claimed.db"
    prepare(path)
    connection = dbapi.connect(str(path))
    connection.execute("UPDATE alembic_version SET version_num = '0004'")
    connection.execute("DROP TABLE tree")
    connection.commit()
    connection.close()
    require_known(path)
