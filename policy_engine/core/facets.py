"""Facets of one request: everything that rules may look at, by name, put together from its derived parts.

Rules of the room: a facet is a text, a whole number, or a set of texts; what is unknown stands in `unknown` by name;
no facet holds a birth country, a name or an id. Left to others: the parts (`derive`, `orders`), their meaning (packs).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from policy_engine.core.derive import (
    Counted,
    PersonFacets,
    PlaceFacets,
    Reference,
    TenantFacets,
    serving_state,
)
from policy_engine.core.facts import Model, NationalityTest
from policy_engine.core.orders import NO_LIFTS, Asked, OrderBook, directive_blocks, keys_given

FACETS = (
    "now",
    "action",
    "tier",
    "status",
    "weights",
    "serving",
    "location",
    "residence",
    "entities",
    "seats",
    "counted",
    "home",
    "unknown",
    "screening",
    "ownership",
    "affiliates",
    "owned",
    "us_person",
    "evidence",
    "partner",
    "employee",
    "in_us",
    "directive",
    "denied",
    "editions",
    "lifts",
)
"""Names of the derivations that `facets.toml` may give to a request token."""

FACT_OF_UNKNOWN: Mapping[str, str] = {
    "action": "action.name",
    "status": "model.status",
    "tier": "model.tier",
    "serving": "serving_region",
    "location": "location",
    "location-anonymised": "location.anonymiser",
    "location-region": "location.region",
    "residence": "person.residence_country",
    "incorporation": "tenant.incorporated_in",
    "headquarters": "tenant.headquarters",
    "parent": "tenant.ultimate_parent_headquarters",
    "owners": "tenant.owners",
    "owned": "tenant.owners",
    "counted": "person.citizenships",
    "nationality": "person.citizenships",
    "nationality-test": "model.nationality_test",
    "screening": "list_match",
    "end-customer": "tenant.end_customer",
    "evidence": "person.nationality_evidence",
    "person": "subject",
}
"""The fact to bring for each name in the facet `unknown`; names of facts only, never values."""

_TIERS = {tier: str(tier) for tier in range(1, 6)}
_NO_COUNTED: frozenset[str] = frozenset()
_NO_TEST = frozenset(("nationality-test",))


class Parts(NamedTuple):
    """What a request's facets are made of."""

    asked: Asked
    model: Model
    person: PersonFacets
    tenant: TenantFacets
    place: PlaceFacets
    serving_region: str | None
    orders: OrderBook
    at: int
    reference: Reference


class Found(NamedTuple):
    """The facets with what stands behind them: directives by block, licences with the keys they give, all parts."""

    facets: dict[str, Any]
    directives: Mapping[str, tuple[str, ...]]
    given: Mapping[str, frozenset[str]]
    flags: tuple[str, ...]
    parts: Parts

    @property
    def licences(self) -> tuple[str, ...]:
        """Return the ids of the licences that give a lift key, whether a rule asks for it or not."""
        return tuple(self.given)


def assemble(parts: Parts) -> Found:
    """Return every facet of the request."""
    model, person, tenant, place, reference, at = (
        parts.model,
        parts.person,
        parts.tenant,
        parts.place,
        parts.reference,
        parts.at,
    )
    editions = reference.groups.at(at)
    affiliates, _ = reference.affiliates.at(at)
    serving = serving_state(model, parts.serving_region, reference.gazetteer)
    counted, counted_unknown = counted_for(model, person)
    directives = directive_blocks(parts.orders, parts.asked, person, tenant, place, at)
    given = keys_given(
        parts.orders, parts.asked, None if model.nationality_test is None else counted, person, tenant, place, at
    )
    unknown = person.unknown | tenant.unknown | place.unknown | counted_unknown
    missing = _model_unknowns(parts, serving)
    if missing:
        unknown |= missing
    home = tenant.home
    if tenant.individual:
        home = person.residence.country if person.residence.known and person.residence.country else "unknown"
    employee = person.lab_employee and tenant.is_lab
    facets = {
        "now": at,
        "action": parts.asked.action,
        "tier": "unclassified" if model.tier is None else _TIERS[model.tier],
        "status": "unknown" if model.status is None else model.status.value,
        "weights": "public" if model.weights_public else "closed",
        "serving": serving,
        "location": place.place.codes,
        "residence": person.residence.codes,
        "entities": tenant.entities,
        "seats": tenant.seats,
        "counted": _NO_COUNTED if person.us_person else counted.codes,
        "home": home,
        "unknown": unknown,
        "screening": tenant.screening | {person.screening},
        "ownership": tenant.ownership,
        "affiliates": affiliates,
        "owned": tenant.owned,
        "us_person": "yes" if person.us_person else "no",
        "evidence": person.evidence,
        "partner": "yes" if tenant.partner else "no",
        "employee": "yes" if employee else "no",
        "in_us": place.in_us,
        "directive": frozenset(directives),
        "denied": "yes" if tenant.denied else "no",
        "editions": editions.domains,
        "lifts": frozenset().union(*given.values()) if given else NO_LIFTS,
    }
    return Found(facets, directives, given, _flags(editions.flags, affiliates, tenant), parts)


def counted_for(model: Model, person: PersonFacets) -> tuple[Counted, frozenset[str]]:
    """Return the person's counted countries under the model's test, and what is unknown of them.

    A US person needs no test; a model without a known test leaves a foreign person undetermined.
    """
    counted = person.itar if model.nationality_test is NationalityTest.ITAR else person.ear
    if person.us_person:
        return counted, _NO_COUNTED
    return counted, _NO_TEST if model.nationality_test is None else counted.unknown


def _model_unknowns(parts: Parts, serving: str) -> set[str]:
    unknown: set[str] = set()
    if parts.model.tier is None:
        unknown.add("tier")
    if parts.model.status is None:
        unknown.add("status")
    if serving == "unknown":
        unknown.add("serving")
    if parts.asked.action not in parts.reference.actions:
        unknown.add("action")
    return unknown


def _flags(editions: tuple[str, ...], affiliates: str, tenant: TenantFacets) -> tuple[str, ...]:
    """Red flags for review: they change no outcome."""
    if affiliates != "in_force" and any(name.startswith("affiliates") for name in tenant.ownership):
        return (*editions, "red-flag:affiliates-rule-suspended")
    return editions
