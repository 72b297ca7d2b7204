"""Reading an engine's answer: a value of its own types, or `Unreadable`, whatever was sent."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from policy_engine.core.decision import Request
from policy_engine.remote.reading import Unreadable, read_decision, read_decisions, read_object, read_page
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
