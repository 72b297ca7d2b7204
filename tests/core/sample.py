"""A small world for the tests of core: tables with editions, and the facts of good standing that a test changes.

Builders take facts in the form of a decision case, so that a test reads like the reference policy: what is not named
is that of an American in the United States, verified, at an American company with nothing against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from policy_engine.core.derive import (
    PersonFacets,
    PlaceFacets,
    Reference,
    TenantFacets,
    Threshold,
    derive_person,
    derive_place,
    derive_tenant,
)
from policy_engine.core.factparse import parse_location, parse_person, parse_tenant
from policy_engine.core.facts import Model, ModelStatus, NationalityTest, OwnerList, Person, Tenant
from policy_engine.core.instants import ENDLESS, parse_instant
from policy_engine.core.orders import Asked
from policy_engine.core.places import Edition, Gazetteer, GroupTables, Timeline

NOW = parse_instant("2026-08-10T12:00:00Z")
CAMBODIA_LEAVES = parse_instant("2026-02-03")
EMIRATES_JOIN = parse_instant("2026-07-23")

RESTRICTED = "D:5 + MO + E:1 + E:2"
FRONTIER = "D:1 + D:4 - A:5 - A:6"
EMBARGOED = "embargoed"
FAVOURED = "A:5 + US"


def _codes(text: str) -> frozenset[str]:
    return frozenset(text.split())


COUNTRIES = _codes("US GB DE FR CA IN CH CN MO IR KP CU SY RU UA AE KH IL TW VN PK XK")
SOVEREIGNS = {
    **dict.fromkeys(("AS", "GU", "MP", "PR", "UM", "VI"), "US"),
    **dict.fromkeys(("KY", "GG"), "GB"),
    "HK": "CN",
    "LI": "CH",
}
LISTED_REGIONS = _codes("UA-43 UA-40 UA-14 UA-09")
REGIONS = LISTED_REGIONS | _codes("UA-30 UA-65 US-CA US-PR CN-11 CN-HK DE-BE GB-ENG PK-SD RU-MOW")

GAZETTEER = Gazetteer(COUNTRIES, SOVEREIGNS, REGIONS, LISTED_REGIONS)


def _edition(day: str, *, cambodia: bool, emirates: bool) -> Edition:
    restricted = _codes("CN MO IR KP CU SY RU")
    frontier = _codes("CN MO IR KP SY RU KH VN PK")
    favoured = _codes("US GB DE FR CA IN CH")
    return Edition(
        f"ear@{day}",
        parse_instant(day),
        {
            RESTRICTED: restricted | ({"KH"} if cambodia else set()),
            FRONTIER: frontier | (set() if emirates else {"AE"}),
            FAVOURED: favoured | ({"AE"} if emirates else set()),
        },
    )


EAR = (
    _edition("2026-01-01", cambodia=True, emirates=False),
    _edition("2026-02-03", cambodia=False, emirates=False),
    _edition("2026-07-23", cambodia=False, emirates=True),
)
EMBARGO = (Edition("embargo@2026-01-01", EAR[0].start, {EMBARGOED: frozenset(("CU", "IR", "KP")) | LISTED_REGIONS}),)
AFFILIATES = Timeline(
    (
        (parse_instant("2025-09-29"), parse_instant("2025-11-10"), "in_force"),
        (parse_instant("2025-11-10"), parse_instant("2026-11-10"), "suspended"),
        (parse_instant("2026-11-10"), ENDLESS, "in_force"),
    ),
    before="suspended",
    otherwise="suspended",
)

REFERENCE = Reference(
    gazetteer=GAZETTEER,
    groups=GroupTables({"ear": EAR, "embargo": EMBARGO}),
    affiliates=AFFILIATES,
    actions=frozenset(("infer", "fine_tune", "download_weights", "list")),
    lab_tenant="lab",
    evidence_days=365,
    home_country="US",
    coarse_countries=frozenset(("UA",)),
    seat_group=RESTRICTED,
    seat=Threshold(Fraction(50), more_than=True),
    sdn=Threshold(Fraction(50), more_than=False, lists=frozenset((OwnerList.SDN,))),
    affiliate=Threshold(Fraction(50), more_than=False, lists=frozenset((OwnerList.ENTITY_LIST, OwnerList.MEU))),
)

AMERICAN: Mapping[str, Any] = {
    "citizenships": [{"country": "US", "acquired": "birth", "current": True}],
    "permanent_residencies": [],
    "us_status": "citizen",
    "residence_country": "US",
    "nationality_evidence": {"level": "verified", "verified_on": "2026-03-01", "expires_on": "2027-03-01"},
    "lab_employee": False,
    "list_match": "none",
}
COMPANY: Mapping[str, Any] = {
    "type": "enterprise",
    "incorporated_in": "US",
    "headquarters": "US",
    "ultimate_parent_headquarters": "US",
    "owners": [],
    "list_match": "none",
}


def tie(country: str | None, acquired: str | None = None, *, current: bool = True) -> dict[str, Any]:
    """Return a citizenship or permanent residency as a case gives it."""
    return {"country": country, "acquired": acquired, "current": current}


def owner(percent: Any, country: str | None = "US", listed: str | None = None) -> dict[str, Any]:
    """Return an owner as a case gives it."""
    return {"name": "an owner", "country": country, "percent": percent, "list": listed}


def person(**facts: Any) -> Person:
    """Return the American, changed by the facts named (`None`: unknown)."""
    return parse_person("p1", {**AMERICAN, **facts})


def foreigner(*citizenships: dict[str, Any], **facts: Any) -> Person:
    """Return a person without US status who holds these citizenships."""
    return person(**{"citizenships": list(citizenships), "us_status": "none", **facts})


def tenant(id: str = "t1", **facts: Any) -> Tenant:
    """Return the American company, changed by the facts named (`None`: unknown)."""
    return parse_tenant(id, {**COMPANY, **facts})


def customer(id: str = "t2", **facts: Any) -> dict[str, Any]:
    """Return an end customer as a case gives it: an American company, changed by the facts named."""
    return {"id": id, **COMPANY, **facts}


def person_facets(who: Person | None = None, at: int = NOW) -> PersonFacets:
    """Return the facets of a person, by default of the American."""
    return derive_person(person() if who is None else who, at, REFERENCE)


def tenant_facets(which: Tenant | None = None, at: int = NOW) -> TenantFacets:
    """Return the facets of a tenant, by default of the American company."""
    return derive_tenant(tenant() if which is None else which, at, REFERENCE)


def place_facets(location: Any = "US") -> PlaceFacets:
    """Return the facets of a location in any form a request may give it."""
    return derive_place(parse_location(location), REFERENCE)


def model(id: str = "summit-4", tier: int | None = 4, **facts: Any) -> Model:
    """Return a closed frontier model that may be served from the United States and Germany."""
    return Model(
        **{
            "id": id,
            "tier": tier,
            "status": ModelStatus.AVAILABLE,
            "permitted_serving_regions": frozenset(("US", "DE")),
            "nationality_test": NationalityTest.EAR,
            **facts,
        }
    )


def asked(
    model: str = "summit-4",
    *reached: str,
    action: str = "infer",
    person_id: str | None = "p1",
    tenant_id: str = "t1",
    aliases: Mapping[str, str] | None = None,
) -> Asked:
    """Return the model side of a request; `reached` are the aliases and bases through which orders reach the model."""
    return Asked(model, frozenset((model, *reached)), aliases or {}, action, person_id, tenant_id)
