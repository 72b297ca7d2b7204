"""Replay of what was tampered with, erased, pruned or damaged: found and named, and the others come out the same."""

from __future__ import annotations

import pytest

from policy_engine.core.instants import DAY
from policy_engine.errors import VerificationFailed
from policy_engine.services.asof import AsOf
from policy_engine.services.evidence import Filters
from policy_engine.services.permissions import LOCAL
from policy_engine.services.questiontext import parse_question
from policy_engine.services.releases import ReleaseLoader
from policy_engine.services.supposed import Correction
from tests.services.histories import played, sqlite_settings
from tests.services.replays import ALICE, EVE, SampleHouse, edited, in_memory, statuses, written

# What was tampered with is found


def test_a_row_that_was_edited_for_one_decision_is_found(sample_house: SampleHouse) -> None:
    """Facts edited by hand before a decision and put back behind it: that decision, and no other, is different."""
    engine, keys = sample_house
    engine.decider.decide(ALICE, LOCAL)
    was, lie = '"level":"declared","verified_on":null', '"level":"verified","verified_on":"2026-11-01"'
    edited(engine, f"UPDATE persons SET document = replace(document, '{was}', '{lie}') WHERE id = 'eve'")
    deceived = engine.decider.decide(EVE, LOCAL)
    assert deceived.allowed
    edited(engine, f"UPDATE persons SET document = replace(document, '{lie}', '{was}') WHERE id = 'eve'")
    engine.decider.decide(ALICE, LOCAL)
    found = list(engine.replay.all(keys["auditor"]))
    assert [one.status for one in found] == ["same", "different", "same"]
    assert (found[1].public or {})["id"] == deceived.id
    members = {one.member: (one.recorded, one.found) for one in found[1].differences}
    assert members["outcome"] == ("allow", "deny")
    assert engine.evidence.verify().ok


@pytest.mark.parametrize(
    ("statement", "status", "words"),
    [
        (written('"deny"', '"allow"'), "different", ""),
        (written('"P8"', '"P9"'), "different", ""),
        (written('"tier":4', '"tier":3'), "different", ""),
        ("UPDATE bodies SET sealed = CAST(substr(sealed, 1, 40) || x'00' || substr(sealed, 42) AS BLOB) WHERE seq = 2",
         "unreadable", "does not open"),
        ("DELETE FROM bodies WHERE seq = 2", "unreadable", "no sealed body"),
        ("UPDATE bodies SET data_key = (SELECT data_key FROM bodies WHERE seq = 1) WHERE seq = 2",
         "unreadable", "does not open"),
    ],
)  # fmt: skip
def test_an_altered_entry_is_found(sample_house: SampleHouse, statement: str, status: str, words: str) -> None:
    """An outcome, reason or tier that was edited, and a body that was flipped, taken away or exchanged."""
    engine, keys = sample_house
    engine.decider.decide(ALICE, LOCAL)
    engine.decider.decide(EVE, LOCAL)
    engine.decider.decide(ALICE, LOCAL)
    edited(engine, statement)
    found = list(engine.replay.all(keys["auditor"]))
    assert [one.status for one in found] == ["same", status, "same"]
    assert words in found[1].note
    assert engine.replay.one(keys["auditor"], "2").status == status


def test_a_change_that_does_not_open_is_named(sample_house: SampleHouse) -> None:
    """Decisions rest on every change before them, so one that cannot be read is part of the answer."""
    engine, keys = sample_house
    engine.facts.set_facts(keys["operator"], "persons", "alice", {"residence_country": "GB"})
    engine.decider.decide(ALICE, LOCAL)
    edited(engine, "UPDATE bodies SET sealed = CAST(replace(sealed, 'A', 'B') AS BLOB) WHERE seq = 1")
    found = statuses(list(engine.replay.all(keys["auditor"])))
    assert found == {"1": "unreadable", "2": "different"}


# What is gone


def test_what_was_erased_answers_by_which_entry(sample_house: SampleHouse) -> None:
    """Of an erased subject nothing is decided again; everybody else, before and behind it, comes out the same."""
    engine, keys = sample_house
    for request in (ALICE, EVE, ALICE):
        engine.decider.decide(request, LOCAL)
    proposed = engine.disposal.erasures.propose(keys["operator"], "eve", "asked by the person")
    ruled = engine.approvals.approve(keys["approver"], proposed.proposal.id)
    engine.decider.decide(EVE, LOCAL)
    engine.decider.decide(ALICE, LOCAL)
    found = list(engine.replay.all(keys["auditor"]))
    assert [one.status for one in found] == ["same", "erased", "same", "same", "same"]
    by = f"erased by entry {ruled.committed.seqs[-1]} of log {ruled.committed.log_id}"
    assert found[1].note == by
    one = engine.replay.one(keys["auditor"], "2")
    assert (one.status, one.note, one.differences) == ("erased", by, ())
    assert engine.evidence.verify().ok


def test_erasures_in_a_generated_history(compiled: ReleaseLoader) -> None:
    """After two subjects were erased, exactly their decisions answer so; all others come out the same."""
    with in_memory() as place, played(7, 200, [sqlite_settings(place)], compiled) as history:
        engine, auditor = history.engine, history.keys["auditor"]
        before = list(engine.replay.all(auditor))
        gone = set()
        for subject in ("dana", "frank"):
            asked = parse_question(f"subject:{subject}", history.clock.now)
            gone |= set(statuses(list(engine.replay.all(auditor, asked))))
            proposed = engine.disposal.erasures.propose(history.keys["operator"], subject, "asked by the person")
            engine.approvals.approve(history.keys["approver"], proposed.proposal.id)
        found = statuses(list(engine.replay.all(auditor)))
    assert len(gone) >= 50
    assert {name for name, status in found.items() if status == "erased"} == gone
    assert {name for name, status in found.items() if status == "same"} == set(statuses(before)) - gone


def test_what_was_pruned_answers_by_which_entry(compiled: ReleaseLoader) -> None:
    """Bodies past their retention are gone by an entry that says so; what is younger still comes out the same."""
    with in_memory() as place, played(0, 0, [sqlite_settings(place)], compiled) as history:
        engine, operator = history.engine, history.keys["operator"]
        engine.decider.decide(ALICE, LOCAL)
        history.clock.now += 4_000 * DAY
        engine.decider.decide(ALICE, LOCAL)
        before = history.clock.now - 3_700 * DAY
        proposed = engine.disposal.retention.propose(operator, before, "past its retention")
        engine.approvals.approve(history.keys["approver"], proposed.proposal.id)
        found = list(engine.replay.all(history.keys["auditor"]))
    assert [one.status for one in found] == ["pruned", "same"]
    assert found[0].note.startswith("pruned by entry ")


# Damage


@pytest.mark.parametrize("member", ["instant", "reasons", "by", "outcome"])
def test_a_decision_that_lacks_a_member_is_unreadable(sample_house: SampleHouse, member: str) -> None:
    """It is named and nothing else is kept back; whoever cannot say so with an answer gives none."""
    engine, keys = sample_house
    for request in (ALICE, EVE, ALICE):
        engine.decider.decide(request, LOCAL)
    edited(engine, written(f'"{member}":', f'"{member[:-1]}_":'))
    found = list(engine.replay.all(keys["auditor"]))
    assert [one.status for one in found] == ["same", "unreadable", "same"]
    assert "missing or has the wrong type" in found[1].note
    assert engine.replay.one(keys["auditor"], "2").status == "unreadable"
    asof = AsOf(engine.replay)
    corrected = asof.corrected(keys["auditor"], Correction("persons", "eve", {"us_status": "none"}, 0))
    assert [one["entry"] for one in corrected.closed] == ["2"]
    for ask in (lambda: asof.family(keys["auditor"], "fable-5"), lambda: asof.owners(keys["auditor"])):
        with pytest.raises(VerificationFailed, match="would lack entry 2"):
            ask()


@pytest.mark.parametrize("now", ["[1]", "hello"])
def test_a_question_names_the_entry_that_is_none(sample_house: SampleHouse, now: str) -> None:
    """What is no entry is neither found nor passed over: the answer is refused, with its place."""
    engine, _ = sample_house
    engine.decider.decide(ALICE, LOCAL)
    edited(engine, f"UPDATE entries SET public = CAST('{now}' AS BLOB) WHERE seq = 1")
    with pytest.raises(VerificationFailed, match="entry 1 of log"):
        engine.evidence.query(LOCAL, Filters(outcome="allow"))
