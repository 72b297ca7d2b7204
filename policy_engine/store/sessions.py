"""Connections to the database, and reading and writing as two different types.

Rules of the room:
- A `Reader` runs queries, a `Writer` runs queries and commands: a write through a read does not type-check.
- Statements are SQLAlchemy expressions, compiled once to text at import and run on the driver's own connection: one
  decision must not pay for building a statement. Parameters are positional, in the order named beside the statement.
- SQLite is the one that `pysqlite3` brings; the standard library's never opens the database. A SQLite with the
  WAL-reset bug (before 3.51.3, 3.50.7 or 3.44.6) gets a rollback journal and a warning, never WAL.
- Every connection syncs fully before a commit returns. An existing file is opened, never created, except by `migrate`.
- A file is opened by its only name: under a second one it would have a second write-ahead log.
Left to others: transactions and their outcome (`sqlite`), what errors of the driver mean (`faults`), carrying the
write-ahead log over (`checkpoints`), what a failed disk leaves in it (`writeahead`).
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pysqlite3.dbapi2 as dbapi
from sqlalchemy import Engine, QueuePool, create_engine, event
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql import ClauseElement

from policy_engine.errors import InputRefused, StoreUnavailable
from policy_engine.store.checkpoints import checkpoint_when_due
from policy_engine.store.writeahead import settle

_DIALECT = sqlite.dialect(paramstyle="qmark")

READERS_COUNT = 8
"""Connections kept for streaming readers; more wait."""

READER_CACHE_KIB = 8_192
WRITER_CACHE_KIB = 65_536
"""Pages each connection keeps: the index of tags is written all over, so the writer keeps more."""

ROWS_PER_STATEMENT_MAX = 128

POLL_SECONDS = 0.001
"""How often a locked database is asked again."""

DATABASE_MODE = 0o600
"""Of a file that is made here, and of those that SQLite puts beside it: registers hold facts in clear."""

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Query:
    """A statement that reads, compiled for SQLite; other stores compile its `expression` for themselves."""

    sql: str
    expression: ClauseElement | None = field(default=None, compare=False, repr=False)
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Command:
    """A statement that writes, compiled."""

    sql: str


def query(expression: ClauseElement, *names: str) -> Query:
    """Compile an expression that reads; `names` are its parameters in the order in which they are passed."""
    return Query(_compile(expression, names), expression, names)


def command(expression: ClauseElement, *names: str) -> Command:
    """Compile an expression that writes; `names` as in `query`."""
    return Command(_compile(expression, names))


@cache
def _repeated(insert: str, count: int) -> str:
    """Return an insert of one row as an insert of several."""
    head, values, row = insert.rpartition("VALUES ")
    if not values or not row.startswith("(") or not row.endswith(")"):
        raise ValueError("the statement is no insert of one row of values")
    return f"{head}{values}{', '.join([row] * count)}"


def _compile(expression: ClauseElement, names: Sequence[str]) -> str:
    compiled = expression.compile(dialect=_DIALECT)
    order = tuple(getattr(compiled, "positiontup", None) or ())
    if order != tuple(names):
        raise ValueError(f"the statement takes {order}, not {tuple(names)}")
    return str(compiled)


class Reader:
    """Reads on one connection. Outside a transaction every query sees the last commit of any process."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @classmethod
    def of(cls, writer: Writer) -> Reader:
        """Return a reader on a writer's connection: the same, without the right to write."""
        return cls(writer._connection)

    def one(self, statement: Query, *parameters: object) -> Row | None:
        """Return the first row, or `None`."""
        row: Row | None = self._connection.execute(statement.sql, parameters).fetchone()
        return row

    def all(self, statement: Query, *parameters: object) -> list[Row]:
        """Return every row."""
        rows: list[Row] = self._connection.execute(statement.sql, parameters).fetchall()
        return rows

    def stream(self, statement: Query, *parameters: object) -> Iterator[Any]:
        """Yield rows as they are read."""
        yield from self._connection.execute(statement.sql, parameters)

    @contextmanager
    def at_one_moment(self) -> Iterator[None]:
        """Let every query inside see the same commit, and text that is no UTF-8 come out marked and not as an error."""
        self._connection.execute("BEGIN")
        self._connection.text_factory = _lenient
        try:
            yield
        finally:
            self._connection.text_factory = str
            self._connection.execute("ROLLBACK")


def _lenient(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


class Writer(Reader):
    """Reads and writes on the one connection that may write."""

    def __init__(self, connection: Any, busy_seconds: float) -> None:
        super().__init__(connection)
        self._patience = _patience(busy_seconds)

    def run(self, statement: Command, *parameters: object) -> int:
        """Run a command once and return how many rows it changed."""
        count: int = self._connection.execute(statement.sql, parameters).rowcount
        return count

    def insert_many(self, statement: Command, rows: Sequence[Sequence[object]]) -> None:
        """Insert rows with as few statements as their number has binary digits.

        Each statement lets go of the interpreter once; row by row, a busy event loop would keep it every time.
        """
        at = 0
        while at < len(rows):
            count = min(1 << ((len(rows) - at).bit_length() - 1), ROWS_PER_STATEMENT_MAX)
            part = rows[at : at + count]
            self._connection.execute(_repeated(statement.sql, count), [value for row in part for value in row])
            at += count

    def begin(self, *, patient: bool = True) -> None:
        """Start a transaction that holds the write lock from its first moment: nothing read in it can move.

        Without patience a lock that another process holds is an error at once.
        """
        if patient:
            self._connection.execute("BEGIN IMMEDIATE")
            return
        self._connection.set_busy_handler(None)
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        finally:
            self._connection.set_busy_handler(self._patience)

    def commit_if_open(self) -> None:
        """Commit what was begun and not rolled back; on return it is durable."""
        if self._connection.in_transaction:
            self._connection.execute("COMMIT")

    def rollback(self) -> None:
        """Undo what was written, if a transaction is open."""
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def checkpoint_when_due(self, database: Path) -> None:
        """Carry the write-ahead log into the database file when it has grown. Raises what the disk refuses with."""
        checkpoint_when_due(self._connection, database)

    def close(self) -> None:
        """Close the connection for good."""
        self._connection.close()


def is_postgres(database: str) -> bool:
    """Return whether a URL names a PostgreSQL database."""
    return database.startswith(("postgresql://", "postgresql+psycopg://"))


def database_path(database: str | Path) -> Path:
    """Return the file that a path or `sqlite:///` URL names. Raises `InputRefused` for another kind of database."""
    text = str(database)
    if text.startswith("sqlite:///"):
        text = text.removeprefix("sqlite:///")
    elif "://" in text:
        raise InputRefused("only sqlite:///FILE is a database this store opens", where="database")
    if not text or text.startswith((":memory:", "file:")):
        raise InputRefused("a database is a file: the log must outlive the process", where="database")
    return Path(text).absolute()


def identity_of(path: Path) -> tuple[int, int]:
    """Return which file bears a name, whatever it is called later. Raises `StoreUnavailable` when there is none."""
    try:
        found = path.stat()
    except OSError:
        raise StoreUnavailable("the database file is gone; put it back", where="database") from None
    return found.st_dev, found.st_ino


def require_one_name(path: Path) -> None:
    """Raise `StoreUnavailable` for a file that has a second name (a hard link).

    SQLite keeps the write-ahead log under the name by which a file was opened. Two programs that open one file by two
    names do not see each other, and each overwrites what the other was told is durable.
    """
    try:
        names = path.stat().st_nlink
    except OSError:
        return  # opening it will say so
    if names > 1:
        raise StoreUnavailable(
            "the database file has a second name (a hard link), and who opens it by that one is not seen by who opens "
            "it by this; take the other name away, or make it a copy",
            where="database",
        )


def has_wal_fix(version: tuple[int, ...]) -> bool:
    """Return whether a SQLite version is free of the WAL-reset bug (fixed in 3.51.3, 3.50.7 and 3.44.6)."""
    return version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)


def journal_mode(version: tuple[int, ...] | None = None) -> str:
    """Return the journal mode for the linked SQLite, warning when it is not WAL."""
    linked = dbapi.sqlite_version_info if version is None else version
    if has_wal_fix(linked):
        return "WAL"
    name = ".".join(map(str, linked))
    warnings.warn(
        f"SQLite {name} can corrupt a database in WAL mode; using a rollback journal, which is slower. "
        "Install pysqlite3 0.6.1 or newer.",
        RuntimeWarning,
        stacklevel=2,
    )
    return "DELETE"


def make_engine(path: Path, *, create: bool = False, look: bool = False, busy_seconds: float = 1.0) -> Engine:
    """Return an engine over a database file. Without `create` a file that is not there is an error, never made.

    `look` only opens the file, for telling what it is: choosing a journal would already write to it.
    """
    mode = "rwc" if create else "rw"
    uri = f"file:{quote(str(path))}?mode={mode}"
    pragmas = (
        f"PRAGMA journal_mode = {journal_mode()}",
        "PRAGMA synchronous = FULL",
        "PRAGMA foreign_keys = ON",
        "PRAGMA recursive_triggers = ON",
        "PRAGMA trusted_schema = OFF",
        "PRAGMA secure_delete = ON",
        f"PRAGMA cache_size = -{READER_CACHE_KIB}",
        "PRAGMA wal_autocheckpoint = 0",  # it would pass over errors: see `checkpoints`
        "PRAGMA journal_size_limit = 67108864",
    )

    settled = False

    def open_file() -> Any:
        connection = dbapi.connect(uri, uri=True, isolation_level=None, check_same_thread=False, cached_statements=64)
        connection.set_busy_handler(_patience(busy_seconds))
        return connection

    def connect() -> Any:
        nonlocal settled
        if create:
            with suppress(OSError):  # what may not be written is refused when it is opened
                os.close(os.open(path, os.O_CREAT | os.O_RDWR, DATABASE_MODE))
        require_one_name(path)
        if not settled:  # later connections read the same log
            settle(path, open_file)
            settled = True
        return open_file()

    engine = create_engine(
        "sqlite://",
        module=dbapi,
        creator=connect,
        poolclass=QueuePool,  # the URL names no file, so the dialect would choose a pool for memory databases
        pool_size=READERS_COUNT,
        max_overflow=0,
        pool_timeout=busy_seconds,
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, record: object) -> None:
        for pragma in () if look else pragmas:
            connection.execute(pragma).fetchall()

    return engine


def _patience(seconds: float) -> Callable[[int], bool]:
    """Return a busy handler that asks for the lock every millisecond until the time is up.

    SQLite's own handler sleeps longer and longer, up to 0.1 s: beside a busy service a command line that wants to stop
    a model would hardly ever find the moment between two commits.
    """
    until = 0.0

    def wait(attempt: int) -> bool:
        nonlocal until
        if attempt == 0:
            until = time.monotonic() + seconds
        time.sleep(POLL_SECONDS)
        return time.monotonic() < until

    return wait


def make_writer(engine: Engine, busy_seconds: float = 1.0) -> Writer:
    """Return a writer on a connection of its own, outside the pool."""
    fairy = engine.raw_connection()
    fairy.detach()
    connection: Any = fairy.dbapi_connection
    connection.execute(f"PRAGMA cache_size = -{WRITER_CACHE_KIB}")
    return Writer(connection, busy_seconds)
