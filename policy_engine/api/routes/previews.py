"""`/v1/switches/preview` and `/v1/orders/preview`: what a change would do to whom, before it is made.

Nothing is changed and nothing granted; one entry says that it was asked. Counts are for whoever may ask; persons are
left out for a key without `audit:read`.
Left to others: finding out (`services.preview`), making the change (`routes.switches`, `routes.orders`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import Field

from policy_engine.api.access import CHANGING, Caller, Costly, OpenEngine, route_options
from policy_engine.api.documents import Id, Instant, Shown, Strict, plain
from policy_engine.api.routes.orders import Kind
from policy_engine.api.routes.switches import SwitchScope
from policy_engine.core.decision import Principal
from policy_engine.core.factparse import parse_location
from policy_engine.core.instants import parse_instant
from policy_engine.errors import InputRefused
from policy_engine.limits import LIMITS
from policy_engine.services.orders import READERS
from policy_engine.services.preview.answer import Preview
from policy_engine.services.preview.service import DAYS, SWITCH_SCOPES, Previews, Wanted

router = APIRouter(prefix="/v1", tags=["previews"])


class HowPreviewed(Strict):
    """Days of recorded decisions, the stage, and a place from which everybody is asked instead of their residence."""

    days: Annotated[int, Field(ge=0, le=LIMITS.preview_days)] = DAYS
    stage: Literal["approved", "at_once"] = "approved"
    location: str | dict[str, Any] | None = None

    def wanted(self) -> Wanted:
        """Return it as the service takes it."""
        return Wanted(self.days, self.stage, parse_location(self.location, "location"))


class SwitchPreview(HowPreviewed):
    """The scope of a switch to engage (with an end, if it has one), or the id of one to release."""

    scope: SwitchScope | None = None
    until: Instant | None = None
    release: Id | None = None


class OrderPreview(HowPreviewed):
    """An order to receive (`kind`, `document`), an amendment (`amend`, `document`), or the end of an order (`end`)."""

    kind: Kind | None = None
    document: dict[str, Any] | None = None
    amend: Id | None = None
    end: Id | None = None


class PreviewShown(Shown):
    """What a change would do; see docs/preview.md for the members of `registers` and `recorded`."""

    id: str
    what: str
    change: str
    stage: str
    waits: bool
    at: str
    epoch: int
    release: str
    complete: bool
    sees_persons: bool
    registers: dict[str, Any]
    recorded: dict[str, Any] | None = None
    notes: list[str]


@router.post("/switches/preview", **route_options(*SWITCH_SCOPES, problems=CHANGING))
def preview_switch(engine: OpenEngine, principal: Caller, few: Costly, body: SwitchPreview) -> PreviewShown:
    """Return what engaging or releasing a switch would do; change nothing."""
    with few:
        return _shown(_of_switch(engine.foresight.previews, principal, body))


def _of_switch(previews: Previews, principal: Principal, body: SwitchPreview) -> Preview:
    if (body.release is None) == (body.scope is None):
        raise InputRefused("give the scope of a new switch, or the switch to release", where="scope")
    if body.release is not None or body.scope is None:
        return previews.release(principal, body.release or "", wanted=body.wanted())
    until = None if body.until is None else parse_instant(body.until)
    scope = body.scope.model_dump(exclude_none=True)
    return previews.engage(principal, "preview", scope, until=until, wanted=body.wanted())


@router.post("/orders/preview", **route_options(*READERS, problems=CHANGING))
def preview_order(engine: OpenEngine, principal: Caller, few: Costly, body: OrderPreview) -> PreviewShown:
    """Return what receiving, amending or ending an order would do; change nothing."""
    with few:
        return _shown(_of_order(engine.foresight.previews, principal, body))


def _of_order(previews: Previews, principal: Principal, body: OrderPreview) -> Preview:
    document = body.document
    if body.end is not None and document is None and body.amend is None and body.kind is None:
        return previews.end(principal, body.end, wanted=body.wanted())
    if body.end is None and document is not None and body.amend is not None:
        return previews.amend(principal, body.amend, document, kind=body.kind, wanted=body.wanted())
    if body.end is None and document is not None and body.kind is not None:
        return previews.receive(principal, body.kind, document, wanted=body.wanted())
    raise InputRefused("give kind and document, amend and document, or end alone", where="document")


def _shown(found: Preview) -> PreviewShown:
    return PreviewShown(**plain(found))
