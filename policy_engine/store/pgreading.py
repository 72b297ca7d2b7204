"""Reading on PostgreSQL, and what reading and writing share: the clock, what was seen, and whether it is closed.

Rules of the room: quick reads share one connection, long ones come from a pool; a read that met a lost connection is
made once more on a new one, since reading leaves nothing in doubt. Nothing is read from a replica.
Left to others: writing (`postgres`).
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from policy_engine.errors import RollbackSuspected, StartRefused, StoreUnavailable, VerificationFailed
from policy_engine.ledger.sealing import KeyVault
from policy_engine.limits import Limits
from policy_engine.store import entries, pgcalls, pgfaults, pgsafety, registers, statements
from policy_engine.store.interfaces import Head, LogView, Row, State, StoredEntry
from policy_engine.store.pgdriver import psycopg
from policy_engine.store.pgindex import PostgresFinding
from policy_engine.store.pgmigrate import require_known
from policy_engine.store.pgsessions import (
    Connection,
    Link,
    PostgresReader,
    connect,
    local_microseconds,
    make_reader_pool,
)
from policy_engine.store.sessions import Reader
from policy_engine.store.tree import StoreTree
from policy_engine.store.view import StoreView

_T = TypeVar("_T")

CHECKED_HEADS_COUNT = 8
"""Logs whose ends are checked at the start: those written last. All of them is what verifying is for."""

_OLDER = "the database holds less than it did: an older copy was put in its place; look into it, then restart"


class PostgresReading(StoreTree, PostgresFinding):
    """See `interfaces.ReadStore`."""

    def __init__(self, database: str, vault: KeyVault, *, clock: Callable[[], int] | None, limits: Limits) -> None:
        self._vault = vault
        self._clock = clock
        self._limits = limits
        self._lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._closed = False
        self._head = pgcalls.new_head(secrets.token_hex(entries.LOG_ID_BYTES))
        self._seen_epoch = 0
        self._offset = 0
        self._reader = Link(database, limits.answer_seconds, self._check_writer, limits.answer_seconds)
        self._pool = make_reader_pool(database, limits.answer_seconds, limits.answer_seconds)
        with pgfaults.reported():
            try:
                self._count_on(_read_clock(self._reader.open()))
                self._check_ends()
                self._check_vault()
            except BaseException:
                self._reader.drop()
                self._pool.dispose()
                raise

    one_log = False

    @property
    def clock_set(self) -> bool:
        """Whether the clock was given."""
        return self._clock is not None

    def now(self) -> int:
        """Return the database's clock, counted on since its last answer, in microseconds."""
        return local_microseconds() + self._offset if self._clock is None else self._clock()

    def _given(self) -> int | None:
        return None if self._clock is None else self._clock()

    def _count_on(self, now: int) -> None:
        """Set the clock by a reading of the database's that was made just now."""
        self._offset = now - local_microseconds()

    # Reading

    def state(self) -> State:
        """Return the state row."""
        state = self._read(entries.read_state)
        if state.epoch < self._seen_epoch:
            raise RollbackSuspected(_OLDER, where="database")
        return state

    def head(self) -> Head | None:
        """Return where this store's log ends."""
        found = self._read(lambda reader: reader.one(statements.READ_HEAD, self._head.log_id))
        return None if found is None else Head(*found)

    def row(self, register: str, id: str) -> Row | None:
        """Return a row, `None` when there is none."""
        found = self._read(lambda reader: reader.one(statements.REGISTERS[register].read, id))
        return None if found is None else registers.to_row(register, found)

    def rows(self, register: str, *, after: str = "", limit: int | None = None) -> list[Row]:
        """Return rows in order of id."""
        found = self._read(lambda reader: reader.all(statements.REGISTERS[register].page, after, limit))
        return [registers.to_row(register, columns) for columns in found]

    def rows_by(self, register: str, column: str, value: str) -> list[Row]:
        """Return the rows whose typed column has a value."""
        found = self._read(lambda reader: reader.all(statements.REGISTERS[register].by[column], value))
        return [registers.to_row(register, columns) for columns in found]

    def blob(self, hash: str) -> bytes | None:
        """Return stored content by its hash."""
        found = self._read(lambda reader: reader.one(statements.READ_BLOB, hash))
        return None if found is None else bytes(found[0])

    def data_key(self, key_id: str) -> bytes | None:
        """Return a wrapped data key."""
        found = self._read(lambda reader: reader.one(statements.READ_DATA_KEY, key_id))
        return None if found is None else bytes(found[0])

    def entry(self, log_id: str, seq: int) -> StoredEntry | None:
        """Return one entry with its sealed part."""
        found = self._read(lambda reader: reader.one(statements.READ_ENTRY, log_id, seq))
        return None if found is None else StoredEntry(log_id, seq, *found)

    def entries(
        self, *, after: int = -1, before: int | None = None, limit: int = 1_000, newest_first: bool = False
    ) -> Iterator[tuple[str, int, bytes]]:
        """Yield `(log_id, seq, public)` of every log by their instants, or from the end."""
        statement = statements.NEWEST_ENTRIES_OF_ALL if newest_first else statements.OLDEST_ENTRIES_OF_ALL
        end = 2**62 if before is None else before
        with self._streaming() as reader:
            yield from reader.stream(statement, after, end, limit)

    def tagged(self, tags: Sequence[bytes]) -> list[tuple[str, int]]:
        """Return the places of the entries of any log that carry any of the tags."""
        with self._streaming() as reader, reader.at_one_moment():
            return entries.find_tagged_of_all(reader, tags)

    @contextmanager
    def view(self) -> Iterator[LogView]:
        """Return everything at one moment."""
        with self._streaming() as reader, reader.at_one_moment():
            yield StoreView(reader, one_log=False)

    def close(self) -> None:
        """Close the connections that read."""
        with self._read_lock:
            self._closed = True
            self._reader.drop()
            self._pool.dispose()

    # Connections

    def _read(self, question: Callable[[Reader], _T]) -> _T:
        """Ask on the connection for quick reads, and once more when it turns out to be lost; not when it hangs."""
        with self._read_lock, pgfaults.reported():
            self._check_open()
            connection = self._reader.open()
            began = time.monotonic()
            try:
                return question(PostgresReader(connection))
            except psycopg.OperationalError:
                self._reader.drop()
                if self._reader.rest_if_slow(began):
                    raise
                return question(PostgresReader(self._reader.open()))

    @contextmanager
    def _streaming(self) -> Iterator[Reader]:
        """Lend a connection of the pool for a long read."""
        self._check_open()
        with pgfaults.reported():
            connection = self._pool.raw_connection()
        try:
            with pgfaults.reported():
                yield PostgresReader(connection.driver_connection)  # type: ignore[arg-type]  # it is psycopg's
        finally:
            connection.close()

    @contextmanager
    def _exclusively(self) -> Iterator[None]:
        if not self._lock.acquire(timeout=self._limits.answer_seconds):
            raise StoreUnavailable("the log is busy: a commit has not returned in time", where="database")
        try:
            self._check_open()
            yield
        finally:
            self._lock.release()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("the store is closed", where="database")

    def _check_writer(self, connection: Connection) -> None:
        pgsafety.check_server(connection)
        pgsafety.check_role(connection, pgsafety.WRITER)

    def _check_not_older(self, state: State, head: Head) -> None:
        """Refuse a database that holds less than this store has seen. Called behind the lock of the log."""
        same = (head.next_seq, head.next_batch, head.head_hash)
        if state.epoch < self._seen_epoch or same != (self._head.next_seq, self._head.next_batch, self._head.head_hash):
            raise RollbackSuspected(_OLDER, where="database")

    def _check_ends(self) -> None:
        """Check the ends of the logs written last, as of one moment."""
        reader = PostgresReader(self._reader.open())
        with reader.at_one_moment():
            self._seen_epoch = entries.read_state(reader).epoch
            for head in sorted(entries.read_heads(reader), key=lambda head: -head.last_at)[:CHECKED_HEADS_COUNT]:
                entries.verify_head(reader, head)

    def _check_vault(self) -> None:
        found = PostgresReader(self._reader.open()).one(statements.READ_ANY_DATA_KEY)
        if found is None:
            return
        try:
            self._vault.unwrap(found[0], bytes(found[1]))
        except VerificationFailed:
            raise StartRefused(
                "the key file is not the one this database was sealed with; name the right one in POLICY_ENGINE_KEYS",
                where="key file",
            ) from None


def _read_clock(connection: Connection) -> int:
    row = connection.execute("SELECT floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint").fetchone()
    return 0 if row is None else int(row[0])


@contextmanager
def looked_at(database: str) -> Iterator[tuple[LogView, Reader]]:
    """Offer everything in a database as of one moment, without opening a store on it.

    Raises `StartRefused` when a newer program migrated it, or an older one made it and it is not migrated yet.
    """
    with pgfaults.reported():
        connection = connect(database, 1.0)
        try:
            require_known(connection)
            reader = PostgresReader(connection)
            with reader.at_one_moment():
                yield StoreView(reader, one_log=False), reader
        finally:
            connection.close()
