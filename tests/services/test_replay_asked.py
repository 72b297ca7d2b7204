"""Which decisions are replayed, for whom: by name, by question, by tenant, and on the record."""

from __future__ import annotations

import pytest

from policy_engine.core.decision import PrincipalKind, Request
from policy_engine.core.facts import Location
from policy_engine.errors import InputRefused, NotAuthenticated, NotFound, NotPermitted
from policy_engine.services.keys import KeyRequest
from policy_engine.services.permissions import LOCAL
from policy_engine.services.questiontext import parse_question
from tests.services.replays import ALICE, EVE, SampleHouse, statuses

# One decision, and who may ask


def test_a_decision_is_named_by_entry_or_id(sample_house: SampleHouse) -> None:
    """Its number, its log and number, or its id; each replay says the same of the same entry."""
    engine, keys = sample_house
    decision = engine.decider.decide(ALICE, LOCAL)
    head = engine.store.head()
    assert head is not None
    for name in ("1", f"{head.log_id}:1", decision.id):
        found = engine.replay.one(keys["auditor"], name)
        assert (found.entry, found.status, found.differences) == ("1", "same", ())


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("0", InputRefused, "is a change"),
        ("2", NotFound, "no such decision"),
        ("99", NotFound, "no such decision"),
        ("f" * 32, NotFound, "no such decision"),
        ("0123456789abcdef:1", NotFound, "no such decision"),
        ("one", InputRefused, "LOG:NUMBER"),
        ("", InputRefused, "LOG:NUMBER"),
        ("-1", InputRefused, "LOG:NUMBER"),
        ("1" * 19, InputRefused, "LOG:NUMBER"),
    ],
)
def test_what_is_no_decision_is_refused(
    sample_house: SampleHouse, name: str, error: type[Exception], words: str
) -> None:
    """A change, a read, an entry that is not there and a text that names none: one sentence each."""
    engine, keys = sample_house
    engine.decider.decide(ALICE, LOCAL)
    engine.replay.one(keys["auditor"], "1")  # entry 2 is a read
    with pytest.raises(error, match=words):
        engine.replay.one(keys["auditor"], name)


def test_a_replay_needs_a_person_who_may_unseal(sample_house: SampleHouse) -> None:
    """`local`, a gateway, an operator without the scope and an ended key are refused, and nothing is recorded."""
    engine, keys = sample_house
    engine.decider.decide(ALICE, LOCAL)
    before = engine.store.head()
    for who in (LOCAL, keys["enforcement point"], keys["operator"], keys["approver"]):
        with pytest.raises(NotPermitted, match="audit:unseal"):
            engine.replay.one(who, "1")
        with pytest.raises(NotPermitted, match="audit:unseal"):
            engine.replay.all(who)
    assert engine.store.head() == before
    engine.keys.revoke(keys["operator"], str(keys["auditor"].key_id))
    with pytest.raises(NotAuthenticated):
        engine.replay.all(keys["auditor"])


def test_a_replay_is_recorded_before_it_is_shown(sample_house: SampleHouse) -> None:
    """One entry of kind `read` a replay; of one decision it is found by the person it was about."""
    engine, keys = sample_house
    engine.decider.decide(EVE, LOCAL)
    engine.replay.one(keys["auditor"], "1")
    engine.replay.all(keys["auditor"], text="subject:eve")  # not one result was taken
    one, every = (engine.evidence.show(LOCAL, seq) for seq in (2, 3))
    assert (one["kind"], one["what"], one["entry"], one["by"]) == ("read", "replay", "1", keys["auditor"].key_id)
    assert (every["kind"], every["what"]) == ("read", "replay")
    assert "eve" not in str(one) + str(every)
    assert engine.evidence.read_body(keys["auditor"], 3)["question"] == "subject:eve"
    assert engine.evidence.verify().ok


def test_the_bounded_replay_their_tenants_only(sample_house: SampleHouse) -> None:
    """A key bounded to tenants replays the decisions of those tenants; others are not there."""
    engine, keys = sample_house
    bounded = KeyRequest("vera", PrincipalKind.PERSON, ("audit:unseal",), tenants=("lab",))
    issued = engine.keys.create(keys["operator"], bounded)
    engine.approvals.approve(keys["approver"], str(issued.proposal))
    vera = engine.keys.authenticate(issued.secret)
    engine.decider.decide(ALICE, LOCAL)
    engine.decider.decide(Request("greg", "infer", "fable-5", "lab", Location("US"), "US"), LOCAL)
    assert list(statuses(list(engine.replay.all(vera)))) == ["4"]
    with pytest.raises(NotFound):
        engine.replay.one(vera, "3")


# Questions


@pytest.mark.parametrize(
    ("question", "entries"),
    [
        ("", ["1", "2", "3", "4"]),
        ("allow", ["1", "3"]),
        ("deny", ["2", "4"]),
        ("tier>=4", ["1", "2", "4"]),
        ("tenant:lab", ["3", "4"]),
        ("subject:alice", ["1"]),
        ("country:GB,US", ["4"]),
        ("us_person:yes allow", ["1"]),
        ("group:D:5", ["3"]),
        ("until 2020-01-01", []),
    ],
)
def test_a_question_selects_what_is_replayed(sample_house: SampleHouse, question: str, entries: list[str]) -> None:
    """Public columns, sealed facets, groups of countries and times select decisions as they do everywhere."""
    engine, keys = sample_house
    for request in (
        ALICE,
        EVE,
        Request("chen", "infer", "open-1", "lab", Location("US"), "US"),
        Request("greg", "infer", "fable-5", "lab", Location("CN"), "US"),
    ):
        engine.decider.decide(request, LOCAL)
    asked = parse_question(question, engine.store.now())
    found = list(engine.replay.all(keys["auditor"], asked))
    assert list(statuses(found)) == entries
