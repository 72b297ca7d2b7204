"""Entries of denies that were told before they were durable: they end allows in use, and nobody waits for a disk then.

Rules of the room: an entry stands under the id that was told. What moved meanwhile is evaluated again; what would be
allowed by then has no entry to write. Whatever cannot be recorded is counted, and one `gap` entry says so on return.
Left to others: which allows end (`services.inuse`), what durable means (`services.record`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from policy_engine.core.decision import Evaluation, Outcome, Principal
from policy_engine.errors import LoadRefused, StoreUnavailable
from policy_engine.services.decide import ATTEMPTS_COUNT, Decider
from policy_engine.services.record import Recorder, Written
from policy_engine.services.snapshot import Snapshot

TOGETHER_COUNT = 128
"""Entries that are written in one batch."""


@dataclass(slots=True)
class Told:
    """A deny that was told, whose entry is still to be written under the id of the draft."""

    evaluation: Evaluation
    principal: Principal
    draft: Any


class Afterwards:
    """Writes such entries. One per engine; used by its watcher alone."""

    def __init__(self, decider: Decider, recorder: Recorder) -> None:
        self._decider = decider
        self._recorder = recorder

    def record(self, told: Sequence[Told], snapshot: Snapshot) -> None:
        """Write the entries, or count what cannot be written. Never raises for a store that is away.

        Such a store is waited for once, however many were told: meanwhile nobody watches what goes on.
        """
        away: str | None = None
        for start in range(0, len(told), TOGETHER_COUNT):
            left = list(told[start : start + TOGETHER_COUNT])
            if away is None:
                away = self._record(left, snapshot)
            else:
                self._count(left, away)

    def _record(self, left: list[Told], snapshot: Snapshot) -> str | None:
        """Write the entries of one batch, or count them; return the code of a store that is away."""
        try:
            for _ in range(ATTEMPTS_COUNT):
                results = self._recorder.write([each.draft for each in left], snapshot.state)
                left = [each for each, result in zip(left, results, strict=True) if not isinstance(result, Written)]
                if not left:
                    return None
                snapshot = self._decider.confirmed()
                left = [each for each in left if self._again(each, snapshot)]
                if not left:
                    return None
        except (StoreUnavailable, LoadRefused) as error:
            away = self._decider.why_away(error).code
            self._count(left, away)
            return away
        self._count(left, "stale")
        return None

    def _count(self, left: Sequence[Told], code: str) -> None:
        for _ in left:
            self._recorder.missed(code)

    def _again(self, told: Told, snapshot: Snapshot) -> bool:
        """Draft an entry again under a newer state; return whether it would still be a deny."""
        asked = [(told.evaluation.request, told.principal)]
        (evaluation,) = self._decider.evaluations(asked, snapshot, self._decider.now())
        if evaluation.outcome is Outcome.ALLOW:
            self._recorder.missed("stale")
            return False
        id = told.draft.id
        _, told.draft = self._decider.denied(evaluation, told.principal, snapshot)
        told.evaluation, told.draft.id = evaluation, id
        return True
