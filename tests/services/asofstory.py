"""What tests of `services.asof` share: a decision of a story's engine, the question for all, the ids of entries."""

from __future__ import annotations

from policy_engine.bootstrap import Engine
from policy_engine.core.decision import Request
from policy_engine.core.facts import Location
from policy_engine.core.instants import SECOND
from policy_engine.ledger.encoding import parse_public
from policy_engine.services.permissions import LOCAL
from policy_engine.services.questions import Question

HOUR = 3_600 * SECOND
US = Location("US")
EVERYTHING = Question()


def ask(engine: Engine, who: str, model: str = "fable-5", tenant: str = "acme", action: str = "infer") -> str:
    """Ask for one decision from the US and return its id."""
    return engine.decider.decide(Request(who, action, model, tenant, US, "US"), LOCAL).id


def ids(engine: Engine) -> dict[str, str]:
    """Return the id of each entry by its name."""
    found = {}
    for log_id, seq, data in engine.store.entries(limit=100_000):
        found[str(seq) if engine.store.one_log else f"{log_id}:{seq}"] = str(parse_public(data)["id"])
    return found
