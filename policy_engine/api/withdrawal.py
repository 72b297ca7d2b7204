"""`?wait=`: how long a change's answer is kept until the change has taken hold, and what it then says of that.

Rules of the room: without `wait` the answer comes with the commit and says where things stand then. A wait is bounded
by `limits.withdrawal_http_seconds`, and so is the number of those who wait: beyond either, the answer comes at once and
says what has been reached. The change is committed in every case.
Left to others: the stages (`services.withdrawal`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import Query

from policy_engine.api.documents import Done, Reached, Strict, WithdrawalShown, plain
from policy_engine.limits import LIMITS
from policy_engine.services.withdrawal import Followed, Progress, Stage

if TYPE_CHECKING:
    from policy_engine.store.interfaces import Committed


class Waiting(Strict):
    """How far a change shall have taken hold before it is answered."""

    wait: Reached = "committed"


WaitQuery = Annotated[Waiting, Query()]


def shown(progress: Progress) -> WithdrawalShown:
    """Return a progress as it is answered."""
    return WithdrawalShown(**plain(progress))


def with_withdrawal(done: Done, followed: Followed, committed: Committed | None, waiting: Waiting) -> Done:
    """Return what became of a change with how far it has taken hold; what waits for a second person takes none."""
    if committed is None:
        return done
    progress = followed.committed(committed).wait(Stage(waiting.wait), LIMITS.withdrawal_http_seconds)
    return done.model_copy(update={"withdrawal": shown(progress)})
