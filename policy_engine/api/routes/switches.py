"""`/v1/switches`: engage a kill switch at once, release one with a second person.

Left to others: what a switch covers (`core.switches`), who may engage and release (`services.switches`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import Field

from policy_engine.api.access import CHANGING, READING_ONE, Caller, OpenEngine, route_options
from policy_engine.api.documents import Done, Id, Instant, Shown, Strict, WithdrawalShown, Words, done, plain
from policy_engine.api.withdrawal import WaitQuery, shown, with_withdrawal
from policy_engine.core.instants import parse_instant
from policy_engine.limits import LIMITS
from policy_engine.services.switches import Switch

router = APIRouter(prefix="/v1/switches", tags=["switches"])

Names = Annotated[list[Id], Field(min_length=1, max_length=LIMITS.list_items_count)]
Dimension = Literal["all"] | Names


class SwitchScope(Strict):
    """What a switch stops: every dimension named must match; `models: "all"` alone stops everything."""

    models: Dimension | None = None
    families: Dimension | None = None
    tenants: Dimension | None = None
    tenant_types: Dimension | None = None
    tiers: Literal["all"] | Annotated[list[int], Field(min_length=1, max_length=16)] | None = None
    regions: Dimension | None = None
    actions: Dimension | None = None


class SwitchToEngage(Strict):
    """A switch to engage. `until` is an end that is fixed now; without it the switch ends by its release alone."""

    id: Id
    scope: SwitchScope
    reason: Words
    reference: Words = ""
    until: Instant | None = None


class Reason(Strict):
    """Why something is done."""

    reason: Words


class SwitchShown(Shown):
    """A switch as it stands; `status` is `engaged`, `released` or `ended`."""

    id: str
    status: str
    scope: dict[str, Any]
    until: str | None = None
    reason: str
    reference: str
    engaged_by: str
    engaged_at: str
    released_at: str | None = None
    released_by: str | None = None
    approved_by: str | None = None
    revision: int
    withdrawal: WithdrawalShown | None = None
    drilled: dict[str, Any] | None = None


class SwitchesShown(Shown):
    """Switches in order of id."""

    switches: list[SwitchShown]


class OnlySwitches(Strict):
    """Which switches to list."""

    status: Literal["engaged", "released", "ended"] | None = None


@router.get("", **route_options())
def list_switches(engine: OpenEngine, principal: Caller, only: Annotated[OnlySwitches, Query()]) -> SwitchesShown:
    """List switches, released ones too."""
    now = engine.store.now()
    found = [_shown(switch, now) for switch in engine.switches.list(principal)]
    return SwitchesShown(switches=[switch for switch in found if only.status in (None, switch.status)])


@router.get("/{id:path}", **route_options(problems=READING_ONE))
def show_switch(engine: OpenEngine, principal: Caller, id: str) -> SwitchShown:
    """Show one switch, with how far its last change has taken hold."""
    found = _shown(engine.switches.show(principal, id), engine.store.now())
    progress = engine.withdrawals.of_row("switches", id)
    return found.model_copy(update={"withdrawal": shown(progress)})


@router.post("", status_code=201, **route_options("switch:engage", problems=CHANGING))
def engage_switch(engine: OpenEngine, principal: Caller, body: SwitchToEngage, waiting: WaitQuery) -> Done:
    """Engage a switch. When this is answered it is committed: no allow of an older state is written after it."""
    followed = engine.withdrawals.follow()
    until = None if body.until is None else parse_instant(body.until)
    scope = body.scope.model_dump(exclude_none=True)
    engaged = engine.switches.engage(principal, body.id, scope, body.reason, reference=body.reference, until=until)
    return with_withdrawal(done(engaged.id, engaged.committed), followed, engaged.committed, waiting)


@router.post("/{id:path}/release", status_code=202, **route_options("switch:release", problems=CHANGING))
def release_switch(engine: OpenEngine, principal: Caller, id: str, body: Reason, response: Response) -> Done:
    """Propose to release a switch; it stays engaged until another person has approved the proposal."""
    proposal = engine.switches.release(principal, id, body.reason)
    response.headers["Location"] = f"/v1/approvals/{proposal.id}"
    return done(id, None, proposal.id, proposal.hash)


def _shown(switch: Switch, now: int) -> SwitchShown:
    over = "ended" if switch.released_at is None else "released"
    return SwitchShown(status="engaged" if switch.engaged(now) else over, **plain(switch))
