"""`/v1/cells/orders`: what is in force in this cell, for the other cells and for whoever compares them.

By id, revision and reach: no reason, no person, no annex. A service's key with `audit:read` may read it.
Left to others: what another cell makes of it (`services.cells`).
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field

from policy_engine.api.access import READING, Caller, OpenEngine, route_options
from policy_engine.api.documents import Shown, Strict
from policy_engine.services.orders import READERS

router = APIRouter(prefix="/v1/cells", tags=["cells"])


class SwitchInForce(Shown):
    """A switch that nobody has released. Its own end, if it has one, may have passed."""

    id: str
    revision: int
    scope: dict[str, Any]
    until: str | None = None


class OrderInForce(Shown):
    """An order that nobody has ended; its own end, if it has one, may have passed.

    Of a directive also what it reaches; `exempts` is the SHA-256 of its exemptions.
    """

    id: str
    kind: str
    revision: int
    from_: Annotated[str | None, Field(alias="from")] = None
    until: str | None = None
    models: Any = None
    blocks: list[str] | None = None
    exempts: str | None = None


class InForce(Shown):
    """What is in force here. The lists are left out for a caller who knows them by their digest."""

    release: str
    epoch: int
    digest: str
    switches: list[SwitchInForce] | None = None
    orders: list[OrderInForce] | None = None


class Known(Strict):
    """The digest of what the caller knows already."""

    known: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None


@router.get("/orders", **route_options(*READERS, problems=READING))
def list_in_force(engine: OpenEngine, principal: Caller, only: Annotated[Known, Query()]) -> InForce:
    """List switches and orders in force by id, revision and reach."""
    return InForce(**engine.standings.shown(principal, only.known))
