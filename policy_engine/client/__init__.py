"""The reference client of an enforcement point: asks, counts budgets, hears of revocations.

Rules of the room:
- It imports the standard library alone, so it may be copied into an enforcement point.
- An allow is used within its budget, counted from the moment its question was sent, on a clock that counts suspend.
  Nothing that is heard makes it last longer; whatever is in doubt ends it.
- It decides nothing by itself: without a usable answer there is no allow.
Left to others: the stream's other end (`api.feed`), what `settled` promises (`docs/revocations.md`).
"""

from policy_engine.client.asking import DecisionPoint, Unanswered
from policy_engine.client.clock import COUNTS_SUSPEND, budget_clock
from policy_engine.client.connection import Address
from policy_engine.client.heard import Heard, Mark
from policy_engine.client.listener import Listener
from policy_engine.client.permission import Answer, Permission, Question

__all__ = [
    "COUNTS_SUSPEND",
    "Address",
    "Answer",
    "DecisionPoint",
    "Heard",
    "Listener",
    "Mark",
    "Permission",
    "Question",
    "Unanswered",
    "budget_clock",
]
