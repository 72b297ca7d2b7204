"""Reading a SQLite store: state, registers, entries and whole views, each as of the last commit of any process.

Rules of the room: quick reads share one connection, long ones have one of the pool each; nothing is written here.
Left to others: the connections, and when they are opened again (`sqlite`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from policy_engine.store import entries, registers, statements
from policy_engine.store.interfaces import Head, LogView, Row, State, StoredEntry
from policy_engine.store.sessions import Reader
from policy_engine.store.view import StoreView


class SqliteReading:
    """See `interfaces.ReadStore`; `SqliteStore` lends its connections."""

    @abstractmethod
    def _reading(self) -> AbstractContextManager[Reader]:
        """Lend the connection for quick reads."""

    @abstractmethod
    def _streaming(self) -> AbstractContextManager[Reader]:
        """Lend a connection for a long read."""

    def state(self) -> State:
        """Return the state row."""
        with self._reading() as reader:
            return entries.read_state(reader)

    def head(self) -> Head | None:
        """Return where the log ends."""
        with self._reading() as reader:
            return entries.read_head(reader)

    def row(self, register: str, id: str) -> Row | None:
        """Return a row, `None` when there is none."""
        with self._reading() as reader:
            found = reader.one(statements.REGISTERS[register].read, id)
        return None if found is None else registers.to_row(register, found)

    def rows(self, register: str, *, after: str = "", limit: int | None = None) -> list[Row]:
        """Return rows in order of id."""
        with self._reading() as reader:
            found = reader.all(statements.REGISTERS[register].page, after, -1 if limit is None else limit)
        return [registers.to_row(register, columns) for columns in found]

    def rows_by(self, register: str, column: str, value: str) -> list[Row]:
        """Return the rows whose typed column has a value."""
        with self._reading() as reader:
            found = reader.all(statements.REGISTERS[register].by[column], value)
        return [registers.to_row(register, columns) for columns in found]

    def blob(self, hash: str) -> bytes | None:
        """Return stored content by its hash."""
        with self._reading() as reader:
            found = reader.one(statements.READ_BLOB, hash)
        return None if found is None else bytes(found[0])

    def data_key(self, key_id: str) -> bytes | None:
        """Return a wrapped data key."""
        with self._reading() as reader:
            found = reader.one(statements.READ_DATA_KEY, key_id)
        return None if found is None else bytes(found[0])

    def entry(self, log_id: str, seq: int) -> StoredEntry | None:
        """Return one entry with its sealed part."""
        with self._reading() as reader:
            found = reader.one(statements.READ_ENTRY, log_id, seq)
        return None if found is None else StoredEntry(log_id, seq, *found)

    def entries(
        self, *, after: int = -1, before: int | None = None, limit: int = 1_000, newest_first: bool = False
    ) -> Iterator[tuple[str, int, bytes]]:
        """Yield `(log_id, seq, public)` in commit order, or from the end of the log."""
        statement = statements.NEWEST_ENTRIES if newest_first else statements.OLDEST_ENTRIES
        end = 2**62 if before is None else before
        with self._streaming() as reader:
            yield from reader.stream(statement, after, end, limit)

    def tagged(self, tags: Sequence[bytes]) -> list[tuple[str, int]]:
        """Return the places of the entries that carry any of the tags."""
        with self._streaming() as reader, reader.at_one_moment():
            head = entries.read_head(reader)
            return [] if head is None else [(head.log_id, seq) for seq in entries.find_tagged(reader, head, tags)]

    @contextmanager
    def view(self) -> Iterator[LogView]:
        """Return everything at one moment."""
        with self._streaming() as reader, reader.at_one_moment():
            yield StoreView(reader)
