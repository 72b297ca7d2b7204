"""The class of each reason code: what may be told to whoever was denied, without the fact behind it.

Rules of the room:
- A class is about the model, the place, the action, the account, or what is not known; never about which fact of a
  person or organisation decided. So no class tells nationality from screening, or a person from an organisation.
- Every code of the sample release and of the engine stands in the table; a test holds it. A code that does not (of
  somebody's own packs) is of the class that says least.
- The first class of `LEADING` that any reason has is the decision's: what no fact of the caller could change leads.
Left to others: sentences and level of detail (`wording`), bodies and status codes (`dialects`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final


class Why(StrEnum):
    """What kind of thing a request was denied for."""

    WITHDRAWN = "withdrawn"
    """The model is suspended, withdrawn or retired."""
    NOT_OFFERED = "not_offered"
    """There is no such model here, or it is not classified yet."""
    MEMBERSHIP = "membership"
    """Account, organisation and caller do not belong together here."""
    PLACE = "place"
    """The place of the request, or the place that would serve it."""
    ACTION = "action"
    """The action, on this model."""
    ACCESS = "access"
    """The account or the organisation is not cleared; never says which, or for what."""
    FACTS = "facts"
    """Something that the rules need is unknown, out of date or contradictory."""
    POLICY = "policy"
    """No rule allows it, or one of somebody's own rules denies it."""
    DOUBT = "doubt"
    """What is in force could not be established; the deny is on the record."""
    OUTAGE = "outage"
    """Nobody decided: the engine could not be asked, or could not record."""


LEADING: Final = (
    Why.WITHDRAWN,
    Why.NOT_OFFERED,
    Why.MEMBERSHIP,
    Why.PLACE,
    Why.ACTION,
    Why.ACCESS,
    Why.FACTS,
    Why.POLICY,
    Why.DOUBT,
    Why.OUTAGE,
)
"""Of several classes the first is told. A decision is an outage only if nothing else was found."""

MODEL_WIDE: Final = frozenset((Why.WITHDRAWN, Why.NOT_OFFERED))
"""Classes that are about the model, whoever asks."""

PRIVATE: Final = frozenset((Why.ACCESS, Why.FACTS, Why.MEMBERSHIP))
"""Classes whose codes tell something of a person or an organisation."""

_CODES: Final[Mapping[Why, str]] = {
    Why.WITHDRAWN: "switch.engaged directive.everyone model.withdrawn model.retired cell.behind",
    Why.NOT_OFFERED: "model.unknown model.unclassified model.status-unknown",
    Why.MEMBERSHIP: "tenant.unknown tenant.not-member tenant.not-permitted subject.unknown",
    Why.PLACE: "place.embargoed place.anonymised destination.restricted destination.restricted-frontier"
    " destination.anonymised directive.destination serving.not-permitted weights.outside-us",
    Why.ACTION: "action.undeclared fine-tuning.never",
    Why.ACCESS: "residence.embargoed entity.embargoed seat.restricted seat.owned-restricted ownership.sdn"
    " ownership.affiliates screening.confirmed screening.possible nationality.restricted"
    " nationality.restricted-frontier directive.foreign-person tenant.not-vetted tenant.denied weights.not-employee"
    " weights.foreign-person fine-tuning.home",
    Why.FACTS: "place.unknown destination.unknown destination.region-unknown serving.unknown weights.place-unknown"
    " residence.unknown entity.incorporation-unknown entity.headquarters-unknown seat.headquarters-unknown"
    " seat.parent-unknown seat.owners-unknown seat.owned-unknown ownership.unknown ownership.sdn-share-unknown"
    " ownership.affiliates-share-unknown screening.missing nationality.unresolved nationality.nothing-counts"
    " nationality.test-unknown evidence.none evidence.declared-only evidence.expired evidence.undated"
    " evidence.conflict evidence.contradictory evidence.no-person tenant.end-customer-unknown token.unknown",
    Why.POLICY: "no-rule-allows policy.deny",
    Why.DOUBT: "orders.unreadable rules.error release.missing cell.unconfirmed key.ended",
    Why.OUTAGE: "log.unavailable log.forked replica.cut-off rollback.suspected stale engine.unreachable engine.away"
    " engine.forked engine.refused engine.answer-unreadable engine.answer-late",
}

CLASSES: Final[Mapping[str, Why]] = {code: why for why, codes in _CODES.items() for code in codes.split()}
"""Every known code that a deny may have, with its class."""


def class_of(code: str, own: Iterable[tuple[str, Why]] = ()) -> Why:
    """Return the class of a code: `own` lines first, then the table, `POLICY` for a code that nobody classed."""
    for known, why in own:
        if known == code:
            return why
    return CLASSES.get(code, Why.POLICY)


def leading(codes: Iterable[str], own: Iterable[tuple[str, Why]] = ()) -> Why:
    """Return the class of a decision by the codes of its reasons; `POLICY` where it has none."""
    lines = tuple(own)
    found = {class_of(code, lines) for code in codes}
    return next((why for why in LEADING if why in found), Why.POLICY)
