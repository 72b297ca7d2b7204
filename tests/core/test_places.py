"""Places (reference policy): codes, territories, regions, editions of tables, and a rule with dates."""

from __future__ import annotations

import pytest

from policy_engine.core.derive import serving_state
from policy_engine.core.facts import Location
from policy_engine.core.instants import ENDLESS, parse_instant
from policy_engine.core.places import NOWHERE, Edition, GroupTables, Timeline
from tests.core.sample import (
    AFFILIATES,
    CAMBODIA_LEAVES,
    EAR,
    EMBARGO,
    EMBARGOED,
    EMIRATES_JOIN,
    FAVOURED,
    FRONTIER,
    GAZETTEER,
    LISTED_REGIONS,
    NOW,
    REFERENCE,
    RESTRICTED,
    model,
    person,
    person_facets,
    place_facets,
    tenant,
    tenant_facets,
)


@pytest.mark.parametrize(
    ("code", "country"),
    [("US", "US"), ("XK", "XK"), ("us", None), ("USA", None), ("ZZ", None), ("EU", None), ("", None), (None, None)],
)
def test_codes_are_iso_3166_1_alpha_2_upper_case_plus_xk(code: str | None, country: str | None) -> None:
    """Any other code resolves to nothing; it is never mended."""
    assert GAZETTEER.country(code) == country


@pytest.mark.parametrize("code", ["AS", "GU", "MP", "PR", "UM", "VI"])
def test_a_us_territory_is_the_united_states(code: str) -> None:
    """Location in the US means the US or a US territory."""
    place = place_facets(code)
    assert place.place.codes == {"US"}
    assert place.in_us == "yes"


@pytest.mark.parametrize(("code", "sovereign"), [("HK", "CN"), ("LI", "CH"), ("KY", "GB"), ("GG", "GB")])
def test_hk_is_cn_li_is_ch_and_territories_are_their_sovereign(code: str, sovereign: str) -> None:
    """What a table says of the sovereign holds for the code, which is kept beside it as given."""
    place = GAZETTEER.resolve(code)
    assert (place.raw, place.country, place.codes, place.known) == (code, sovereign, {sovereign}, True)


@pytest.mark.parametrize("code", ["ZZ", "de", None])
def test_a_code_that_resolves_to_nothing_is_unknown(code: str | None) -> None:
    """Unresolved is unknown wherever a country stands, never "no restriction"."""
    assert place_facets({"country": code}).unknown == {"location"}
    assert place_facets({"country": code}).place.codes == frozenset()
    assert "residence" in person_facets(person(residence_country=code)).unknown
    names = ("incorporated_in", "headquarters", "ultimate_parent_headquarters")
    unknown = tenant_facets(tenant(**dict.fromkeys(names, code))).unknown
    assert unknown == {"incorporation", "headquarters", "parent"}


def test_no_location_is_an_unknown_location() -> None:
    """A request that names no place is nowhere, and not in the United States."""
    facets = place_facets(None)
    assert (facets.place, facets.unknown, facets.in_us) == (NOWHERE, {"location"}, "unknown")


@pytest.mark.parametrize(
    ("country", "region", "known"),
    [
        ("US", "US-CA", True),
        ("US", "US-PR", True),
        ("PR", "US-PR", True),
        ("HK", "CN-HK", True),
        ("CN", "CN-HK", True),
        ("HK", "CN-11", False),
        ("US", "DE-BE", False),
        ("DE", "US-CA", False),
        ("US", "US-ZZ", False),
        ("US", "US", False),
        ("US", "", False),
        ("ZZ", "ZZ-11", False),
        (None, "US-CA", False),
    ],
)
def test_a_region_that_does_not_belong_to_its_country_makes_the_location_unknown(
    country: str | None, region: str, known: bool
) -> None:
    """A region is honoured only as a region of the country beside it; a territory may be given as its sovereign's."""
    place = GAZETTEER.resolve(country, region)
    assert place.known is known
    assert place.codes - {place.country} == ({region} if known else set())


def test_a_mismatch_is_unknown_for_every_place() -> None:
    """Location, residence, incorporation and headquarters are unknown when their region is another country's."""
    facets = place_facets({"country": "US", "region": "DE-BE"})
    assert (facets.unknown, facets.in_us) == ({"location"}, "unknown")
    assert "residence" in person_facets(person(residence_region="DE-BE")).unknown
    assert tenant_facets(tenant(incorporated_in_region="DE-BE")).unknown == {"incorporation"}
    assert tenant_facets(tenant(headquarters_region="DE-BE")).unknown == {"headquarters"}


@pytest.mark.parametrize("region", sorted(LISTED_REGIONS))
@pytest.mark.parametrize("country", ["UA", "RU", "US", "ZZ", None])
def test_a_listed_region_counts_whatever_country_stands_beside_it(country: str | None, region: str) -> None:
    """P3: UA-43, UA-40, UA-14 and UA-09 are embargoed even beside another country, or none."""
    embargoed = REFERENCE.groups.at(NOW).groups[EMBARGOED]
    assert GAZETTEER.resolve(country, region).codes & embargoed == {region}
    assert place_facets({"country": country, "region": region}).place.codes & embargoed
    assert person_facets(person(residence_country=country, residence_region=region)).residence.codes & embargoed
    for name in ("incorporated_in", "headquarters"):
        assert tenant_facets(tenant(**{name: country, f"{name}_region": region})).entities & embargoed


@pytest.mark.parametrize("region", ["UA-30", "UA-65"])
def test_ua_with_any_other_valid_region_is_ukraine(region: str) -> None:
    """A region of Ukraine outside the four is known and not embargoed."""
    facets = place_facets({"country": "UA", "region": region})
    assert facets.unknown == frozenset()
    assert facets.place.codes == {"UA", region}
    assert not facets.place.codes & REFERENCE.groups.at(NOW).groups[EMBARGOED]


def test_ua_without_region_is_coarse_as_location_only() -> None:
    """P6 wants the region of a location in Ukraine; `UA` alone passes P3 as residence, incorporation, headquarters."""
    assert place_facets("UA").unknown == {"location-region"}
    assert place_facets("UA").in_us == "no"
    assert person_facets(person(residence_country="UA")).unknown == frozenset()
    assert tenant_facets(tenant(incorporated_in="UA", headquarters="UA")).unknown == frozenset()


def test_ua_with_a_region_that_is_none_is_unknown_not_coarse() -> None:
    """An invalid region of Ukraine leaves the whole location unknown."""
    assert place_facets({"country": "UA", "region": "UA-99"}).unknown == {"location"}


def test_an_anonymised_location_is_not_in_the_us() -> None:
    """The codes stay visible to P3, and whether the person is in the US is unknown."""
    facets = place_facets({"country": "US", "anonymiser": True})
    assert (facets.place.codes, facets.unknown, facets.in_us) == ({"US"}, {"location-anonymised"}, "unknown")


def test_an_absent_anonymiser_means_not_detected() -> None:
    """Decision cases: `anonymiser` absent is false."""
    assert place_facets({"country": "US"}) == place_facets({"country": "US", "anonymiser": False})
    assert Location("US").anonymiser is False


@pytest.mark.parametrize(
    ("serving_region", "state"),
    [
        ("US", "permitted"),
        ("DE", "permitted"),
        ("US-CA", "permitted"),
        ("PR", "permitted"),
        ("CN", "forbidden"),
        ("GB", "forbidden"),
        ("GB-ENG", "forbidden"),
        ("HK", "forbidden"),
        ("EU", "unknown"),
        ("US-ZZ", "unknown"),
        ("us", "unknown"),
        ("", "unknown"),
        (None, "unknown"),
    ],
)
def test_a_serving_region_is_permitted_forbidden_or_unknown(serving_region: str | None, state: str) -> None:
    """P6b: a country or region, its sovereign's permission included; what resolves to nothing is unknown."""
    assert serving_state(model(), serving_region, GAZETTEER) == state


@pytest.mark.parametrize(
    ("country", "region", "named"),
    [
        ("US", None, "US"),
        ("US", "US-CA", "US US-CA"),
        ("US", "US-PR", "US US-PR PR"),
        ("PR", None, "US US-PR PR"),
        ("PR", "US-PR", "US US-PR PR"),
        ("CN", "CN-HK", "CN CN-HK HK"),
        ("HK", None, "CN CN-HK HK"),
        ("GG", None, "GB GG"),
        ("CN", "CN-MO", "CN CN-MO MO"),
        ("MO", None, "CN-MO MO"),
        ("TW", None, "CN-TW TW"),
        ("FR", "FR-971", "FR FR-971 GP"),
        ("GP", None, "FR-971 GP"),
        ("NL", "NL-BQ2", "BQ NL NL-BQ2"),
        ("BQ", None, "BQ"),
        ("XX", None, "XX"),
    ],
)
def test_a_place_has_every_name_that_an_order_may_give_it(country: str, region: str | None, named: str) -> None:
    """A territory's own code and its code as a region of the sovereign name one place; the sovereign's names both."""
    assert GAZETTEER.names(country, region) == frozenset(named.split())


def test_a_permitted_region_does_not_permit_its_country() -> None:
    """A model that may run in one region or territory may not run in the rest of the country."""
    narrow = model(permitted_serving_regions=frozenset(("US-CA", "HK")))
    assert serving_state(narrow, "US-CA", GAZETTEER) == "permitted"
    assert serving_state(narrow, "HK", GAZETTEER) == "permitted"
    assert serving_state(narrow, "US", GAZETTEER) == "forbidden"
    assert serving_state(narrow, "CN", GAZETTEER) == "forbidden"


def test_a_code_that_resolves_to_nothing_permits_nothing() -> None:
    """A catalogue that names an unknown code does not make a place known by it."""
    assert serving_state(model(permitted_serving_regions=frozenset(("ZZ",))), "ZZ", GAZETTEER) == "unknown"


def test_a_model_without_permitted_regions_runs_nowhere() -> None:
    """An empty list permits no place."""
    assert serving_state(model(permitted_serving_regions=frozenset()), "US", GAZETTEER) == "forbidden"


@pytest.mark.parametrize(
    ("at", "groups"),
    [
        (CAMBODIA_LEAVES - 1, {"KH": {RESTRICTED, FRONTIER}, "AE": {FRONTIER}}),
        (CAMBODIA_LEAVES, {"KH": {FRONTIER}, "AE": {FRONTIER}}),
        (EMIRATES_JOIN - 1, {"KH": {FRONTIER}, "AE": {FRONTIER}}),
        (EMIRATES_JOIN, {"KH": {FRONTIER}, "AE": {FAVOURED}}),
        (ENDLESS, {"KH": {FRONTIER}, "AE": {FAVOURED}}),
    ],
)
def test_the_table_in_force_at_the_instant_decides(at: int, groups: dict[str, set[str]]) -> None:
    """UAE and Cambodia change groups at 00:00Z of their days, to the microsecond."""
    in_force = REFERENCE.groups.at(at)
    found = {code: {name for name, codes in in_force.groups.items() if code in codes} for code in groups}
    assert found == groups
    assert in_force.flags == ()


def test_before_the_oldest_edition_the_oldest_is_used_and_flagged() -> None:
    """One microsecond before the first edition its groups hold, with a flag for each table asked too early."""
    early = REFERENCE.groups.at(EAR[0].start - 1)
    assert early.domains == {"ear@2026-01-01", "embargo@2026-01-01"}
    assert early.groups == {**EAR[0].groups, **EMBARGO[0].groups}
    assert early.flags == ("edition-before-oldest:ear", "edition-before-oldest:embargo")
    assert REFERENCE.groups.at(EAR[0].start).flags == ()
    assert REFERENCE.groups.at(-ENDLESS).flags == early.flags


def test_only_the_table_asked_too_early_is_flagged() -> None:
    """Two tables with different first editions are flagged one by one."""
    tables = GroupTables({"old": (Edition("old@1", 1, {}),), "new": (Edition("new@9", 9, {}),)})
    assert tables.at(5).flags == ("edition-before-oldest:new",)
    assert tables.at(5).domains == {"old@1", "new@9"}


def test_editions_in_force_say_how_long() -> None:
    """Each answer carries the interval in which it holds, and the boundaries are those of all editions."""
    in_force = REFERENCE.groups.at(CAMBODIA_LEAVES)
    assert (in_force.start, in_force.until) == (CAMBODIA_LEAVES, EMIRATES_JOIN)
    assert REFERENCE.groups.at(NOW).until == ENDLESS
    assert REFERENCE.groups.boundaries == (EAR[0].start, CAMBODIA_LEAVES, EMIRATES_JOIN)


def test_the_order_in_which_editions_are_written_does_not_matter() -> None:
    """Editions are put in order by their start."""
    assert GroupTables({"ear": EAR[::-1]}).at(NOW) == GroupTables({"ear": EAR}).at(NOW)


@pytest.mark.parametrize(
    ("at", "status", "until"),
    [
        ("2025-09-28T23:59:59.999999Z", "suspended", "2025-09-29"),
        ("2025-09-29", "in_force", "2025-11-10"),
        ("2025-11-09T23:59:59.999999Z", "in_force", "2025-11-10"),
        ("2025-11-10", "suspended", "2026-11-10"),
        ("2026-11-09T23:59:59.999999Z", "suspended", "2026-11-10"),
        ("2026-11-10", "in_force", None),
        ("2031-01-01", "in_force", None),
    ],
)
def test_the_affiliates_rule_is_in_force_then_suspended_then_in_force(at: str, status: str, until: str | None) -> None:
    """Tenants: in force from 2025-09-29, suspended from 2025-11-10 until 2026-11-10, in force after."""
    end = ENDLESS if until is None else parse_instant(until)
    assert AFFILIATES.at(parse_instant(at)) == (status, end)


def test_a_timeline_answers_before_its_periods_and_in_their_gaps() -> None:
    """Before the first period one status holds, in a gap and after an ended last period another."""
    timeline = Timeline(((30, 40, "on"), (10, 20, "on")), before="before", otherwise="off")
    answers = {at: timeline.at(at) for at in (9, 10, 19, 20, 29, 30, 39, 40)}
    assert answers == {
        9: ("before", 10),
        10: ("on", 20),
        19: ("on", 20),
        20: ("off", 30),
        29: ("off", 30),
        30: ("on", 40),
        39: ("on", 40),
        40: ("off", ENDLESS),
    }
    assert timeline.boundaries == (10, 20, 30, 40)


def test_a_timeline_of_one_period_without_dates_always_answers_it() -> None:
    """A status that a case sets outright holds at every instant."""
    assert Timeline(((-ENDLESS, ENDLESS, "on"),), before="off", otherwise="off").at(NOW) == ("on", ENDLESS)
