"""Connections to PostgreSQL, and reading on them with the same statements as on SQLite.

Rules of the room:
- Table names are written with their schema, so that no search path, whoever set it, decides what is read.
- A connection to a server in recovery (a read replica) is closed again: it may show commits late or in another order.
- Waiting for a lock, and for the answer of a quick read, is bounded; a commit is not, because a commit that was given
  up on may still happen.
- Text that PostgreSQL cannot hold (a NUL) names no row.
Left to others: transactions and their outcome (`postgres`), what a server must be set to (`pgsafety`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, TypeVar, cast

from sqlalchemy import Engine, QueuePool, create_engine

from policy_engine.errors import InputRefused, StartRefused, StoreUnavailable
from policy_engine.store.pgdriver import PGDialect_psycopg, PQGen, conninfo_to_dict, psycopg
from policy_engine.store.sessions import READERS_COUNT, Query, Reader, Row

SCHEMA_NAME = "policy_engine"
"""The schema that holds everything of this engine."""

STREAM_ROWS = 2_000
"""Rows fetched at a time by a stream over everything."""

CONNECT_SECONDS = 2
"""The least that the driver knows."""

REST_SECONDS = 5.0
"""How long a server that hung is left alone by quick reads, which may be asked for by an event loop."""

UNACKNOWLEDGED_MILLISECONDS = 10_000
"""How long sent data may lie unacknowledged before the connection counts as lost."""

_DIALECT = PGDialect_psycopg(paramstyle="format")  # type: ignore[no-untyped-call]  # SQLAlchemy types it so

Connection = psycopg.Connection[tuple[Any, ...]]

_T = TypeVar("_T")


class _Timed(Connection):
    """A connection that can be told how long its server may take; a server that hangs is then a lost one."""

    answer_seconds: float | None = None

    def wait(self, gen: PQGen[_T], interval: float = 0.1, timeout: float | None = None) -> _T:
        """Wait for the server as the driver does, and no longer than it may take."""
        return super().wait(gen, interval, self.answer_seconds if timeout is None else timeout)


@cache
def text_of(statement: Query) -> str:
    """Return a statement as PostgreSQL takes it. Parameters stay in the order of its names."""
    if statement.expression is None:
        return statement.sql.replace("?", "%s")
    compiled = statement.expression.compile(
        dialect=_DIALECT, schema_translate_map={None: SCHEMA_NAME}, render_schema_translate=True
    )
    order = tuple(getattr(compiled, "positiontup", None) or ())
    if order != statement.names:
        raise ValueError(f"the statement takes {order}, not {statement.names}")
    return str(compiled)


def connect(url: str, lock_seconds: float, answer_seconds: float | None = None) -> Connection:
    """Return a connection in autocommit mode, for a server that is a primary. Raises what the driver raises.

    `answer_seconds` bounds every statement; without it a commit may take as long as its standby does.
    """
    try:
        own = conninfo_to_dict(url.replace("postgresql+psycopg://", "postgresql://", 1))
    except psycopg.ProgrammingError:
        raise InputRefused(
            "the URL cannot be read; write postgresql://USER@HOST:PORT/DATABASE", where="database"
        ) from None
    defaults: dict[str, Any] = {
        "application_name": "policy_engine",
        "connect_timeout": CONNECT_SECONDS,
        "tcp_user_timeout": UNACKNOWLEDGED_MILLISECONDS,
    }
    connection = _Timed.connect(autocommit=True, **{**defaults, **own})
    connection.answer_seconds = answer_seconds
    try:
        connection.execute("SELECT set_config('lock_timeout', %s, false)", (f"{round(lock_seconds * 1_000)}ms",))
        replica = connection.execute("SELECT pg_is_in_recovery()").fetchone()
        if replica != (False,):
            raise StoreUnavailable(
                "the server is a read replica; name the primary in the database's URL", where="database"
            )
    except BaseException:
        connection.close()
        raise
    return connection


class PostgresReader(Reader):
    """Reads on one connection, as `sessions.Reader` does."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._cursors = 0
        self._one_moment = False

    def one(self, statement: Query, *parameters: object) -> Row | None:
        """Return the first row, or `None`."""
        if not _possible(parameters):
            return None
        return cast("Row | None", self._connection.execute(text_of(statement), parameters).fetchone())

    def all(self, statement: Query, *parameters: object) -> list[Row]:
        """Return every row."""
        if not _possible(parameters):
            return []
        return cast("list[Row]", self._connection.execute(text_of(statement), parameters).fetchall())

    def stream(self, statement: Query, *parameters: object) -> Iterator[Any]:
        """Yield rows as they are read; all of one commit even outside `at_one_moment`."""
        if not self._one_moment:
            yield from self.all(statement, *parameters)
            return
        self._cursors += 1
        with self._connection.cursor(name=f"stream_{self._cursors}") as cursor:
            cursor.itersize = STREAM_ROWS
            cursor.execute(text_of(statement), parameters)
            yield from cursor

    @contextmanager
    def at_one_moment(self) -> Iterator[None]:
        """Let every query inside see the same commit."""
        self._connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        self._one_moment = True
        try:
            yield
        finally:
            self._one_moment = False
            with suppress(psycopg.Error):  # a lost connection has no transaction to end
                self._connection.execute("ROLLBACK")


def _possible(parameters: tuple[object, ...]) -> bool:
    return not any(isinstance(parameter, str) and "\0" in parameter for parameter in parameters)


class Link:
    """A connection of one role, made when it is needed and made again after it was dropped. One user at a time.

    What a start is refused for is an outage later: a server may be set otherwise, or stand in for another, for a while.
    With `answer_seconds` nobody waits longer for an answer, and a server that hung is left alone for a moment.
    """

    def __init__(
        self,
        url: str,
        lock_seconds: float,
        check: Callable[[Connection], None],
        answer_seconds: float | None = None,
        rest_seconds: float = REST_SECONDS,
    ) -> None:
        self._rest_seconds = rest_seconds
        self._url = url
        self._lock_seconds = lock_seconds
        self._check = check
        self._answer_seconds = answer_seconds
        self._connection: Connection | None = None
        self._started = False
        self._rests_until = 0.0
        self.warnings: list[str] = []
        """What the server warned of since they were last cleared."""

    def open(self) -> Connection:
        """Return the connection. Raises what connecting and checking raise, and never `StartRefused` after a start."""
        connection = self._connection
        if connection is not None and not connection.closed:
            return connection
        if time.monotonic() < self._rests_until:
            raise psycopg.OperationalError("the server did not answer a moment ago")
        began = time.monotonic()
        try:
            connection = connect(self._url, self._lock_seconds, self._answer_seconds)
            try:
                self._check(connection)
            except StartRefused as refused:
                connection.close()
                if self._started:
                    raise StoreUnavailable(refused.message, where=refused.where) from refused
                raise
            except BaseException:
                connection.close()
                raise
        except psycopg.OperationalError:
            self.rest_if_slow(began)
            raise
        connection.add_notice_handler(self._hear)
        self._connection, self._started = connection, True
        return connection

    @property
    def opened(self) -> Connection | None:
        """Return the connection if it is open; nothing is tried."""
        connection = self._connection
        return None if connection is None or connection.closed else connection

    def drop(self) -> None:
        """Close the connection, whatever state it is in."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    def rest_if_slow(self, began: float) -> bool:
        """Leave a server alone for a moment that took too long over what began then; return whether it did."""
        slow = self._answer_seconds is not None and time.monotonic() - began >= self._answer_seconds
        if slow:
            self._rests_until = time.monotonic() + self._rest_seconds
        return slow

    def _hear(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING":
            self.warnings.append(notice.sqlstate or "")


def make_reader_pool(url: str, seconds: float, lock_seconds: float) -> Engine:
    """Return an engine whose connections serve long reads."""
    return create_engine(
        "postgresql+psycopg://",
        creator=lambda: connect(url, lock_seconds),
        poolclass=QueuePool,
        pool_size=READERS_COUNT,
        max_overflow=0,
        pool_timeout=seconds,
        pool_pre_ping=True,
        isolation_level="AUTOCOMMIT",
    )


def local_microseconds() -> int:
    """Return a clock that only its rate is read of."""
    return time.monotonic_ns() // 1_000
