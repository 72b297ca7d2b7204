"""Kill switches as a service: who engages, what is refused, how a release takes two other people."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from policy_engine.core.instants import DAY
from policy_engine.errors import Conflict, InputRefused, LoadRefused, NotAuthenticated, NotFound, NotPermitted, TooLarge
from policy_engine.services.approvals import Approvals
from policy_engine.services.permissions import LOCAL
from policy_engine.services.switches import Switches
from policy_engine.services.vocabulary import Vocabulary
from tests.services.governed import House, open_house

SCOPE = {"models": ["fable-5"]}


def test_one_person_engages_at_once(house: House) -> None:
    """An engaged switch is in the register, durable, under a new epoch, with no start that a clock could move."""
    before = house.store.state().epoch
    engaged = house.switches.engage(house["olga"], "stop-fable", SCOPE, "letter of June", reference="T-1")
    switch = house.switches.show(house["gateway"], "stop-fable")
    assert house.store.state().epoch == before + 1
    assert house.kinds()[engaged.committed.seqs[0]] == "switch.engaged"
    assert (switch.scope, switch.engaged_by, switch.engaged(house.clock())) == (SCOPE, "olga", True)
    assert house.store.row("switches", "stop-fable").document["from"] is None


def test_a_bounded_key_sees_no_switch_of_other_tenants(house: House) -> None:
    """Of a switch on several tenants it sees its own; one on others alone is not there for it, as on the stream."""
    olga = house["olga"]
    house.facts.set_facts(olga, "tenants", "annexco", {"type": "enterprise"})
    house.switches.engage(olga, "all", SCOPE, "letter of June")
    house.switches.engage(olga, "both", {"tenants": ["acme", "annexco"]}, "letter of June")
    house.switches.engage(olga, "theirs", {"tenants": ["annexco"]}, "a customer's matter")
    bounded = house["bounded"]
    assert [(s.id, s.scope) for s in house.switches.list(bounded)] == [("all", SCOPE), ("both", {"tenants": ["acme"]})]
    assert house.switches.show(bounded, "both").scope == {"tenants": ["acme"]}
    with pytest.raises(NotFound, match="there is no such switch"):
        house.switches.show(bounded, "theirs")
    assert [switch.id for switch in house.switches.list(house["gateway"])] == ["all", "both", "theirs"]
    assert house.switches.show(olga, "both").scope == {"tenants": ["acme", "annexco"]}


@pytest.mark.parametrize(
    ("scope", "where"),
    [
        ({}, "scope"),
        ({"models": []}, "scope.models"),
        ({"models": ["fable-5", "fabel-5"]}, "scope.models[1]"),
        ({"tenants": ["acmee"]}, "scope.tenants[0]"),
        ({"tenant_types": ["company"]}, "scope.tenant_types[0]"),
        ({"tiers": [6]}, "scope.tiers[0]"),
        ({"regions": ["DE", "XX"]}, "scope.regions[1]"),
        ({"regions": ["US-43"]}, "scope.regions[0]"),
        ({"actions": ["distil"]}, "scope.actions[0]"),
        ({"families": ["fabel"]}, "scope.families[0]"),
        ({"drill": True}, "scope"),
        ({"models": ["fable-5"], "drill": True}, "scope"),
        ({"capabilities": ["code"]}, "scope"),
        ({"models": ["fable-5"], "from": "2027-01-01T00:00:00Z"}, "scope"),
    ],
)
def test_a_scope_that_stops_nothing_is_refused(house: House, scope: dict[str, Any], where: str) -> None:
    """An empty scope, or one that names what nobody knows, is refused with the place of the word and never the word."""
    with pytest.raises(InputRefused) as refused:
        house.switches.engage(house["olga"], "s", scope, "why")
    assert refused.value.where == where
    assert "fabel" not in str(refused.value) and "distil" not in str(refused.value)
    assert house.switches.list(house["olga"]) == ()


@pytest.mark.parametrize(
    "scope",
    [
        {"models": "all"},
        {"models": ["fable-latest"]},
        {"families": ["fable"]},
        {"regions": ["DE", "UA-43", "HK"], "tiers": [4, 5]},
        {"tenants": ["acme"], "tenant_types": ["individual"], "actions": ["infer"]},
    ],
)
def test_every_dimension_can_be_named(house: House, scope: dict[str, Any]) -> None:
    """Models with their aliases, tenants, types, tiers, places and actions are accepted, and `all` on purpose."""
    house.switches.engage(house["olga"], "s", scope, "why")
    kept = house.switches.show(house["olga"], "s").scope
    assert {name: value if value == "all" else sorted(value) for name, value in scope.items()} == kept


def test_a_reason_an_id_and_a_coming_end_are_needed(house: House) -> None:
    """A switch without a reason or id, with a text beyond its limit, or with an end that has passed is refused."""
    engage = house.switches.engage
    with pytest.raises(InputRefused, match="reason"):
        engage(house["olga"], "s", SCOPE, "  ")
    for id in ("", " ", "a\nb", "x" * 257):
        with pytest.raises(InputRefused, match="id"):
            engage(house["olga"], id, SCOPE, "why")
    with pytest.raises(TooLarge, match="reason"):
        engage(house["olga"], "s", SCOPE, "x" * 1_025)
    with pytest.raises(TooLarge, match="reference"):
        engage(house["olga"], "s", SCOPE, "why", reference="x" * 1_025)
    with pytest.raises(InputRefused, match="until"):
        engage(house["olga"], "s", SCOPE, "why", until=house.clock())
    engage(house["olga"], "s" * 256, SCOPE, "x" * 1_024, until=house.clock() + 1)
    assert house.switches.show(house["olga"], "s" * 256).until == house.clock() + 1


def test_engaging_an_engaged_id_is_a_conflict(house: House) -> None:
    """A switch that is engaged cannot be replaced under its id, for instance by a narrower one."""
    house.switches.engage(house["olga"], "s", {"models": "all"}, "why")
    with pytest.raises(Conflict):
        house.switches.engage(house["quinn"], "s", {"models": ["fable-5"], "actions": ["list"]}, "narrower")
    assert house.switches.show(house["olga"], "s").scope == {"models": "all"}


def test_an_ended_switch_can_be_engaged_again(house: House) -> None:
    """Once its end has passed, or it was released, the same id may be engaged anew."""
    house.switches.engage(house["olga"], "s", SCOPE, "why", until=house.clock() + DAY)
    house.clock.at += DAY
    assert not house.switches.show(house["olga"], "s").engaged(house.clock())
    house.switches.engage(house["olga"], "s", SCOPE, "again")
    proposal = house.switches.release(house["olga"], "s", "over")
    house.approvals.approve(house["paul"], proposal.id)
    house.switches.engage(house["olga"], "s", SCOPE, "a third time")
    assert house.switches.show(house["olga"], "s").revision == 4


def test_release_takes_a_second_person(house: House) -> None:
    """A proposed release leaves the switch engaged; approved by another person it is released, with both names."""
    house.switches.engage(house["olga"], "s", SCOPE, "why")
    proposal = house.switches.release(house["olga"], "s", "over")
    assert house.switches.show(house["olga"], "s").engaged(house.clock())
    epoch = house.store.state().epoch
    house.approvals.approve(house["paul"], proposal.id)
    switch = house.switches.show(house["olga"], "s")
    assert (switch.released_at, switch.released_by, switch.approved_by) == (house.clock(), "olga", "paul")
    assert not switch.engaged(house.clock())
    assert house.store.state().epoch == epoch + 1


def test_who_engaged_does_not_approve_the_release(house: House) -> None:
    """When the approver engaged the switch, a third person must approve; the proposal keeps waiting."""
    house.switches.engage(house["quinn"], "s", SCOPE, "why")
    proposal = house.switches.release(house["olga"], "s", "over")
    with pytest.raises(NotPermitted, match="third person"):
        house.approvals.approve(house["quinn"], proposal.id)
    assert house.switches.show(house["olga"], "s").engaged(house.clock())
    house.approvals.approve(house["paul"], proposal.id)
    assert not house.switches.show(house["olga"], "s").engaged(house.clock())


def test_a_switch_that_is_not_engaged_is_not_released(house: House) -> None:
    """Releasing an unknown switch is not found; releasing one that is released already is a conflict."""
    with pytest.raises(NotFound):
        house.switches.release(house["olga"], "s", "over")
    house.switches.engage(house["olga"], "s", SCOPE, "why")
    house.approvals.approve(house["paul"], house.switches.release(house["olga"], "s", "over").id)
    with pytest.raises(Conflict):
        house.switches.release(house["olga"], "s", "over")


def test_a_stale_release_does_not_touch_a_new_engagement(house: House) -> None:
    """A release proposed for an earlier engagement of the same id cannot release the later one."""
    house.switches.engage(house["olga"], "s", SCOPE, "why")
    first = house.switches.release(house["olga"], "s", "over")
    second = house.switches.release(house["quinn"], "s", "over")
    house.approvals.approve(house["paul"], first.id)
    house.switches.engage(house["olga"], "s", SCOPE, "again")
    with pytest.raises(Conflict):
        house.approvals.approve(house["paul"], second.id)
    assert house.switches.show(house["olga"], "s").engaged(house.clock())


def test_a_key_bounded_to_tenants_stops_its_tenants_only(house: House) -> None:
    """A bounded key engages a switch for its own tenants and for nothing wider, and releases none."""
    with pytest.raises(NotPermitted):
        house.switches.engage(house["bounded"], "s", SCOPE, "why")
    with pytest.raises(NotPermitted):
        house.switches.engage(house["bounded"], "s", {"tenants": ["acme", "lab"]}, "why")
    with pytest.raises(NotPermitted):
        house.switches.engage(house["bounded"], "s", {"tenants": "all"}, "why")
    with pytest.raises(InputRefused, match="tenants"):
        house.switches.engage(house["bounded"], "s", {"tenants": [["acme"]]}, "why")
    house.switches.engage(house["bounded"], "s", {"tenants": ["acme"]}, "why")
    with pytest.raises(NotPermitted):
        house.switches.release(house["bounded"], "s", "over")


def test_without_a_key_only_a_sample_is_stopped(tmp_path: Path, house: House) -> None:
    """`local` engages a switch on a sample database and nowhere else, and never releases one."""
    with pytest.raises(NotPermitted, match="sample"):
        house.switches.engage(LOCAL, "s", SCOPE, "why")
    (tmp_path / "sample").mkdir()
    sample = open_house(tmp_path / "sample", sample=True)
    sample.switches.engage(LOCAL, "s", SCOPE, "why")
    with pytest.raises(NotPermitted):
        sample.switches.release(LOCAL, "s", "over")
    assert sample.switches.show(LOCAL, "s").engaged_by == "local"
    sample.close()


def test_a_switch_can_be_engaged_before_the_first_release(tmp_path: Path) -> None:
    """While no release is active, so that no model is known, a switch for later is accepted as it stands."""
    house = open_house(tmp_path, release=False)
    house.switches.engage(house["olga"], "s", {"models": ["not-yet"]}, "why")
    assert house.switches.show(house["olga"], "s").engaged(house.clock())
    house.close()


def test_a_switch_is_engaged_although_the_release_does_not_load(house: House) -> None:
    """A release that this process cannot load holds up no switch: another process may still be deciding by it."""

    def damaged(hash: str) -> Vocabulary:
        raise LoadRefused("the stored content does not hash to its name", where=hash)

    switches = Switches(house.store, Approvals(house.store), damaged)
    switches.engage(house["olga"], "s", {"models": ["fable-5"]}, "why")
    assert switches.show(house["olga"], "s").engaged(house.clock())


def test_a_principal_is_no_proof(house: House) -> None:
    """A principal whose key was revoked, or that claims another person's key, changes nothing."""
    house.keys.revoke(house["quinn"], "olga", "lost")
    with pytest.raises(NotAuthenticated):
        house.switches.engage(house["olga"], "s", SCOPE, "why")
    with pytest.raises(NotPermitted):
        house.switches.engage(dataclasses.replace(house["olga-2"], id="quinn"), "s", SCOPE, "why")
    forged = dataclasses.replace(house["paul"], scopes=frozenset(("switch:engage",)))
    with pytest.raises(NotPermitted):
        house.switches.engage(forged, "s", SCOPE, "why")
    assert house.switches.list(house["olga"]) == ()
