"""What every store promises about what is taken out of the log for good: asked for by a change, marked where it lay.

Words: an *erasure* destroys the data keys of one subject and of register rows; a *pruning* empties bodies that are
older than an instant. Both are part of one change: its entry names what is gone, in public and without a name, and a
*mark* in the database repeats it, so that whoever meets an empty body finds the entry that emptied it.
The marks are a projection of the log, as the registers are: `services.verify` compares the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

ERASABLE = ("persons", "tenants", "orders", "approvals")
"""Registers of which rows may be erased. What somebody did as one who acts stays: keys, switches, releases."""


@dataclass(frozen=True, slots=True)
class Erasure:
    """Everything that a change shall erase, as it was looked at under `epoch`.

    `tags` find the bodies: inside the change they must find exactly `places`, or nothing is done. `keys` are ids of
    data keys that go with them where there are such. `rows` are `(register, id, revision)`: their salt, their text
    and the key of their history go; a row that the same change writes is written anew.
    """

    epoch: int
    tags: tuple[bytes, ...]
    places: tuple[tuple[str, int], ...]
    keys: tuple[str, ...]
    rows: tuple[tuple[str, str, int], ...]


@dataclass(frozen=True, slots=True)
class Pruning:
    """The bodies that a change shall empty: those of decisions, searches and reads in `ranges`, as of `epoch`.

    A range is `(log_id, first, end)`, `end` exclusive; all its entries are earlier than `before`.
    """

    epoch: int
    before: int
    ranges: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class ErasedKey:
    """A data key that entry `(log_id, seq)` of instant `at` destroyed. Of a row: its register and last revision."""

    key: str
    log_id: str
    seq: int
    at: int
    register: str | None
    revision: int | None


@dataclass(frozen=True, slots=True)
class PrunedRange:
    """Entries `first` to before `end` of log `log_id`, whose bodies entry `(by_log, by_seq)` emptied."""

    by_log: str
    by_seq: int
    at: int
    log_id: str
    first: int
    end: int


class MarkReader(Protocol):
    """Reading the marks; every `LogView` has it."""

    def erased_keys(self) -> list[ErasedKey]:
        """Return every data key that was destroyed, once for each time."""
        ...

    def pruned_ranges(self) -> list[PrunedRange]:
        """Return every range of bodies that was emptied."""
        ...

    def scan_bodies(self, log_id: str, end: int) -> Iterator[tuple[int, bytes]]:
        """Yield `(seq, public)` of the entries before `end` whose body is there and is not that of a change."""
        ...


def erases(keys: list[str], rows: list[tuple[str, str, int]], bodies: int) -> Mapping[str, Any]:
    """Return the public member `erases` of an entry: ids of destroyed keys, `[register, key, revision]` of rows."""
    return {"keys": sorted(keys), "rows": [list(row) for row in sorted(rows)], "bodies": bodies}


def prunes(pruning: Pruning, bodies: int) -> Mapping[str, Any]:
    """Return the public member `prunes` of an entry: the instant, the ranges of each log, and how many bodies."""
    return {"before": pruning.before, "ranges": [list(part) for part in sorted(pruning.ranges)], "bodies": bodies}
