"""What core derives agrees with its twins (`twins`) on generated requests, and holds for as long as it says.

What came up is counted, so that agreement is earned on every outcome.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from policy_engine.core.derive import counted_countries, derive_person, derive_tenant
from policy_engine.core.facts import NationalityTest, Provenance
from policy_engine.core.instants import parse_instant
from policy_engine.core.orders import directive_blocks, keys_given
from tests.core.sample import (
    AMERICAN,
    GAZETTEER,
    NOW,
    REFERENCE,
    foreigner,
    owner,
    person_facets,
    place_facets,
    tenant,
    tenant_facets,
)
from tests.core.twins import (
    blocks_of,
    could_be_most_recent,
    evidence_is_valid,
    held_by_now,
    in_force,
    lifts_of,
    listed_sums,
    resolved,
    restricted_share,
)
from tests.core.worlds import (
    DATES,
    INSTANTS,
    TIE_LISTS,
    World,
    asked_of,
    book_of,
    directed,
    directives,
    licensed,
    model_of,
    mostly,
    person_of,
    persons,
    tenant_of,
    tenants,
)

EXAMPLES = settings.default.max_examples
DEEP = settings(max_examples=max(300, EXAMPLES), derandomize=EXAMPLES < 1_000)
"""Enough examples for the mix that is asserted, and the same ones each time outside `make nightly`."""


def test_counted_countries_agrees_with_its_twin() -> None:
    """EAR: every current tie that could be the most recent. ITAR: every tie ever held."""
    seen: Counter[str] = Counter()

    @DEEP
    @given(TIE_LISTS, TIE_LISTS)
    def agree(citizenships: list[dict[str, Any]], residencies: list[dict[str, Any]]) -> None:
        who = foreigner(*citizenships, permanent_residencies=residencies)
        ever = [tie for tie in citizenships + residencies if held_by_now(tie)]
        current = [tie for tie in ever if tie["current"]]
        expected = {
            NationalityTest.EAR: could_be_most_recent(current),
            NationalityTest.ITAR: {tie["country"] for tie in ever},
        }
        for test, countries in expected.items():
            found = counted_countries(who, test, NOW, GAZETTEER)
            assert {raw for raw, _ in found.pairs} == countries
            assert found.codes == {resolved(code) for code in countries} - {None}
            assert ("nationality" in found.unknown) is (not countries)
            assert ("counted" in found.unknown) is (None in {resolved(code) for code in countries})
            seen["none" if not countries else "one" if len(countries) == 1 else "several"] += 1
            seen["unresolved"] += "counted" in found.unknown
        seen["fewer under EAR"] += expected[NationalityTest.EAR] < expected[NationalityTest.ITAR]

    agree()
    assert all(seen[kind] >= 20 for kind in ("none", "one", "several", "unresolved", "fewer under EAR")), seen


SHARES = st.sampled_from([0, 0.1, 10, 24.9, 25, 25.1, 30, 40, 49.9, 50, 50.1, 60, None, None, None])
OWNER_LISTS = st.lists(
    st.builds(
        owner,
        SHARES,
        st.sampled_from(["US", "DE", "VN", "CN", "CN", "HK", "MO", "IR", None, "ZZ"]),
        st.sampled_from([None, "SDN", "SDN", "entity_list", "MEU"]),
    ),
    max_size=4,
)


def test_ownership_sums_agree_with_their_twin() -> None:
    """Exact sums per list family and per restricted country, with all that unknown shares may hold."""
    seen: Counter[str] = Counter()

    @DEEP
    @given(OWNER_LISTS)
    def agree(owners: list[dict[str, Any]]) -> None:
        facets = tenant_facets(tenant(owners=owners))
        share = restricted_share(owners)
        assert facets.ownership == listed_sums(owners)
        assert facets.owned == ({"restricted"} if share == "restricted" else set())
        assert ("owned" in facets.unknown) is (share == "unknown")
        seen.update(facets.ownership)
        seen[share] += 1

    agree()
    kinds = ("sdn", "affiliates", "sdn-share-unknown", "affiliates-share-unknown", "restricted", "unknown", "no")
    assert all(seen[kind] >= 5 for kind in kinds), seen


def test_directive_blocks_agrees_with_its_twin() -> None:
    """Reach, time, foreign persons and entities, destinations and exemptions, each in earnest."""
    seen: Counter[str] = Counter()
    reaching = directives().map(lambda body: {**body, "models": ["mother", "father"]})
    dates = {"from": None, "until": None}
    annex = {"who": "annex_a_entities_and_their_employees", "annex_a": ["t1", "lab", "t2", "t3"], **dates}
    staff = {"who": "lab_foreign_national_employees", "annex_a": [], **dates}
    easings = st.lists(
        st.builds(
            lambda name, easing: {"models": [name], **easing},
            st.sampled_from(["mother", "father", "mother-latest", "child", "other"]),
            st.sampled_from([annex, staff]),
        ),
        max_size=4,
    )
    both = st.just(["foreign_person", "destination_outside_us"])
    eased = st.builds(
        lambda body, blocks, exempts: {**body, **dates, "blocks": blocks, "exempts": exempts}, reaching, both, easings
    )
    covered = st.builds(
        lambda body, easing: {**body, "exempts": [{"models": ["mother", "father"], **easing}]},
        eased,
        st.sampled_from([annex, staff, staff]),
    )
    insiders = directed().map(
        lambda world: replace(world, tenant_id="lab", person={**(world.person or AMERICAN), "lab_employee": True})
    )

    def agree(drawn: World, orders: list[dict[str, Any]]) -> None:
        world = World(drawn.person, drawn.tenant, drawn.location, directives=tuple(orders), tenant_id=drawn.tenant_id)
        found = directive_blocks(
            book_of(world),
            asked_of(world),
            derive_person(person_of(world), NOW, REFERENCE),
            derive_tenant(tenant_of(world), NOW, REFERENCE),
            place_facets(world.location),
            NOW,
        )
        expected = blocks_of(world)
        assert {block: set(names) for block, names in found.items()} == expected
        assert all(list(names) == sorted(set(names)) for names in found.values())
        seen.update(list(expected) or ["none"])
        bare = World(
            drawn.person,
            drawn.tenant,
            drawn.location,
            directives=tuple({**order, "exempts": []} for order in orders),
            tenant_id=drawn.tenant_id,
        )
        seen["exempt"] += blocks_of(bare) != expected
        seen["not in force"] += any(not in_force(order) for order in orders)
        seen["partly exempt"] += blocks_of(bare) != expected and bool(expected)

    DEEP(given(directed(), st.lists(directives() | reaching | eased, min_size=1, max_size=2))(agree))()
    DEEP(given(insiders, st.lists(covered, min_size=1, max_size=2))(agree))()
    kinds = ("none", "everyone", "foreign_person", "destination_outside_us", "exempt", "partly exempt", "not in force")
    assert all(seen[kind] >= 5 for kind in kinds), seen


def test_keys_given_agrees_with_its_twin() -> None:
    """Each key with its own conditions, on persons, places and entities known and unknown."""
    seen: Counter[str] = Counter()

    @DEEP
    @given(licensed())
    def agree(world: World) -> None:
        who = derive_person(person_of(world), NOW, REFERENCE)
        counted = who.itar if world.model["nationality_test"] == "ITAR" else who.ear
        given_by = keys_given(
            book_of(world),
            asked_of(world),
            None if model_of(world).nationality_test is None else counted,
            who,
            derive_tenant(tenant_of(world), NOW, REFERENCE),
            place_facets(world.location),
            NOW,
        )
        expected = lifts_of(world)
        assert given_by == {"l1": expected}
        for key in ("nat", "dest", "directive.foreign_person", "directive.destination_outside_us"):
            seen[f"{key} {'lifted' if key in expected else 'kept'}"] += 1

    agree()
    assert len(seen) == 8, seen
    assert min(seen.values()) >= 5, seen


def test_evidence_agrees_with_its_twin() -> None:
    """Valid or not, on every mix of levels, dates and contradictions."""
    seen: Counter[bool] = Counter()

    @DEEP
    @given(persons())
    def agree(facts: dict[str, Any]) -> None:
        valid = evidence_is_valid(facts)
        assert (person_facets(person_of(World(facts, {}))).evidence == "valid") is valid
        seen[valid] += 1

    agree()
    assert min(seen[True], seen[False]) >= 20, seen


def test_facets_hold_until_they_say() -> None:
    """Between the instant they were derived at and their `until`, facets of persons and tenants do not change."""
    seen: Counter[str] = Counter()
    expiries = st.dictionaries(
        st.sampled_from(["us_status", "citizenships", "type", "owners", "list_match"]), st.sampled_from(INSTANTS)
    )

    @DEEP
    @given(persons(), tenants(), expiries, st.sampled_from(INSTANTS), st.sampled_from(INSTANTS), mostly(0, -1, 1))
    def hold(
        person: dict[str, Any], tenant: dict[str, Any], ends: dict[str, int], first: int, second: int, shift: int
    ) -> None:
        at, later = sorted((first, second + shift))
        provenance = {name: Provenance(expires_at=end) for name, end in ends.items()}
        world = World(person, tenant)
        who, which = person_of(world), tenant_of(world)
        assert who is not None
        for derive, subject in (
            (derive_person, replace(who, provenance=provenance)),
            (derive_tenant, replace(which, provenance=provenance)),
        ):
            facets, then = derive(subject, at, REFERENCE), derive(subject, later, REFERENCE)
            assert facets.until > at
            if later < facets.until:
                assert replace(then, until=0) == replace(facets, until=0)
                seen["held"] += later > at
            seen["changed"] += replace(then, until=0) != replace(facets, until=0)

    hold()
    assert min(seen["held"], seen["changed"]) >= 20, seen


def test_orders_do_not_change_between_boundaries() -> None:
    """Between two boundaries of a book, blocks and lifts stay as they are."""
    seen: Counter[str] = Counter()

    @DEEP
    @given(directed(), st.lists(directives(), max_size=2), st.sampled_from(INSTANTS), st.sampled_from(INSTANTS))
    def stay(drawn: World, orders: list[dict[str, Any]], first: int, second: int) -> None:
        world = World(drawn.person, drawn.tenant, drawn.location, directives=tuple(orders))
        book, at, later = book_of(world), min(first, second), max(first, second)
        parts = (asked_of(world), person_facets(), tenant_facets(), place_facets("GB"))
        passed = any(at < boundary <= later for boundary in book.boundaries)
        same = directive_blocks(book, *parts, at) == directive_blocks(book, *parts, later)
        assert same or passed
        seen["passed" if passed else "between"] += bool(orders)
        seen["changed"] += not same

    stay()
    assert min(seen["passed"], seen["between"], seen["changed"]) >= 5, seen


def test_the_dates_of_generated_worlds_are_instants_around_now() -> None:
    """The generators reach both sides of every boundary that the twins speak of."""
    assert [parse_instant(date) for date in DATES] == list(INSTANTS)
    assert {NOW - 1, NOW, NOW + 1} <= set(INSTANTS)
