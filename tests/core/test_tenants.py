"""Tenants and the chain (reference policy): entities, owners and their shares, resellers, foreign entities."""

from __future__ import annotations

from typing import Any

import pytest

from policy_engine.core.derive import TenantFacets
from policy_engine.core.facts import Tenant
from policy_engine.core.instants import ENDLESS
from tests.core.sample import (
    CAMBODIA_LEAVES,
    EMIRATES_JOIN,
    NOW,
    customer,
    owner,
    tenant,
    tenant_facets,
)

ENTITY_TYPES = (
    "enterprise",
    "academic",
    "us_government",
    "foreign_government",
    "international_organisation",
    "reseller",
    "lab",
)


def owned_by(*owners: dict[str, Any]) -> TenantFacets:
    """Return the facets of a company with these owners."""
    return tenant_facets(tenant(owners=list(owners)))


@pytest.mark.parametrize(
    ("share", "reached"), [(49.9, False), ("49.999999999999999999", False), (50, True), (50.1, True), (100, True)]
)
@pytest.mark.parametrize(("listed", "name"), [("SDN", "sdn"), ("entity_list", "affiliates"), ("MEU", "affiliates")])
def test_listed_owners_count_from_50_percent(listed: str, name: str, share: Any, reached: bool) -> None:
    """P4: a share of 50% or more of owners on a list family, exact to the last decimal."""
    assert owned_by(owner(share, listed=listed)).ownership == ({name} if reached else set())


@pytest.mark.parametrize(
    ("owners", "ownership"),
    [
        ([owner(25, listed="SDN"), owner(25, listed="SDN")], {"sdn"}),
        ([owner(25, listed="SDN"), owner(24.9, listed="SDN")], set()),
        ([owner(30, listed="entity_list"), owner(20, listed="MEU")], {"affiliates"}),
        ([owner(30, listed="entity_list"), owner(19.9, listed="MEU")], set()),
        ([owner(30, listed="SDN"), owner(30, listed="entity_list"), owner(19, listed="MEU")], set()),
        ([owner(50, listed="SDN"), owner(50, listed="MEU")], {"sdn", "affiliates"}),
        ([owner(60), owner(40, listed="SDN")], set()),
        ([owner(100)], set()),
        ([], set()),
    ],
)
def test_shares_are_summed_per_list_family(owners: list[dict[str, Any]], ownership: set[str]) -> None:
    """SDN by itself; entity list and MEU together; owners on no list not at all."""
    assert owned_by(*owners).ownership == ownership


def test_decimal_shares_sum_exactly() -> None:
    """Ten owners of a tenth of 50% each make 50%, where binary fractions would fall short of or exceed it."""
    assert owned_by(*(owner(16.7, listed="SDN"), owner(16.6, listed="SDN"), owner(16.7, listed="SDN"))).ownership
    assert not owned_by(*(owner(0.1, "CN") for _ in range(500))).owned
    assert owned_by(*(owner(0.1, "CN") for _ in range(501))).owned == {"restricted"}


@pytest.mark.parametrize(
    ("owners", "ownership"),
    [
        ([owner(None, listed="SDN")], {"sdn-share-unknown"}),
        ([owner(None, listed="entity_list")], {"affiliates-share-unknown"}),
        ([owner(None, listed="MEU")], {"affiliates-share-unknown"}),
        ([owner(50, listed="SDN"), owner(None, listed="SDN")], {"sdn", "sdn-share-unknown"}),
        ([owner(99), owner(None, listed="SDN")], {"sdn-share-unknown"}),
        ([owner(None)], set()),
    ],
)
def test_a_listed_owner_of_unknown_share_is_told(owners: list[dict[str, Any]], ownership: set[str]) -> None:
    """P4 denies on it whatever the other shares leave; an unlisted owner's share is no matter here."""
    assert owned_by(*owners).ownership == ownership


@pytest.mark.parametrize("country", ["CN", "MO", "IR", "CU", "HK"])
@pytest.mark.parametrize(("share", "owned"), [(49.9, False), (50, False), (50.1, True), (100, True)])
def test_more_than_50_percent_from_a_restricted_country_counts(country: str, share: Any, owned: bool) -> None:
    """P5: strictly more than half owned from D:5, Macau, E:1 or E:2."""
    facets = owned_by(owner(share, country))
    assert (facets.owned, facets.unknown) == ({"restricted"} if owned else set(), set())


@pytest.mark.parametrize(
    ("owners", "owned", "unknown"),
    [
        ([owner(30, "CN"), owner(20.1, "IR")], True, False),
        ([owner(30, "CN"), owner(20, "IR"), owner(50, "US")], False, False),
        ([owner(100, "VN")], False, False),
        # An unknown country counts as restricted, and the denial rests on an unknown.
        ([owner(50.1, None)], False, True),
        ([owner(50.1, "ZZ")], False, True),
        ([owner(50, None), owner(50, "US")], False, False),
        ([owner(30, "CN"), owner(20, None)], False, False),
        ([owner(30, "CN"), owner(20.1, None)], False, True),
        ([owner(50.1, "CN"), owner(49.9, None)], True, False),
        # An unknown share counts with all that the known shares leave.
        ([owner(None, "CN")], False, True),
        ([owner(None, "CN"), owner(50, "US")], False, False),
        ([owner(None, "CN"), owner(49.9, "US")], False, True),
        ([owner(None, "CN"), owner(30, "CN"), owner(20, "US")], False, True),
        ([owner(None, "CN"), owner(30, "CN"), owner(50, "US")], False, False),
        ([owner(None, "CN"), owner(30, None), owner(49, "US")], False, True),
        ([owner(None, "CN"), owner(51, "CN")], True, False),
        ([owner(None, "US")], False, False),
        ([owner(None, "US"), owner(40, "CN")], False, False),
        # Unknown share and unknown country at once.
        ([owner(None, None)], False, True),
        ([owner(None, None), owner(50, "US")], False, False),
        # Two unknown shares cannot hold more together than the known shares leave.
        ([owner(None, "CN"), owner(None, "IR"), owner(60, "US")], False, False),
        ([owner(None, "CN"), owner(None, "US"), owner(40, "US")], False, True),
        # Shares that leave nothing, or less than nothing.
        ([owner(None, "CN"), owner(100, "US")], False, False),
        ([owner(None, "CN"), owner(80, "US"), owner(70, "DE")], False, False),
    ],
)
def test_unknown_shares_and_countries_of_owners(owners: list[dict[str, Any]], owned: bool, unknown: bool) -> None:
    """P5: more than half owned from there, or not known not to be; only the former is `restricted` and may be lifted.

    Control: policy_engine/core/derive.py `unknown.add("owned")`
    """
    facets = owned_by(*owners)
    assert (facets.owned, facets.unknown) == ({"restricted"} if owned else set(), {"owned"} if unknown else set())


def test_absent_owners_are_unknown() -> None:
    """In the registers, owners that nobody stated are unknown; an empty list is known to be empty."""
    assert tenant_facets(tenant(owners=None)).unknown == {"owners"}
    assert tenant_facets(tenant(owners=[])).unknown == frozenset()


def test_owners_are_judged_by_the_table_of_the_instant() -> None:
    """Cambodian owners count as restricted until 2026-02-03T00:00Z."""
    company = tenant(owners=[owner(100, "KH")])
    assert tenant_facets(company, CAMBODIA_LEAVES - 1).owned == {"restricted"}
    assert tenant_facets(company, CAMBODIA_LEAVES).owned == frozenset()


def test_facets_of_a_tenant_hold_until_the_next_edition() -> None:
    """Ownership reads group tables, so the facets last no longer than the edition."""
    assert tenant_facets(tenant(), CAMBODIA_LEAVES).until == EMIRATES_JOIN
    assert tenant_facets(tenant(), NOW).until == ENDLESS


def test_entities_and_seats() -> None:
    """P3 reads incorporation, headquarters and parent; P5 reads headquarters and parent, incorporation alone not."""
    facets = tenant_facets(tenant(incorporated_in="IN", headquarters="DE", ultimate_parent_headquarters="CN"))
    assert facets.entities == {"IN", "DE", "CN"}
    assert facets.seats == {"DE", "CN"}
    assert facets.home == "DE"
    assert facets.unknown == frozenset()


def test_regions_of_incorporation_and_headquarters_are_honoured() -> None:
    """A region beside the country counts for P3 as well as the country."""
    facets = tenant_facets(tenant(incorporated_in="UA", incorporated_in_region="UA-43"))
    assert facets.entities == {"UA", "UA-43", "US"}
    facets = tenant_facets(tenant(headquarters="UA", headquarters_region="UA-30"))
    assert facets.entities == {"UA", "UA-30", "US"}
    assert facets.home == "UA"


@pytest.mark.parametrize(
    ("name", "unknown"),
    [
        ("incorporated_in", "incorporation"),
        ("headquarters", "headquarters"),
        ("ultimate_parent_headquarters", "parent"),
    ],
)
def test_an_entity_fact_that_nobody_stated_is_unknown(name: str, unknown: str) -> None:
    """Each place of an entity is unknown by its own name."""
    assert tenant_facets(tenant(**{name: None})).unknown == {unknown}


def test_home_is_unknown_without_headquarters() -> None:
    """P11 compares the headquarters; nobody's country is no country."""
    assert tenant_facets(tenant(headquarters=None)).home == "unknown"


def test_an_individual_has_no_entity() -> None:
    """P3 on entities, owners, P5 and foreign entity do not apply; list match and the lab's refusal do."""
    facets = tenant_facets(
        tenant(
            type="individual",
            incorporated_in="IR",
            headquarters="CN",
            ultimate_parent_headquarters=None,
            owners=[owner(100, "IR", "SDN")],
            list_match="possible",
            denied_by_lab=True,
        )
    )
    assert facets.individual
    assert facets.entities == facets.seats == facets.ownership == facets.owned == frozenset()
    assert facets.foreign == ()
    assert facets.unknown == frozenset()
    assert facets.screening == {"possible"}
    assert facets.denied


def test_vetted_partner_and_denied_by_lab_absent_are_false() -> None:
    """These two alone mean something when nobody stated them."""
    plain = tenant_facets(tenant(vetted_partner=None, denied_by_lab=None))
    assert (plain.partner, plain.denied) == (False, False)
    marked = tenant_facets(tenant(vetted_partner=True, denied_by_lab=True))
    assert (marked.partner, marked.denied) == (True, True)


@pytest.mark.parametrize(
    ("facts", "identified"),
    [
        ({"type": "reseller"}, False),
        ({"type": "reseller", "end_customer_identified": False}, False),
        ({"type": "reseller", "end_customer_identified": True}, True),
        ({"type": "reseller", "end_customer": customer()}, True),
        ({"type": "enterprise"}, True),
        ({"type": "individual"}, True),
        ({"type": None}, False),
        ({"type": None, "end_customer_identified": True}, True),
    ],
)
def test_a_reseller_must_identify_its_end_customer(facts: dict[str, Any], identified: bool) -> None:
    """P8: by the object or by the flag; who is of unknown type may be a reseller."""
    assert ("end-customer" in tenant_facets(tenant(**facts)).unknown) is not identified


def test_identified_without_the_object_adds_no_entity() -> None:
    """`end_customer_identified: true` satisfies P8 only."""
    named = tenant_facets(tenant(type="reseller", end_customer_identified=True))
    assert named.ids == {"t1"}
    assert named.entities == {"US"}


@pytest.mark.parametrize(
    ("facts", "field", "expected"),
    [
        ({"incorporated_in": "IR"}, "entities", {"US", "IR"}),
        ({"headquarters": "CN"}, "seats", {"US", "CN"}),
        ({"ultimate_parent_headquarters": "CN"}, "seats", {"US", "CN"}),
        ({"headquarters": None}, "unknown", {"headquarters"}),
        ({"owners": None}, "unknown", {"owners"}),
        ({"owners": [owner(50, listed="SDN")]}, "ownership", {"sdn"}),
        ({"owners": [owner(51, "CN")]}, "owned", {"restricted"}),
        ({"list_match": "confirmed"}, "screening", {"none", "confirmed"}),
        ({"list_match": None}, "screening", {"none", "unscreened"}),
        ({"denied_by_lab": True}, "denied", True),
        ({"incorporated_in": "GB"}, "foreign", (("GB", "GB"),)),
        ({"type": "foreign_government"}, "types", {"reseller", "foreign_government"}),
        ({"vetted_partner": True}, "partner", False),
        ({"id": "lab"}, "is_lab", False),
        ({"headquarters": "GB"}, "home", "US"),
        ({"type": "individual"}, "individual", False),
        ({"type": "individual", "incorporated_in": "IR"}, "entities", {"US"}),
        ({"type": "individual", "list_match": "confirmed"}, "screening", {"none", "confirmed"}),
    ],
)
def test_an_end_customer_is_an_entity_of_the_chain(facts: dict[str, Any], field: str, expected: Any) -> None:
    """P3, P4, P5, P12 and P14 apply to each entity; partner, lab and home are the tenant's own."""
    facets = tenant_facets(tenant(type="reseller", end_customer=customer(**facts)))
    assert getattr(facets, field) == expected


def test_a_chain_runs_through_every_reseller() -> None:
    """A reseller behind a reseller names its own customer, and each link counts."""
    last = customer("t3", headquarters="CN", owners=[owner(60, "CN", "SDN")])
    middle = customer("t2", type="reseller", incorporated_in="IN", end_customer=last)
    facets = tenant_facets(tenant(type="reseller", end_customer=middle))
    assert facets.ids == {"t1", "t2", "t3"}
    assert facets.entities == {"US", "IN", "CN"}
    assert (facets.ownership, facets.owned) == ({"sdn"}, {"restricted"})
    assert facets.foreign == (("IN", "IN"),)
    assert "end-customer" not in facets.unknown


def test_an_unidentified_customer_anywhere_in_the_chain_is_unidentified() -> None:
    """A reseller behind a reseller that names nobody leaves the end customer unknown."""
    facets = tenant_facets(tenant(type="reseller", end_customer=customer(type="reseller")))
    assert facets.unknown == {"end-customer"}


@pytest.mark.parametrize("type", [*ENTITY_TYPES, None])
@pytest.mark.parametrize("country", ["US", "PR", "GB", "ZZ", None])
def test_foreign_entity(type: str | None, country: str | None) -> None:
    """P12: incorporated outside the US or unknown, or a foreign government or international organisation; never the
    US government; who is of unknown type may be one of the two."""
    if type == "us_government":
        expected = False
    elif type in ("foreign_government", "international_organisation", None):
        expected = True
    else:
        expected = country not in ("US", "PR")
    assert bool(tenant_facets(tenant(type=type, incorporated_in=country)).foreign) is expected


@pytest.mark.parametrize("region", ["UA-43", "UA-65", "US-ZZ"])
def test_a_country_that_its_region_contradicts_is_no_known_country(region: str) -> None:
    """P12, P11: nobody knows where such a company is incorporated or has its headquarters, so it is not American."""
    contradicted = tenant_facets(tenant(incorporated_in="US", incorporated_in_region=region))
    assert contradicted.foreign == (("US", None),) and "incorporation" in contradicted.unknown
    assert tenant_facets(tenant(incorporated_in="US", incorporated_in_region="US-CA")).foreign == ()
    assert tenant_facets(tenant(headquarters="US", headquarters_region=region)).home == "unknown"
    assert tenant_facets(tenant(headquarters="US", headquarters_region="US-CA")).home == "US"


def test_a_foreign_entity_is_kept_by_its_incorporation_raw_and_resolved() -> None:
    """A licence must name the incorporation country, as given or as its sovereign's."""
    chain = tenant(type="reseller", incorporated_in="HK", end_customer=customer(incorporated_in=None))
    assert tenant_facets(chain).foreign == (("HK", "CN"), (None, None))


def test_a_type_nobody_stated_is_unknown_by_name() -> None:
    """A kill switch by tenant type covers a tenant whose type is unknown."""
    assert tenant_facets(Tenant("t1")).types == {"unknown"}


def test_a_tenant_of_whom_nothing_is_known() -> None:
    """Everything an entity must state is unknown by name, and nothing is taken to be good."""
    facets = tenant_facets(Tenant("t1"))
    unknown = {"incorporation", "headquarters", "parent", "owners", "screening", "end-customer"}
    assert facets.unknown == unknown
    assert (facets.partner, facets.denied, facets.is_lab, facets.home) == (False, False, False, "unknown")
