"""What every store promises about finding entries: one moment, positions in the order of the tree, and lists of them.

Words: a *position* is `(leaf, seq)`; positions in order are the order in which entries count as complete. Where there
is one log, an entry that is durable and not in the tree yet has a position too, behind all others (`PENDING`). A
*label* is what many entries say alike, as text. Bounds `after` and `before` are both outside of what they bound.
Whoever finds entries by lists reads them to be sure: an index narrows and never decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

Position = tuple[int, int]

PENDING = 2**62
"""The leaf of what is durable and not in the tree."""

START: Position = (-1, -1)
END: Position = (PENDING, 2**62)
"""Bounds that leave nothing out."""


@dataclass(frozen=True, slots=True)
class Marks:
    """How far a moment's answers go.

    Leaves before `indexed` are in the index of columns, those before `tagged` in that of tags. Nothing dated before
    `horizon` is pending or will come. `pending` says whether something durable is not in the tree; where there is
    `one_log` it is read all the same. `first_at` and `last_at` are the instants between which entries lie.
    """

    one_log: bool
    indexed: int
    tagged: int
    horizon: int
    pending: bool
    first_at: int
    last_at: int


@dataclass(frozen=True, slots=True)
class Era:
    """One epoch: its release, the first leaf that names it, and the instant of the entry there."""

    epoch: int
    release: str | None
    leaf: int
    at: int


class Candidate(NamedTuple):
    """An entry that may be what is asked for: its position, its log, and its label where that is known."""

    position: Position
    log_id: str
    label: int


class ReadEntry(NamedTuple):
    """An entry as it was read: its position, public bytes and, when asked for, its tags one after another."""

    position: Position
    log_id: str
    seq: int
    public: bytes
    tags: bytes


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is left to index: leaves of the tree, and batches that are not in the tree yet."""

    leaves: int
    pending: int


class IndexReader(Protocol):
    """Finding entries at one moment. `newest_first` turns every order around."""

    def marks(self) -> Marks:
        """Return how far this moment's answers go."""

    def position_of(self, log_id: str | None, seq: int) -> Position | None:
        """Return the position of an entry (of the one log, without `log_id`); `None` when it has none."""

    def labels(self, after: int) -> list[tuple[int, str]]:
        """Return `(label, text)` of the labels behind one."""

    def eras(self) -> list[Era]:
        """Return every epoch that is indexed."""

    def leaf_reached(self, instant: int) -> int:
        """Return the first indexed leaf at which some entry had this instant or a later one."""

    def lateness(self) -> int:
        """Return by how much an indexed entry was ever dated before one that came earlier in the tree."""

    def listed(
        self, labels: Sequence[int], after: Position, before: Position, *, newest_first: bool, count: int
    ) -> dict[int, list[Candidate]]:
        """Return the first `count` entries of each label between two bounds; their logs are left out."""

    def logs_between(self, after: Position, before: Position) -> list[tuple[str, Position, Position]]:
        """Return each log in the tree with its first and last position between two bounds, if it has one."""

    def tagged(
        self, tags: Sequence[bytes], log_id: str, first: int, last: int, *, newest_first: bool, count: int
    ) -> dict[bytes, list[Candidate]]:
        """Return the first `count` indexed entries of a log with each tag, from number `first` to `last`."""

    def having(self, tags: Sequence[bytes], places: Sequence[tuple[str, int]]) -> set[tuple[str, int]]:
        """Return those of some indexed entries, each a log and a number, that have any of the tags."""
        ...

    def fetch(self, positions: Sequence[Position], *, with_tags: bool) -> list[ReadEntry]:
        """Return the entries at positions in the tree, in any order."""

    def read(
        self, after: Position, before: Position, *, newest_first: bool, with_tags: bool, count: int
    ) -> list[ReadEntry]:
        """Return the first `count` entries between two bounds, index or not."""

    def named(self, id: str) -> Iterator[ReadEntry]:
        """Yield entries whose id begins as this one does: the indexed ones, then those behind the index."""


class Span(NamedTuple):
    """One leaf of the index as it lies there; see `indextables.spans`."""

    leaf: int
    log_id: str
    first_seq: int
    n: int
    at: int
    top: int
    late: int
    ids: bytes
    labels: bytes


class IndexViewer(Protocol):
    """What a `LogView` shows of the index of columns, for verifying."""

    def labels(self, after: int = 0) -> list[tuple[int, str]]:
        """Return `(label, text)` of the labels behind one."""

    def eras(self) -> list[Era]:
        """Return every epoch that is indexed."""

    def public_parts(self, log_id: str, first: int, end: int) -> Iterator[bytes]:
        """Yield the public bytes of the entries `first <= seq < end` of a log."""

    def scan_spans(self) -> Iterator[Span]:
        """Yield the leaves of the index in order."""

    def columns_count(self) -> int:
        """Return how many entries the lists of all labels have."""

    def has_column(self, label: int, leaf: int, seq: int) -> bool:
        """Return whether the list of a label has an entry."""


class FindingStore(Protocol):
    """The side of a store that finds entries."""

    def finding(self) -> AbstractContextManager[IndexReader]:
        """Return everything at one moment, for finding entries. Close it soon, as `ReadStore.view`."""


class FilledStore(Protocol):
    """The side of a store that fills the index of columns."""

    def index_columns(self, count: int) -> Backlog:
        """Index up to `count` further entries, or one leaf that has more, for speed; return what is left."""
