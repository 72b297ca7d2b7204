"""What a cell doubts because of the others, and the deny that follows; a doubt never allows anything.

Rules of the room:
- A doubt takes back an allow and touches no deny: whatever the rules say against a request stays the reason.
- What is behind (a switch or directive that another cell has in force and this one has not) denies what that could
  reach, compared by the code of the kill switches. What is unconfirmed denies every model from a tier on, and every one
  whose tier is not known.
- The deny is on the record: its code is its reason, and stands among the flags of the entry as what was known of the
  other cells at that time. A replay reads it there (law 5), since no register of this cell holds it.
- No word of another cell stands in a reason.
Left to others: when there is doubt (`peers`), evaluating (`services.evaluate`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from policy_engine.core.decision import Evaluation, Outcome, Reason
from policy_engine.core.instants import ENDLESS
from policy_engine.core.switches import Switchboard, SwitchQuestion

UNCONFIRMED: Final = "cell.unconfirmed"
BEHIND: Final = "cell.behind"

_REASONS: Final[Mapping[str, Reason]] = {
    UNCONFIRMED: Reason(
        UNCONFIRMED, "cells", "Another region cannot be asked what is in force, so this model is not available for now."
    ),
    BEHIND: Reason(
        BEHIND, "cells", "Another region has withdrawn this and this region has not yet, so it is not available."
    ),
}


@dataclass(frozen=True, slots=True)
class Doubt:
    """What is doubted now: every model from a tier on, where one is named, and what the switches `behind` reach."""

    tier: int | None
    behind: Switchboard

    def applied(self, found: Evaluation, question: SwitchQuestion) -> Evaluation:
        """Return an evaluation as it stands under the doubt: an allow that it reaches is a deny."""
        if found.outcome is not Outcome.ALLOW:
            return found
        if self.tier is not None and (found.tier is None or found.tier >= self.tier):
            return doubted(found, UNCONFIRMED)
        return doubted(found, BEHIND) if self.behind.engaged(question, found.at) else found


Doubting = Callable[[], Doubt | None]
"""Says what is doubted now, `None` where nothing is."""


def doubted(found: Evaluation, code: str) -> Evaluation:
    """Return an allow as the deny of a doubt, with what was doubted among its flags."""
    return found._replace(
        outcome=Outcome.DENY,
        reasons=(_REASONS[code],),
        missing=(),
        alternatives=(),
        values=None,
        matched=(),
        lifted=(),
        licences=(),
        until=ENDLESS,
        flags=(*found.flags, code),
        shared=None,
    )


def redoubted(found: Evaluation, flags: Iterable[str]) -> Evaluation:
    """Return an evaluation under the doubt that an entry's flags record, if they record one."""
    code = next((flag for flag in flags if flag in _REASONS), None)
    return found if code is None or found.outcome is not Outcome.ALLOW else doubted(found, code)
