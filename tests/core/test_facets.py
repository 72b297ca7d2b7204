"""The facets of a request: every one from its own source, what is unknown by name, and nothing personal beside."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from policy_engine.core.derive import NOBODY
from policy_engine.core.facets import FACETS, FACT_OF_UNKNOWN, Found, Parts, assemble, counted_for
from policy_engine.core.facts import Model, ModelStatus, NationalityTest
from policy_engine.core.instants import parse_instant
from policy_engine.core.orderparse import parse_directive, parse_licence
from policy_engine.core.orders import OrderBook
from tests.core.sample import (
    EAR,
    NOW,
    REFERENCE,
    asked,
    foreigner,
    model,
    owner,
    person,
    person_facets,
    place_facets,
    tenant,
    tenant_facets,
    tie,
)

INDIAN = person_facets(foreigner(tie("IN", "birth")))


def found(**changes: Any) -> Found:
    """Return the facets of the American at home asking for summit-4, changed by what is named."""
    parts = {
        "asked": asked(),
        "model": model(),
        "person": person_facets(),
        "tenant": tenant_facets(),
        "place": place_facets(),
        "serving_region": "US",
        "orders": OrderBook(),
        "at": NOW,
        "reference": REFERENCE,
    }
    return assemble(Parts(**{**parts, **changes}))


def test_the_facets_of_a_request_in_good_standing() -> None:
    """Nothing is unknown, nothing is held against anybody."""
    assert found().facets == {
        "now": NOW,
        "action": "infer",
        "tier": "4",
        "status": "available",
        "weights": "closed",
        "serving": "permitted",
        "location": {"US"},
        "residence": {"US"},
        "entities": {"US"},
        "seats": {"US"},
        "counted": set(),
        "home": "US",
        "unknown": set(),
        "screening": {"none"},
        "ownership": set(),
        "affiliates": "suspended",
        "owned": set(),
        "us_person": "yes",
        "evidence": "valid",
        "partner": "no",
        "employee": "no",
        "in_us": "yes",
        "directive": set(),
        "denied": "no",
        "editions": {"ear@2026-07-23", "embargo@2026-01-01"},
        "lifts": set(),
    }
    assert tuple(found().facets) == FACETS
    assert (found().directives, found().licences, found().flags) == ({}, (), ())


@pytest.mark.parametrize(
    ("changes", "facet", "value"),
    [
        ({"model": model(tier=1)}, "tier", "1"),
        ({"model": model(tier=None)}, "tier", "unclassified"),
        ({"model": model(status=ModelStatus.RETIRED)}, "status", "retired"),
        ({"model": model(status=None)}, "status", "unknown"),
        ({"model": model(weights_public=True)}, "weights", "public"),
        ({"serving_region": "CN"}, "serving", "forbidden"),
        ({"serving_region": None}, "serving", "unknown"),
        ({"person": INDIAN}, "counted", {"IN"}),
        ({"person": INDIAN}, "us_person", "no"),
        ({"person": person_facets(person(list_match="possible"))}, "screening", {"none", "possible"}),
        ({"tenant": tenant_facets(tenant(list_match="cleared"))}, "screening", {"none", "cleared"}),
        ({"tenant": tenant_facets(tenant(vetted_partner=True))}, "partner", "yes"),
        ({"tenant": tenant_facets(tenant(denied_by_lab=True))}, "denied", "yes"),
        ({"tenant": tenant_facets(tenant(headquarters="GB"))}, "home", "GB"),
        ({"place": place_facets(None)}, "in_us", "unknown"),
        ({"place": place_facets("GB")}, "in_us", "no"),
        ({"at": parse_instant("2026-11-10")}, "affiliates", "in_force"),
        ({"at": parse_instant("2026-11-10") - 1}, "affiliates", "suspended"),
        ({"at": parse_instant("2026-02-03")}, "editions", {"ear@2026-02-03", "embargo@2026-01-01"}),
        ({"asked": asked(action="fine_tune")}, "action", "fine_tune"),
    ],
)
def test_each_facet_comes_from_its_source(changes: dict[str, Any], facet: str, value: Any) -> None:
    """One change of a source shows in its facet."""
    assert found(**changes).facets[facet] == value


@pytest.mark.parametrize(
    ("changes", "unknown"),
    [
        ({"model": model(tier=None)}, {"tier"}),
        ({"model": model(status=None)}, {"status"}),
        ({"serving_region": "ZZ"}, {"serving"}),
        ({"asked": asked(action="infer_batch")}, {"action"}),
        ({"asked": asked(action="Infer")}, {"action"}),
        ({"place": place_facets(None)}, {"location"}),
        ({"place": place_facets("UA")}, {"location-region"}),
        ({"place": place_facets({"country": "US", "anonymiser": True})}, {"location-anonymised"}),
        ({"person": person_facets(person(residence_country=None))}, {"residence"}),
        ({"person": person_facets(foreigner(tie("ZZ")))}, {"counted"}),
        ({"person": person_facets(foreigner())}, {"nationality"}),
        ({"person": INDIAN, "model": model(nationality_test=None)}, {"nationality-test"}),
        ({"model": model(nationality_test=None)}, set()),
        ({"person": NOBODY}, {"nationality"}),
        ({"tenant": tenant_facets(tenant(owners=None))}, {"owners"}),
        ({"tenant": tenant_facets(tenant(owners=[owner(60, None)]))}, {"owned"}),
        ({"tenant": tenant_facets(tenant(type="reseller"))}, {"end-customer"}),
        ({"tenant": tenant_facets(tenant(list_match=None))}, {"screening"}),
        (
            {"model": model(tier=None, status=None), "serving_region": None, "place": place_facets(None)},
            {"tier", "status", "serving", "location"},
        ),
    ],
)
def test_what_is_unknown_stands_by_name(changes: dict[str, Any], unknown: set[str]) -> None:
    """Each fact that is missing is named, and no other; each name tells which fact to bring.

    Control: policy_engine/core/facets.py `unknown |= missing`
    """
    assert found(**changes).facets["unknown"] == unknown
    assert unknown <= set(FACT_OF_UNKNOWN)


@pytest.mark.parametrize(
    ("who", "test", "codes"),
    [
        (foreigner(tie("IR", "birth"), tie("CA", "2010-01-01")), NationalityTest.EAR, {"CA"}),
        (foreigner(tie("IR", "birth"), tie("CA", "2010-01-01")), NationalityTest.ITAR, {"IR", "CA"}),
        (foreigner(tie("IR", "birth"), tie("CA", "2010-01-01")), None, {"CA"}),
        (person(us_status="lpr", citizenships=[tie("IR", "birth")]), NationalityTest.ITAR, set()),
    ],
)
def test_counted_follows_the_test_of_the_model(who: Any, test: NationalityTest | None, codes: set[str]) -> None:
    """EAR and ITAR count differently; a model without a known test leaves a foreign person undetermined."""
    facets = found(person=person_facets(who), model=model(nationality_test=test)).facets
    assert facets["counted"] == codes
    assert ("nationality-test" in facets["unknown"]) is (test is None)


def test_a_us_person_needs_no_test() -> None:
    """P7 does not look at US persons, so a model without a test is no unknown for them."""
    assert counted_for(model(nationality_test=None), person_facets())[1] == frozenset()


@pytest.mark.parametrize(
    ("residence", "region", "home"),
    [
        ("GB", None, "GB"),
        ("PR", None, "US"),
        (None, None, "unknown"),
        ("ZZ", None, "unknown"),
        ("US", "DE-BE", "unknown"),
    ],
)
def test_home_of_an_individual_is_the_persons_residence(residence: Any, region: Any, home: str) -> None:
    """P11 asks an `individual` for the person's ordinary residence, not for headquarters."""
    alone = tenant_facets(tenant(type="individual", headquarters="CN"))
    who = person_facets(person(residence_country=residence, residence_region=region))
    assert found(tenant=alone, person=who).facets["home"] == home
    assert found(tenant=alone, person=NOBODY).facets["home"] == "unknown"


@pytest.mark.parametrize(
    ("employee", "at_lab", "counts"), [(True, True, "yes"), (True, False, "no"), (False, True, "no")]
)
def test_lab_employee_counts_only_at_the_lab(employee: bool, at_lab: bool, counts: str) -> None:
    """The flag and the tenant must both say so."""
    who = person_facets(person(lab_employee=employee))
    assert found(person=who, tenant=tenant_facets(tenant("lab" if at_lab else "t1"))).facets["employee"] == counts


def test_directives_and_lifts_arrive_as_facets_with_their_ids() -> None:
    """Blocks that hold and keys that lift are facets; the orders behind them stand beside."""
    order = parse_directive({"id": "d1", "models": ["summit-4"], "blocks": ["foreign_person"]})
    licence = parse_licence(
        {
            "id": "l1",
            "from": "2026-01-01",
            "person_id": "p1",
            "models": ["summit-4"],
            "actions": ["infer"],
            "nationalities": ["IN"],
            "lifts": ["nat", "directive"],
        }
    )
    both = found(person=INDIAN, orders=OrderBook([order], [licence]))
    assert both.facets["directive"] == {"foreign_person"}
    assert both.facets["lifts"] == {"nat", "directive.foreign_person"}
    assert (both.directives, both.licences) == ({"foreign_person": ("d1",)}, ("l1",))


def test_a_licence_lifts_no_nationality_where_the_model_names_no_test() -> None:
    """Which countries count is unknown then, and the unknown is never lifted.

    Control: policy_engine/core/facets.py `parts.orders, parts.asked,
    None if model.nationality_test is None else counted, person, tenant, place, at`
    """
    licence = parse_licence(
        {
            "id": "l1",
            "from": "2026-01-01",
            "person_id": "p1",
            "models": ["summit-4"],
            "actions": ["infer"],
            "nationalities": ["IN"],
            "lifts": ["nat"],
        }
    )
    book = OrderBook((), [licence])
    assert found(person=INDIAN, orders=book).facets["lifts"] == {"nat"}
    assert found(person=INDIAN, orders=book, model=model(nationality_test=None)).facets["lifts"] == frozenset()


def test_flags_tell_what_changes_no_outcome() -> None:
    """A table asked before its oldest edition, and a listed affiliate while that rule is suspended."""
    early = EAR[0].start - 1
    assert found(at=early).flags == ("edition-before-oldest:ear", "edition-before-oldest:embargo")
    for owners in ([owner(50, listed="MEU")], [owner(None, listed="entity_list")]):
        listed = tenant_facets(tenant(owners=owners))
        assert found(tenant=listed).flags == ("red-flag:affiliates-rule-suspended",)
        assert found(tenant=listed, at=parse_instant("2026-11-10")).flags == ()
    assert found(tenant=tenant_facets(tenant(owners=[owner(50, listed="SDN")]))).flags == ()


def test_no_facet_holds_an_id_a_name_or_a_birth_country() -> None:
    """Two persons who differ in nothing that a rule may look at have the same facets."""
    other = replace(person(birth_country="IR", us_status_detail="prose"), id="somebody else")
    assert found(person=person_facets(other)).facets == found().facets


def test_every_part_of_a_model_that_facets_read_is_tested_here() -> None:
    """A new field of the catalogue entry must be looked at before it may matter."""
    read = {"tier", "status", "weights_public", "permitted_serving_regions", "nationality_test"}
    kept = {"id", "bases", "aliases", "fallback", "superseded_by", "family"}
    assert {field.name for field in fields(Model)} == read | kept
