"""Drills of kill switches: every kind of selector, for real, against nobody but the drill."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from policy_engine.bootstrap import Engine, open_engine
from policy_engine.core.decision import Principal, PrincipalKind, Request
from policy_engine.core.facts import Location
from policy_engine.core.switches import KillSwitch, Switchboard, SwitchQuestion, covers, read_kill_switch
from policy_engine.errors import Conflict, NotPermitted
from policy_engine.rules.release import read_folder
from policy_engine.services.asof import AsOf
from policy_engine.services.drills import FAILED, HELD, KINDS, SKIPPED
from policy_engine.services.drillsubject import DRILL_SUBJECT, DRILL_TENANT
from policy_engine.services.permissions import DRILL, LOCAL
from policy_engine.services.replay import SAME
from policy_engine.settings import Settings
from policy_engine.store.interfaces import Change
from tests.laws.sample import POLICIES, opened
from tests.rules.plainfolders import folder

DERIVED = b"""
[[model]]
id = "fable-5-coder"
tier = 4
status = "available"
family = "fable"
base = ["fable-5"]
permitted_serving_regions = ["US"]
nationality_test = "EAR"
"""
READER = Principal("reader", PrincipalKind.SERVICE, frozenset(("decide",)), None, frozenset(("*",)))
ALICE = Request("alice", "infer", "fable-5", "acme", Location("US"), "US")


@pytest.fixture
def sample(sample_database: Any, compiled: Any) -> Iterator[tuple[Engine, dict[str, Principal]]]:
    """Offer an engine on the sample world."""
    with opened(sample_database, compiled) as (engine, keys):
        yield engine, keys


def publics(engine: Engine) -> list[dict[str, Any]]:
    """Return the public part of every entry."""
    return [json.loads(public) for _, _, public in engine.store.entries()]


def test_every_kind_of_selector_holds_in_a_drill(tmp_path: Path, compiled: Any) -> None:
    """On a catalogue with a derivative no kind is left out, and each denies from the first decision behind a commit."""
    files = read_folder(POLICIES)
    files = {**files, "models.toml": files["models.toml"] + DERIVED}
    settings = Settings(database=f"sqlite:///{tmp_path / 'engine.db'}", policies=POLICIES)
    engine = open_engine(settings, releases=compiled, genesis=(files, ()))
    try:
        engine.store.change(Change(kind="genesis", public={}, writes=(), raises_epoch=True, mark_sample=True))
        found = engine.foresight.drills.run(LOCAL, "monthly drill")
        assert [one.kind for one in found] == list(KINDS)
        assert {one.status for one in found} == {HELD}
        assert all(one.allowed_before for one in found)
        last = engine.foresight.drills.last()
        assert last is not None and set(last.held) == set(KINDS) and last.failed == ()
    finally:
        engine.close()


def test_a_drill_is_real_for_the_drill_and_nothing_for_anybody_else(
    sample: tuple[Engine, dict[str, Principal]],
) -> None:
    """While a drill's switch for everything is engaged, the drill is denied by it and alice is allowed.

    Control: policy_engine/core/switches.py: `(question.drill or not switch.drill)`
    """
    engine, keys = sample
    operator, gateway = keys["operator"], keys["enforcement point"]
    drilled = replace(ALICE, subject_id=DRILL_SUBJECT, tenant=DRILL_TENANT)
    engine.switches.engage_drill(operator, "drill-everything", {"models": "all"}, "drill")
    assert engine.decider.decide(ALICE, gateway).allowed
    denied = engine.decider.decide(drilled, DRILL)
    assert not denied.allowed and denied.reasons[0].orders == ("drill-everything",)
    engine.switches.release_drill(operator, "drill-everything", {"status": HELD, "kind": "everything"})
    assert engine.decider.decide(drilled, DRILL).allowed


def test_nobody_else_can_ask_as_the_drill(sample: tuple[Engine, dict[str, Principal]]) -> None:
    """Its person and tenant are unknown to every other caller, also right after the drill was allowed."""
    engine, keys = sample
    drilled = replace(ALICE, subject_id=DRILL_SUBJECT, tenant=DRILL_TENANT)
    assert engine.decider.decide(drilled, DRILL).allowed
    for principal in (LOCAL, keys["enforcement point"], replace(DRILL, key_id="key-1")):
        codes = {reason.code for reason in engine.decider.evaluate(drilled, principal).reasons}
        assert codes == {"tenant.unknown", "subject.unknown"}


def test_a_real_switch_stops_the_drill_too(sample: tuple[Engine, dict[str, Principal]]) -> None:
    """A switch for all models covers a drill like anybody, so the drill then says that it was not allowed before."""
    engine, keys = sample
    engine.switches.engage(keys["operator"], "off", {"models": "all"}, "letter")
    found = engine.foresight.drills.run(keys["operator"], "drill")
    assert {one.status for one in found} == {HELD, SKIPPED}
    assert not any(one.allowed_before for one in found)


def test_the_log_keeps_the_time_to_effect_and_the_replay_agrees(
    sample: tuple[Engine, dict[str, Principal]],
) -> None:
    """Each release says what its drill found; three decisions a kind are recorded, and replay to the same."""
    engine, keys = sample
    found = engine.foresight.drills.run(keys["operator"], "drill")
    held = [one for one in found if one.status == HELD]
    assert {one.kind: one.note for one in found if one.status == SKIPPED} == {
        "base": "no model of the catalogue derives from another"
    }
    entries = publics(engine)
    released = [entry["drill"] for entry in entries if entry["kind"] == "switch.released"]
    assert [(one["kind"], one["status"]) for one in released] == [(one.kind, HELD) for one in held]
    assert all(0 < one["committed_microseconds"] <= one["effect_microseconds"] for one in released)
    assert sum(entry["kind"] == "switch.engaged" and entry["drill"] == {} for entry in entries) == len(held)
    asked = [entry for entry in entries if entry["kind"] == "decision" and entry["by"] == "drill"]
    assert len(asked) == 3 * len(held)
    assert {one.status for one in engine.replay.all(keys["auditor"])} == {SAME}
    assert engine.evidence.verify().ok


def test_a_drill_is_no_control_that_failed_to_reach_anybody(sample: tuple[Engine, dict[str, Principal]]) -> None:
    """An allow while a drill's switch for everything was engaged is no hole in a control; other switches are listed."""
    engine, keys = sample
    engine.switches.engage_drill(keys["operator"], "drill-everything", {"models": "all"}, "drill")
    engine.switches.engage(keys["operator"], "opus", {"families": ["opus"]}, "letter")
    assert engine.decider.decide(ALICE, keys["enforcement point"]).allowed
    assert not engine.decider.decide(replace(ALICE, model="opus-4-8"), keys["enforcement point"]).allowed
    asof = AsOf(engine.replay)
    assert asof.family(keys["auditor"], "fable-5").controls == {}
    assert [id for _, id, _ in asof.family(keys["auditor"], "opus-4-8").controls] == ["opus"]


def test_a_second_drill_keeps_one_row_a_kind(sample: tuple[Engine, dict[str, Principal]]) -> None:
    """Ids are the same each time, and what an interrupted drill left is released first."""
    engine, keys = sample
    engine.switches.engage_drill(keys["operator"], "drill-tier", {"tiers": [4]}, "interrupted")
    first = engine.foresight.drills.run(keys["operator"], "drill")
    second = engine.foresight.drills.run(keys["operator"], "drill")
    assert [one.status for one in first] == [one.status for one in second]
    assert len(engine.store.rows("switches")) == len(KINDS) - 1


def test_a_switch_that_does_not_take_hold_is_found(
    sample: tuple[Engine, dict[str, Principal]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When switches stop covering, each kind fails, its switch is released all the same, and the register says so."""
    engine, keys = sample
    monkeypatch.setattr("policy_engine.core.switches.covers", lambda switch, question: False)
    found = engine.foresight.drills.run(keys["operator"], "drill")
    assert {one.status for one in found} == {FAILED, SKIPPED}
    assert not any(switch.engaged(engine.store.now()) for switch in engine.switches.list(LOCAL))
    last = engine.foresight.drills.last()
    assert last is not None and last.held == () and len(last.failed) == len(KINDS) - 1


def test_a_switch_that_denies_beyond_its_release_has_failed_in_the_register_too(
    sample: tuple[Engine, dict[str, Principal]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is only seen behind the release is written down as well: `doctor` must not say that it held."""
    engine, keys = sample

    def ever(board: Switchboard, question: SwitchQuestion, at: int) -> tuple[str, ...]:
        return tuple(switch.id for switch in board if switch.start <= at and covers(switch, question))

    monkeypatch.setattr("policy_engine.core.switches.Switchboard.engaged", ever)
    found = engine.foresight.drills.run(keys["operator"], "drill")
    assert {one.status for one in found} == {FAILED, SKIPPED}
    assert not any(switch.engaged(engine.store.now()) for switch in engine.switches.list(LOCAL))
    last = engine.foresight.drills.last()
    assert last is not None and last.held == () and len(last.failed) == len(KINDS) - 1


def test_who_may_drill_and_what_one_person_may_release(sample: tuple[Engine, dict[str, Principal]]) -> None:
    """A drill needs `switch:engage`; a switch that is of no drill is never released by one person."""
    engine, keys = sample
    with pytest.raises(NotPermitted):
        engine.foresight.drills.run(keys["auditor"], "drill")
    engine.switches.engage(keys["operator"], "off", {"models": ["fable-5"]}, "letter")
    with pytest.raises(NotPermitted, match="two persons"):
        engine.switches.release_drill(keys["operator"], "off", {})
    engine.foresight.drills.run(keys["operator"], "drill")
    with pytest.raises(Conflict, match="not engaged"):
        engine.switches.release_drill(keys["operator"], "drill-tier", {})


@pytest.mark.parametrize("mark", [None, False, "true", 1, [], {}])
def test_what_is_not_plainly_marked_is_no_drill(mark: Any) -> None:
    """A damaged mark makes a switch that covers everybody, never one that covers nobody."""
    question = SwitchQuestion(frozenset(("m",)), frozenset(("t",)), frozenset(("lab",)), 4, frozenset(("US",)), "infer")
    switch = read_kill_switch("s", {"scope": {"models": ["m"], "drill": mark}})
    assert isinstance(switch, KillSwitch) and covers(switch, question)
    assert not covers(read_kill_switch("s", {"scope": {"models": ["m"], "drill": True}}), question)


CATALOGUE = """
[[model]]
id = "doc"
aliases = ["the-doc"]
base = ["paper"]
family = "papers"
tier = 2
[[model]]
id = "paper"
family = "papers"
"""


@pytest.mark.parametrize(("catalogue", "left_out"), [(None, {"alias", "base", "family", "tier"}), (CATALOGUE, set())])
def test_a_plain_folder_is_drilled_by_what_it_knows(tmp_path: Path, catalogue: str | None, left_out: set[str]) -> None:
    """Kinds that a folder has no words for are left out with a reason; the others hold, and a preview owns up."""
    files = folder() if catalogue is None else folder(models_toml=catalogue)
    engine = open_engine(Settings(database=f"sqlite:///{tmp_path / 'engine.db'}"), genesis=(files, ()))
    try:
        engine.store.change(Change(kind="genesis", public={}, writes=(), raises_epoch=True, mark_sample=True))
        found = engine.foresight.drills.run(LOCAL, "drill")
        assert {one.kind for one in found if one.status == SKIPPED} == left_out | {"tenant_type"}
        assert {one.status for one in found} == {HELD, SKIPPED}
        assert all(one.note for one in found if one.status == SKIPPED)
        assert engine.decider.decide(Request("alice", "read", "doc"), READER).allowed
        preview = engine.foresight.previews.engage(LOCAL, "new", {"models": "all"})
        assert preview.recorded is not None and preview.recorded.counts.loses == 1
        assert not preview.complete and preview.registers.asked_count == 0
    finally:
        engine.close()
