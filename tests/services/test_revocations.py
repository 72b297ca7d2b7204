"""What changed, read from the log: on both stores, for every kind of change that a service makes, and never too little.

`switches.covers` is the judge of the law: whatever a switch denies, its announcement voids.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.client.heard import Heard, Mark
from policy_engine.core.facts import Model
from policy_engine.core.release import Catalogue
from policy_engine.core.switches import SwitchQuestion, covers, read_kill_switch
from policy_engine.limits import Limits
from policy_engine.services.revocations import EVERYTHING, LOOSENING, NOTHING, Announcement, Revocations, voided
from policy_engine.store.interfaces import Change, Write
from tests.services.governed import House, open_house
from tests.store.samples import AnyStore, Clock, PostgresDatabase, SqliteDatabase, genesis, put

CATALOGUE = Catalogue(
    (
        Model("base", 4, None, aliases=("base-latest",)),
        Model("derived", 4, None, bases=("base",), aliases=("d",)),
        Model("other", 2, None),
    )
)
SERVICES = Path(__file__).parents[2] / "policy_engine" / "services"


@pytest.fixture(params=[SqliteDatabase, PostgresDatabase], ids=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AnyStore]:
    """Offer either store, with a first state at epoch 1."""
    database = request.param(tmp_path)
    opened = database.open(Clock())
    genesis(opened)
    yield opened
    database.close()
    database.drop()


def revocations(store: Any, **limits: int) -> Revocations:
    """Return what reads a store, with the small catalogue."""
    return Revocations(store, lambda: CATALOGUE, Limits(**limits))


def engaged(id: str, scope: Any, expect: int = 0) -> Change:
    """Return the change that engages a switch, as the service makes it."""
    write = Write("switches", id, {"scope": scope, "reason": "why"}, expect)
    return Change("switch.engaged", {"by": "k", "switch": id}, (write,), raises_epoch=True)


def test_each_epoch_is_announced_once_in_order(store: AnyStore) -> None:
    """Changes between, which raise no epoch, are not told; the ones that do are, each as what it was."""
    store.change(engaged("s", {"models": ["base"]}))
    store.change(put("persons", "alice", 1))
    store.change(put("keys", "k", 0))
    store.change(put("persons", "alice", 2))
    found = revocations(store).since(1)
    assert [(each.epoch, each.kind) for each in found or ()] == [(2, "switch.engaged"), (3, "keys.put")]
    assert revocations(store).since(3) == ()
    assert [each.epoch for each in revocations(store).since(0) or ()] == [1, 2, 3]


def test_a_switch_is_told_with_its_scope_and_all_names_it_reaches(store: AnyStore) -> None:
    """Aliases and derivatives of the models named are among what is void."""
    store.change(engaged("s", {"models": ["base"], "actions": ["infer"]}))
    (told,) = revocations(store).since(1) or ()
    assert (told.id, told.scope) == ("s", {"models": ["base"], "actions": ["infer"]})
    assert told.voids == {"models": ["base", "base-latest", "d", "derived"], "actions": ["infer"]}


def test_a_row_that_was_written_again_reaches_everything(store: AnyStore) -> None:
    """What a switch covered when it was first engaged cannot be read any more, so everything is void.

    Control: policy_engine/services/revocations.py
    `return row if row is not None and (row.log_id, row.seq) == (log_id, seq) else None`
    """
    store.change(engaged("s", {"models": ["base"]}))
    store.change(engaged("s", {"models": ["other"]}, expect=1))
    first, second = revocations(store).since(1) or ()
    assert (first.voids, first.scope) == (EVERYTHING, {})
    assert second.voids == {"models": ["other"]}


def test_too_much_missed_is_not_told(store: AnyStore) -> None:
    """One epoch more than may be told, one entry more than may be looked at, or an epoch still to come: `None`."""
    for number in range(3):
        store.change(engaged(f"s{number}", {"models": ["base"]}))
    assert len(revocations(store, revocation_missed_epochs_count=3).since(1) or ()) == 3
    assert revocations(store, revocation_missed_epochs_count=2).since(1) is None
    assert len(revocations(store, revocation_looked_entries_count=4).since(1) or ()) == 3
    assert revocations(store, revocation_looked_entries_count=3).since(1) is None
    assert revocations(store).since(5) is None


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """Offer the services."""
    opened = open_house(tmp_path)
    yield opened
    opened.close()


def newest(house: House) -> Announcement:
    """Return what the last change was announced as."""
    state = house.store.state()
    (told,) = revocations(house.store).since(state.epoch - 1) or ()
    return told


def approved(house: House, proposal: str | None) -> Announcement:
    """Approve a proposal as another person, and return the announcement of its effect."""
    house.approvals.approve(house["paul"], proposal or "")
    return newest(house)


def test_the_life_of_a_directive_is_told(house: House) -> None:
    """Received and widened: void; exempted: void, for one exemption may have replaced another; ended: nothing is."""
    body = {"id": "d", "models": ["fable-5"], "blocks": ["foreign_person"]}
    exempt = {"models": ["fable-5"], "who": "lab_foreign_national_employees"}
    waiting = house.orders.receive(house["olga"], "directive", {**body, "exempts": [exempt]}).proposal
    assert (newest(house).id, newest(house).voids) == ("d", {"models": ["fable-5"]})
    assert approved(house, waiting).voids == {"models": ["fable-5"]}
    house.orders.amend(house["olga"], "d", {**body, "models": "all"})
    assert (newest(house).voids, newest(house).scope) == (EVERYTHING, {"models": "all"})
    ended = approved(house, house.orders.end(house["olga"], "d", "over").proposal)
    assert (ended.kind, ended.voids) == ("order.ended", NOTHING)


def test_the_life_of_a_licence_is_told_without_whom_it_names(house: House) -> None:
    """Approved: nothing is void. Revoked: its models and actions. Neither its id nor its person is told."""
    body = {
        "id": "l-ines", "from": "2026-01-01", "person_id": "ines", "models": ["fable-5"], "actions": ["infer"],
        "lifts": ["seat"],
    }  # fmt: skip
    first = approved(house, house.orders.receive(house["olga"], "licence", body).proposal)
    assert (first.kind, first.voids) == ("order.licensed", NOTHING)
    house.orders.end(house["olga"], "l-ines", "over")
    told = newest(house)
    assert (told.kind, told.voids) == ("order.revoked", {"models": ["fable-5"], "actions": ["infer"]})
    assert "ines" not in repr((first.document(), told.document()))


def test_an_individual_tenant_is_not_told(house: House) -> None:
    """A switch for a tenant who is a person, or of no known type, is told without the tenants it names."""
    house.switches.engage(house["quinn"], "s", {"tenants": ["acme"]}, "why")
    assert newest(house).scope == {"tenants": ["acme"]}
    row = house.store.row("tenants", "acme")
    assert row is not None
    person = Write("tenants", "acme", {"facts": {"type": {"value": "individual"}}}, row.revision)
    house.store.change(Change("facts.set", {}, (person,), raises_epoch=False))
    assert (newest(house).scope, newest(house).voids) == ({}, EVERYTHING)


def test_a_key_bounded_to_tenants_is_told_its_own(house: House) -> None:
    """Of a switch for others it hears that something changed, and no more: engaged, released and engaged again."""
    acme, other = frozenset({"acme"}), frozenset({"other"})
    house.switches.engage(house["quinn"], "s", {"tenants": ["acme", "lab"]}, "why")
    assert newest(house).within(acme).scope == {"tenants": ["acme"]}
    told = newest(house).within(other)
    assert (told.id, told.scope, told.voids) == (None, {}, EVERYTHING)
    released = approved(house, house.switches.release(house["olga"], "s", "over").id)
    assert [released.within(bound).id for bound in (None, acme, other)] == ["s", "s", None]
    house.switches.engage(house["quinn"], "s", {"models": ["fable-5"]}, "again")
    assert newest(house).within(other).id == "s"
    told = (revocations(house.store).since(house.store.state().epoch - 2) or ())[0]  # whose scope is in no row now
    assert [(told.kind, told.within(bound).id) for bound in (None, other)] == [
        ("switch.released", "s"), ("switch.released", None),
    ]  # fmt: skip


def test_a_key_bounded_to_others_hears_nothing_of_a_switch_on_a_person(house: House) -> None:
    """The tenant is told to nobody, and the rest of the switch to nobody else's key."""
    house.switches.engage(house["quinn"], "s", {"tenants": ["solo"], "models": ["fable-5"]}, "why")
    for bound, shown in ((frozenset({"acme"}), (None, {})), (frozenset({"solo"}), ("s", {"models": ["fable-5"]}))):
        told = newest(house).within(bound)
        assert (told.id, told.scope, told.voids) == (*shown, {"models": ["fable-5"]})


def test_a_drill_voids_nothing_while_it_runs_and_after(house: House) -> None:
    """Its switches deny nobody, so nobody has to ask again for each of them; one of that id without a drill does."""
    house.switches.engage_drill(house["olga"], "drill-everything", {"models": "all"}, "a drill")
    during = newest(house)
    house.switches.release_drill(house["olga"], "drill-everything", {"status": "held"})
    after = newest(house)
    assert [(told.kind, told.voids) for told in (during, after)] == [
        ("switch.engaged", NOTHING),
        ("switch.released", NOTHING),
    ]
    found = revocations(house.store).since(during.epoch - 1) or ()
    assert [told.voids for told in found] == [NOTHING, NOTHING]
    house.switches.engage(house["olga"], "drill-everything", {"models": "all"}, "no drill")
    assert newest(house).voids == EVERYTHING


def test_an_unknown_kind_of_change_voids_everything(house: House) -> None:
    """A kind that this room has never heard of is not taken for a harmless one."""
    row = Write("switches", "x", {"scope": {"models": ["fable-5"]}}, 0)
    house.store.change(Change("switch.invented", {"switch": "x"}, (row,), raises_epoch=True))
    assert newest(house).voids == EVERYTHING


def test_every_loosening_kind_is_one_that_a_service_writes() -> None:
    """No kind stands in the list that voids nothing under a name that nothing writes, so none is misspelt."""
    text = "".join(path.read_text() for path in SERVICES.rglob("*.py") if path.name != "revocations.py")
    assert {kind for kind in LOOSENING if f'"{kind}"' not in text} == set()


NAMES = ("base", "base-latest", "derived", "d", "other", "gone")
ACTIONS = ("infer", "list")


@st.composite
def scopes(draw: st.DrawFn) -> dict[str, Any]:
    """Return any scope, readable or not."""
    odd = st.sampled_from([None, "all", [], "base", [1], {}])
    scope: dict[str, Any] = {}
    for name, words in (("models", NAMES), ("actions", ACTIONS), ("tenants", ("acme", "lab")), ("regions", ("US",))):
        if draw(st.booleans()):
            scope[name] = draw(st.lists(st.sampled_from(words), min_size=1, max_size=3) | odd)
    if draw(st.booleans()):
        scope["tiers"] = draw(st.lists(st.sampled_from([2, 4]), min_size=1) | odd)
    return scope


@given(scopes(), st.sampled_from(("base", "derived", "other")), st.sampled_from(ACTIONS), st.data())
def test_whatever_a_switch_denies_its_announcement_voids(
    scope: dict[str, Any], id: str, action: str, data: st.DataObject
) -> None:
    """Law 4, at the enforcement point: an older allow that the switch denies now is not used, by any of its names.

    Control: policy_engine/client/heard.py
    `return any(change.epoch > epoch and _covers(change.voids, model, action) for change in self._changes)`
    """
    model = CATALOGUE.models[id]
    question = SwitchQuestion(
        CATALOGUE.names(id), frozenset({"acme"}), frozenset({"enterprise"}), model.tier, frozenset({"US"}), action
    )
    heard = Heard()
    heard.take("standing", {"epoch": 1})
    heard.take("changed", {"epoch": 2, "voids": voided(scope, CATALOGUE)})
    if covers(read_kill_switch("s", {"scope": scope}), question):
        asked = data.draw(st.sampled_from([id, *model.aliases]))
        assert heard.ends(1, Mark(0, 1), asked, action)


def test_a_switch_spares_other_models_and_actions() -> None:
    """The law above would hold for a client that lets go of everything; this one does not."""
    heard = Heard()
    heard.take("standing", {"epoch": 1})
    heard.take("changed", {"epoch": 2, "voids": voided({"models": ["base"], "actions": ["infer"]}, CATALOGUE)})
    ends = {(m, a): heard.ends(1, Mark(0, 1), m, a) for m in ("d", "other") for a in ("infer", "list")}
    assert [pair for pair, over in ends.items() if over] == [("d", "infer")]
