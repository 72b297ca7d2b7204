"""Everything a store holds, read inside one transaction, for `services.evidence.verify`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from policy_engine.store import entries, erasuretables, faults, statements
from policy_engine.store.erasureinterfaces import ErasedKey, PrunedRange
from policy_engine.store.indexreading import ReadIndex
from policy_engine.store.interfaces import Head, State, StoredBatch, StoredEntry, StoredRow
from policy_engine.store.replicainterfaces import Replica
from policy_engine.store.replicatables import READ_REPLICAS
from policy_engine.store.sessions import Query, Reader, Row
from policy_engine.store.tables import TYPED
from policy_engine.store.tree import ReadTree


class ReportingReader(Reader):
    """A reader of a file that may be damaged: what cannot be read is said by the query that wanted it.

    So a caller can note it, and go on with what else there is. Raises `StoreDamaged` and `StoreUnavailable`.
    """

    def one(self, statement: Query, *parameters: object) -> Row | None:
        """Return the first row, or `None`."""
        with faults.reported():
            return super().one(statement, *parameters)

    def all(self, statement: Query, *parameters: object) -> list[Row]:
        """Return every row."""
        with faults.reported():
            return super().all(statement, *parameters)

    def stream(self, statement: Query, *parameters: object) -> Iterator[Any]:
        """Yield rows as they are read."""
        with faults.reported():
            yield from super().stream(statement, *parameters)


class StoreView(ReadTree, ReadIndex):
    """See `interfaces.LogView`. Valid while the transaction of its reader is open."""

    def __init__(self, reader: Reader, *, one_log: bool = True) -> None:
        self._reader = reader
        self.one_log = one_log

    def state(self) -> State:
        """Return the state row."""
        return entries.read_state(self._reader)

    def heads(self) -> list[Head]:
        """Return where each log ends."""
        return entries.read_heads(self._reader)

    def scan_entries(self, *, by_instant: bool = False) -> Iterator[StoredEntry]:
        """Yield every entry, by log and sequence number, or where there are several logs by its instant first."""
        several = by_instant and not self.one_log
        for columns in self._reader.stream(statements.SCAN_ENTRIES_OF_ALL if several else statements.SCAN_ENTRIES):
            yield StoredEntry(*columns)

    def scan_batches(self) -> Iterator[StoredBatch]:
        """Yield every batch header, by log and number."""
        for columns in self._reader.stream(statements.SCAN_BATCHES):
            yield StoredBatch(*columns)

    def scan_rows(self, register: str) -> Iterator[StoredRow]:
        """Yield every row of a register, those taken away included, by id."""
        names = TYPED.get(register, ())
        for id, revision, document, salt, log_id, seq, item, *typed in self._reader.stream(
            statements.REGISTERS[register].scan
        ):
            columns = dict(zip(names, typed, strict=True))
            yield StoredRow(register, id, revision, document, salt, log_id, seq, item, columns)

    def replicas(self) -> list[Replica]:
        """Return every replica that serves or did, the slowest first."""
        return [Replica(*row) for row in self._reader.all(READ_REPLICAS)]

    def scan_blobs(self) -> Iterator[tuple[str, bytes]]:
        """Yield `(hash, content)` of every blob."""
        yield from self._reader.stream(statements.SCAN_BLOBS)

    def scan_tags(self) -> Iterator[tuple[bytes, str, int]]:
        """Yield `(tag, log_id, seq)` of every tag."""
        yield from self._reader.stream(statements.SCAN_TAGS)

    def bodies_without_entry(self) -> list[tuple[str, int]]:
        """Return places that have a body and no entry."""
        return [(log_id, seq) for log_id, seq in self._reader.all(statements.SCAN_BODIES_ALONE)]

    def tags_count(self) -> int:
        """Return how many tags there are."""
        found = self._reader.one(statements.COUNT_TAGS)
        return 0 if found is None else int(found[0])

    def has_tag(self, tag: bytes, log_id: str, seq: int) -> bool:
        """Return whether an entry carries a tag."""
        return self._reader.one(statements.HAS_TAG, tag, log_id, seq) is not None

    def data_key(self, key_id: str) -> bytes | None:
        """Return a wrapped data key."""
        found = self._reader.one(statements.READ_DATA_KEY, key_id)
        return None if found is None else bytes(found[0])

    def erased_keys(self) -> list[ErasedKey]:
        """Return every data key that was destroyed."""
        return [ErasedKey(*columns) for columns in self._reader.all(erasuretables.READ_ERASED_KEYS)]

    def pruned_ranges(self) -> list[PrunedRange]:
        """Return every range of bodies that was emptied."""
        return [PrunedRange(*columns) for columns in self._reader.all(erasuretables.READ_PRUNED_RANGES)]

    def scan_bodies(self, log_id: str, end: int) -> Iterator[tuple[int, bytes]]:
        """Yield `(seq, public)` of the entries before `end` with a body that could be pruned."""
        yield from self._reader.stream(erasuretables.SCAN_BODIES, log_id, end)
