"""A preview says what really happens: the same change is then made, and everything decided before and after."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import event, given, settings

from policy_engine.core.instants import DAY, format_instant
from policy_engine.services.preview.answer import EntryLine
from policy_engine.services.preview.standing import Line
from policy_engine.services.preview.tallies import GAINS, LOSES
from tests.services.preview.conftest import Live
from tests.services.preview.worlds import ALICE, CHEN, GREG, NOW, Combination, Plan, World, cases

Effects = dict[str, set[Combination]]


def shown(lines: Iterable[Line | EntryLine] | None) -> Effects:
    """Return the combinations that lines of a preview say lose and gain."""
    found: Effects = {LOSES: set(), GAINS: set()}
    for one in lines or ():
        found[one.effect].add((one.subject, one.tenant, one.model, one.action))
    return found


def compared(live: Live, world: World, plan: Plan) -> Effects:
    """Preview a change, make it, and compare with what is decided before and after; return what really happened."""
    with live(world) as scene:
        before = scene.decided()
        preview = plan.preview(scene, days=1)
        plan.make(scene)
        after = scene.decided()
    really: Effects = {
        LOSES: {key for key, decision in after.items() if before[key].allowed and not decision.allowed},
        GAINS: {key for key, decision in after.items() if not before[key].allowed and decision.allowed},
    }
    assert preview.complete
    assert shown(preview.registers.lines) == really
    recorded, counts = preview.recorded, preview.registers.counts
    assert recorded is not None and recorded.decisions_count == len(before)
    assert shown(recorded.lines) == really
    assert (counts.loses, counts.gains) == (len(really[LOSES]), len(really[GAINS]))
    for line in preview.registers.lines or ():
        decision = after[line.subject, line.tenant, line.model, line.action]
        assert set(line.reasons) == {reason.code for reason in decision.reasons}
        assert line.fallbacks == (decision.alternatives if line.effect == LOSES else ())
    assert sum(day.would_allow for day in recorded.days) == sum(decision.allowed for decision in after.values())
    effects = recorded.counts
    assert effects.keeps + effects.loses + effects.gains + effects.without == len(before)
    return really


@settings(max_examples=16)
@given(case=cases())
def test_who_loses_and_gains_is_who_really_does(case: tuple[World, Plan], live: Live) -> None:
    """The sets by the registers and by the record equal what decisions before and after the real change say."""
    world, plan = case
    really = compared(live, world, plan)
    event(f"{plan.kind}: {'loses' if really[LOSES] else ''} {'gains' if really[GAINS] else ''}")


TOMORROW = format_instant(NOW + DAY)
LATER = format_instant(NOW + 2 * DAY)
LETTER = {"models": ["fable-5"], "blocks": ["foreign_person"]}
LAB = {"models": ["fable-5"], "who": "lab_foreign_national_employees"}
LICENCE = {
    "from": "2026-01-01T00:00:00Z",
    "person_id": "p2",
    "models": ["fable-5"],
    "actions": ["infer"],
    "nationalities": ["CN"],
    "destinations": ["US"],
    "lifts": ["nat", "directive"],
}
FABLE = {"models": ["fable-5"]}
EARNEST: dict[str, tuple[World, Plan, set[str]]] = {
    "a switch": (World([]), Plan("engage", FABLE, "approved"), {LOSES}),
    "a switch of a family": (World([]), Plan("engage", {"families": ["opus"]}, "approved"), {LOSES}),
    "a release": (World([], switch=FABLE), Plan("release", {}, "approved"), {GAINS}),
    "a release at once": (World([], switch=FABLE), Plan("release", {}, "at_once"), set()),
    "a directive": (World([]), Plan("receive directive", LETTER, "approved"), {LOSES}),
    "a directive without its exemption": (
        World([]),
        Plan("receive directive", {**LETTER, "exempts": [LAB]}, "at_once"),
        {LOSES},
    ),
    "an amendment that eases": (
        World([], directive=LETTER),
        Plan("amend d", {**LETTER, "exempts": [LAB]}, "approved"),
        {GAINS},
    ),
    "an amendment to another model": (
        World([], directive=LETTER),
        Plan("amend d", {**LETTER, "models": ["opus-4-8"]}, "approved"),
        {LOSES, GAINS},
    ),
    "an amendment that starts later": (
        World([], directive=LETTER),
        Plan("amend d", {**LETTER, "from": TOMORROW}, "approved"),
        {GAINS},
    ),
    "a directive whose exemption ends before another begins": (
        World([]),
        Plan(
            "receive directive", {**LETTER, "exempts": [{**LAB, "until": TOMORROW}, {**LAB, "from": LATER}]}, "approved"
        ),
        set(),
    ),
    "an end": (World([], directive=LETTER), Plan("end d", {}, "approved"), {GAINS}),
    "a licence": (World([]), Plan("receive licence", LICENCE, "approved"), {GAINS}),
    "a licence at once": (World([]), Plan("receive licence", LICENCE, "at_once"), set()),
    "a revocation": (World([], licence=LICENCE), Plan("end l", {}, "approved"), {LOSES}),
}


@pytest.mark.parametrize("name", EARNEST)
def test_each_change_in_earnest(name: str, live: Live) -> None:
    """Every kind of change does what it is for, in the preview and really.

    Control: policy_engine/services/preview/changes.py: `return self._row(row, self.document)`
    """
    world, plan, effects = EARNEST[name]
    really = compared(live, replace(world, persons=[ALICE, GREG, CHEN]), plan)
    assert {effect for effect, found in really.items() if found} == effects
