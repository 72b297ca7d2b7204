"""The documents that the register of orders holds, and what an amendment of one may do at once.

Rules of the room: pure; a document keeps its current body and a short history (who, when, what kind of change, hash of
the text), since every earlier body is in the log. What is not plainly narrower than before counts as wider.
Left to others: who may change an order and when it is written (`orders`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from policy_engine.core.factparse import optional_instant, storable
from policy_engine.core.instants import ENDLESS, format_instant, parse_instant
from policy_engine.core.orderparse import parse_directive, parse_licence
from policy_engine.core.orders import ANNEX, BLOCKS, Directive, Licence, loosens
from policy_engine.errors import TooLarge
from policy_engine.ledger.canonical import canonical
from policy_engine.limits import Limits
from policy_engine.services.vocabulary import require_id
from policy_engine.store.interfaces import Row

IN_FORCE: Final = "in_force"
ENDED: Final = "ended"
REVOKED: Final = "revoked"


@dataclass(frozen=True, slots=True)
class Order:
    """An order as its register holds it. `status` is `in_force` also before its start; instants in microseconds."""

    id: str
    kind: str
    body: Mapping[str, Any]
    status: str
    received_at: int
    received_by: str
    text_hash: str
    reference: str
    reason: str
    history: tuple[Mapping[str, Any], ...]
    revision: int


@dataclass(frozen=True, slots=True)
class Paper:
    """What comes with a body: the hash of its text, where the text is filed, and why it is entered."""

    text_hash: str = ""
    reference: str = ""
    reason: str = ""

    @classmethod
    def of(cls, row: Row, reason: str) -> Paper:
        """Return the paper of an order whose text stays as it is, entered for a new reason."""
        return cls(row.document["text_hash"], row.document["reference"], reason)

    @classmethod
    def of_payload(cls, payload: Mapping[str, Any]) -> Paper:
        """Return the paper that a proposal holds."""
        return cls(payload["text_hash"], payload["reference"], payload["reason"])

    def members(self) -> dict[str, str]:
        """Return the members as documents and payloads hold them."""
        return {"text_hash": self.text_hash, "reference": self.reference, "reason": self.reason}


def read_body(
    document: Mapping[str, Any], text: str | None, reference: str, reason: str, limits: Limits
) -> tuple[dict[str, Any], Paper]:
    """Return a body as the register will hold it, and its paper. Raises `InputRefused` for a missing id or a size."""
    body: dict[str, Any] = storable(dict(document))
    encoded = canonical(body)
    if max(len(encoded), len((text or "").encode("utf-8", "replace"))) > limits.document_bytes:
        raise TooLarge(f"is larger than {limits.document_bytes} bytes", where="document")
    require_id(body.get("id"), "document.id", limits)
    for name, words in (("reference", reference), ("reason", reason)):
        if len(words) > limits.text_characters:
            raise TooLarge(f"is longer than {limits.text_characters} characters", where=name)
    digest = hashlib.sha256(encoded if text is None else text.encode("utf-8", "replace")).hexdigest()
    return body, Paper(digest, reference, reason)


def first_document(
    kind: str, body: Mapping[str, Any], paper: Paper, person: str, at: int, approver: str | None = None
) -> dict[str, Any]:
    """Return the document of an order's first revision."""
    return {
        "kind": kind,
        "body": body,
        "received_at": format_instant(at),
        "received_by": person,
        **paper.members(),
        "status": IN_FORCE,
        "history": [_step(1, "received", paper, person, at, approver)],
    }


def next_document(
    row: Row,
    body: Mapping[str, Any],
    paper: Paper,
    change: str,
    person: str,
    at: int,
    limits: Limits,
    approver: str | None = None,
) -> dict[str, Any]:
    """Return the document of an order's next revision. Raises `TooLarge` when it has been changed too often."""
    history = row.document["history"]
    if len(history) >= limits.list_items_count:
        raise TooLarge(f"has {limits.list_items_count} revisions; enter a new order instead", where="order")
    step = _step(row.revision + 1, change, paper, person, at, approver)
    return {**row.document, "body": body, **paper.members(), "history": [*history, step]}


def split_amendment(
    kind: str, id: str, old: Mapping[str, Any], new: Mapping[str, Any]
) -> tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]:
    """Return the body that takes effect at once and the one that must wait; `None` where there is no such part.

    A directive's amendment that tightens and loosens is split: at once applies what denies all that either denies.
    """
    if kind == "licence":
        wider = _widens(parse_licence({**old, "id": id}, strict=False), parse_licence({**new, "id": id}))
        return (None, new) if wider else (new, None)
    if kind != "directive":
        return new, None
    before = parse_directive({**old, "id": id}, strict=False)
    if not loosens(before, parse_directive({**new, "id": id})):
        return new, None
    held = _strictest(old, new, before)
    try:
        tighter = parse_directive({**held, "id": id}, strict=False)
    except TooLarge:  # both together are more than a directive may hold: then all of it waits
        return None, new
    if loosens(before, tighter) or not loosens(tighter, before):
        return None, new
    return held, new


def eases_alone(now: Mapping[str, Any], later: Mapping[str, Any]) -> bool:
    """Return whether nothing but exemptions of a directive waits, once what tightens is in force."""
    return {**now, "exempts": None} == {**later, "exempts": None}


def read_order(row: Row, at: int) -> Order:
    """Return the order of a register row as it stands at an instant: one whose own end has come is `ended`."""
    document = row.document
    until = optional_instant(document["body"].get("until"), "until")
    over = document["status"] == IN_FORCE and until is not None and until <= at
    return Order(
        id=row.id,
        kind=document["kind"],
        body=document["body"],
        status=ENDED if over else document["status"],
        received_at=parse_instant(document["received_at"]),
        received_by=document["received_by"],
        text_hash=document["text_hash"],
        reference=document["reference"],
        reason=document["reason"],
        history=tuple(document["history"]),
        revision=row.revision,
    )


def _widens(old: Licence, new: Licence) -> bool:
    """Whether the new licence could match, or lift, anything that the old one does not, or lacks a condition of it."""
    sets = ("models", "actions", "nationalities", "destinations", "lifts")
    starts = [ENDLESS if licence.start is None else licence.start for licence in (old, new)]
    return (
        any(not getattr(new, name) <= getattr(old, name) for name in sets)
        or not old.conditions <= new.conditions
        or (old.person_id is not None and new.person_id != old.person_id)
        or (old.tenant_id is not None and new.tenant_id != old.tenant_id)
        or (old.person_id is None and old.tenant_id is None)
        or starts[1] < starts[0]
        or new.until > old.until
    )


def _strictest(old: Mapping[str, Any], new: Mapping[str, Any], before: Directive) -> dict[str, Any]:
    """Return the new body of a directive, widened until it denies all that the old one denies too.

    It exempts only what both exempt. Until the rest is approved it may deny more than either: where models and blocks
    change together, each block counts for all of the models.
    """
    everything = before.models is None or new["models"] == "all"
    everyone = not before.blocks or not before.blocks <= BLOCKS
    held = {
        **new,
        "models": "all" if everything else _joined(new["models"], old["models"]),
        "blocks": list(old.get("blocks") or ()) if everyone else _joined(new["blocks"], old["blocks"]),
        "from": _first(new.get("from"), old.get("from")),
        "until": _last(new.get("until"), old.get("until")),
        "exempts": list(_shared(old.get("exempts") or (), new.get("exempts") or ())),
    }
    return {name: value for name, value in held.items() if value is not None or name in new}


def _shared(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yield what exemptions of a directive, old and new, both ease."""
    annexes = [frozenset(known.get("annex_a") or ()) for known in old]
    for exempt in new:
        named = frozenset(exempt.get("annex_a") or ())
        meet = [known for known, annex in zip(old, annexes, strict=True) if not named or not annex.isdisjoint(named)]
        parts = [part for part in (_bounded(known, exempt) for known in meet) if part is not None]
        yield from [exempt] if exempt in parts else parts


def _bounded(old: Mapping[str, Any], new: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the new exemption within the bounds of the old one, `None` where nothing is left of it."""
    models = [name for name in new["models"] if name in old["models"]]
    known = frozenset(old.get("annex_a") or ())
    annex = [name for name in new.get("annex_a") or () if name in known]
    start = _last(new.get("from"), old.get("from"), none=new.get("from") or old.get("from"))
    until = _first(new.get("until"), old.get("until"), none=new.get("until") or old.get("until"))
    over = start is not None and until is not None and parse_instant(until) <= parse_instant(start)
    if old["who"] != new["who"] or not models or over or (new["who"] == ANNEX and not annex):
        return None
    bounds = {"models": models, "annex_a": annex or None, "from": start, "until": until}
    return {**new, **{name: value for name, value in bounds.items() if value is not None}}


def _joined(new: Sequence[str], old: Sequence[str]) -> list[str]:
    return list(dict.fromkeys((*new, *old)))


def _first(one: str | None, other: str | None, none: str | None = None) -> str | None:
    """Return the earlier of two instants; `none` where one is not given."""
    return none if one is None or other is None else min(one, other, key=parse_instant)


def _last(one: str | None, other: str | None, none: str | None = None) -> str | None:
    """Return the later of two instants; `none` where one is not given."""
    return none if one is None or other is None else max(one, other, key=parse_instant)


def _step(revision: int, change: str, paper: Paper, person: str, at: int, approver: str | None) -> dict[str, Any]:
    return {
        "revision": revision,
        "change": change,
        "by": person,
        "approved_by": approver,
        "at": format_instant(at),
        **paper.members(),
    }
