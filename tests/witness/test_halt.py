"""A log that a witness speaks against: every door denies, and nothing more is written."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from policy_engine.bootstrap import Engine
from policy_engine.core.decision import Decision, Request
from policy_engine.core.facts import Location
from policy_engine.errors import LogForked
from policy_engine.services.permissions import LOCAL
from policy_engine.services.queries import Query
from tests.laws.sample import opened

ALLOWED = Request("alice", "infer", "fable-5", "acme", Location("US"), "US")
FORK = LogForked("the witness has seen a larger tree", where="tree")


def entries(engine: Engine) -> int:
    """Return how many entries the log has."""
    with engine.store.view() as view:
        return sum(head.next_seq for head in view.heads())


def codes(decisions: list[Decision]) -> set[tuple[bool, str]]:
    """Return outcome and reason of each decision."""
    return {(each.allowed, reason.code) for each in decisions for reason in each.reasons}


def test_every_way_to_decide_denies_and_writes_nothing(sample_database: Any, compiled: Any) -> None:
    """Alone and in batches, in threads and on a loop: denied as `log.forked`, no entry, not even one of the gap."""
    with opened(sample_database, compiled) as (engine, _):
        assert engine.decider.decide(ALLOWED, LOCAL).allowed
        before = entries(engine)
        engine.recorder.halt(FORK)
        found = [engine.decider.decide(ALLOWED, LOCAL), *engine.decider.decide_many([ALLOWED] * 3, LOCAL)]

        async def ask() -> list[Decision]:
            alone = await engine.decider.decide_async(ALLOWED, LOCAL)
            return [alone, *await engine.decider.decide_many_async([ALLOWED] * 3, LOCAL)]

        found += asyncio.run(ask())
        assert codes(found) == {(False, "log.forked")} and {decision.id for decision in found} == {""}
        time.sleep(1.2)  # longer than a gap waits for its report
        assert entries(engine) == before
    with opened(sample_database, compiled) as (engine, _):
        assert engine.decider.decide(ALLOWED, LOCAL).allowed


def test_what_is_under_way_ends_as_a_deny(sample_database: Any, compiled: Any) -> None:
    """Halted under load: an allow has its entry, and from the halt on there is none."""
    with opened(sample_database, compiled) as (engine, _):
        answers: list[tuple[float, Decision]] = []
        halted_at = [float("inf")]

        def ask() -> None:
            while time.monotonic() < halted_at[0] + 0.3:
                begun = time.monotonic()
                answers.append((begun, engine.decider.decide(ALLOWED, LOCAL)))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        engine.recorder.halt(FORK)
        halted_at[0] = time.monotonic()
        for thread in threads:
            thread.join()
        assert codes([decision for begun, decision in answers if begun > halted_at[0]]) == {(False, "log.forked")}
        allowed = [decision.id for _, decision in answers if decision.allowed]
        with engine.store.view() as view:
            text = b"".join(entry.public for entry in view.scan_entries()).decode()
        assert allowed and all(id in text for id in allowed)


def test_searching_and_reading_sealed_parts_say_why_they_cannot(sample_database: Any, compiled: Any) -> None:
    """A listing is an entry too, so it is refused with the reason; tightening is still possible."""
    with opened(sample_database, compiled) as (engine, keys):
        engine.recorder.halt(FORK)
        with pytest.raises(LogForked, match="larger tree"):
            engine.search.what_can(LOCAL, Query(action="infer", subject="alice", location=Location("US")))
        engine.switches.engage(keys["operator"], "stop", {"models": ["fable-5"]}, "a drill")
