"""The changes of several logs in one order, and what the other entries were written under.

A store with a log for each writer gives each change an instant later than every entry before it, and no entry an
instant before the change that it was written under. So the changes have one order by their instants alone, and whether
an entry of an older epoch was written after a change (law 4) can be read off the log.
Rules: memory grows with the changes and the logs, not with the decisions. Left to others: entries by themselves, and
stores with one log, whose order is that of its numbers (`services.verify`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from policy_engine.errors import VerificationFailed
from policy_engine.services.projection import Projection
from policy_engine.services.unseal import OpenedRow
from policy_engine.store.interfaces import StoredEntry

_KEPT = ("kind", "beyond", "epoch", "release", "rows", "activates", "sample", "erases", "prunes")

Find = Callable[[str, str], None]
"""Notes at a place what does not agree."""


@dataclass(slots=True)
class _Change:
    """One change, with its rows once they were opened."""

    at: int
    log_id: str
    seq: int
    public: Mapping[str, Any]
    rows: Sequence[OpenedRow | None] | None = None


@dataclass(slots=True)
class _Stretch:
    """Entries of one log under one epoch and release: the first and the last of them."""

    first_at: int
    first_seq: int
    last_at: int
    last_seq: int


class Timeline:
    """Collects what the entries of all logs say, and replays the changes when all were seen."""

    def __init__(self) -> None:
        self._changes: dict[tuple[str, int], _Change] = {}
        self._stretches: dict[tuple[str, int, str | None], _Stretch] = {}

    def follow(self, entry: StoredEntry, public: Mapping[str, Any]) -> None:
        """Take an entry's public part. Entries of one log come in order."""
        at = int(public["at"])
        if "rows" in public:
            kept = {name: public[name] for name in _KEPT if name in public}
            self._changes[entry.log_id, entry.seq] = _Change(at, entry.log_id, entry.seq, kept)
            return
        key = (entry.log_id, int(public["epoch"]), public["release"])
        stretch = self._stretches.get(key)
        if stretch is None:
            self._stretches[key] = _Stretch(at, entry.seq, at, entry.seq)
        else:
            stretch.last_at, stretch.last_seq = at, entry.seq

    def put(self, entry: StoredEntry, rows: Sequence[OpenedRow | None]) -> None:
        """Take the opened rows of a change that was followed."""
        self._changes[entry.log_id, entry.seq].rows = rows

    def replay(self, projection: Projection, find: Find) -> None:
        """Apply the changes in their order to an empty projection, and check every other entry against them."""
        epochs: list[tuple[int, str | None, int]] = [(0, None, 0)]
        before: _Change | None = None
        for change in sorted(self._changes.values(), key=lambda change: (change.at, change.log_id, change.seq)):
            place = _place(change.log_id, change.seq)
            if before is not None and before.at == change.at and before.log_id != change.log_id:
                find(place, "it changes something at the same instant as a change in another log")
            before = change
            try:
                projection.follow(change.public)
                if change.rows is not None:
                    projection.put(change.log_id, change.seq, change.rows)
            except VerificationFailed as failed:
                find(place, failed.message)
            state = projection.state
            if state.epoch != epochs[-1][0]:
                epochs.append((state.epoch, state.release, change.at))
        for (log_id, epoch, release), stretch in self._stretches.items():
            _check(log_id, epoch, release, stretch, epochs, find)


def _check(
    log_id: str,
    epoch: int,
    release: str | None,
    stretch: _Stretch,
    epochs: Sequence[tuple[int, str | None, int]],
    find: Find,
) -> None:
    number = bisect_left(epochs, epoch, key=lambda known: known[0])
    if number == len(epochs) or epochs[number][:2] != (epoch, release):
        find(_place(log_id, stretch.first_seq), "the entry was written under another epoch or release than the log's")
        return
    if stretch.first_at < epochs[number][2]:
        find(_place(log_id, stretch.first_seq), "the entry is earlier than the change that it was written under")
    if number + 1 < len(epochs) and stretch.last_at >= epochs[number + 1][2]:
        find(_place(log_id, stretch.last_seq), "the entry was written under an epoch that had passed")


def _place(log_id: str, seq: int) -> str:
    return f"entry {seq} of log {log_id}"
