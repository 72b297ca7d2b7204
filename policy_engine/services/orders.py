"""Orders other than switches: received, amended, ended; what tightens at once, what loosens by two persons.

Rules of the room:
- A directive denies from its receipt. Exemptions in it wait as a proposal of their own; so does an amendment, or the
  part of one, that could turn a deny into an allow, and so does its end.
- A licence lifts, so it waits as a whole; revoking or narrowing it takes one person.
- Grants and overrides are recorded at once and lift nothing.
- Ids are never used twice. The register holds the current revision, the log every one; an order that cannot mean
  anything, or names what the active release does not know, is refused whole.
Left to others: what an order does (`core.orders`), the second person (`approvals`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from policy_engine.core.decision import Principal
from policy_engine.core.factparse import optional_instant
from policy_engine.core.instants import format_instant, parse_instant
from policy_engine.errors import Conflict, InputRefused, NotFound
from policy_engine.limits import LIMITS, Limits
from policy_engine.services.approvals import Approvals, Effect
from policy_engine.services.holdrules import is_hold
from policy_engine.services.orderdocuments import (
    ENDED,
    IN_FORCE,
    REVOKED,
    Order,
    Paper,
    eases_alone,
    first_document,
    next_document,
    read_body,
    read_order,
    split_amendment,
)
from policy_engine.services.permissions import Caller, acting_person, require_unbounded
from policy_engine.services.proposals import Proposal
from policy_engine.services.snapshot import parse_order
from policy_engine.services.traces import is_individual
from policy_engine.services.vocabulary import VocabularyOf, words
from policy_engine.store.interfaces import Change, Committed, Row, Store, Write

READERS: Final = ("orders:write", "approve", "audit:read")
"""Scopes of which a person needs one to read orders: licences and grants name persons."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of an order: `committed` is what took effect at once, `proposal` what waits for a second person."""

    id: str
    committed: Committed | None
    proposal: str | None


@dataclass(frozen=True, slots=True)
class Drafted:
    """What a change of an order would bring: the body that takes effect at once, and the one that would wait.

    `None` where there is no such part. `held` is the body as it stands, `None` of a new order.
    """

    id: str
    kind: str
    now: Mapping[str, Any] | None
    later: Mapping[str, Any] | None
    paper: Paper
    held: Mapping[str, Any] | None


class Orders:
    """The register of directives, licences, grants and overrides."""

    def __init__(
        self, store: Store, approvals: Approvals, vocabulary: VocabularyOf, *, limits: Limits = LIMITS
    ) -> None:
        self._store = store
        self._approvals = approvals
        self._vocabulary = vocabulary
        self._limits = limits
        approvals.register("order.licence", self._licensed)
        approvals.register("order.exempt", self._amended)
        approvals.register("order.amend", self._amended)
        approvals.register("order.end", self._ended)

    def receive(
        self,
        principal: Principal,
        kind: str,
        document: Mapping[str, Any],
        *,
        text: str | None = None,
        reference: str = "",
        reason: str = "",
    ) -> Receipt:
        """Enter an order: a directive, grant or override at once, a licence and a directive's exemptions as a proposal.

        `text` is the instrument's wording, of which the hash is kept (without it, the document's own). Raises
        `InputRefused` for an order that is malformed or names what is unknown and for a directive that is over already,
        `Conflict` for an id already used.
        """
        caller, release = self._writer(principal)
        drafted = self.receiving(release, kind, document, caller.at, text=text, reference=reference, reason=reason)
        paper = drafted.paper
        if drafted.now is None:
            return self._wait(caller, "order.licence", drafted.later or {}, paper, expect=0)
        entry = "order.received" if kind == "directive" else "order.recorded"
        received = first_document(kind, drafted.now, paper, caller.person, caller.at)
        return self._enter(caller, entry, received, 0, release, ("order.exempt", drafted.later, paper))

    def receiving(
        self,
        release: str,
        kind: str,
        document: Mapping[str, Any],
        at: int,
        *,
        text: str | None = None,
        reference: str = "",
        reason: str = "",
    ) -> Drafted:
        """Return what receiving an order now (`at`) brings, after every check. Raises as `receive`; writes nothing."""
        body, paper = read_body(document, text, reference, reason, self._limits)
        id = body["id"]
        self._require_meant(kind, id, body, release)
        if self._store.row("orders", id) is not None:
            raise Conflict(f"the order {id} exists already; amend it, or give the new one an id of its own")
        if kind == "licence":
            return Drafted(id, kind, None, body, paper, None)
        if kind == "directive":
            _require_coming(body, at)
        now = {**body, "exempts": []} if kind == "directive" else body
        later = body if kind == "directive" and body.get("exempts") else None
        return Drafted(id, kind, now, later, paper, None)

    def amend(
        self,
        principal: Principal,
        id: str,
        document: Mapping[str, Any],
        *,
        text: str | None = None,
        reference: str = "",
        reason: str = "",
    ) -> Receipt:
        """Replace an order's body by a new one: at once where that only tightens, else as a proposal.

        Of a directive's amendment that tightens and loosens, what loosens alone waits. Raises `Conflict` for an order
        that has ended, `InputRefused` as `receive` does and for a licence or grant of one person that would be
        another's.
        """
        caller, release = self._writer(principal)
        drafted, row = self.amending(release, id, document, text=text, reference=reference, reason=reason)
        paper = drafted.paper
        if drafted.now is None:
            return self._wait(caller, "order.amend", drafted.later or {}, paper, expect=row.revision)
        amended = next_document(row, drafted.now, paper, "amended", caller.person, caller.at, self._limits)
        exempts = drafted.later is not None and eases_alone(drafted.now, drafted.later)
        rest = ("order.exempt" if exempts else "order.amend", drafted.later, paper)
        return self._enter(caller, "order.amended", amended, row.revision, release, rest)

    def amending(
        self,
        release: str,
        id: str,
        document: Mapping[str, Any],
        *,
        text: str | None = None,
        reference: str = "",
        reason: str = "",
    ) -> tuple[Drafted, Row]:
        """Return what amending an order would bring, and its row now. Raises as `amend`; writes nothing."""
        row = self._in_force(id)
        kind = row.document["kind"]
        body, paper = read_body({"id": id, **document}, text, reference, reason, self._limits)
        if body["id"] != id:
            raise InputRefused("is not the id of the order to amend", where="document.id")
        self._require_meant(kind, id, body, release)
        self._require_same_person(kind, row.document["body"], body)
        now, later = split_amendment(kind, id, row.document["body"], body)
        return Drafted(id, kind, now, later, paper, row.document["body"]), row

    def end(self, principal: Principal, id: str, reason: str) -> Receipt:
        """End an order: a directive by a proposal; a licence (which is thereby revoked), grant or override at once."""
        caller = acting_person(self._store, principal, "orders:write")
        require_unbounded(caller)
        drafted, row = self.ending(id, reason, caller.at)
        if drafted.now is None:
            payload = {"id": id, "reason": reason}
            waiting = self._approvals.propose(
                caller, "order.end", payload, (("orders", id, row.revision),), note=reason
            )
            return Receipt(id, None, waiting.id)
        change, status = ("revoked", REVOKED) if drafted.kind == "licence" else ("ended", ENDED)
        document = next_document(row, drafted.now, drafted.paper, change, caller.person, caller.at, self._limits)
        return self._enter(caller, f"order.{change}", {**document, "status": status}, row.revision, None)

    def ending(self, id: str, reason: str, at: int) -> tuple[Drafted, Row]:
        """Return what ending an order at an instant would bring, and its row now. Raises as `end`; writes nothing."""
        row = self._in_force(id)
        if not reason.strip() or len(reason) > self._limits.text_characters:
            raise InputRefused(f"say why, in at most {self._limits.text_characters} characters", where="reason")
        kind, body = row.document["kind"], row.document["body"]
        ended = {**body, "revoked_at" if kind == "licence" else "until": _over(body, at, kind)}
        now, later = (None, ended) if kind == "directive" else (ended, None)
        return Drafted(id, kind, now, later, Paper.of(row, reason), body), row

    def list(self, principal: Principal, *, kind: str | None = None, status: str | None = None) -> tuple[Order, ...]:
        """Return orders in order of id; a person with one of `READERS`, whose key is not bounded, may read them."""
        require_unbounded(acting_person(self._store, principal, *READERS))
        now = self._store.now()
        orders = [read_order(row, now) for row in self._store.rows("orders")]
        return tuple(order for order in orders if kind in (None, order.kind) and status in (None, order.status))

    def show(self, principal: Principal, id: str) -> Order:
        """Return one order. Raises `NotFound`."""
        require_unbounded(acting_person(self._store, principal, *READERS))
        return read_order(self._row(id), self._store.now())

    def _writer(self, principal: Principal) -> tuple[Caller, str]:
        caller = acting_person(self._store, principal, "orders:write")
        require_unbounded(caller)
        release = self._store.state().release
        if release is None:
            raise Conflict("no release is active, so the models an order names are not known; activate one first")
        return caller, release

    def _require_meant(self, kind: str, id: str, body: Mapping[str, Any], release: str) -> None:
        """Refuse an order that cannot mean anything, or names what the active release does not know."""
        parse_order(kind, id, body)
        vocabulary = self._vocabulary(release)
        (vocabulary.require_models if kind == "licence" else vocabulary.require_names)(
            words(body, "models"), f"{kind}.models"
        )
        vocabulary.require_actions(words(body, "actions"), f"{kind}.actions")
        vocabulary.require_countries(words(body, "nationalities"), f"{kind}.nationalities")
        vocabulary.require_places(words(body, "destinations"), f"{kind}.destinations")
        for place, exempt in enumerate(body.get("exempts") or ()):
            where = f"{kind}.exempts[{place}].models"
            vocabulary.require_names(words(exempt, "models"), where)
            if body.get("models") == "all":
                raise InputRefused("a directive on all models is not eased for some; name its models", where=where)
            vocabulary.require_reached(words(exempt, "models"), body.get("models"), where)
        if body.get("revoked_at") is not None:
            raise InputRefused("is set by ending the licence, not by its document", where=f"{kind}.revoked_at")

    def _require_same_person(self, kind: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        """Refuse to give one person's licence or grant to another: an erasure takes all revisions or none."""
        name = "tenant_id" if old.get("person_id") is None else "person_id"
        whom = old.get(name)
        if kind not in ("licence", "grant") or whom is None or new.get(name) == whom:
            return
        if name == "person_id" or is_individual(self._store.row("tenants", whom)):
            raise InputRefused(
                "is another person's: what is kept of one person goes with their erasure; end this order, and enter "
                "the new one under an id of its own",
                where=f"{kind}.{name}",
            )

    def _wait(self, caller: Caller, proposed: str, body: Mapping[str, Any], paper: Paper, *, expect: int) -> Receipt:
        id = body["id"]
        payload = {"id": id, "body": body, **paper.members()}
        waiting = self._approvals.propose(caller, proposed, payload, (("orders", id, expect),), note=paper.reason)
        return Receipt(id, None, waiting.id)

    def _enter(
        self,
        caller: Caller,
        entry: str,
        document: Mapping[str, Any],
        expect: int,
        release: str | None,
        rest: tuple[str, Mapping[str, Any] | None, Paper] = ("", None, Paper()),
    ) -> Receipt:
        """Write what takes effect at once and, in the same change, the proposal of the rest that does not."""
        proposed, later, paper = rest
        id = document["body"]["id"]
        writes = [Write("orders", id, document, expect)]
        public = {"by": caller.key_id, "order": id, "order_kind": document["kind"]}
        waiting = None
        if later is not None:
            payload = {"id": id, "body": later, **paper.members()}
            basis = (("orders", id, expect + 1),)
            waiting, write = self._approvals.prepare(caller, proposed, payload, basis, paper.reason)
            writes.append(write)
            public |= {"proposal": waiting.id, "hash": waiting.hash}
        committed = self._store.change(
            Change(
                kind=entry,
                public=public,
                writes=tuple(writes),
                raises_epoch=True,
                expects=(caller.basis,),
                expect_release=release,
            )
        )
        return Receipt(id, committed, None if waiting is None else waiting.id)

    def _row(self, id: str) -> Row:
        row = self._store.row("orders", id)
        if row is None:
            raise NotFound("there is no such order")
        return row

    def _in_force(self, id: str) -> Row:
        row = self._row(id)
        if is_hold(row):
            raise Conflict(f"the order {id} is a legal hold; `audit hold` places and releases those")
        if row.document["status"] != IN_FORCE:
            raise Conflict(f"the order {id} is {row.document['status']} already")
        return row

    def _licensed(self, proposal: Proposal, approver: Caller) -> Effect:
        body, paper = proposal.payload["body"], Paper.of_payload(proposal.payload)
        document = first_document("licence", body, paper, proposal.proposed_by, approver.at, approver.person)
        return _effect("order.licensed", document, 0)

    def _amended(self, proposal: Proposal, approver: Caller) -> Effect:
        row, body = self._in_force(proposal.payload["id"]), proposal.payload["body"]
        change = "exempted" if proposal.kind == "order.exempt" else "amended"
        paper = Paper.of_payload(proposal.payload)
        document = next_document(
            row, body, paper, change, proposal.proposed_by, approver.at, self._limits, approver.person
        )
        return _effect(f"order.{change}", document, row.revision)

    def _ended(self, proposal: Proposal, approver: Caller) -> Effect:
        row = self._in_force(proposal.payload["id"])
        held = row.document["body"]
        body = {**held, "until": _over(held, approver.at, "directive")}
        paper = Paper.of(row, proposal.payload["reason"])
        document = next_document(
            row, body, paper, "ended", proposal.proposed_by, approver.at, self._limits, approver.person
        )
        return _effect("order.ended", {**document, "status": ENDED}, row.revision)


def _require_coming(body: Mapping[str, Any], at: int) -> None:
    """Refuse a directive that is over when it is received: it would be committed, and deny nobody for a moment."""
    until = optional_instant(body.get("until"), "directive.until")
    if until is not None and until <= at:
        raise InputRefused("has passed already; give an end that is still to come, or none", where="directive.until")


def _over(body: Mapping[str, Any], at: int, kind: str) -> str:
    """Return when an order is over that ends at an instant: a directive's own end may be nearer."""
    until = body.get("until") if kind == "directive" else None
    return format_instant(at if until is None else min(at, parse_instant(until)))


def _effect(kind: str, document: Mapping[str, Any], expect: int) -> Effect:
    id = document["body"]["id"]
    return Effect(kind, {"order": id, "order_kind": document["kind"]}, (Write("orders", id, document, expect),))
