"""Stale facts: past its expiry a fact is unknown, and being forgotten it never opens what it had closed."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from policy_engine.core.facts import Evidence, Person, Provenance, Tenant, UsStatus
from policy_engine.core.freshness import fresh_person, fresh_tenant
from policy_engine.core.instants import ENDLESS
from tests.core.sample import NOW, customer, foreigner, owner, person, person_facets, tenant, tenant_facets, tie

PERSON_FACTS = ("citizenships", "permanent_residencies", "us_status", "residence_country", "lab_employee", "tenants")
TENANT_FACTS = (
    "type",
    "incorporated_in",
    "headquarters",
    "ultimate_parent_headquarters",
    "owners",
    "vetted_partner",
    "end_customer_identified",
)
KNOWN_PERSON = replace(person(lab_employee=True), tenants=frozenset(("t1",)))
KNOWN_TENANT = tenant(vetted_partner=True, end_customer_identified=True)


def expiring(who: Any, *names: str, at: int = NOW) -> Any:
    """Return a person or tenant whose named facts expire at the instant; others have provenance without expiry."""
    provenance = {"us_status": Provenance(source="desk"), "type": Provenance(source="desk")}
    return replace(who, provenance=provenance | {name: Provenance(expires_at=at) for name in names})


@pytest.mark.parametrize("name", PERSON_FACTS)
def test_a_stale_fact_of_a_person_is_unknown(name: str) -> None:
    """At its expiry, and not a microsecond before, a fact reads as if nobody had stated it.

    Control: policy_engine/core/freshness.py `    return {name for name, end in ends.items() if end <= at}, until`
    """
    who = expiring(KNOWN_PERSON, name)
    assert fresh_person(who, NOW - 1) == (who, NOW)
    fresh, until = fresh_person(who, NOW)
    assert getattr(fresh, name) == getattr(Person("p"), name) != getattr(who, name)
    assert replace(fresh, **{name: getattr(who, name)}) == who
    assert until == ENDLESS


@pytest.mark.parametrize("name", TENANT_FACTS)
def test_a_stale_fact_of_a_tenant_is_unknown(name: str) -> None:
    """At its expiry, and not a microsecond before, a fact reads as if nobody had stated it."""
    which = expiring(KNOWN_TENANT, name)
    assert fresh_tenant(which, NOW - 1) == (which, NOW)
    fresh, until = fresh_tenant(which, NOW)
    assert getattr(fresh, name) == getattr(Tenant("t"), name) != getattr(which, name)
    assert replace(fresh, **{name: getattr(which, name)}) == which
    assert until == ENDLESS


def test_facts_without_expiry_never_turn_stale() -> None:
    """Without provenance, or without an expiry in it, facts hold for good."""
    for who in (person(), expiring(person())):
        assert fresh_person(who, ENDLESS) == (who, ENDLESS)
    for which in (tenant(), expiring(tenant())):
        assert fresh_tenant(which, ENDLESS) == (which, ENDLESS)


def test_any_mapping_of_provenance_is_read() -> None:
    """A read-only mapping counts like a plain one; staleness must not hang on a type."""
    who = replace(person(), provenance=MappingProxyType({"us_status": Provenance(expires_at=NOW)}))
    assert fresh_person(who, NOW)[0].us_status is UsStatus.UNKNOWN


def test_the_next_expiry_is_told() -> None:
    """`until` is the next expiry still to come, in whatever order facts expire."""
    who = replace(
        person(),
        provenance={
            "us_status": Provenance(expires_at=NOW + 5),
            "citizenships": Provenance(expires_at=NOW + 2),
            "list_match": Provenance(expires_at=NOW - 1),
            "birth_country": Provenance(expires_at=NOW + 9),
        },
    )
    assert fresh_person(who, NOW)[1] == NOW + 2
    assert fresh_person(who, NOW + 2)[1] == NOW + 5
    assert person_facets(who).until == NOW + 2


def test_stale_evidence_is_expired() -> None:
    """Evidence past its own provenance is no longer valid, whatever its dates say."""
    who = expiring(person(), "nationality_evidence")
    assert person_facets(who, NOW - 1).evidence == "valid"
    assert person_facets(who).evidence == "expired"
    assert fresh_person(expiring(person(nationality_evidence=None), "nationality_evidence"), NOW)[0].evidence != (
        Evidence()
    )


def test_what_a_rule_never_reads_may_turn_stale() -> None:
    """Birth country and the prose of a status are no facts that anything rests on."""
    who = expiring(person(birth_country="US"), "birth_country", "us_status_detail", "subject_type", "id")
    assert fresh_person(who, NOW) == (who, ENDLESS)


@pytest.mark.parametrize("match", ["none", "cleared", "possible"])
def test_a_stale_screening_was_never_made(match: str) -> None:
    """A list match that has run out is no match and no clearance."""
    assert person_facets(expiring(person(list_match=match), "list_match")).screening == "unscreened"
    assert tenant_facets(expiring(tenant(list_match=match), "list_match")).screening == {"unscreened"}


def test_a_stale_confirmed_match_stays() -> None:
    """Forgetting a confirmed match would open tiers 1 and 2 to it."""
    assert person_facets(expiring(person(list_match="confirmed"), "list_match")).screening == "confirmed"
    assert tenant_facets(expiring(tenant(list_match="confirmed"), "list_match")).screening == {"confirmed"}


def test_a_stale_refusal_by_the_lab_stays() -> None:
    """Forgetting `denied_by_lab` would open; P14 keeps it."""
    assert tenant_facets(expiring(tenant(denied_by_lab=True), "denied_by_lab")).denied


@pytest.mark.parametrize(
    ("facts", "stale", "unknown"),
    [
        ({"incorporated_in": "UA", "incorporated_in_region": "UA-43"}, "incorporated_in_region", "incorporation"),
        ({"headquarters": "UA", "headquarters_region": "UA-43"}, "headquarters_region", "headquarters"),
    ],
)
def test_a_stale_region_takes_its_country_with_it(facts: dict[str, str], stale: str, unknown: str) -> None:
    """Ukraine whose region has run out is not "Ukraine, no region given", which would pass P3."""
    assert tenant_facets(expiring(tenant(**facts), stale)).unknown == {unknown}
    who = expiring(person(residence_country="UA", residence_region="UA-43"), "residence_region")
    assert "residence" in person_facets(who).unknown


def test_a_stale_end_customer_stays_named_and_nothing_else() -> None:
    """What was said of an end customer, and of those behind it, is forgotten; that there is one is not."""
    last = customer("t3", list_match="confirmed", denied_by_lab=True)
    middle = customer("t2", type="reseller", owners=[owner(60, "CN")], end_customer=last, end_customer_identified=True)
    chain = expiring(tenant(type="reseller", end_customer=middle), "end_customer")
    assert tenant_facets(chain, NOW - 1).unknown == frozenset()
    facets = tenant_facets(chain)
    assert facets.ids == {"t1", "t2", "t3"}
    assert facets.screening == {"none", "unscreened", "confirmed"}
    assert facets.types == {"reseller", "unknown"}
    assert facets.unknown == {"incorporation", "headquarters", "parent", "owners", "screening", "end-customer"}
    assert facets.denied


def test_an_end_customer_that_nobody_named_cannot_turn_stale() -> None:
    """An expiry beside an absent end customer changes nothing."""
    which = expiring(KNOWN_TENANT, "end_customer")
    assert fresh_tenant(which, NOW) == (which, ENDLESS)


def test_stale_citizenships_contradict_a_citizen() -> None:
    """Who is called a citizen and whose citizenships have run out has no valid evidence."""
    assert person_facets(expiring(person(), "citizenships")).evidence == "contradictory"


def test_a_stale_us_status_leaves_a_foreign_person() -> None:
    """Without its status a person is judged by what counts."""
    facets = person_facets(expiring(foreigner(tie("IN", "birth"), us_status="lpr"), "us_status"))
    assert (facets.us_person, facets.ear.codes, facets.evidence) == (False, {"IN"}, "valid")
