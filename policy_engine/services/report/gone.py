"""Decisions of a period whose sealed part is gone: how many were erased, how many pruned.

A report that counts what is sealed says how much of it is not there any more: its numbers would look like all there is.
No body is opened for it: the marks in the database say what is gone, and `audit verify` compares them with the log.
Left to others: the counts that lack these decisions (`keyed`, `services.asof`), the sentence (`sections`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from policy_engine.ledger.encoding import parse_public
from policy_engine.services.marks import ERASED, PRUNED, Marks
from policy_engine.services.report.gathered import Gathered
from policy_engine.services.walk import UNREADABLE
from policy_engine.store.interfaces import ReadStore


@dataclass(frozen=True, slots=True)
class Gone:
    """What a count lacks. `unreadable` is what does not open and no entry says why, `None` where nothing was opened."""

    erased: int = 0
    pruned: int = 0
    unreadable: int | None = None

    @property
    def told(self) -> int:
        """How many of them an entry erased or pruned."""
        return self.erased + self.pruned

    def members(self) -> dict[str, int]:
        """Return them as data."""
        opened = {} if self.unreadable is None else {UNREADABLE: self.unreadable}
        return {ERASED: self.erased, PRUNED: self.pruned, **opened}


def gone_of(store: ReadStore, found: Gathered) -> Gone:
    """Return how many of the decisions that were gathered have no sealed part any more, by what took it."""
    counted: Counter[str] = Counter()
    with store.view() as view:
        marks = Marks.of(view)
        if marks.ranges or any(key.register is None for key in marks.keys):
            for entry in view.scan_entries():
                if entry.sealed or (entry.log_id, entry.seq) not in found.verdicts:
                    continue
                mark = marks.of_body(entry, parse_public(entry.public)["at"])
                if mark is not None:
                    counted[mark.by] += 1
    return Gone(counted[ERASED], counted[PRUNED])


def closed_of(closed: Iterable[Mapping[str, Any]]) -> Gone:
    """Return the same of the decisions that an answer of `services.asof` could not look into."""
    counted = Counter(str(one["status"]) for one in closed)
    return Gone(counted[ERASED], counted[PRUNED], counted[UNREADABLE])
