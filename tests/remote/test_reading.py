"""Reading an engine's answer: a value of its own types, or `Unreadable`, whatever was sent."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from policy_engine.api.answers import single
from policy_engine.core.decision import Decision, Reason, Request
from policy_engine.limits import LIMITS
from policy_engine.remote.reading import Unreadable, read_decision, read_decisions, read_object, read_page
from policy_engine.rules.facets import is_line
from tests.remote.hostile import YES

REQUEST = Request("alice", "infer", "fable-5")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@given(st.sampled_from(sorted(YES["context"])), JSON)
def test_whatever_stands_in_a_member_is_read_or_refused(name: str, value: Any) -> None:
    """A decision or `Unreadable`, never another error; and what is read has the types it claims."""
    try:
        decision = read_decision({**YES, "context": {**YES["context"], name: value}}, REQUEST)
    except Unreadable:
        return
    assert all(type(text) is str for text in (*decision.missing, *decision.alternatives, decision.id, decision.message))
    assert type(decision.epoch) is int
    assert 0 <= decision.valid_for_ms <= 60_000


def test_a_deny_needs_no_more_than_its_word() -> None:
    """Neither id nor release, epoch or budget, alone and in a batch; an allow needs every one of them."""
    deny = {"decision": False, "context": {"reasons": [{"code": "no-rule-allows"}]}}
    found = read_decision(deny, REQUEST)
    assert (found.allowed, found.id, found.release, found.epoch, found.valid_for_ms) == (False, "", "", 0, 0)
    assert found.reasons[0].code == "no-rule-allows"
    assert read_decisions({"evaluations": [deny, YES]}, [REQUEST, REQUEST])[0] == found
    for name in ("id", "release", "epoch", "valid_for_ms"):
        context = {other: value for other, value in YES["context"].items() if other != name}
        with pytest.raises(Unreadable):
            read_decision({"decision": True, "context": context}, REQUEST)


@pytest.mark.parametrize("budget", [-1, 60_001, "0", None, True, 0.0])
def test_a_deny_that_claims_an_impossible_budget_is_not_read(budget: Any) -> None:
    """What may be left out must be what it says where it stands: such an answer is not understood."""
    with pytest.raises(Unreadable):
        read_decision({"decision": False, "context": {"valid_for_ms": budget}}, REQUEST)


def test_a_question_that_the_service_could_not_take_was_not_decided() -> None:
    """Such an item of a batch says false, and why it is none; it is no deny of the policy's."""
    refused = {"decision": False, "context": {"error": {"status": 400, "message": "subject.id: must be a text"}}}
    assert read_decisions({"evaluations": [refused]}, [REQUEST]) == [None]


@given(st.text(min_size=1), st.integers(1, 1_024))
def test_whatever_a_release_may_say_is_read(text: str, repeated: int) -> None:
    """Every text that loading takes for a label, message or authority comes through, up to the longest."""
    line = (text * repeated)[: LIMITS.text_characters]
    assume(is_line(line, LIMITS))
    code = "x" * LIMITS.id_characters
    reason = Reason(code, rule=line, message=line, authority=line, rule_id=f"{code}#{LIMITS.rules_count}")
    deny = Decision(False, "d", (reason,), (line,), (), "sha256:0", 1, 2_000, line)
    assert read_decision(read_object(single(deny)), REQUEST) == deny


@given(JSON)
def test_whatever_is_sent_is_read_or_refused(value: Any) -> None:
    """The same for whole bodies, of decisions, batches and pages."""
    for read in (
        lambda: read_decision(value, REQUEST),
        lambda: read_object(json.dumps(value).encode()),
        lambda: read_decisions(value if isinstance(value, dict) else {"evaluations": value}, [REQUEST]),
        lambda: read_page(value if isinstance(value, dict) else {"results": value, "page": value}, "id"),
    ):
        with suppress(Unreadable):
            read()
