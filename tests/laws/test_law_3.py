"""Law 3: no allow leaves before its entry is durable; an unknown commit outcome is not durable."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pysqlite3 import dbapi2

from policy_engine.bootstrap import open_engine
from policy_engine.core.decision import Decision, PrincipalKind, Request
from policy_engine.core.facts import Location
from policy_engine.services.decide import Decider
from policy_engine.services.keys import KeyRequest, TokenIdentity
from policy_engine.services.permissions import LOCAL
from policy_engine.settings import Settings
from tests.laws.sample import POLICIES, decisions, opened

ALLOWED = Request("alice", "infer", "fable-5", "acme", Location("US"), "US")
DENIED = Request("eve", "infer", "fable-5", "acme", Location("US"), "US")


STEPS = st.lists(st.sampled_from(("ask", "other", "other", "lock", "unlock")), max_size=7)
Ask = Callable[[Decider], Sequence[Decision]]


@settings(max_examples=6)
@given(steps=STEPS)
def test_every_allow_that_left_has_its_entry(steps: list[str], sample_database: Any, compiled: Any) -> None:
    """Whatever another process changes, and while it locks the file, an allow that left stands in the log as such.

    Control: policy_engine/services/decide.py:
    `if isinstance(result, Written) and item.evaluation is not None:  # nothing else lets an answer out`
    """
    check_allows(steps, sample_database, compiled, lambda decider: [decider.decide(ALLOWED, LOCAL)])


@settings(max_examples=3)
@given(steps=STEPS)
def test_every_allow_that_left_an_event_loop_has_its_entry(
    steps: list[str], sample_database: Any, compiled: Any
) -> None:
    """The same where an event loop waits for single decisions, two at a time.

    Control: policy_engine/services/decide.py:
    `if isinstance(result, Written) and item.evaluation is not None:`
    """

    async def ask(decider: Decider) -> Sequence[Decision]:
        return await asyncio.gather(decider.decide_async(ALLOWED, LOCAL), decider.decide_async(ALLOWED, LOCAL))

    with asyncio.Runner() as runner:
        check_allows(steps, sample_database, compiled, lambda decider: runner.run(ask(decider)))


@settings(max_examples=3)
@given(steps=STEPS)
def test_every_allow_of_a_batch_that_left_an_event_loop_has_its_entry(
    steps: list[str], sample_database: Any, compiled: Any
) -> None:
    """The same where an event loop waits for a batch: what the loop itself wrote is committed before it answers.

    Control: policy_engine/services/looped.py:
    `committed = self._way.store.commit(staged)`
    Control: policy_engine/services/decide.py:
    `if isinstance(result, Written) and item.evaluation is not None:  # nothing else lets an answer out`
    """
    with asyncio.Runner() as runner:
        check_allows(
            steps,
            sample_database,
            compiled,
            lambda decider: runner.run(decider.decide_many_async((ALLOWED, ALLOWED), LOCAL)),
        )


def check_allows(steps: list[str], sample_database: Any, compiled: Any, ask: Ask) -> None:
    """Take steps, and one switch of another process between two questions at least; hold each allow against the log."""
    with opened(sample_database, compiled) as (engine, _):
        place = engine.settings.database_path
        other = open_engine(Settings(database=f"sqlite:///{place}", policies=POLICIES), releases=compiled)
        operator = other.keys.authenticate(sample_database.keys["operator"])
        locked = None
        answers: list[tuple[Decision, bool]] = []
        try:
            for number, step in enumerate(["ask", "other", "ask", *steps]):
                if step == "lock" and locked is None:
                    locked = dbapi2.connect(str(place), isolation_level=None)
                    locked.execute("BEGIN IMMEDIATE")
                elif step == "unlock" and locked is not None:
                    locked.close()
                    locked = None
                elif step == "other" and locked is None:
                    other.switches.engage(operator, f"stop-{number}", {"models": ["mythos-5"]}, "a drill")
                elif step == "ask":
                    answers += [(decision, locked is not None) for decision in ask(engine.decider)]
        finally:
            if locked is not None:
                locked.close()
            other.close()
        written = {recorded.public["id"]: recorded.public["outcome"] for recorded in decisions(engine)}
        for decision, away in answers:
            assert decision.allowed is not away
            if decision.allowed:
                assert written.get(decision.id) == "allow"
            else:
                assert [reason.code for reason in decision.reasons] == ["log.unavailable"]
        assert engine.evidence.verify().ok


def test_a_switch_of_another_process_holds_for_the_next_decision(sample_database: Any, compiled: Any) -> None:
    """A decision evaluated under an older epoch is evaluated again, and denied by what came in between."""
    with opened(sample_database, compiled) as (engine, _):
        assert engine.decider.decide(ALLOWED, LOCAL).allowed
        settings = Settings(database=engine.settings.database, policies=POLICIES)
        other = open_engine(settings, releases=compiled)
        other.switches.engage(LOCAL, "stop", {"models": ["fable-5"]}, "a drill")
        other.close()
        after = engine.decider.decide(ALLOWED, LOCAL)
        assert [reason.code for reason in after.reasons] == ["switch.engaged"]
        assert after.epoch == engine.store.state().epoch


def test_denies_are_still_answered_while_the_log_is_away_and_counted(sample_database: Any, compiled: Any) -> None:
    """Every answer while the file is locked is a deny, and the gap says on return how many there were and why."""
    with opened(sample_database, compiled) as (engine, _):
        locked = dbapi2.connect(str(engine.settings.database_path), isolation_level=None)
        locked.execute("BEGIN IMMEDIATE")
        answers: list[bool] = []
        asks = [
            threading.Thread(target=lambda r=request: answers.append(engine.decider.decide(r, LOCAL).allowed))
            for request in (ALLOWED, DENIED) * 4
        ]
        for thread in asks:
            thread.start()
        for thread in asks:
            thread.join()
        locked.close()
        assert answers == [False] * 8
        assert engine.decider.decide(ALLOWED, LOCAL).allowed
        kinds = [(public["kind"], public) for public in _publics(engine)]
        gaps = [public for kind, public in kinds if kind == "gap"]
        assert sum(gap["count"] for gap in gaps) == 8  # a report under way when the file is freed is its own entry
        assert {code for gap in gaps for code, _ in gap["reasons"]} == {"log.unavailable"}
        assert kinds[-1][0] == "decision"


def _publics(engine: Any) -> list[Any]:
    import json

    return [json.loads(public) for _, _, public in engine.store.entries()]


def test_a_key_revoked_between_authentication_and_append_allows_nothing(sample_database: Any, compiled: Any) -> None:
    """A principal whose key was revoked after it was authenticated is denied, and the entry says so (law 4)."""
    with opened(sample_database, compiled) as (engine, keys):
        caller = keys["enforcement point"]
        assert engine.decider.decide(ALLOWED, caller).allowed
        other = open_engine(Settings(database=engine.settings.database, policies=POLICIES), releases=compiled)
        other.keys.revoke(other.keys.authenticate(sample_database.keys["operator"]), caller.key_id)
        other.close()
        after = engine.decider.decide(ALLOWED, caller)
        assert [reason.code for reason in after.reasons] == ["key.ended"]
        assert decisions(engine)[-1].public["outcome"] == "deny"


def test_a_registration_revoked_between_authentication_and_append_allows_nothing(
    sample_database: Any, compiled: Any
) -> None:
    """Who came by token is bound to the row as any key is, however good the token still is (law 4).

    Control: policy_engine/services/keys.py:
    `return held is not None and not held.revoked and (held.expires_at is None or at < held.expires_at)`
    """
    identity = TokenIdentity("https://issuer.example", "edge")
    asked = KeyRequest("edge", PrincipalKind.SERVICE, ("decide",), None, ("location", "serving_region"), None, identity)
    with opened(sample_database, compiled) as (engine, keys):
        issued = engine.keys.create(keys["operator"], asked)
        engine.approvals.approve(keys["approver"], issued.proposal)
        caller = engine.keys.authenticate_identity(identity)
        assert engine.decider.decide(ALLOWED, caller).allowed
        other = open_engine(Settings(database=engine.settings.database, policies=POLICIES), releases=compiled)
        other.keys.revoke(other.keys.authenticate(sample_database.keys["operator"]), issued.id)
        other.close()
        after = engine.decider.decide(ALLOWED, caller)
        assert [reason.code for reason in after.reasons] == ["key.ended"]
        assert decisions(engine)[-1].public["outcome"] == "deny"
        assert decisions(engine)[-1].public["by"] == issued.id
