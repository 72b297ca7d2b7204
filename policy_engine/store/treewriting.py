"""What the sequencer needs of a store: the tree as of one moment, and one way to make it grow.

Rules of the room: what is pending is read in a view, checked and signed outside any transaction that writes, and then
written in one, by compare-and-swap on the size of the tree. Bytes in the log never change, so what was read stands;
whoever lost the race reads again.
Left to others: checking and signing (`services.sequencer`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from policy_engine.store.interfaces import Head
from policy_engine.store.treeinterfaces import StoredCheckpoint, StoredLeaf, TreeReader

LogPlace = tuple[int, int, int | None]
"""The leaf that opened a log, its batches in the tree, and the leaf that ended it, `None` while it lives."""


@dataclass(frozen=True, slots=True)
class Growth:
    """What one integration adds to a tree of `size` leaves; `tiles` and `logs` are as they are afterwards."""

    size: int
    leaves: Sequence[StoredLeaf]
    tiles: Mapping[tuple[int, int], bytes]
    logs: Mapping[str, LogPlace]
    note: bytes
    at: int
    origin: str
    key: str
    horizon: int


class TreeView(TreeReader, Protocol):
    """The tree and what is pending, as of one moment."""

    def heads(self) -> list[Head]:
        """Return where each log ends."""
        ...

    def log_in_tree(self, log_id: str) -> LogPlace | None:
        """Return how far a log is in the tree."""
        ...

    def leaf_of_batch(self, log_id: str, batch: int) -> StoredLeaf | None:
        """Return the leaf of a batch."""
        ...

    def public_parts(self, log_id: str, first: int, end: int) -> Iterator[bytes]:
        """Yield the public bytes of the entries `first <= seq < end` of a log."""
        ...

    def unopened_logs(self) -> list[str]:
        """Return the logs that were begun before there was a tree and are not adopted."""
        ...


class TreeStore(Protocol):
    """Growing the tree. Raises `StoreUnavailable` when the store is away or an outcome is not known."""

    def now(self) -> int:
        """Return the store's clock."""
        ...

    def leads(self) -> bool:
        """Return whether this process may integrate: on PostgreSQL one sequencer at a time leads."""
        ...

    def tree_view(self) -> AbstractContextManager[TreeView]:
        """Return the tree as of one moment. Close it before writing."""
        ...

    def adopt_logs(self) -> None:
        """Open the logs that were begun before there was a tree."""
        ...

    def certain(self) -> int | None:
        """Return the instant before which nothing can come that a view opened *after this call* does not show.

        `None`: entries come in the order of their instants, so it is that of the last one.
        """
        ...

    def integrate(self, growth: Growth) -> bool:
        """Write a growth if the tree still has the size it was made for; else write nothing and return false."""
        ...

    def move_horizon(self, size: int, horizon: int) -> None:
        """Move the horizon of a tree that has everything, if it still has this size."""
        ...

    def look_after_logs(self) -> None:
        """End the logs whose writers have been gone for longer than the grace period."""
        ...

    def cosign(self, size: int, cosigner: str, line: str) -> None:
        """Keep a witness's signature line, checked by the caller, under the checkpoint of a size. Twice is no error."""
        ...


__all__ = ["Growth", "LogPlace", "StoredCheckpoint", "StoredLeaf", "TreeStore", "TreeView"]
