"""Words that only a caller wrote stay sealed: an action that the policy does not know is not in the public entry."""

from __future__ import annotations

import pytest

from policy_engine.bootstrap import Engine
from policy_engine.core.decision import Request
from policy_engine.core.factparse import parse_location
from policy_engine.services.evidence import Filters
from policy_engine.services.permissions import LOCAL


@pytest.mark.parametrize(
    ("action", "model", "public"),
    [
        ("infer", "fable-5", "infer"),
        ("list", "no-such-model", "list"),
        ("planted-action", "fable-5", None),
        ("planted-action", "no-such-model", None),
    ],
)
def test_an_action_is_public_once_the_policy_knows_it(
    engine: Engine, action: str, model: str, public: str | None
) -> None:
    """A declared action is in the clear; a made-up one is not, whether or not the rules were reached."""
    decision = engine.decider.decide(Request("alice", action, model, "acme", parse_location("US"), "US"), LOCAL)
    assert decision.allowed is (action == "infer")
    (entry,) = engine.evidence.query(LOCAL, Filters(kind="decision", limit=1)).entries
    assert entry["action"] == public
    assert "planted" not in str(entry)
