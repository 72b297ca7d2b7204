"""What was erased or pruned, and by which entry: the answer instead of a body that is gone.

Rules of the room:
- A mark covers what was written before it and nothing later: a subject who comes back gets a fresh key under the same
  id, and what is sealed under that is not erased. In one log the numbers say what is later, between logs the instants:
  an erasure, being a change, is later than every entry before it.
- Marks are read from the database and believed only as far as the log says the same (`MarkCheck`).
Left to others: emptying (`store.erasing`), who may (`services.erasure`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from policy_engine.errors import Gone
from policy_engine.ledger.sealing import split_rows
from policy_engine.store.erasureinterfaces import ErasedKey, MarkReader, PrunedRange
from policy_engine.store.interfaces import LogView, ReadStore, StoredEntry

ERASED = "erased"
PRUNED = "pruned"


@dataclass(frozen=True, slots=True)
class Mark:
    """The entry that erased or pruned something: `by` is `erased` or `pruned`."""

    by: str
    log_id: str
    seq: int
    at: int

    def __str__(self) -> str:
        return f"{self.by} by entry {self.seq} of log {self.log_id}"

    def covers(self, log_id: str, seq: int, at: int) -> bool:
        """Return whether an entry was there before it."""
        return seq < self.seq if log_id == self.log_id else at < self.at


class Marks:
    """All marks of a database, for looking up by data key and by place."""

    def __init__(self, keys: Iterable[ErasedKey] = (), ranges: Iterable[PrunedRange] = ()) -> None:
        self.keys = tuple(keys)
        self.ranges = tuple(ranges)
        self._by_key: dict[str, list[Mark]] = {}
        for key in self.keys:
            self._by_key.setdefault(key.key, []).append(Mark(ERASED, key.log_id, key.seq, key.at))
        self._by_log: dict[str, list[tuple[int, int, Mark]]] = {}
        for part in self.ranges:
            mark = Mark(PRUNED, part.by_log, part.by_seq, part.at)
            self._by_log.setdefault(part.log_id, []).append((part.first, part.end, mark))

    @classmethod
    def of(cls, reader: MarkReader) -> Marks:
        """Return the marks that a view of the database holds."""
        return cls(reader.erased_keys(), reader.pruned_ranges())

    def of_key(self, key_id: str, log_id: str, seq: int, at: int) -> Mark | None:
        """Return what erased what an entry has sealed under a data key, `None` when nothing did."""
        found = [mark for mark in self._by_key.get(key_id, ()) if mark.covers(log_id, seq, at)]
        return min(found, key=_moment) if found else None

    def last_of_key(self, key_id: str) -> Mark | None:
        """Return what erased a data key last, `None` when nothing ever did."""
        return max(self._by_key.get(key_id, ()), key=_moment, default=None)

    def erased_with(self, keys: frozenset[str]) -> frozenset[str]:
        """Return these data keys and all that an erasure destroyed together with any of them: one subject's."""
        together: dict[tuple[str, int], set[str]] = {}
        for key in self.keys:
            together.setdefault((key.log_id, key.seq), set()).add(key.key)
        return keys.union(*(found for found in together.values() if not found.isdisjoint(keys)))

    def of_body(self, entry: StoredEntry, at: int) -> Mark | None:
        """Return what erased or pruned the body of a decision, search or read. Rows of a change: see `of_key`."""
        if entry.data_key is None:
            return None
        erased = self.of_key(entry.data_key, entry.log_id, entry.seq, at)
        pruned = [mark for first, end, mark in self._by_log.get(entry.log_id, ()) if first <= entry.seq < end]
        found = [mark for mark in (erased, *pruned) if mark is not None]
        return min(found, key=_moment) if found else None

    def erased_rows(self, entry: StoredEntry, public: Mapping[str, Any]) -> set[tuple[str, int, int]]:
        """Return `(log_id, seq, item)` of the rows of a change that were erased. Raises `VerificationFailed`."""
        place = (entry.log_id, entry.seq)
        keys = [key for key, _ in split_rows(entry.sealed)] if entry.sealed else []
        return {(*place, item) for item, key in enumerate(keys) if self.of_key(key, *place, public["at"]) is not None}

    def of_entry(self, entry: StoredEntry, public: Mapping[str, Any]) -> tuple[Mark, ...]:
        """Return what erased or pruned the body of an entry, or rows in it, each entry that did so once."""
        body = self.of_body(entry, public["at"])
        keys = [key for key, _ in split_rows(entry.sealed)] if "rows" in public and entry.sealed else []
        rows = [self.of_key(key, entry.log_id, entry.seq, public["at"]) for key in keys]
        return tuple(sorted({mark for mark in (body, *rows) if mark is not None}, key=_moment))

    def require_body(self, entry: StoredEntry, at: int) -> None:
        """Raise `Gone` when the body was erased or pruned."""
        mark = self.of_body(entry, at)
        if mark is not None:
            raise Gone(str(mark), where=f"entry {entry.seq}")


NO_MARKS = Marks()


def marks_of(store: ReadStore) -> Marks:
    """Return the marks that a store holds now."""
    with store.view() as view:
        return Marks.of(view)


def _moment(mark: Mark) -> tuple[int, str, int]:
    return mark.at, mark.log_id, mark.seq


class MarkCheck:
    """Compares the marks with the entries that speak of them, and finds keys that should be gone and are not."""

    def __init__(self, marks: Marks, find: Callable[[str, str], None]) -> None:
        self._marks = marks
        self._find = find
        self._said_keys: set[ErasedKey] = set()
        self._said_ranges: set[PrunedRange] = set()
        self._renewed: set[str] = set()
        self._said_bodies: dict[Mark, int] = {}
        self._emptied: dict[Mark, int] = {}
        self.gone: dict[str, int] = {}

    def follow(self, public: Mapping[str, Any]) -> None:
        """Take what the public part of an entry says is gone."""
        log_id, seq, at = public["log"], public["seq"], public["at"]
        if "erases" in public:
            self._said_bodies[Mark(ERASED, log_id, seq, at)] = public["erases"]["bodies"]
            rows = {key: (register, revision) for register, key, revision in public["erases"]["rows"]}
            for key in public["erases"]["keys"]:
                self._said_keys.add(ErasedKey(key, log_id, seq, at, *rows.get(key, (None, None))))
        if "prunes" in public:
            for of, first, end in public["prunes"]["ranges"]:
                self._said_ranges.add(PrunedRange(log_id, seq, at, of, first, end))

    def used(self, key_id: str) -> None:
        """Take that an entry later than every erasure of a key is sealed under it: it was made anew."""
        self._renewed.add(key_id)

    def count(self, mark: Mark) -> None:
        """Count one body or row that a mark explains."""
        self.gone[str(mark)] = self.gone.get(str(mark), 0) + 1

    def emptied(self, mark: Mark) -> None:
        """Count one body that is empty because of a mark."""
        self._emptied[mark] = self._emptied.get(mark, 0) + 1
        self.count(mark)

    def compare(self, view: LogView) -> None:
        """Find marks that no entry made, marks that are missing, and destroyed keys that are still there."""
        said: set[ErasedKey | PrunedRange] = {*self._said_keys, *self._said_ranges}
        marked: set[ErasedKey | PrunedRange] = {*self._marks.keys, *self._marks.ranges}
        for mark in sorted(marked - said, key=repr):
            self._find(f"mark of entry {_by(mark)}", "no entry says that this was erased or pruned")
        for mark in sorted(said - marked, key=repr):
            self._find(f"entry {_by(mark)}", "a mark of what it erased or pruned is missing")
        for entry, count in self._said_bodies.items():
            if self._emptied.get(entry, 0) != count:
                self._find(
                    f"entry {entry.seq} of log {entry.log_id}", "it erased another number of bodies than are gone"
                )
        for key in sorted({mark.key for mark in self._said_keys} - self._renewed):
            if view.data_key(key) is not None:
                self._find(f"data key {key}", "an entry destroyed it and it is still there")


def _by(mark: ErasedKey | PrunedRange) -> str:
    if isinstance(mark, ErasedKey):
        return f"{mark.seq} of log {mark.log_id}"
    return f"{mark.by_seq} of log {mark.by_log}"
