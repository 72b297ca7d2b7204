"""`--wait`: how long a command that changes something stays until the change has taken hold, and what it then prints.

Rules of the room: the change is committed whatever becomes of the wait. A stage that is not reached within
`limits.withdrawal_wait_seconds` exits 7, so that a script which asked for it does not go on as if it were.
Left to others: the stages (`services.withdrawal`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from policy_engine.cli import exits, output
from policy_engine.limits import LIMITS

if TYPE_CHECKING:
    from policy_engine.services.withdrawal import Followed, Progress
    from policy_engine.store.interfaces import Committed


class Wait(StrEnum):
    """How far the change shall have taken hold when the command returns."""

    COMMITTED = "committed"
    DRAINED = "drained"
    SETTLED = "settled"


WaitOption = Annotated[
    Wait,
    typer.Option(
        help="Return when the change is committed, when every live replica has acknowledged it (drained), or when no "
        "older answer is valid any more (settled)."
    ),
]


def taken_hold(followed: Followed, committed: Committed | None, wait: Wait) -> dict[str, Any]:
    """Wait as asked and return the member that says how far the change has come; none where nothing is committed."""
    from policy_engine.services.withdrawal import Stage

    if committed is None:
        return {}
    progress = followed.committed(committed).wait(Stage(wait), LIMITS.withdrawal_wait_seconds)
    return {"withdrawal": record(progress)}


def record(progress: Progress) -> dict[str, Any]:
    """Return a progress as it is printed: stages that are not reached are left out."""
    found: dict[str, Any] = {name: value for name, value in output.plain(progress).items() if value is not None}
    return found


def require_reached(shown: dict[str, Any], wait: Wait) -> None:
    """Exit 7 when the stage that was asked for is not reached; after the record was printed."""
    withdrawal = shown.get("withdrawal")
    if withdrawal is None or f"{wait.value}_ms" in withdrawal:
        return
    waits = ", ".join(withdrawal["waits_for"]) or "the register of replicas"
    output.note(f"The change is committed and not {wait.value} yet: it waits for {waits}.")
    raise typer.Exit(exits.Code.UNREACHABLE)
