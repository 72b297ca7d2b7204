"""`/v1/orders`: directives, licences, grants and overrides, received, amended and ended.

A directive denies from its receipt. What could turn a deny into an allow waits for a second person: the answer is then
202 (nothing has taken effect) or 200/201 with `partly waiting`, and names the proposal.
Left to others: what an order's members mean (`core.orders`), what waits and what does not (`services.orders`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import Field

from policy_engine.api.access import CHANGING, READING, READING_ONE, Caller, OpenEngine, route_options
from policy_engine.api.documents import Done, Id, Shown, Strict, WithdrawalShown, Words, done, plain
from policy_engine.api.withdrawal import WaitQuery, shown, with_withdrawal
from policy_engine.limits import LIMITS
from policy_engine.services.orders import READERS, Receipt

router = APIRouter(prefix="/v1/orders", tags=["orders"])

Kind = Literal["directive", "licence", "grant", "override"]


class OrderText(Strict):
    """An order's members (`document`), its wording (the hash is kept), where that is filed, and why it is entered."""

    document: dict[str, Any]
    text: Annotated[str, Field(max_length=LIMITS.document_bytes)] | None = None
    reference: Words = ""
    reason: Words = ""


class OrderReceived(OrderText):
    """An order to enter. `document.id` is its id, never used before."""

    kind: Kind


class OrderEnd(Strict):
    """Why an order ends."""

    reason: Words


class OrderShown(Shown):
    """An order as it stands, with its history; `status` is `in_force` (also before its start), `ended` or `revoked`."""

    id: str
    kind: str
    body: dict[str, Any]
    status: str
    received_at: str
    received_by: str
    text_hash: str
    reference: str
    reason: str
    history: list[dict[str, Any]]
    revision: int
    withdrawal: WithdrawalShown | None = None


class OrdersShown(Shown):
    """Orders in order of id."""

    orders: list[OrderShown]


class OnlyOrders(Strict):
    """Which orders to list."""

    kind: Kind | None = None
    status: Literal["in_force", "ended", "revoked"] | None = None


@router.get("", **route_options(*READERS, problems=READING))
def list_orders(engine: OpenEngine, principal: Caller, only: Annotated[OnlyOrders, Query()]) -> OrdersShown:
    """List orders, ended ones too."""
    found = engine.orders.list(principal, kind=only.kind, status=only.status)
    return OrdersShown(orders=[OrderShown(**plain(order)) for order in found])


@router.get("/{id:path}", **route_options(*READERS, problems=READING_ONE))
def show_order(engine: OpenEngine, principal: Caller, id: Id) -> OrderShown:
    """Show one order with its history, and with how far its last change has taken hold."""
    found = OrderShown(**plain(engine.orders.show(principal, id)))
    return found.model_copy(update={"withdrawal": shown(engine.withdrawals.of_row("orders", id))})


@router.post("", status_code=201, **route_options("orders:write", problems=CHANGING, waits=Done))
def receive_order(
    engine: OpenEngine, principal: Caller, body: OrderReceived, response: Response, waiting: WaitQuery
) -> Done:
    """Enter an order: a directive, grant or override at once; a licence and a directive's exemptions as a proposal."""
    followed = engine.withdrawals.follow()
    receipt = engine.orders.receive(
        principal, body.kind, body.document, text=body.text, reference=body.reference, reason=body.reason
    )
    return with_withdrawal(_done(receipt, response), followed, receipt.committed, waiting)


@router.post("/{id:path}/amend", **route_options("orders:write", problems=CHANGING, waits=Done))
def amend_order(
    engine: OpenEngine, principal: Caller, id: Id, body: OrderText, response: Response, waiting: WaitQuery
) -> Done:
    """Replace an order's members: at once where that only tightens, else as a proposal."""
    followed = engine.withdrawals.follow()
    receipt = engine.orders.amend(
        principal, id, body.document, text=body.text, reference=body.reference, reason=body.reason
    )
    return with_withdrawal(_done(receipt, response), followed, receipt.committed, waiting)


@router.post("/{id:path}/end", **route_options("orders:write", problems=CHANGING, waits=Done))
def end_order(
    engine: OpenEngine, principal: Caller, id: Id, body: OrderEnd, response: Response, waiting: WaitQuery
) -> Done:
    """End an order: a directive by a proposal; a licence (which is thereby revoked), grant or override at once."""
    followed = engine.withdrawals.follow()
    receipt = engine.orders.end(principal, id, body.reason)
    return with_withdrawal(_done(receipt, response), followed, receipt.committed, waiting)


def _done(receipt: Receipt, response: Response) -> Done:
    if receipt.proposal is not None:
        response.headers["Location"] = f"/v1/approvals/{receipt.proposal}"
    if receipt.committed is None:
        response.status_code = 202
    return done(receipt.id, receipt.committed, receipt.proposal)
