"""Kill switches (reference policy, Orders): every dimension, what is unknown, time, and documents nobody can read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.core.instants import ENDLESS, parse_instant
from policy_engine.core.switches import (
    DIMENSIONS,
    KillSwitch,
    Switchboard,
    SwitchQuestion,
    covers,
    read_kill_switch,
)
from tests.core.sample import NOW

QUESTION = SwitchQuestion(
    models=frozenset(("summit-5", "summit-4", "summit-latest")),
    tenants=frozenset(("t1", "t2")),
    tenant_types=frozenset(("reseller", "academic")),
    tier=4,
    regions=frozenset(("UA", "UA-30", "US")),
    action="infer",
    families=frozenset(("summit",)),
)
MET: dict[str, list[Any]] = {
    "models": ["summit-4"],
    "families": ["summit"],
    "tenants": ["t2"],
    "tenant_types": ["academic"],
    "tiers": [4],
    "regions": ["UA-30"],
    "actions": ["infer"],
}
MISSED: dict[str, list[Any]] = {
    "models": ["fable-5"],
    "families": ["fable"],
    "tenants": ["t9"],
    "tenant_types": ["enterprise"],
    "tiers": [3, 5],
    "regions": ["DE"],
    "actions": ["list", "fine_tune"],
}


def switch(**scope: Any) -> KillSwitch:
    """Return a switch without dates as its register holds it."""
    return read_kill_switch("k1", {"scope": scope})


@pytest.mark.parametrize("name", DIMENSIONS)
def test_each_named_dimension_must_match(name: str) -> None:
    """A dimension that is met covers, one that is missed does not, and of several values one is enough."""
    assert covers(switch(**{name: MET[name]}), QUESTION)
    assert not covers(switch(**{name: MISSED[name]}), QUESTION)
    assert covers(switch(**{name: MISSED[name] + MET[name]}), QUESTION)


@pytest.mark.parametrize("name", DIMENSIONS)
def test_all_dimensions_named_must_match_together(name: str) -> None:
    """A switch that misses in one dimension does not cover, however many others are met."""
    assert covers(switch(**MET), QUESTION)
    assert not covers(switch(**{**MET, name: MISSED[name]}), QUESTION)


@pytest.mark.parametrize("name", DIMENSIONS)
@pytest.mark.parametrize("value", ["all", None])
def test_all_or_absent_means_any(name: str, value: Any) -> None:
    """`"all"` and an absent dimension match every request."""
    assert covers(switch(**{**MET, name: value}), QUESTION)
    assert covers(switch(), QUESTION)


def test_models_reach_aliases_and_derivatives_never_the_base_of_a_derivative() -> None:
    """The question holds the model, its aliases and all it derives from; a switch on a derivative misses its base."""
    base = replace(QUESTION, models=frozenset(("summit-4", "summit-latest")))
    for name in ("summit-4", "summit-latest"):
        assert covers(switch(models=[name]), base)
        assert covers(switch(models=[name]), QUESTION)
    assert not covers(switch(models=["summit-5"]), base)


@pytest.mark.parametrize("code", ["UA", "UA-30", "US"])
def test_regions_match_country_region_or_serving_country(code: str) -> None:
    """Each of the three places that the question holds is enough."""
    assert covers(switch(regions=[code]), QUESTION)


@pytest.mark.parametrize(
    ("name", "unknown"),
    [("tier", {"tiers": [1]}), ("regions", {"regions": ["KP"]}), ("families", {"families": ["fable"]})],
)
def test_an_unknown_tier_family_or_place_is_covered_by_whatever_is_named(name: str, unknown: dict[str, Any]) -> None:
    """What nobody knows might be what the switch means."""
    assert not covers(switch(**unknown), QUESTION)
    assert covers(switch(**unknown), replace(QUESTION, **{name: None}))


def test_an_unknown_tenant_type_in_the_chain_is_covered() -> None:
    """One entity of unknown type might be of the type the switch names."""
    assert covers(switch(tenant_types=["lab"]), replace(QUESTION, tenant_types=frozenset(("reseller", "unknown"))))


@pytest.mark.parametrize(
    ("at", "covered"),
    [
        ("2026-08-01T00:00:00Z", True),
        ("2026-07-31T23:59:59.999999Z", False),
        ("2026-08-31T23:59:59.999999Z", True),
        ("2026-09-01T00:00:00Z", False),
    ],
)
def test_starts_are_inclusive_and_ends_exclusive(at: str, covered: bool) -> None:
    """A switch denies from its first microsecond to the last before its end."""
    dated = read_kill_switch("k1", {"scope": {}, "from": "2026-08-01", "until": "2026-09-01T02:00:00+02:00"})
    assert Switchboard([dated]).engaged(QUESTION, parse_instant(at)) == (("k1",) if covered else ())


def test_a_switch_without_dates_is_in_force() -> None:
    """Without `from` it is in force, and `until: null` is open."""
    assert switch().start == -ENDLESS
    assert read_kill_switch("k1", {"scope": {}, "until": None}).until == ENDLESS


def test_a_released_switch_ends_at_its_release() -> None:
    """The earlier of the end it was given and the instant of its release holds."""
    document = {"scope": {}, "until": "2026-09-01", "released_at": "2026-08-05"}
    assert read_kill_switch("k1", document).until == parse_instant("2026-08-05")
    assert read_kill_switch("k1", {**document, "released_at": "2026-10-01"}).until == parse_instant("2026-09-01")


def test_engaged_names_the_covering_switches_in_order() -> None:
    """Only switches in force that cover are named, sorted by id."""
    switches = [
        replace(switch(), id="k3"),
        replace(switch(tiers=[5]), id="k2"),
        replace(switch(), id="k1"),
        replace(switch(), id="k0", until=NOW),
        replace(switch(), id="k4", start=NOW + 1),
    ]
    assert Switchboard(switches).engaged(QUESTION, NOW) == ("k1", "k3")
    assert Switchboard().engaged(QUESTION, NOW) == ()


@pytest.mark.parametrize("scope", [None, "models", 3, ["models"], {}])
def test_a_switch_without_readable_scope_covers_everything(scope: Any) -> None:
    """A damaged scope names nothing, so it means any."""
    assert covers(read_kill_switch("k1", {"scope": scope}), QUESTION)
    assert covers(read_kill_switch("k1", {}), QUESTION)


@pytest.mark.parametrize("name", DIMENSIONS)
@pytest.mark.parametrize(
    "value", [[], "every", 7, {"in": []}, [None], [["t9"]], [True], [3.5], ["t9", None], ["t9", 3]]
)
def test_a_dimension_that_cannot_be_read_means_any(name: str, value: Any) -> None:
    """An undecodable dimension covers more, never less.

    Control: policy_engine/core/switches.py
    `if any(not isinstance(item, kind) or isinstance(item, bool) for item in value):`
    """
    assert getattr(switch(**{name: value}), name) is None


def test_tiers_written_as_text_mean_any() -> None:
    """`"4"` is no tier; the switch covers all it could mean."""
    assert switch(tiers=["5"]).tiers is None


@pytest.mark.parametrize("value", ["soon", "2026-13-01", 20260801, ["2026-08-01"], "2026-08-01T00:00:00"])
def test_dates_that_cannot_be_read_leave_the_switch_in_force(value: Any) -> None:
    """An unreadable start has begun, an unreadable end has not come, an unreadable release has not happened."""
    damaged = read_kill_switch("k1", {"scope": {}, "from": value, "until": value, "released_at": value})
    assert (damaged.start, damaged.until) == (-ENDLESS, ENDLESS)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 9) | st.text(max_size=3) | st.sampled_from(["all", "infer", "t1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(name=st.sampled_from(DIMENSIONS), value=JUNK, tier=st.none() | st.integers(1, 5))
def test_no_scope_that_is_no_plain_list_misses(name: str, value: Any, tier: int | None) -> None:
    """Whatever stands in a dimension, a switch misses only by a non-empty list of the dimension's own kind."""
    question = replace(QUESTION, tier=tier)
    kind = int if name == "tiers" else str
    plain = isinstance(value, list) and value != [] and all(type(item) is kind for item in value)
    if not plain:
        assert covers(switch(**{name: value}), question)


@given(
    st.dictionaries(st.sampled_from(DIMENSIONS), st.sampled_from([MET, MISSED]), max_size=6),
    st.sampled_from(DIMENSIONS),
)
def test_a_dimension_more_never_covers_more(scope: dict[str, Any], name: str) -> None:
    """Naming a dimension narrows a switch, and taking one out widens it."""
    named = {dimension: values[dimension] for dimension, values in scope.items()}
    wider = {dimension: values for dimension, values in named.items() if dimension != name}
    assert covers(switch(**wider), QUESTION) or not covers(switch(**named), QUESTION)


def _some(values: str) -> st.SearchStrategy[Any]:
    return st.none() | st.frozensets(st.sampled_from(values.split()), max_size=3)


SWITCHES = st.builds(
    KillSwitch,
    id=st.sampled_from(("k1", "k2", "k3", "k4")),
    start=st.sampled_from((-ENDLESS, NOW, NOW + 1)),
    until=st.sampled_from((NOW, NOW + 1, ENDLESS)),
    models=_some("a b c"),
    tenants=_some("t u v"),
    tenant_types=_some("lab academic unknown"),
    tiers=st.none() | st.frozensets(st.integers(3, 5), max_size=2),
    regions=_some("US US-CA UA UA-43"),
    actions=_some("infer list"),
)
QUESTIONS = st.builds(
    SwitchQuestion,
    models=st.frozensets(st.sampled_from("abcd"), max_size=2),
    tenants=st.none() | st.frozensets(st.sampled_from("tuvw"), max_size=2),
    tenant_types=st.frozensets(st.sampled_from(("lab", "academic", "unknown", "reseller")), max_size=2),
    tier=st.none() | st.integers(3, 5),
    regions=st.none() | st.frozensets(st.sampled_from(("US", "US-CA", "UA", "DE")), max_size=2),
    action=st.sampled_from(("infer", "list", "download_weights")),
)


@given(switches=st.lists(SWITCHES, max_size=12), question=QUESTIONS)
def test_filing_finds_what_looking_at_each_switch_finds(switches: list[KillSwitch], question: SwitchQuestion) -> None:
    """However switches are filed, those in force that cover the question are found, and no others."""
    each = {s.id for s in switches if s.start <= NOW < s.until and covers(s, question)}
    board = Switchboard(switches)
    assert board.engaged(question, NOW) == tuple(sorted(each))
    assert (list(board), len(board)) == (switches, len(switches))


@given(switches=st.lists(SWITCHES, max_size=6))
def test_regions_of_a_country_are_those_that_switches_name(switches: list[KillSwitch]) -> None:
    """A country has the regions that some switch names, itself among them if named, and no other country's."""
    named = {region for s in switches for region in s.regions or ()}
    for country in ("US", "UA", "U", ""):
        inside = {region for region in named if region == country or region.startswith(f"{country}-")}
        assert Switchboard(switches).regions_of(country) == inside


def test_a_thousand_switches_are_not_each_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of switches that share a dimension with nobody, only those that name a value of the request are compared."""
    switches = [
        KillSwitch(f"k{n}", -ENDLESS, ENDLESS, models=frozenset(("summit-4",)), tenants=frozenset((f"t{n}",)))
        for n in range(1_000)
    ]
    compared: list[str] = []

    def counted(switch: KillSwitch, question: SwitchQuestion) -> bool:
        compared.append(switch.id)
        return covers(switch, question)

    monkeypatch.setattr("policy_engine.core.switches.covers", counted)
    assert Switchboard(switches).engaged(QUESTION, NOW) == ("k1", "k2")
    assert compared == ["k1", "k2"] or compared == ["k2", "k1"]
