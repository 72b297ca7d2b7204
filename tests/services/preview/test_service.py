"""Who may ask for a preview, what they see, what the log keeps of it, and where it stops."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest

from policy_engine.core.facts import Location
from policy_engine.core.instants import DAY, format_instant
from policy_engine.errors import InputRefused, NotPermitted
from policy_engine.limits import LIMITS
from policy_engine.services.permissions import LOCAL
from policy_engine.services.preview import answer
from policy_engine.services.preview.answer import Preview
from policy_engine.services.preview.service import Previews, Wanted
from policy_engine.services.preview.tallies import LOSES
from tests.services.preview.conftest import Live
from tests.services.preview.worlds import ALICE, CHEN, GREG, NOW, Scene, World

EVE = {**ALICE, "nationality_evidence": {"level": "declared"}}
PEOPLE = World([ALICE, GREG, CHEN, EVE])
SCOPE = {"models": ["opus-4-8"]}
LETTER = {"id": "letter", "models": ["opus-4-8"], "blocks": ["foreign_person"]}
NO_DAYS = Wanted(days=0)


def limited(scene: Scene, **limits: int) -> Previews:
    """Return the scene's previews with smaller limits."""
    engine = scene.engine
    return Previews(
        engine.store,
        engine.switches,
        engine.orders,
        engine.recorder,
        engine.evidence._vault,
        engine.releases,
        serving_region="US",
        limits=replace(LIMITS, **limits),
    )


def last_entry(scene: Scene) -> dict[str, Any]:
    """Return the public part of the newest entry."""
    ((_, _, public),) = scene.engine.store.entries(limit=1, newest_first=True)
    found: dict[str, Any] = json.loads(public)
    return found


def test_one_entry_says_what_was_asked_and_nothing_changes(live: Live) -> None:
    """Epoch, registers and switches stay; the entry names change, epoch, instant and count, and no person."""
    with live(PEOPLE) as scene:
        before, epoch = scene.engine.store.head().next_seq, scene.engine.store.state().epoch
        found = scene.previews.engage(scene.people["olga"], "new", SCOPE)
        assert scene.engine.store.head().next_seq == before + 1
        assert scene.engine.store.state().epoch == epoch and scene.engine.store.rows("switches") == []
        entry = last_entry(scene)
        assert (entry["kind"], entry["search"], entry["id"]) == ("search", "preview", found.id)
        assert (entry["change"], entry["switch"]) == ("switch.engaged", "new")
        assert (entry["seen_epoch"], entry["for"]) == (epoch, format_instant(NOW))
        assert entry["count"] == found.registers.counts.loses > 0 and entry["complete"] is True
        assert "p0" not in json.dumps(entry)


def test_persons_are_for_whoever_holds_audit_read(live: Live) -> None:
    """Others get every count and no name, no region and no work list, with a note that says why."""
    with live(PEOPLE) as scene:
        scene.decided()
        seen = scene.previews.engage(scene.people["rita"], "new", SCOPE)
        counted = scene.previews.engage(scene.people["quinn"], "new", SCOPE)
    assert seen.sees_persons and seen.registers.lines and seen.recorded and seen.recorded.lines
    assert seen.registers.undetermined is not None and answer.SEALED not in seen.notes
    assert counted.registers.lines is counted.registers.undetermined is None and not counted.sees_persons
    assert counted.recorded is not None and counted.recorded.lines is None and answer.SEALED in counted.notes
    assert "region" in seen.registers.counts.by and "region" not in counted.registers.counts.by
    for name in ("loses", "gains", "keeps", "without", "persons_losing"):
        assert getattr(seen.registers.counts, name) == getattr(counted.registers.counts, name)
    text = repr(counted)
    assert not any(name in text for name in ("'p0'", "'p1'", "'p2'", "'p3'"))


def test_who_may_not_ask(live: Live) -> None:
    """A service, `local` on a real database and a key bounded to tenants are refused, and nothing is logged."""
    with live(PEOPLE) as scene:
        before = scene.engine.store.head().next_seq
        for who in (scene.people["gateway"], LOCAL, scene.people["bounded"]):
            with pytest.raises(NotPermitted):
                scene.previews.engage(who, "new", SCOPE)
            with pytest.raises(NotPermitted):
                scene.previews.receive(who, "directive", LETTER)
        assert scene.engine.store.head().next_seq == before


def test_the_undetermined_are_a_work_list(live: Live) -> None:
    """Whoever a directive blocks for want of evidence is named with the fact; a verified foreigner is not."""
    with live(PEOPLE) as scene:
        found = scene.previews.receive(scene.people["olga"], "directive", LETTER, wanted=NO_DAYS)
    work = {one.subject: one for one in found.registers.undetermined or ()}
    assert work.keys() == {"p3"} and work["p3"].missing == ("person.nationality_evidence",)
    assert found.registers.undetermined_by_fact == {"person.nationality_evidence": 1}
    assert {line.subject for line in found.registers.lines or () if line.effect == LOSES} >= {"p1"}


def test_an_unknown_place_is_undetermined_for_a_switch_of_a_region(live: Live) -> None:
    """A switch covers whom it cannot place; the preview says that the place is what is missing."""
    nowhere = {name: value for name, value in ALICE.items() if name != "residence_country"}
    with live(World([ALICE, nowhere])) as scene:
        found = scene.previews.engage(scene.people["olga"], "new", {"regions": ["DE"]}, wanted=NO_DAYS)
        asked = replace(NO_DAYS, location=Location("US"))
        placed = scene.previews.engage(scene.people["olga"], "new", {"regions": ["DE"]}, wanted=asked)
    assert {(one.subject, one.missing) for one in found.registers.undetermined or ()} == {("p1", ("location",))}
    assert answer.RESIDENCE in found.notes and answer.RESIDENCE not in placed.notes
    assert "location" not in placed.registers.undetermined_by_fact and placed.registers.counts.loses == 0


def test_whatever_a_switch_covers_in_doubt_is_undetermined(live: Live) -> None:
    """A place that resolves to nothing and a type that is stale cover in doubt, as what nobody said does."""
    elsewhere = {**ALICE, "residence_country": "PS"}
    with live(World([ALICE, elsewhere])) as scene:
        olga = scene.people["olga"]
        placed = scene.previews.engage(olga, "new", {"regions": ["DE"]}, wanted=NO_DAYS)
        stale = {"type": {"value": "enterprise", "expires_at": format_instant(NOW)}}
        scene.engine.facts.set_facts(olga, "tenants", "acme", stale)
        typed = scene.previews.engage(olga, "new", {"tenant_types": ["individual"]}, wanted=NO_DAYS)
    assert {(one.subject, one.missing) for one in placed.registers.undetermined or ()} == {("p1", ("location",))}
    losing = {line.subject for line in typed.registers.lines or () if line.effect == LOSES}
    work = {one.subject: one.missing for one in typed.registers.undetermined or ()}
    assert losing and losing == work.keys() and set(work.values()) == {("tenant.type",)}


def test_a_tenant_of_unknown_type_is_undetermined_for_a_directive(live: Live) -> None:
    """It counts as foreign because it may be a foreign government; the preview says that its type is missing."""
    letter = {"id": "letter", "models": ["open-1"], "blocks": ["foreign_person"]}
    with live(World([ALICE])) as scene:
        olga = scene.people["olga"]
        scene.engine.facts.set_facts(olga, "tenants", "acme", {"type": None})
        found = scene.previews.receive(olga, "directive", letter, wanted=NO_DAYS)
    assert {one.missing for one in found.registers.undetermined or ()} == {("tenant.type",)}


def test_each_limit_is_honest(live: Live) -> None:
    """Past a limit the answer is not complete and says so; at the limit itself it is."""
    with live(PEOPLE) as scene:
        scene.decided()
        olga = scene.people["olga"]
        whole = scene.previews.engage(olga, "new", SCOPE)
        recorded = whole.recorded
        assert recorded is not None and whole.complete
        asked, replayed = whole.registers.asked_count, recorded.replayed_count
        at = limited(scene, preview_candidates_count=asked).engage(olga, "new", SCOPE, wanted=NO_DAYS)
        past = limited(scene, preview_candidates_count=asked - 1).engage(olga, "new", SCOPE, wanted=NO_DAYS)
        assert (at.complete, past.complete, past.registers.asked_count) == (True, False, asked - 1)
        assert answer.AT_LIMIT in past.notes and last_entry(scene)["complete"] is False
        at = limited(scene, preview_decisions_count=replayed).engage(olga, "new", SCOPE)
        past = limited(scene, preview_decisions_count=replayed - 1).engage(olga, "new", SCOPE)
        assert past.recorded is not None
        assert at.complete and not past.complete and not past.recorded.complete
        lines = whole.registers.lines or ()
        cut = limited(scene, preview_rows_count=len(lines) - 1).engage(olga, "new", SCOPE, wanted=NO_DAYS)
        assert len(cut.registers.lines or ()) == len(lines) - 1 and answer.NOT_LISTED in cut.notes
        assert cut.registers.counts.loses == whole.registers.counts.loses
        for days in (-1, LIMITS.preview_days + 1):
            with pytest.raises(InputRefused, match="days"):
                scene.previews.engage(olga, "new", SCOPE, wanted=Wanted(days=days))
        with pytest.raises(InputRefused, match="stage"):
            scene.previews.engage(olga, "new", SCOPE, wanted=Wanted(stage="some day"))


def test_older_decisions_and_drills_are_left_out(live: Live) -> None:
    """With no days nothing is decided again; drills are counted nowhere."""
    with live(PEOPLE) as scene:
        olga = scene.people["olga"]
        scene.engine.foresight.drills.run(olga, "drill")
        found = scene.previews.engage(olga, "new", {"models": "all"})
        assert found.recorded is not None and found.recorded.decisions_count == 0
        assert scene.previews.engage(olga, "new", SCOPE, wanted=NO_DAYS).recorded is None


def test_a_coming_start_is_looked_at_when_it_has_come(live: Live) -> None:
    """A directive of tomorrow is previewed as of tomorrow, and over the record as if it had been in force."""
    with live(PEOPLE) as scene:
        scene.decided()
        tomorrow = {**LETTER, "from": format_instant(NOW + DAY), "until": format_instant(NOW + 2 * DAY)}
        found = scene.previews.receive(scene.people["olga"], "directive", tomorrow)
        today = scene.previews.receive(scene.people["olga"], "directive", LETTER)
    assert found.at == NOW + DAY and today.at == NOW
    assert found.registers.counts.loses == today.registers.counts.loses > 0
    assert found.recorded is not None and today.recorded is not None
    assert found.recorded.lines == today.recorded.lines and found.recorded.counts.loses > 0


def test_an_end_that_comes_nearer_is_looked_at_when_it_has_come(live: Live) -> None:
    """An amendment that ends a directive sooner gains at that end what an end gains, and over the record too."""
    with live(replace(PEOPLE, directive=LETTER)) as scene:
        scene.decided()
        olga, sooner = scene.people["olga"], {**LETTER, "until": format_instant(NOW + DAY)}
        found, end = scene.previews.amend(olga, "letter", sooner), scene.previews.end(olga, "letter")
    assert found.at == NOW + DAY
    assert found.registers.lines == end.registers.lines and end.registers.counts.gains > 0
    assert found.recorded is not None and end.recorded is not None
    assert found.recorded.lines == end.recorded.lines and end.recorded.counts.gains > 0


def test_the_other_instants_of_a_change_are_named(live: Live) -> None:
    """A directive of now whose exemption begins tomorrow is shown as of tomorrow, and says that it is otherwise now."""
    tomorrow = format_instant(NOW + DAY)
    lab = {"models": LETTER["models"], "who": "lab_foreign_national_employees", "from": tomorrow}
    with live(PEOPLE) as scene:
        olga = scene.people["olga"]
        found = scene.previews.receive(olga, "directive", {**LETTER, "exempts": [lab]}, wanted=NO_DAYS)
        plain = scene.previews.receive(olga, "directive", LETTER, wanted=NO_DAYS)
        annex = {**lab, "who": "annex_a_entities_and_their_employees"}
        many = [{**annex, "annex_a": [f"c{day}"], "from": format_instant(NOW + day * DAY)} for day in range(1, 12)]
        busy = scene.previews.receive(olga, "directive", {**LETTER, "exempts": many}, wanted=NO_DAYS)
    now = format_instant(NOW)
    assert f"It shows {tomorrow}; the change does something else from {now}." in found.notes
    assert not any("something else" in note for note in plain.notes)
    (note,) = [note for note in busy.notes if "something else" in note]
    assert note.startswith(f"It shows {many[-1]['from']};") and note.endswith(" and 3 more.")


def test_progress_reaches_its_end_and_never_goes_back(live: Live) -> None:
    """Both halves count towards one total."""
    steps: list[tuple[int, int]] = []
    with live(World([ALICE] * 12)) as scene:
        scene.decided()
        wanted = Wanted(progress=lambda done, total: steps.append((done, total)))
        scene.previews.engage(scene.people["olga"], "new", {"models": "all"}, wanted=wanted)
    assert [done for done, _ in steps] == sorted(done for done, _ in steps) and len(steps) > 2
    assert {total for _, total in steps} == {steps[-1][0]}


def test_what_is_handed_over_is_plain(live: Live) -> None:
    """Streams are said to be unknown, and every member has a name that the docs can rely on."""
    with live(PEOPLE) as scene:
        found = scene.previews.engage(scene.people["olga"], "new", SCOPE)
    assert answer.STREAMS in found.notes
    assert [field.name for field in fields(Preview)][:3] == ["id", "what", "change"]
    serves = {one.model: one.serves for one in found.registers.fallbacks}
    assert serves.keys() == {"open-1"} and found.registers.unserved == 0
