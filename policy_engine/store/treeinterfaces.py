"""What every store promises about the global tree: leaves in one order, tiles of hashes, signed checkpoints.

Words: a *leaf* of the tree is a batch header or an event of a writer log (`ledger.leaves`); the tree's order is the
order in which entries count as complete, on every store. Whatever is not in the tree yet is *pending*.
The owner of a store is not trusted: what is read here is proved by recomputing it (`services.verify`, the verifier).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class TreeState:
    """The one row about the tree: its size, its origin (empty before the first checkpoint) and what is indexed.

    Leaves before `indexed` are in the index of columns. No entry dated before `horizon` (microseconds) is pending or
    will ever come: a question about the time before it has its whole answer in the tree.
    """

    size: int
    origin: str
    key: str
    indexed: int
    horizon: int


@dataclass(frozen=True, slots=True)
class StoredLeaf:
    """One leaf: `batch` is the number of a batch of the log, `None` for an event; `data` are the leaf's bytes."""

    leaf: int
    log_id: str
    batch: int | None
    data: bytes


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A checkpoint as it was signed, with the cosignatures that came later: `note` holds all of them."""

    size: int
    note: bytes
    at: int


class TreeReader(Protocol):
    """Reading the tree; the read side of every store and every `LogView` has it."""

    def tree_state(self) -> TreeState:
        """Return the row about the tree."""
        ...

    def scan_leaves(self, first: int = 0, end: int | None = None) -> Iterator[StoredLeaf]:
        """Yield the leaves `first <= leaf < end` in order."""
        ...

    def tile(self, level: int, number: int) -> bytes | None:
        """Return the hashes of a tile one after another (C2SP tlog-tiles): up to 256 of 32 bytes."""
        ...

    def leaf_of(self, log_id: str, seq: int) -> StoredLeaf | None:
        """Return the leaf of the batch that holds an entry, `None` while it is pending."""
        ...

    def checkpoint(self, size: int | None = None) -> StoredCheckpoint | None:
        """Return the checkpoint of a size, by default the newest; `None` when there is none."""
        ...

    def pending(self, count: int) -> Sequence[StoredLeaf]:
        """Return up to `count` leaves that are durable and not in the tree, numbered as they would come."""
        ...


class WholeTree(TreeReader, Protocol):
    """Everything about the tree as of one moment, for verifying and for growing it."""

    def scan_tiles(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield `(level, number, data)` of every tile."""
        ...

    def scan_checkpoints(self) -> Iterator[StoredCheckpoint]:
        """Yield every checkpoint as it was signed, without cosignatures, by size."""
        ...

    def log_events(self) -> list[tuple[str, str, bytes]]:
        """Return `(log_id, kind, data)` of every beginning and end of a log, in the tree or not."""
        ...

    def logs_in_tree(self) -> list[tuple[str, int, int, int | None]]:
        """Return of each log the leaf that opened it, its batches in the tree, and the leaf that ended it."""
        ...

    def unopened_logs(self) -> list[str]:
        """Return the logs that were begun before there was a tree and are not adopted yet."""
        ...
