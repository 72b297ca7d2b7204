"""Facts to bring for a deny whose facet counts what is unknown as a value of its own.

Rules of the room: most rows that deny on an unknown test it by name (`facets.FACT_OF_UNKNOWN`). Some facets hold it as
a value instead: who is not shown to be a US person is none, an entity of unknown type may be a foreign government, a
share that nobody knows may be a majority. Such a deny names the fact as well (law 1). Names only, never values.
Left to others: which conditions a row has (`rules.packs`), what the facets mean (`derive`, `orders`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from policy_engine.core.facets import FACT_OF_UNKNOWN, Parts
from policy_engine.core.orders import DESTINATION, FOREIGN_PERSON

TENANT_TYPE: Final = "tenant.type"
US_STATUS: Final = "person.us_status"


def lacking(conditions: Iterable[tuple[str, str]], parts: Parts) -> set[str]:
    """Return the facts behind the conditions (derivation, value) of a row that denies, as far as they are unknown."""
    found: set[str] = set()
    for derivation, value in conditions:
        if derivation in _BEHIND:
            found |= _BEHIND[derivation](value, parts)
    return found


def _directive(block: str, parts: Parts) -> set[str]:
    if block == DESTINATION:
        return _place(parts)
    if block != FOREIGN_PERSON:
        return set()
    person, tenant = parts.person, parts.tenant
    found = _us_person("yes" if person.us_person else "no", parts) | _evidence(person.evidence, parts)
    if person.evidence != "valid":
        found.add(FACT_OF_UNKNOWN["person" if person.evidence == "no-person" else "evidence"])
    if any(country is None for _, country in tenant.foreign):
        found.add(FACT_OF_UNKNOWN["incorporation"])
    return found | _type(parts)


def _us_person(value: str, parts: Parts) -> set[str]:
    return set(parts.person.unsaid & {US_STATUS}) if value == "no" else set()


def _evidence(value: str, parts: Parts) -> set[str]:
    """What is not known can contradict as well: a US citizen without a status, a citizen without citizenships."""
    return set(parts.person.unsaid) if value == "contradictory" else set()


def _ownership(value: str, parts: Parts) -> set[str]:
    return {FACT_OF_UNKNOWN["owners"]} if value.endswith("-unknown") else set()


def _in_us(value: str, parts: Parts) -> set[str]:
    return _place(parts) if value == "unknown" else set()


def _home(value: str, parts: Parts) -> set[str]:
    if parts.tenant.individual:
        return set() if parts.person.residence.known else {FACT_OF_UNKNOWN["residence"]}
    if parts.tenant.home != "unknown":
        return set()
    return _type(parts) | {FACT_OF_UNKNOWN[name] for name in parts.tenant.unknown & {"headquarters"}}


def _unknown(name: str, parts: Parts) -> set[str]:
    return _type(parts) if name == "end-customer" else set()


def _place(parts: Parts) -> set[str]:
    return {FACT_OF_UNKNOWN[name] for name in parts.place.unknown & {"location", "location-anonymised"}}


def _type(parts: Parts) -> set[str]:
    return {TENANT_TYPE} if "unknown" in parts.tenant.types else set()


_BEHIND: Final[Mapping[str, Callable[[str, Parts], set[str]]]] = {
    "directive": _directive,
    "us_person": _us_person,
    "evidence": _evidence,
    "ownership": _ownership,
    "in_us": _in_us,
    "home": _home,
    "unknown": _unknown,
}
"""What stands behind a value, by the derivation that gives it."""

FOLDING: Final = frozenset(_BEHIND)
"""The derivations that hold something unknown as a value of their own, or under the name of another fact."""
