"""What a deny says to whoever asked: six sentences, and how much of the reasons stands beside them.

Rules of the room:
- The six parts, a sentence each: what, scope, why (the class, never the fact), alternative, reference, where to look.
- "Policy, not login" comes first: some clients answer a bare 403 with "please log in", which sends people astray.
- Nothing that the caller sent is said back, and no fact. Names come from the release: alternatives, codes, citations.
- A deny is 403, 404 or 451: any other status makes clients retry, or lets a proxy pass the request on.
Left to others: the class of a code (`reasonclasses`), bodies and headers (`dialects`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from policy_engine.core.decision import Decision, Reason
from policy_engine.core.reasonclasses import MODEL_WIDE, PRIVATE, Why, class_of, leading

STATUSES: Final = (403, 404, 451)
ALTERNATIVES_SHOWN_COUNT: Final = 8
REASONS_SHOWN_COUNT: Final = 64
_ADDRESS: Final = re.compile(r"(?:https?|urn):[!#-;=?-\[\]_a-z~]{1,1000}")
"""An address that may stand in a header: printable, without quotes, angle brackets, backslash or spaces."""


class Detail(StrEnum):
    """How much a deny says."""

    REFERENCE = "reference"
    """That it was denied, and the id to ask about. For callers who should learn nothing by trying."""
    CLASS = "class"
    """The class of the reason and the alternatives; codes only where they are about the model, place or action."""
    CODES = "codes"
    """Every reason with code, label and citation, for administrators. Codes tell what kind of fact decided."""


@dataclass(frozen=True, slots=True)
class Wording:
    """How an enforcement point words its denies.

    `statuses` chooses the status by reason code or the beginning of one up to a dot (`("directive", 451)`; an empty one
    fits every code): of the reasons that lead, the longest line that fits wins. `classes` puts codes of one's own packs
    into a class. Where the status is 451, `blocked_by` names who demands it, in a `Link` header (RFC 7725). Raises
    `ValueError` for another status and for an address that could not stand in a header.
    """

    statuses: tuple[tuple[str, int], ...] = ()
    blocked_by: str | None = None
    docs_url: str | None = None
    detail: Detail = Detail.CLASS
    classes: tuple[tuple[str, Why], ...] = ()

    def __post_init__(self) -> None:
        if any(status not in STATUSES for _, status in self.statuses):
            raise ValueError("a deny is 403, 404 or 451: other statuses make clients retry or proxies let it pass")
        for name, address in (("blocked_by", self.blocked_by), ("docs_url", self.docs_url)):
            if address is not None and not _ADDRESS.fullmatch(address):
                raise ValueError(f"{name} must be an http, https or urn address without spaces, quotes or brackets")


_SCOPE: Final[Mapping[Why, str]] = {
    Why.WITHDRAWN: "It concerns the model for everybody whom the withdrawal covers, not this account alone.",
    Why.NOT_OFFERED: "It concerns the model for everybody here, not this account alone.",
    Why.MEMBERSHIP: "It concerns this account together with this organisation.",
    Why.PLACE: "It concerns this model from this place.",
    Why.ACTION: "It concerns this action on this model.",
    Why.ACCESS: "It concerns this model for this account and organisation.",
    Why.FACTS: "It concerns this model for this account, organisation and place, as they are known at the moment.",
    Why.POLICY: "It concerns this action on this model for this account and organisation.",
    Why.DOUBT: "It concerns this request at the moment.",
    Why.OUTAGE: "It concerns every request at the moment.",
}
_BECAUSE: Final[Mapping[Why, str]] = {
    Why.WITHDRAWN: "The model is suspended, withdrawn or retired.",
    Why.NOT_OFFERED: "The model is not offered here.",
    Why.MEMBERSHIP: "The account is not known as a member of this organisation.",
    Why.PLACE: "The model is not available from this place, or may not be served for it.",
    Why.ACTION: "The model does not permit this action.",
    Why.ACCESS: "The account or the organisation is not cleared for it.",
    Why.FACTS: "Something that the rules need to know is missing, out of date or contradictory.",
    Why.POLICY: "No rule of the policy allows it.",
    Why.DOUBT: "What is in force cannot be established at the moment, so nothing is allowed.",
    Why.OUTAGE: "No decision can be made or recorded at the moment, so nothing is allowed.",
}


def told(decision: Decision, wording: Wording) -> Why:
    """Return the class that is told: the decision's, or `POLICY` where only the reference is."""
    why = leading((reason.code for reason in decision.reasons), wording.classes)
    return Why.POLICY if wording.detail is Detail.REFERENCE and why is not Why.OUTAGE else why


def message(decision: Decision, wording: Wording | None = None) -> str:
    """Return the six sentences of a deny, and for administrators the codes."""
    wording = Wording() if wording is None else wording
    why = told(decision, wording)
    parts = ["Policy, not login: this request was denied, and repeating it will not help."]
    if why is Why.OUTAGE:
        parts = ["This request was denied because nobody could decide it; it may be repeated in a moment."]
    if wording.detail is not Detail.REFERENCE:
        parts += [_SCOPE[why], _BECAUSE[why], _alternative(decision, why)]
    parts.append(f"Reference: {decision.id}." if decision.id else "There is no reference: this deny is not recorded.")
    if wording.docs_url is not None:
        parts.append(f"See {wording.docs_url} for what can be done.")
    else:
        parts.append("The administrators of this service can look the reference up and say what can be done.")
    if wording.detail is Detail.CODES:
        parts.append(f"Reasons: {', '.join(reason.code for reason in decision.reasons[:REASONS_SHOWN_COUNT])}.")
    return " ".join(parts)


def alternatives(decision: Decision, wording: Wording) -> tuple[str, ...]:
    """Return the models that may be asked for instead; hints, not allows."""
    return () if wording.detail is Detail.REFERENCE else decision.alternatives[:ALTERNATIVES_SHOWN_COUNT]


def shown_reasons(decision: Decision, wording: Wording) -> list[dict[str, Any]]:
    """Return the reasons as members of a body, as much of each as the level of detail lets out, none twice.

    What is about a person or an organisation is shown by its class alone, unless every code is.
    """
    if wording.detail is Detail.REFERENCE:
        return []
    shown: list[dict[str, Any]] = []
    for reason in decision.reasons[:REASONS_SHOWN_COUNT]:
        members = _reason(reason, wording)
        if members not in shown:
            shown.append(members)
    return shown


def status_of(decision: Decision, wording: Wording, otherwise: int) -> int:
    """Return the status that the wording chooses for a deny, `otherwise` where it chooses none."""
    why = told(decision, wording)
    best, status = -1, otherwise
    if wording.detail is Detail.REFERENCE:
        return 403
    for reason in decision.reasons:
        if class_of(reason.code, wording.classes) is not why:
            continue
        for prefix, chosen in wording.statuses:
            stem = prefix.rstrip(".")
            fits = not stem or reason.code == stem or reason.code.startswith(f"{stem}.")
            if fits and len(stem) > best:
                best, status = len(stem), chosen
    return status


def is_model_wide(decision: Decision, wording: Wording) -> bool:
    """Return whether what is told is about the model, whoever asks."""
    return told(decision, wording) in MODEL_WIDE


def _reason(reason: Reason, wording: Wording) -> dict[str, Any]:
    why = class_of(reason.code, wording.classes)
    if wording.detail is not Detail.CODES:
        private = why in PRIVATE or why is Why.POLICY
        return {"class": why.value} if private else {"class": why.value, "code": reason.code}
    members = {"class": why.value, "code": reason.code, "rule": reason.rule, "authority": reason.authority}
    found: dict[str, Any] = {name: value for name, value in members.items() if value}
    return {**found, "orders": list(reason.orders)} if reason.orders else found


def _alternative(decision: Decision, why: Why) -> str:
    if decision.alternatives:
        names = ", ".join(decision.alternatives[:ALTERNATIVES_SHOWN_COUNT])
        return f"What may be asked for instead: {names}."
    if why is Why.FACTS:
        return "Once what is missing has been provided, the same request can be decided anew."
    return "No other model is suggested."
