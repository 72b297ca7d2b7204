"""Laws 1 and 2 in the pure floor: only a known yes is a yes, and deny beats allow.

Each law test names its control: the one product line under whose patch it must fail (`tests/controls/controls.toml`,
tried by `tests/house/test_controls.py`). Outcomes of generated requests are counted, so that no property holds because
nothing ever happened.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy_engine.core.authorizer import Verdict, authorize
from policy_engine.core.decision import Outcome
from policy_engine.core.derive import contradictory
from policy_engine.core.facts import Provenance
from policy_engine.core.orderparse import parse_directive
from policy_engine.core.orders import OrderBook, directive_blocks, loosens
from tests.core.sample import AMERICAN, GAZETTEER, NOW, person_facets, place_facets, tenant_facets
from tests.core.worlds import (
    World,
    asked_of,
    directed,
    directives,
    evaluate,
    flawed,
    forgotten,
    is_denied,
    licensed,
    person_of,
    tenant_of,
    worlds,
)

DEEP = settings(max_examples=max(150, settings.default.max_examples), derandomize=settings.default.max_examples < 1_000)
"""Enough examples for the mix that is asserted, and the same ones each time outside `make nightly`."""


@dataclass(frozen=True, slots=True)
class Row:
    """A rule as the authorizer sees it."""

    effect: str
    lift: str = ""


KEYS = ("seat", "dest", "nat", "directive.foreign_person")
ALLOWS = st.builds(Row, st.just("allow"), st.sampled_from(["", *KEYS]))
DENIES = st.builds(Row, st.sampled_from(["deny", "deny", "Allow", "permit", ""]), st.sampled_from(["", *KEYS]))
ROWS = st.lists(ALLOWS | DENIES, max_size=6)
LIFTS = st.frozensets(st.sampled_from(KEYS)) | st.just(frozenset(KEYS))


def verdict(rows: list[Row], lifts: frozenset[str]) -> Verdict:
    """Return the verdict when every row matches."""
    return authorize(rows, range(len(rows)), lifts)


def obvious(rows: list[Row], matching: list[int], lifts: frozenset[str]) -> tuple[str, set[int], set[int], set[int]]:
    """Return outcome, allows, denies and lifted rows, straight from the words of laws 1 and 2."""
    allows = {place for place in matching if rows[place].effect == "allow"}
    against = set(matching) - allows
    lifted = {place for place in against if rows[place].lift != "" and rows[place].lift in lifts}
    denies = against - lifted
    if denies:
        return "deny", allows, denies, lifted
    if not allows:
        return "deny", allows, denies, lifted
    return "allow", allows, denies, lifted


def test_authorize_agrees_with_its_twin() -> None:
    """The authorizer and a slow, obvious twin agree on every outcome, in earnest: each comes up many times."""
    seen: Counter[str] = Counter()

    @settings(DEEP, max_examples=3 * DEEP.max_examples)
    @given(ROWS, st.data(), LIFTS)
    def agree(rows: list[Row], data: st.DataObject, lifts: frozenset[str]) -> None:
        matching = data.draw(st.lists(st.sampled_from(range(len(rows))), max_size=8) if rows else st.just([]))
        found = authorize(rows, matching, lifts)
        sets = (found.outcome.value, set(found.allows), set(found.denies), set(found.lifted))
        expected = obvious(rows, matching, lifts)
        assert sets == expected
        seen[f"{expected[0]} {'lifted' if expected[3] else ''}"] += 1
        seen["nothing matches" if not matching else "some match"] += 1

    agree()
    assert min(seen[kind] for kind in ("allow ", "allow lifted", "deny ", "deny lifted", "nothing matches")) >= 5, seen


@given(st.lists(DENIES, max_size=4), LIFTS)
def test_law_1_no_matching_allow_denies(rows: list[Row], lifts: frozenset[str]) -> None:
    """Without an allow that matches the outcome is deny, also when every deny is lifted and when nothing matches.

    Control: policy_engine/core/authorizer.py `outcome = Outcome.ALLOW if allows and not denies else Outcome.DENY`
    """
    assert verdict(rows, lifts).outcome is Outcome.DENY


@given(ROWS, DENIES, LIFTS)
def test_law_2_adding_a_deny_never_opens(rows: list[Row], deny: Row, lifts: frozenset[str]) -> None:
    """Any deny left after lifting denies, whatever allows stand beside it.

    Control: policy_engine/core/authorizer.py `denies.append(position)  # whatever is not exactly `allow` denies`
    """
    after = verdict([*rows, deny], lifts)
    if verdict(rows, lifts).outcome is Outcome.DENY:
        assert after.outcome is Outcome.DENY
    if deny.lift not in lifts:
        assert after.outcome is Outcome.DENY


@given(ROWS, ALLOWS, LIFTS)
def test_law_2_adding_an_allow_never_closes(rows: list[Row], allow: Row, lifts: frozenset[str]) -> None:
    """One more allow can only open what nothing denies."""
    before, after = verdict(rows, lifts), verdict([*rows, allow], lifts)
    if before.outcome is Outcome.ALLOW:
        assert after.outcome is Outcome.ALLOW
    assert (after.outcome is Outcome.ALLOW) is (not before.denies)


@given(ROWS, LIFTS, st.data())
def test_law_2_order_and_duplicates_do_not_matter(rows: list[Row], lifts: frozenset[str], data: st.DataObject) -> None:
    """The same rules in another order, some twice, give the same verdict."""
    matching = list(range(len(rows)))
    again = data.draw(
        st.permutations(matching + data.draw(st.lists(st.sampled_from(matching)) if rows else st.just([])))
    )
    once, twice = authorize(rows, matching, lifts), authorize(rows, again, lifts)
    assert once.outcome is twice.outcome
    for name in ("allows", "denies", "lifted"):
        assert set(getattr(once, name)) == set(getattr(twice, name))


@given(ROWS, LIFTS, st.sampled_from(KEYS))
def test_law_2_a_lift_removes_only_denies_that_name_it(rows: list[Row], lifts: frozenset[str], key: str) -> None:
    """One key more removes exactly the denies of that key; one that names none stays whatever is lifted.

    Control: policy_engine/core/authorizer.py `elif rule.lift and rule.lift in lifts:`
    """
    without, with_key = verdict(rows, lifts - {key}), verdict(rows, lifts | {key})
    removed = set(without.denies) - set(with_key.denies)
    assert removed == {place for place in without.denies if rows[place].lift == key}
    assert set(with_key.lifted) == set(without.lifted) | removed
    assert {place for place, row in enumerate(rows) if row.effect != "allow" and not row.lift} <= set(with_key.denies)


def test_law_1_a_fact_made_unknown_never_opens() -> None:
    """At tiers 3 to 5, forgetting any one known fact of a request never turns a deny into an allow.

    Facts that contradict each other deny together, so those of a person in contradiction are not taken apart.
    Control: policy_engine/core/derive.py `unknown.add(name)`
    """
    seen: Counter[str] = Counter()

    @settings(DEEP, max_examples=2 * DEEP.max_examples)
    @given(worlds() | flawed())
    def never_opens(world: World) -> None:
        person = person_of(world)
        torn = person is not None and contradictory(person, NOW, GAZETTEER)
        before = is_denied(evaluate(world))
        for name, poorer in forgotten(world).items():
            if torn and name.startswith(("person.us_status", "person.citizenships", "person.permanent_residencies")):
                continue
            after = is_denied(evaluate(poorer))
            assert after or not before, name
            seen[f"{'deny' if before else 'allow'} to {'deny' if after else 'allow'}"] += 1
            if not before and after:
                seen[name] += 1

    never_opens()
    assert seen["deny to deny"] >= 500, seen
    assert seen["allow to deny"] >= 200, seen
    assert seen["allow to allow"] >= 50, seen
    shut = {"location", "serving_region", "model.tier", "person.list_match", "tenant.headquarters", "tenant.owners"}
    assert all(seen[name] >= 5 for name in shut), seen


PERSON_FACTS = (
    "citizenships",
    "permanent_residencies",
    "us_status",
    "residence_country",
    "residence_region",
    "nationality_evidence",
    "lab_employee",
    "list_match",
)
TENANT_FACTS = (
    "type",
    "incorporated_in",
    "headquarters",
    "headquarters_region",
    "ultimate_parent_headquarters",
    "owners",
    "list_match",
    "vetted_partner",
    "denied_by_lab",
    "end_customer",
    "end_customer_identified",
)


def test_law_1_a_stale_fact_never_opens() -> None:
    """At tiers 3 to 5, a fact that reaches its expiry never turns a deny into an allow; a refusal does not wear off.

    Control: policy_engine/core/derive.py
    `screening="unscreened" if person.list_match is None else person.list_match.value,`
    """
    seen: Counter[str] = Counter()

    @settings(DEEP, max_examples=2 * DEEP.max_examples)
    @given(worlds() | flawed())
    def never_opens(world: World) -> None:
        before, person, tenant = is_denied(evaluate(world)), person_of(world), tenant_of(world)
        for name in TENANT_FACTS:
            if name == "ultimate_parent_headquarters" and world.model.get("weights_public"):
                continue
            stale = replace(tenant, provenance={name: Provenance(expires_at=NOW)})
            after = is_denied(evaluate(world, tenant=stale))
            assert after or not before, name
            seen[f"tenant {'deny' if before else 'allow'} to {'deny' if after else 'allow'}"] += 1
        if person is None or contradictory(person, NOW, GAZETTEER):
            return
        for name in PERSON_FACTS:
            after = is_denied(evaluate(world, person=replace(person, provenance={name: Provenance(expires_at=NOW)})))
            assert after or not before, name
            seen[f"person {'deny' if before else 'allow'} to {'deny' if after else 'allow'}"] += 1

    never_opens()
    for whose in ("person", "tenant"):
        assert min(seen[f"{whose} {way}"] for way in ("deny to deny", "allow to deny", "allow to allow")) >= 30, seen


def test_law_1_a_stale_region_does_not_read_as_no_region() -> None:
    """A resident of Crimea whose region has run out is of unknown residence, not of Ukraine.

    Control: policy_engine/core/freshness.py
    `stale |= {country for region, country in _COUNTRY_OF.items() if region in stale}`
    """
    world = World({**AMERICAN, "residence_country": "UA", "residence_region": "UA-43"}, {}, {"country": "US"})
    person = person_of(world)
    assert person is not None
    assert is_denied(evaluate(world))
    assert is_denied(
        evaluate(world, person=replace(person, provenance={"residence_region": Provenance(expires_at=NOW)}))
    )


def test_law_2_licences_lift_nothing_that_is_unknown() -> None:
    """No key for a nationality, a place or a directive is given while that which it rests on is unknown.

    Control: policy_engine/core/orders.py
    `named_place = place.place.known and "location-anonymised" not in place.unknown`
    """
    seen: Counter[str] = Counter()

    @DEEP
    @given(licensed())
    def never_lifted(world: World) -> None:
        facets = evaluate(world).facets
        unknown, lifts = facets["unknown"], facets["lifts"]
        nowhere = unknown & {"location", "location-anonymised"}
        if unknown & {"counted", "nationality", "nationality-test"}:
            assert "nat" not in lifts
            seen["nationality unknown"] += 1
        if nowhere:
            assert "dest" not in lifts
            seen["place unknown"] += 1
        if nowhere or "incorporation" in unknown or facets["evidence"] != "valid" or world.person is None:
            assert not any(key.startswith("directive") for key in lifts)
            seen["directive unknown"] += 1
        seen.update(lifts)

    never_lifted()
    wanted = ("seat", "dest", "nat", "weights", "directive.foreign_person", "directive.destination_outside_us")
    assert all(seen[name] >= 5 for name in (*wanted, "nationality unknown", "place unknown", "directive unknown")), seen


def test_law_2_adding_a_directive_never_opens_and_a_licence_never_closes() -> None:
    """More directives mean no fewer blocks, and more licences no fewer lifts."""
    seen: Counter[str] = Counter()

    @DEEP
    @given(worlds() | licensed(), directives())
    def monotone(world: World, one_more: dict[str, object]) -> None:
        found = evaluate(world)
        more = evaluate(replace(world, directives=(*world.directives, one_more)))
        assert found.facets["directive"] <= more.facets["directive"]
        fewer = evaluate(replace(world, licences=world.licences[1:]))
        assert fewer.facets["lifts"] <= found.facets["lifts"]
        seen["blocked"] += found.facets["directive"] < more.facets["directive"]
        seen["lifted"] += fewer.facets["lifts"] < found.facets["lifts"]

    monotone()
    assert min(seen["blocked"], seen["lifted"]) >= 5, seen


REACHING = directives().map(lambda body: {**body, "models": ["mother", "father"], "from": None, "until": None})


def test_law_11_an_amendment_that_does_not_loosen_opens_nothing() -> None:
    """Whatever an amended directive that needs no second person lets pass, the old one let pass.

    Control: policy_engine/core/orders.py `return fewer_models or fewer_blocks or shorter or eased`
    """
    seen: Counter[str] = Counter()

    @DEEP
    @given(directed(), REACHING, directives(), st.data())
    def opens_nothing(world: World, first: dict[str, object], second: dict[str, object], data: st.DataObject) -> None:
        kept = data.draw(st.sets(st.sampled_from(sorted(first)), min_size=3))
        old = parse_directive(first, strict=False)
        new = parse_directive({name: (first if name in kept else second)[name] for name in first}, strict=False)
        before, after = (
            set(
                directive_blocks(
                    OrderBook([order]),
                    asked_of(world),
                    person_facets(person_of(world)),
                    tenant_facets(tenant_of(world)),
                    place_facets(world.location),
                    NOW,
                )
            )
            for order in (old, new)
        )
        held = before <= after or "everyone" in after
        seen[f"{'loosens' if loosens(old, new) else 'tightens'} {'held' if held else 'opened'}"] += old != new
        assert held or loosens(old, new)

    opens_nothing()
    assert min(seen["loosens opened"], seen["loosens held"], seen["tightens held"]) >= 5, seen


@pytest.mark.parametrize("effect", ["", "Allow", "ALLOW", "allow ", "permit", "deny"])
def test_whatever_is_not_exactly_allow_denies(effect: str) -> None:
    """A misspelt effect is never an allow."""
    found = verdict([Row("allow"), Row(effect)], frozenset())
    assert (found.outcome, found.denies) == (Outcome.DENY, (1,))


def test_an_empty_lift_key_is_never_lifted() -> None:
    """A rule without lift key stays even when a licence could name nothing."""
    assert verdict([Row("allow"), Row("deny", "")], frozenset(("",))).outcome is Outcome.DENY
