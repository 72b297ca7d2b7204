"""A question, its answer, and the permission to act on it for as long as its budget lasts.

Rules of the room:
- The budget counts from before the question was sent. Of the budget granted 99% are used: a clock that runs slow by
  one percent against the engine's stays within it, and `settled` waits for another percent.
- `is_usable` is asked right before each use. A pause between asking and using is the enforcement point's to keep short.
- Usable means: allowed, within the budget, and nothing heard that could end it. Anything unreadable is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from policy_engine.client.clock import Clock, budget_clock
from policy_engine.client.heard import Heard, Mark

USED_SHARE: Final = 0.99
BUDGET_MILLISECONDS_MAX: Final = 60_000
"""The longest budget there is; an answer that claims more is not believed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the engine said. `valid_for_ms` is the budget, from the moment of sending."""

    allowed: bool
    id: str
    epoch: int
    valid_for_ms: int
    reasons: tuple[str, ...] = ()

    @classmethod
    def read(cls, body: Any) -> Answer:
        """Return the answer of an AuthZEN decision; one that cannot be read allows nothing."""
        context = body.get("context") if isinstance(body, Mapping) else None
        if not isinstance(context, Mapping):
            return cls(False, "", 0, 0)
        epoch, budget, id = _count(context.get("epoch")), _count(context.get("valid_for_ms")), context.get("id")
        given = context.get("reasons")
        codes = [each.get("code") for each in given if isinstance(each, Mapping)] if isinstance(given, list) else []
        reasons = tuple(code for code in codes if isinstance(code, str))
        if epoch is None or budget is None or budget > BUDGET_MILLISECONDS_MAX or not isinstance(id, str):
            return cls(False, "", 0, 0, reasons)
        return cls(body.get("decision") is True, id, epoch, budget, reasons)


@dataclass(frozen=True, slots=True)
class Question:
    """A question about to be sent: make it first, then send it. `Question.of` notes the moment and what was heard."""

    model: str
    action: str
    sent_at: float
    mark: Mark
    heard: Heard = field(repr=False)
    clock: Clock = field(repr=False)

    @classmethod
    def of(cls, model: str, action: str, heard: Heard, clock: Clock = budget_clock) -> Question:
        """Return the question, as of now."""
        mark = heard.mark()
        return cls(model, action, clock(), mark, heard, clock)

    def answered(self, answer: Answer) -> Permission:
        """Return what the answer permits."""
        return Permission(self, answer)


@dataclass(frozen=True, slots=True)
class Permission:
    """What one answer permits, and for how long."""

    question: Question
    answer: Answer

    def remaining_seconds(self) -> float:
        """Return how much of the budget is left on this machine's clock; 0 when it is spent or in doubt."""
        elapsed = self.question.clock() - self.question.sent_at
        budget = self.answer.valid_for_ms / 1_000 * USED_SHARE
        return max(0.0, budget - elapsed) if elapsed >= 0 else 0.0

    def is_usable(self) -> bool:
        """Return whether the allow may be used now. Ask again before each use."""
        question, answer = self.question, self.answer
        if not answer.allowed or question.heard.ends(answer.epoch, question.mark, question.model, question.action):
            return False
        return self.remaining_seconds() > 0  # the clock is read last: a pause before it counts


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
