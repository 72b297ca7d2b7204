"""Reading the global tree, and what a log says when it opens: the same for every store and every view.

Rules of the room: what is read is what lies there; whoever needs it proved recomputes it. Pending leaves come in the
order in which they would get into the tree: by their instants, and within a log as it wrote them.
Left to others: writing the tree (`sqlitetree`, `pgtree`), what leaves mean (`ledger.leaves`), when (`services`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from secrets import token_hex
from typing import TypeVar

from policy_engine.errors import StoreDamaged
from policy_engine.ledger.leaves import Abandoned, Closed, Opened, parse_leaf
from policy_engine.store import treestatements as statements
from policy_engine.store.interfaces import State
from policy_engine.store.sessions import Reader
from policy_engine.store.treeinterfaces import StoredCheckpoint, StoredLeaf, TreeState

_T = TypeVar("_T")

_AT = b'{"at":'
"""How every leaf begins: the names of canonical JSON are sorted."""

LEAVES_PER_READ_COUNT = 4_096
"""Leaves that a store reads at a time when it is not inside a view."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What a store says when it opens a log: who it is, and which key signs the receipts of a log (`None`: none)."""

    boot: str = field(default_factory=lambda: token_hex(8))
    receipt_key: Callable[[str], str | None] = lambda log_id: None

    def leaf(self, log_id: str, epoch: int, release: str | None, at: int) -> bytes:
        """Return the bytes of the `open` leaf of a log."""
        return Opened(log_id, self.boot, self.receipt_key(log_id), epoch, release, at).encode()

    def adopting(self, log_id: str, header: bytes, *, key: bool) -> bytes:
        """Return the `open` leaf of a log that was begun before there was a tree; `header` is its first.

        With `key` the receipts that are given from now on are signed by this store's key.
        """
        first = parse_leaf(header)
        named = self.receipt_key(log_id) if key else None
        return Opened(log_id, self.boot, named, first.epoch, getattr(first, "release", None), first.at).encode()


def read_tree(reader: Reader) -> TreeState:
    """Return the row about the tree. Raises `StoreDamaged` when it is missing."""
    row = reader.one(statements.READ_TREE)
    if row is None:
        raise StoreDamaged("the row of the tree is missing; the database is damaged", where="database")
    return TreeState(*row)


def read_leaves(reader: Reader, first: int, end: int) -> Iterator[StoredLeaf]:
    """Yield leaves in order. A leaf whose batch is gone has no bytes: `b""`, which no leaf has."""
    for leaf, log_id, batch, data in reader.stream(statements.SCAN_LEAVES, first, end):
        yield StoredLeaf(leaf, log_id, batch, b"" if data is None else bytes(data))


def read_tile(reader: Reader, level: int, number: int) -> bytes | None:
    """Return the hashes of a tile."""
    row = reader.one(statements.READ_TILE, level, number)
    return None if row is None else bytes(row[0])


def read_leaf_of(reader: Reader, log_id: str, seq: int) -> StoredLeaf | None:
    """Return the leaf of the batch that holds an entry."""
    found = reader.one(statements.READ_BATCH_OF_ENTRY, log_id, seq)
    if found is None or seq >= found[1]:
        return None
    return read_leaf_of_batch(reader, log_id, found[0])


def read_leaf_of_batch(reader: Reader, log_id: str, batch: int) -> StoredLeaf | None:
    """Return the leaf of a batch."""
    row = reader.one(statements.READ_LEAF_OF_BATCH, log_id, batch)
    return None if row is None else StoredLeaf(row[0], row[1], row[2], b"" if row[3] is None else bytes(row[3]))


def read_checkpoint(reader: Reader, size: int | None) -> StoredCheckpoint | None:
    """Return a checkpoint with its cosignatures."""
    if size is None:
        row = reader.one(statements.READ_NEWEST_CHECKPOINT)
    else:
        row = reader.one(statements.READ_CHECKPOINT, size)
    if row is None:
        return None
    lines = "".join(str(line) for (line,) in reader.all(statements.READ_COSIGNATURES, row[0]))
    return StoredCheckpoint(row[0], bytes(row[1]) + lines.encode(), row[2])


def read_pending(reader: Reader, count: int) -> list[StoredLeaf]:
    """Return up to `count` leaves that are not in the tree, numbered as they would come.

    An end comes only behind all batches of its log. A log that nobody opened (it was begun before there was a tree)
    begins with its batches here, and is adopted before they are taken in.
    """
    found = [
        (str(log), int(number), bytes(data)) for log, number, data in reader.all(statements.PENDING_BATCHES, count)
    ]
    complete = len(found) < count
    keyed = [(_at(data), log, 0, number, StoredLeaf(0, log, number, data)) for log, number, data in found]
    for log, kind, data in reader.all(statements.PENDING_EVENTS):
        if kind == "open" or complete:
            rank = -1 if kind == "open" else 1
            keyed.append((_at(bytes(data)), str(log), rank, 0, StoredLeaf(0, str(log), None, bytes(data))))
    keyed.sort(key=lambda item: item[:4])
    size = read_tree(reader).size
    return [StoredLeaf(size + n, leaf.log_id, leaf.batch, leaf.data) for n, (*_, leaf) in enumerate(keyed[:count])]


def _at(data: bytes) -> int:
    """Return the instant of a leaf; 0 for bytes that are none, so that they come first and are refused there."""
    try:
        return int(data[len(_AT) : data.index(b",")]) if data.startswith(_AT) else 0
    except ValueError:
        return 0


class ReadTree:
    """What a view shows of the tree, as of its moment. `_reader` reads it."""

    _reader: Reader

    def tree_state(self) -> TreeState:
        """Return the row about the tree."""
        return read_tree(self._reader)

    def scan_leaves(self, first: int = 0, end: int | None = None) -> Iterator[StoredLeaf]:
        """Yield the leaves `first <= leaf < end` in order."""
        yield from read_leaves(self._reader, first, self.tree_state().size if end is None else end)

    def tile(self, level: int, number: int) -> bytes | None:
        """Return the hashes of a tile one after another."""
        return read_tile(self._reader, level, number)

    def leaf_of(self, log_id: str, seq: int) -> StoredLeaf | None:
        """Return the leaf of the batch that holds an entry."""
        return read_leaf_of(self._reader, log_id, seq)

    def checkpoint(self, size: int | None = None) -> StoredCheckpoint | None:
        """Return the checkpoint of a size, by default the newest."""
        return read_checkpoint(self._reader, size)

    def pending(self, count: int) -> Sequence[StoredLeaf]:
        """Return up to `count` leaves that are not in the tree."""
        return read_pending(self._reader, count)

    def last_cosignature(self, cosigner: str) -> tuple[int, str] | None:
        """Return the size of the newest checkpoint that a witness cosigned, and its line."""
        row = self._reader.one(statements.READ_LAST_COSIGNATURE, cosigner)
        return None if row is None else (int(row[0]), str(row[1]))

    # For the sequencer and for verifying

    def pending_count(self) -> int:
        """Return how many batches are not in the tree."""
        row = self._reader.one(statements.COUNT_PENDING)
        return 0 if row is None else int(row[0])

    def leaf_of_batch(self, log_id: str, batch: int) -> StoredLeaf | None:
        """Return the leaf of a batch, `None` while it is pending."""
        return read_leaf_of_batch(self._reader, log_id, batch)

    def log_in_tree(self, log_id: str) -> tuple[int, int, int | None] | None:
        """Return the leaf that opened a log, its batches in the tree, and the leaf that ended it."""
        row = self._reader.one(statements.READ_LOG, log_id)
        return None if row is None else (row[0], row[1], row[2])

    def logs_in_tree(self) -> list[tuple[str, int, int, int | None]]:
        """Return the same of every log, with its id in front."""
        return [(row[0], row[1], row[2], row[3]) for row in self._reader.all(statements.SCAN_LOGS)]

    def log_events(self) -> list[tuple[str, str, bytes]]:
        """Return `(log_id, kind, data)` of every beginning and end of a log."""
        return [(row[0], row[1], bytes(row[2])) for row in self._reader.all(statements.SCAN_EVENTS)]

    def unopened_logs(self) -> list[str]:
        """Return the logs that nobody opened."""
        return [str(row[0]) for row in self._reader.all(statements.UNOPENED_LOGS)]

    def public_parts(self, log_id: str, first: int, end: int) -> Iterator[bytes]:
        """Yield the public bytes of the entries `first <= seq < end` of a log."""
        for (public,) in self._reader.stream(statements.READ_PUBLIC_PARTS, log_id, first, end):
            yield bytes(public)

    def scan_tiles(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield `(level, number, data)` of every tile."""
        for level, number, data in self._reader.stream(statements.SCAN_TILES):
            yield level, number, bytes(data)

    def scan_checkpoints(self) -> Iterator[StoredCheckpoint]:
        """Yield every checkpoint as it was signed, without cosignatures."""
        for size, note, at in self._reader.stream(statements.SCAN_CHECKPOINTS):
            yield StoredCheckpoint(size, bytes(note), at)


class StoreTree:
    """What a store shows of the tree: each answer as of the last commit."""

    @abstractmethod
    def _read(self, question: Callable[[Reader], _T]) -> _T:
        """Ask on the connection for quick reads."""

    @abstractmethod
    def _streaming(self) -> AbstractContextManager[Reader]:
        """Lend a connection for a long read."""

    def tree_state(self) -> TreeState:
        """Return the row about the tree."""
        return self._read(read_tree)

    def scan_leaves(self, first: int = 0, end: int | None = None) -> Iterator[StoredLeaf]:
        """Yield the leaves `first <= leaf < end` in order, read in pieces: the tree only grows."""
        last = self.tree_state().size if end is None else end
        while first < last:
            until = min(first + LEAVES_PER_READ_COUNT, last)
            with self._streaming() as reader:
                part = list(read_leaves(reader, first, until))
            yield from part
            if len(part) < until - first:
                return
            first = until

    def tile(self, level: int, number: int) -> bytes | None:
        """Return the hashes of a tile one after another."""
        return self._read(lambda reader: read_tile(reader, level, number))

    def leaf_of(self, log_id: str, seq: int) -> StoredLeaf | None:
        """Return the leaf of the batch that holds an entry."""
        return self._read(lambda reader: read_leaf_of(reader, log_id, seq))

    def checkpoint(self, size: int | None = None) -> StoredCheckpoint | None:
        """Return the checkpoint of a size, by default the newest."""
        return self._read(lambda reader: read_checkpoint(reader, size))

    def pending(self, count: int) -> Sequence[StoredLeaf]:
        """Return up to `count` leaves that are not in the tree."""
        with self._streaming() as reader, reader.at_one_moment():
            return read_pending(reader, count)


def closing(log_id: str, batches: int, entries: int, head: str, state: State, at: int) -> bytes:
    """Return the leaf with which a writer ends its log."""
    return Closed(log_id, batches, entries, head, state.epoch, at).encode()


def abandoning(log_id: str, batches: int, entries: int, head: str, epoch: int, at: int) -> bytes:
    """Return the leaf with which the sequencer ends the log of a writer that is gone."""
    return Abandoned(log_id, batches, entries, head, epoch, at).encode()
