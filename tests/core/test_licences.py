"""Licences (reference policy, Orders): whom they match, when, and what each lift key needs."""

from __future__ import annotations

from typing import Any

import pytest

from policy_engine.core.derive import NOBODY, Counted, PersonFacets, PlaceFacets, TenantFacets
from policy_engine.core.instants import ENDLESS, parse_instant
from policy_engine.core.orderparse import parse_licence
from policy_engine.core.orders import Asked, Licence, OrderBook, keys_given
from tests.core.sample import (
    NOW,
    asked,
    customer,
    foreigner,
    person,
    person_facets,
    place_facets,
    tenant,
    tenant_facets,
    tie,
)

AMERICAN = person_facets()
CHINESE = person_facets(foreigner(tie("CN", "birth")))
COMPANY = tenant_facets()
FOREIGN_COMPANY = tenant_facets(tenant(incorporated_in="GB"))
HERE = place_facets("US")
IN_CHINA = place_facets("CN")

FOREIGN_PERSON = "directive.foreign_person"
DESTINATION = "directive.destination_outside_us"


def licence(**body: Any) -> Licence:
    """Return a licence of p1 on summit-4 that lifts nothing, changed by what is named."""
    whole = {
        "id": "l1",
        "from": "2026-01-01",
        "person_id": "p1",
        "models": ["summit-4"],
        "actions": ["infer"],
        **body,
    }
    return parse_licence(whole, strict=False)


def lifts(
    *licences: Licence,
    who: PersonFacets = CHINESE,
    of: TenantFacets = COMPANY,
    where: PlaceFacets = HERE,
    question: Asked | None = None,
    counted: Counted | bool | None = True,
    at: int = NOW,
) -> set[str]:
    """Return the keys lifted, by default for a Chinese citizen in the United States under the EAR test."""
    what = who.ear if counted is True else None if counted is False else counted
    given = keys_given(OrderBook((), licences), question or asked(), what, who, of, where, at)
    return set().union(*given.values())


@pytest.mark.parametrize(
    ("ids", "question", "matched"),
    [
        ({"person_id": "p1"}, asked(), True),
        ({"person_id": "p2"}, asked(), False),
        ({"person_id": "p1"}, asked(person_id=None), False),
        ({"person_id": None, "tenant_id": "t1"}, asked(), True),
        ({"person_id": None, "tenant_id": "t1"}, asked(person_id=None), True),
        ({"person_id": None, "tenant_id": "t2"}, asked(), False),
        ({"person_id": "p1", "tenant_id": "t1"}, asked(), True),
        ({"person_id": "p1", "tenant_id": "t2"}, asked(), False),
        ({"person_id": "p2", "tenant_id": "t1"}, asked(), False),
        ({"person_id": None, "tenant_id": None}, asked(), False),
        ({"person_id": None, "tenant_id": None}, asked(person_id=None), False),
    ],
)
def test_every_given_id_must_match_and_both_null_match_nobody(
    ids: dict[str, Any], question: Asked, matched: bool
) -> None:
    """A licence of a person, of a tenant, or of a person at a tenant; of neither it is nobody's."""
    assert lifts(licence(lifts=["seat"], **ids), question=question) == ({"seat"} if matched else set())


def test_an_end_customer_is_not_the_tenant_of_a_licence() -> None:
    """A licence of the entity behind a reseller does not match the reseller's requests."""
    behind = licence(lifts=["seat"], person_id=None, tenant_id="t2")
    chain = tenant_facets(tenant(type="reseller", end_customer=customer("t2")))
    assert lifts(behind, of=chain) == set()


@pytest.mark.parametrize(
    ("body", "question", "matched"),
    [
        ({"models": ["summit-4", "fable-5"]}, asked(), True),
        ({"models": ["fable-5"]}, asked(), False),
        ({"models": []}, asked(), False),
        ({"models": ["summit-4"]}, asked("summit-5", "summit-4"), False),
        ({"models": ["summit-5"]}, asked("summit-5", "summit-4"), True),
        ({"models": ["summit-5"]}, asked("summit-4"), False),
        ({"models": ["summit-latest"]}, asked("summit-4", "summit-latest"), False),
        ({"actions": ["infer", "list"]}, asked(action="list"), True),
        ({"actions": ["infer"]}, asked(action="list"), False),
        ({"actions": []}, asked(), False),
    ],
)
def test_model_id_and_action_must_match_and_a_base_licence_does_not_reach_derivatives(
    body: dict[str, Any], question: Asked, matched: bool
) -> None:
    """A licence is for the ids it names, exactly, and for the actions it names."""
    assert lifts(licence(lifts=["seat"], **body), question=question) == ({"seat"} if matched else set())


@pytest.mark.parametrize(
    ("dates", "at", "matched"),
    [
        ({"from": "2026-08-01"}, "2026-07-31T23:59:59.999999Z", False),
        ({"from": "2026-08-01"}, "2026-08-01T00:00:00Z", True),
        ({"until": "2026-08-01"}, "2026-07-31T23:59:59.999999Z", True),
        ({"until": "2026-08-01"}, "2026-08-01T00:00:00Z", False),
        ({"revoked_at": "2026-08-01T09:00:00Z"}, "2026-08-01T08:59:59.999999Z", True),
        ({"revoked_at": "2026-08-01T09:00:00Z"}, "2026-08-01T09:00:00Z", False),
        ({"until": "2026-09-01", "revoked_at": "2026-08-01"}, "2026-08-01", False),
        ({"until": "2026-08-01", "revoked_at": "2026-09-01"}, "2026-08-01", False),
        ({"until": None, "revoked_at": None}, "2099-01-01", True),
        ({"from": None}, "2099-01-01", False),
    ],
)
def test_a_licence_is_in_force_from_its_start_until_its_end_or_revocation(
    dates: dict[str, Any], at: str, matched: bool
) -> None:
    """Starts inclusive, ends exclusive, the earlier end holds; without `from` it is not in force at all."""
    assert lifts(licence(lifts=["seat"], **dates), at=parse_instant(at)) == ({"seat"} if matched else set())


@pytest.mark.parametrize("key", ["seat", "weights"])
def test_seat_and_weights_need_nothing_more(key: str) -> None:
    """These keys lift whatever the person, the place and the lists; also without a person."""
    assert lifts(licence(lifts=[key])) == {key}
    of_tenant = licence(lifts=[key], person_id=None, tenant_id="t1")
    assert lifts(of_tenant, who=NOBODY, question=asked(person_id=None), where=place_facets(None)) == {key}


@pytest.mark.parametrize(
    ("citizenships", "nationalities", "lifted"),
    [
        ([tie("CN", "birth")], ["CN"], True),
        ([tie("CN", "birth")], ["CN", "IN"], True),
        ([tie("CN", "birth")], ["IN"], False),
        ([tie("CN", "birth")], [], False),
        ([tie("CN", "birth"), tie("VN", "birth")], ["CN"], False),
        ([tie("CN", "birth"), tie("VN", "birth")], ["CN", "VN"], True),
        ([tie("IN", "birth"), tie("CN")], ["CN"], False),
        ([tie("IN", "birth"), tie("CN")], ["CN", "IN"], True),
        ([tie("HK", "birth")], ["CN"], True),
        ([tie("HK", "birth")], ["HK"], True),
        ([tie("CN", "birth")], ["HK"], False),
        ([tie("HK", "birth"), tie("CN", "birth")], ["HK"], False),
        ([tie("CN"), tie("ZZ")], ["CN", "ZZ"], False),
        ([tie("CN"), tie(None)], ["CN"], False),
        ([], ["CN"], False),
        ([], [], False),
    ],
)
def test_nat_lifts_only_if_every_counted_country_is_named(
    citizenships: list[dict[str, Any]], nationalities: list[str], lifted: bool
) -> None:
    """Every counted country, unrestricted ones too; what is unresolved, or nothing at all, is never named.

    Control: policy_engine/core/orders.py `return all(resolved is not None and (raw in named or resolved in named)
    for raw, resolved in pairs)`
    """
    who = person_facets(foreigner(*citizenships))
    assert lifts(licence(lifts=["nat"], nationalities=nationalities), who=who) == ({"nat"} if lifted else set())


def test_nat_lifts_nothing_where_the_ties_are_unknown() -> None:
    """Citizenships nobody stated may hold more than the residencies that are named.

    Control: policy_engine/core/orders.py `named_person = counted is not None and not counted.unknown and
    _names_all(nationalities, counted.pairs)`
    """
    who = person_facets(foreigner(citizenships=None, permanent_residencies=[tie("CN", "2010-01-01")]))
    assert who.ear.pairs == (("CN", "CN"),)
    assert lifts(licence(lifts=["nat"], nationalities=["CN"]), who=who) == set()


def test_a_code_that_resolves_to_nothing_is_never_named() -> None:
    """Not even by itself, whoever says that it counts."""
    odd = Counted((("ZZ", None),), frozenset(), frozenset())
    assert lifts(licence(lifts=["nat"], nationalities=["ZZ"]), counted=odd) == set()


def test_nat_lifts_nothing_without_a_known_test() -> None:
    """A model that names no test leaves it unknown which countries count."""
    assert lifts(licence(lifts=["nat", "directive"], nationalities=["CN"]), counted=False) == set()


def test_nat_follows_the_test_of_the_model() -> None:
    """Under ITAR a former citizenship must be named as well."""
    who = person_facets(foreigner(tie("CN", "birth", current=False), tie("VN", "2010-01-01")))
    named = licence(lifts=["nat"], nationalities=["VN"])
    assert lifts(named, who=who, counted=who.ear) == {"nat"}
    assert lifts(named, who=who, counted=who.itar) == set()


@pytest.mark.parametrize(
    ("location", "destinations", "lifted"),
    [
        ("CN", ["CN"], True),
        ("CN", ["VN", "CN"], True),
        ("CN", ["VN"], False),
        ("CN", [], False),
        ("HK", ["CN"], True),
        ("HK", ["HK"], True),
        ("CN", ["HK"], False),
        ({"country": "RU", "region": "RU-MOW"}, ["RU-MOW"], True),
        ({"country": "RU", "region": "RU-MOW"}, ["RU"], True),
        ("RU", ["RU-MOW"], False),
        ({"country": "CN", "anonymiser": True}, ["CN"], False),
        ({"country": "CN", "region": "RU-MOW"}, ["CN", "RU-MOW"], False),
        ("ZZ", ["ZZ"], False),
        (None, ["CN"], False),
    ],
)
def test_dest_lifts_only_if_the_location_is_named(location: Any, destinations: list[str], lifted: bool) -> None:
    """By its code as given, its sovereign's, or its region's; never unknown, mismatched or anonymised.

    Control: policy_engine/core/orders.py
    `named_place = place.place.known and "location-anonymised" not in place.unknown`
    """
    found = lifts(licence(lifts=["dest"], destinations=destinations), where=place_facets(location))
    assert found == ({"dest"} if lifted else set())


@pytest.mark.parametrize(
    ("who", "of", "nationalities", "lifted"),
    [
        (CHINESE, COMPANY, ["CN"], True),
        (CHINESE, COMPANY, ["IN"], False),
        (CHINESE, COMPANY, [], False),
        (CHINESE, FOREIGN_COMPANY, ["CN"], False),
        (CHINESE, FOREIGN_COMPANY, ["GB"], False),
        (CHINESE, FOREIGN_COMPANY, ["CN", "GB"], True),
        (AMERICAN, FOREIGN_COMPANY, ["GB"], True),
        (AMERICAN, FOREIGN_COMPANY, ["US"], False),
        (AMERICAN, FOREIGN_COMPANY, [], False),
        (AMERICAN, tenant_facets(tenant(incorporated_in="KY")), ["GB"], True),
        (AMERICAN, tenant_facets(tenant(incorporated_in="KY")), ["KY"], True),
        (AMERICAN, tenant_facets(tenant(type="international_organisation")), ["GB"], False),
        (AMERICAN, tenant_facets(tenant(type="international_organisation")), ["US"], True),
        (
            AMERICAN,
            tenant_facets(tenant(type="reseller", incorporated_in="GB", end_customer=customer(incorporated_in="IN"))),
            ["GB"],
            False,
        ),
        (
            AMERICAN,
            tenant_facets(tenant(type="reseller", incorporated_in="GB", end_customer=customer(incorporated_in="IN"))),
            ["GB", "IN"],
            True,
        ),
        (person_facets(foreigner(tie("CN"), tie("ZZ"))), COMPANY, ["CN", "ZZ"], False),
        (person_facets(foreigner()), COMPANY, ["CN"], False),
    ],
)
def test_directive_lifts_foreign_person_only_if_person_and_foreign_entities_are_named(
    who: PersonFacets, of: TenantFacets, nationalities: list[str], lifted: bool
) -> None:
    """Every counted country of a foreign person and the incorporation country of every foreign entity."""
    found = lifts(licence(lifts=["directive"], nationalities=nationalities), who=who, of=of)
    assert found == ({FOREIGN_PERSON} if lifted else set())


@pytest.mark.parametrize(
    ("destinations", "lifted"), [(["CN"], True), (["VN"], False), ([], False), (["CN", "VN"], True)]
)
def test_directive_lifts_destination_only_if_the_location_is_named(destinations: list[str], lifted: bool) -> None:
    """The other block needs nothing of the nationalities."""
    found = lifts(licence(lifts=["directive"], destinations=destinations), where=IN_CHINA)
    assert found == ({DESTINATION} if lifted else set())


WHOLE = licence(lifts=["directive"], nationalities=["CN", "GB", "US"], destinations=["CN", "US", "UA"])
OF_TENANT = licence(
    lifts=["directive"], person_id=None, tenant_id="t1", nationalities=["CN", "GB"], destinations=["CN", "US"]
)


def test_directive_lifts_both_blocks_when_all_is_named_and_known() -> None:
    """The licence that the next test spoils lifts both."""
    assert lifts(WHOLE, where=IN_CHINA) == {FOREIGN_PERSON, DESTINATION}
    assert lifts(OF_TENANT, where=IN_CHINA) == {FOREIGN_PERSON, DESTINATION}
    assert lifts(WHOLE, where=IN_CHINA, of=tenant_facets(tenant(type="individual", incorporated_in=None))) == {
        FOREIGN_PERSON,
        DESTINATION,
    }
    assert lifts(WHOLE, where=place_facets("UA")) == {FOREIGN_PERSON, DESTINATION}


@pytest.mark.parametrize(
    "spoilt",
    [
        {"who": person_facets(foreigner(tie("CN", "birth"), nationality_evidence={"level": "declared"}))},
        {"who": person_facets(foreigner(tie("CN", "birth"), nationality_evidence={"level": "conflict"}))},
        {"who": person_facets(foreigner(tie("CN", "birth"), nationality_evidence={"level": "verified"}))},
        {"who": person_facets(foreigner(tie("CN", "birth"), nationality_evidence=None))},
        {"who": person_facets(foreigner(tie("CN", "birth"), us_status="citizen"))},
        {"of": tenant_facets(tenant(incorporated_in=None))},
        {"of": tenant_facets(tenant(incorporated_in="ZZ"))},
        {"of": tenant_facets(tenant(type="us_government", incorporated_in=None))},
        {"of": tenant_facets(tenant(type="reseller", end_customer=customer(incorporated_in=None)))},
        {"where": place_facets({"country": "CN", "anonymiser": True})},
        {"where": place_facets({"country": "CN", "region": "RU-MOW"})},
        {"where": place_facets("ZZ")},
        {"where": place_facets(None)},
    ],
)
def test_directive_is_never_lifted_where_something_is_unknown(spoilt: dict[str, Any]) -> None:
    """Not on evidence that is not valid, nor where incorporation is unknown, nor for an unknown or anonymised place.

    Control: policy_engine/core/orders.py `return person.evidence == "valid" and
    unknown.isdisjoint(("incorporation", "location", "location-anonymised"))`
    """
    assert lifts(WHOLE, **{"where": IN_CHINA, **spoilt}) == set()


def test_directive_is_never_lifted_without_a_person() -> None:
    """A tenant's licence does not carry its services through a directive."""
    assert lifts(OF_TENANT, who=NOBODY, question=asked(person_id=None), where=IN_CHINA) == set()
    assert lifts(OF_TENANT, who=CHINESE, question=asked(person_id=None), where=IN_CHINA) == set()


@pytest.mark.parametrize("key", ["seat", "weights", "nat", "dest", "directive"])
def test_a_licence_lifts_only_the_keys_it_names(key: str) -> None:
    """A licence that names person and place lifts no other key than its own, met or not."""
    named = {"nationalities": ["CN"], "destinations": ["CN"]}
    own = {FOREIGN_PERSON, DESTINATION} if key == "directive" else {key}
    assert lifts(licence(lifts=[key], **named), where=IN_CHINA) == own
    assert lifts(licence(lifts=[], **named), where=IN_CHINA) == set()
    elsewhere = lifts(licence(lifts=[key], **{**named, "destinations": ["VN"]}), where=IN_CHINA)
    assert elsewhere == own - {"dest", DESTINATION}
    somebody_else = lifts(licence(lifts=[key], **{**named, "nationalities": ["VN"]}), where=IN_CHINA)
    assert somebody_else == own - {"nat", FOREIGN_PERSON}


def test_keys_of_several_licences_are_named_by_the_licence_that_gave_them() -> None:
    """Each licence must meet the conditions of a key by itself; two halves make no whole."""
    half = {"lifts": ["nat"], "nationalities": ["CN"]}
    other = {"lifts": ["nat", "seat"], "nationalities": ["VN"]}
    who = person_facets(foreigner(tie("CN", "birth"), tie("VN", "birth")))
    book = OrderBook((), [licence(id="l2", **other), licence(**half), licence(id="l0", lifts=["weights"])])
    found = keys_given(book, asked(), who.ear, who, COMPANY, HERE, NOW)
    assert found == {"l0": {"weights"}, "l2": {"seat"}}


def test_licences_of_one_request_come_in_order_of_their_ids() -> None:
    """Whatever they name and however they were written."""
    book = OrderBook(
        (),
        [
            licence(id="l3", person_id=None, tenant_id="t1"),
            licence(id="l2", tenant_id="t1"),
            licence(id="l1"),
            licence(id="l0", actions=["list"]),
        ],
    )
    assert [found.id for found in book.licences_for(asked(), NOW)] == ["l1", "l2", "l3"]


def test_the_boundaries_of_a_book_are_all_instants_of_its_licences() -> None:
    """Start, end and revocation; a licence never in force, or nobody's, has none."""
    dated = licence(**{"from": "2026-02-01", "until": "2026-09-01", "revoked_at": "2026-08-01"})
    nobodys = licence(person_id=None, **{"from": "2026-03-03"})
    undated = licence(**{"from": None, "until": "2026-04-04"})
    expected = [parse_instant(day) for day in ("2026-02-01", "2026-08-01", "2026-09-01")]
    assert list(OrderBook((), [dated, nobodys, undated]).boundaries) == expected
    assert OrderBook().boundaries == ()
    assert OrderBook((), [licence()]).boundaries[-1] == ENDLESS


def test_contradicting_facts_lift_no_directive() -> None:
    """Somebody called `none` who holds a US citizenship has no valid evidence anywhere."""
    who = person_facets(person(us_status="none"))
    assert lifts(licence(lifts=["directive"], nationalities=["US"], destinations=["US"]), who=who) == set()
