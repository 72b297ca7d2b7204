"""What is supposed: one row of switches or orders as a change would leave it, and whom the change can reach at all.

Rules of the room:
- The document is what the real change would write: the services that make changes draft it, after all their checks.
- For decisions of the past the change is supposed to have been in force throughout, as it is in force at the instant
  that is looked at: what is over or has not begun by then (an end, a revocation, a release) never was.
- What a change cannot reach is decided by the code that decides (`core.switches.covers`, the names of the catalogue);
  narrowing is for speed alone and never leaves out a combination that may come out otherwise.
Left to others: deciding (`services.evaluate`), asking (`recorded`, `standing`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from policy_engine.core.instants import ENDLESS, format_instant, parse_instant
from policy_engine.core.orders import Directive, Licence, OrderBook
from policy_engine.core.plain import AnyRelease, PlainRelease
from policy_engine.core.switches import SwitchQuestion, covers, read_kill_switch
from policy_engine.services.orders import Drafted
from policy_engine.services.snapshot import read_orders
from policy_engine.store.interfaces import Row

AT_ONCE: Final = "at_once"
APPROVED: Final = "approved"

LONG_AGO: Final = format_instant(0)

Pairs = frozenset[tuple[str, str]]
"""Model and action."""


@dataclass(frozen=True, slots=True)
class Supposition:
    """One row that is supposed to be otherwise. `document` is it as the change leaves it, `held` as it stands.

    `document=None`: at this stage nothing changes. `waits`: something of the change needs a second person.
    """

    what: str
    register: str
    id: str
    document: Mapping[str, Any] | None
    held: Mapping[str, Any] | None
    waits: bool

    def now(self, row: Row | None) -> Row | None:
        """Return the row as the change would leave it."""
        if self.document is None:
            return row
        return self._row(row, self.document)

    def throughout(self, at: int) -> Supposition:
        """Return the supposition with the change in force all the time, as it is in force at an instant."""
        if self.document is None:
            return self
        widened = _switch_throughout if self.register == "switches" else _order_throughout
        return replace(self, document=widened(self.document, at))

    def begins(self, now: int) -> int:
        """Return the instant to look at: when all of the change is in force that is not over by then.

        Where nothing is otherwise by then, the first instant at which something is: an amendment that starts later
        loosens now, and one that ends sooner loosens at its end.
        """
        body = {} if self.document is None or self.register == "switches" else self.document["body"]
        starts = [_instant(part.get("from"), now) for part in (body, *(body.get("exempts") or ()))]
        whole = max([now, *starts])
        differing = [at for at, (held, changed) in self._stretches(now) if held != changed]
        return whole if whole in differing or not differing else differing[0]

    def otherwise(self, now: int, shown: int) -> list[int]:
        """Return the other instants from which the change makes another difference than at the one that is shown."""
        stretches = self._stretches(now)
        seen = [pair for at, pair in stretches if at <= shown][-1]
        return [at for at, (held, changed) in stretches if held != changed and (held, changed) != seen]

    def _stretches(self, now: int) -> list[tuple[int, tuple[object, object]]]:
        """Return each instant from now on at which the order begins, ends or changes, with it as held and as changed.

        A switch has no start; its end is fixed when it is engaged, and ends what it changed.
        """
        if self.document is None or self.register == "switches":
            return [(now, (None, self.document))]
        books = [_book(self.id, document) for document in (self.held, self.document)]
        coming = {at for book in books for at in book.boundaries if now < at < ENDLESS}
        return [(at, (_standing(books[0], at), _standing(books[1], at))) for at in (now, *sorted(coming))]

    def pairs(self, release: AnyRelease) -> Pairs:
        """Return the models and actions that the row reaches, as it stands or as it is supposed."""
        documents = [document for document in (self.document, self.held) if document is not None]
        reached = _switch_pairs if self.register == "switches" else _order_pairs
        return frozenset(pair for document in documents for pair in reached(self.id, document, release))

    def owners(self) -> list[tuple[str | None, str | None]] | None:
        """Return the persons and tenants that a licence is for (`None`: any); `None` when it is for anybody."""
        documents = [document for document in (self.document, self.held) if document is not None]
        if self.register == "switches" or any(document["kind"] != "licence" for document in documents):
            return None
        return [(document["body"].get("person_id"), document["body"].get("tenant_id")) for document in documents]

    def _row(self, row: Row | None, document: Mapping[str, Any]) -> Row:
        if row is not None:
            return replace(row, document=document)
        return Row(self.register, self.id, 1, document, b"", "", 0, 0)


def of_order(what: str, drafted: Drafted, stage: str) -> Supposition:
    """Return what a change of an order is supposed to bring: at once, or when everything has been approved."""
    body = drafted.now
    if stage == APPROVED and drafted.later is not None:
        body = drafted.later
    document = None if body is None else {"kind": drafted.kind, "body": body}
    held = None if drafted.held is None else {"kind": drafted.kind, "body": drafted.held}
    return Supposition(what, "orders", drafted.id, document, held, drafted.later is not None)


def _switch_throughout(document: Mapping[str, Any], at: int) -> dict[str, Any]:
    over = document.get("released_at") is not None
    return {**document, "until": None, "released_at": LONG_AGO if over else None}


def _order_throughout(document: Mapping[str, Any], at: int) -> dict[str, Any]:
    body = _part_throughout(document["body"], at)
    if document["kind"] == "licence":
        body["from"] = LONG_AGO
        if body.get("revoked_at") is not None:
            body["revoked_at"] = LONG_AGO if _instant(body["revoked_at"], 0) <= at else None
    if body.get("exempts"):
        body["exempts"] = [_part_throughout(exempt, at) for exempt in body["exempts"]]
    return {**document, "body": body}


def _part_throughout(part: Mapping[str, Any], at: int) -> dict[str, Any]:
    out = _instant(part.get("until"), ENDLESS) <= at or at < _instant(part.get("from"), at)
    return {**part, "from": None, "until": LONG_AGO if out else None}


def _book(id: str, document: Mapping[str, Any] | None) -> OrderBook:
    """Return the one order; an empty book for none, and for what lifts and blocks nothing."""
    book = None if document is None else read_orders([Row("orders", id, 1, document, b"", "", 0, 0)])
    return OrderBook() if book is None else book


def _standing(book: OrderBook, at: int) -> object:
    """Return what of an order is in force at an instant, without its dates; `None` for nothing."""
    for order in book.all():
        ends = order.until if isinstance(order, Directive) else min(order.until, order.revoked_at)
        if order.start is None or not order.start <= at < ends:
            continue
        if isinstance(order, Licence):
            return replace(order, start=0, until=0, revoked_at=0)
        eased = {replace(one, id="", start=0, until=0) for one in order.exempts if one.start <= at < one.until}
        return replace(order, start=0, until=0, exempts=()), frozenset(eased)
    return None


def _instant(value: Any, otherwise: int) -> int:
    return parse_instant(value) if isinstance(value, str) else otherwise


def _actions(release: AnyRelease) -> frozenset[str]:
    return frozenset() if isinstance(release, PlainRelease) else release.reference.actions


def _switch_pairs(id: str, document: Mapping[str, Any], release: AnyRelease) -> Pairs:
    switch = read_kill_switch(id, document)
    catalogue = release.catalogue
    found = set()
    for model in catalogue.models.values():
        for action in _actions(release):
            question = SwitchQuestion(
                models=catalogue.names(model.id),
                tenants=None,
                tenant_types=frozenset(("unknown",)),
                tier=model.tier,
                regions=None,
                action=action,
                families=catalogue.families(model.id),
            )
            if covers(switch, question):
                found.add((model.id, action))
    return frozenset(found)


def _order_pairs(id: str, document: Mapping[str, Any], release: AnyRelease) -> Pairs:
    found = set()
    for order in _book(id, document).all():
        for model in release.catalogue.models:
            for action in _actions(release):
                if _reaches(order, model, action, release):
                    found.add((model, action))
    return frozenset(found)


def _reaches(order: Directive | Licence, model: str, action: str, release: AnyRelease) -> bool:
    if isinstance(order, Licence):
        return model in order.models and action in order.actions
    return order.models is None or not order.models.isdisjoint(release.catalogue.names(model))
