"""`/v1/log/erase`, `/v1/log/prune` and `/v1/log/holds`: what goes for good, and what must not go.

Erasing and pruning are proposals: `/v1/approvals` takes the second person's word. A subject stands in a body and never
in a URL. Left to others: who may, what is found and what is under a hold (`services.erasure`, `retention`, `holds`).
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import Field

from policy_engine.api.access import CHANGING, READING, Caller, OpenEngine, route_options
from policy_engine.api.documents import Done, Id, Instant, Shown, Strict, Words, done
from policy_engine.core.instants import parse_instant
from policy_engine.services.holdrules import Cover, shown
from policy_engine.services.orders import READERS

router = APIRouter(prefix="/v1/log", tags=["log"])


class WhomToErase(Strict):
    """A subject to erase, and why, in words that do not name them."""

    id: Id
    reason: Words


class WhatToPrune(Strict):
    """Sealed parts of entries before an instant, and why they go."""

    before: Instant
    reason: Words


class HoldToPlace(Strict):
    """A legal hold: on a subject, a tenant, a model, entries of a period, or several of them together."""

    id: Id
    subject: Id | None = None
    tenant: Id | None = None
    model: Id | None = None
    since: Instant | None = None
    until: Instant | None = None
    reason: Words
    reference: Words = ""


class WhyToRelease(Strict):
    """Why a hold is released."""

    reason: Words


class Erasing(Done):
    """A proposal to erase or prune: how much would go, and how much that names or covers the same would stay."""

    entries: int
    rows: Annotated[dict[str, int], Field(default_factory=dict)]
    kept: Annotated[dict[str, int], Field(default_factory=dict)]


class Placed(Done):
    """A hold that was placed. `unregistered` are its members that name nothing known: a misspelt one keeps nothing.

    A subject or tenant that is in no register, or a model that the active release's catalogue has not, is held all the
    same: entries may name it.
    """

    unregistered: list[str] | None = None


class HoldShown(Shown):
    """A legal hold as it stands; `status` is `in_force` or `released`.

    `alias_of` is the model that `model` was an alias of when the hold was placed: both names are covered.
    """

    id: str
    status: str
    subject: str | None = None
    tenant: str | None = None
    model: str | None = None
    alias_of: str | None = None
    since: str | None = None
    until: str | None = None
    reason: str
    reference: str
    placed_by: str
    placed_at: str
    revision: int


class HoldsShown(Shown):
    """Legal holds in order of id."""

    holds: list[HoldShown]


@router.post("/erase", status_code=202, **route_options("facts:write", problems=CHANGING))
def erase_subject(engine: OpenEngine, principal: Caller, body: WhomToErase, response: Response) -> Erasing:
    """Propose to erase a subject; nothing is gone until another person has approved the proposal."""
    found = engine.disposal.erasures.propose(principal, body.id, body.reason)
    waiting = done(found.proposal.id, None, found.proposal.id, found.proposal.hash)
    response.headers["Location"] = f"/v1/approvals/{found.proposal.id}"
    return Erasing(**dict(waiting), entries=found.entries, rows=dict(found.rows), kept=dict(found.kept))


@router.post("/prune", status_code=202, **route_options("policy:write", problems=CHANGING))
def prune_bodies(engine: OpenEngine, principal: Caller, body: WhatToPrune, response: Response) -> Erasing:
    """Propose to empty sealed parts beyond the retention limit; nothing is gone until another person has approved."""
    found = engine.disposal.retention.propose(principal, parse_instant(body.before), body.reason)
    waiting = done(found.proposal.id, None, found.proposal.id, found.proposal.hash)
    response.headers["Location"] = f"/v1/approvals/{found.proposal.id}"
    return Erasing(**dict(waiting), entries=found.bodies, kept={"held": found.held} if found.held else {})


@router.get("/holds", **route_options(*READERS, problems=READING))
def list_holds(engine: OpenEngine, principal: Caller) -> HoldsShown:
    """List legal holds, released ones too."""
    return HoldsShown(holds=[HoldShown(**shown(hold)) for hold in engine.disposal.holds.list(principal)])


@router.post("/holds", status_code=201, **route_options("orders:write", problems=CHANGING))
def place_hold(engine: OpenEngine, principal: Caller, body: HoldToPlace) -> Placed:
    """Place a legal hold. From here on nothing that it covers is erased or pruned."""
    since, until = (None if text is None else parse_instant(text) for text in (body.since, body.until))
    cover = Cover(body.subject, body.tenant, body.model, since, until)
    holds = engine.disposal.holds
    committed = holds.place(principal, body.id, cover, body.reason, reference=body.reference)
    return Placed(**dict(done(body.id, committed)), unregistered=list(holds.unregistered(cover)) or None)


@router.post("/holds/{id:path}/release", status_code=202, **route_options("orders:write", problems=CHANGING))
def release_hold(engine: OpenEngine, principal: Caller, id: Id, body: WhyToRelease, response: Response) -> Done:
    """Propose to release a hold; it stands until another person has approved the proposal."""
    proposal = engine.disposal.holds.release(principal, id, body.reason)
    response.headers["Location"] = f"/v1/approvals/{proposal.id}"
    return done(id, None, proposal.id, proposal.hash)
