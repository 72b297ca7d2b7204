"""Stale facts: what a person or tenant amounts to once some facts are past their expiry.

Rules of the room:
- A fact at or past `expires_at` is unknown: absent, whatever that means for it.
- Forgetting must never open. A confirmed list match and the lab's own refusal stay; a region that is stale takes its
  country with it, because a country alone would read as "no region was given"; an end customer stays named while
  all that was said of it, and of those behind it, is unknown.
- Stale evidence is expired evidence. Each result carries the next instant at which a fact turns stale.
Left to others: what the facts mean (`derive`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from policy_engine.core.facts import Evidence, EvidenceLevel, ListMatch, Person, Provenance, Tenant
from policy_engine.core.instants import ENDLESS

_EXPIRED = Evidence(EvidenceLevel.VERIFIED, -ENDLESS, None)
"""Verified so long ago that it has run out at every instant."""

_PERSON_NAMES = {"nationality_evidence": "evidence"}
_PERSON_UNKNOWN: Mapping[str, Any] = {
    name: getattr(Person(""), name)
    for name in (
        "citizenships",
        "permanent_residencies",
        "us_status",
        "residence_country",
        "residence_region",
        "lab_employee",
        "list_match",
        "tenants",
    )
} | {"evidence": _EXPIRED}

_TENANT_UNKNOWN: Mapping[str, Any] = {
    name: getattr(Tenant(""), name)
    for name in (
        "type",
        "incorporated_in",
        "incorporated_in_region",
        "headquarters",
        "headquarters_region",
        "ultimate_parent_headquarters",
        "owners",
        "list_match",
        "vetted_partner",
        "end_customer_identified",
    )
}

_COUNTRY_OF = {
    "residence_region": "residence_country",
    "incorporated_in_region": "incorporated_in",
    "headquarters_region": "headquarters",
}


def fresh_person(person: Person, at: int) -> tuple[Person, int]:
    """Return the person with every stale fact unknown, and the instant at which the next fact turns stale."""
    stale, until = _stale(person.provenance, at)
    changes = _forgotten({_PERSON_NAMES.get(name, name) for name in stale}, _PERSON_UNKNOWN, person.list_match)
    return (replace(person, **changes) if changes else person), until


def fresh_tenant(tenant: Tenant, at: int) -> tuple[Tenant, int]:
    """Return the tenant with every stale fact unknown, and the instant at which the next fact turns stale.

    Only this tenant's own facts are looked at; the caller walks the chain of what is returned.
    """
    stale, until = _stale(tenant.provenance, at)
    changes = _forgotten(stale, _TENANT_UNKNOWN, tenant.list_match)
    if "end_customer" in stale and tenant.end_customer is not None:
        changes["end_customer"] = _only_named(tenant.end_customer)
    return (replace(tenant, **changes) if changes else tenant), until


def _only_named(tenant: Tenant) -> Tenant:
    behind = None if tenant.end_customer is None else _only_named(tenant.end_customer)
    changes = _forgotten(set(_TENANT_UNKNOWN), _TENANT_UNKNOWN, tenant.list_match)
    return replace(tenant, end_customer=behind, **changes)


def _stale(provenance: Mapping[str, Provenance] | None, at: int) -> tuple[set[str], int]:
    ends = {name: fact.expires_at for name, fact in (provenance or {}).items() if fact.expires_at is not None}
    until = min((end for end in ends.values() if end > at), default=ENDLESS)
    return {name for name, end in ends.items() if end <= at}, until


def _forgotten(stale: set[str], unknown: Mapping[str, Any], match: ListMatch | None) -> dict[str, Any]:
    """Return the changes that forget the stale facts, except those whose forgetting would open."""
    stale |= {country for region, country in _COUNTRY_OF.items() if region in stale}
    if match is ListMatch.CONFIRMED:
        stale -= {"list_match"}
    return {name: value for name, value in unknown.items() if name in stale}
