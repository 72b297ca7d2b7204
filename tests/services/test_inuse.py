"""Allows in use: they end when a withdrawal takes hold, when an instant comes, when facts move, and when in doubt."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from pysqlite3 import dbapi2

from policy_engine.core.decision import Decision, Request
from policy_engine.core.facts import Location
from policy_engine.core.instants import format_instant
from policy_engine.errors import StoreUnavailable
from policy_engine.limits import LIMITS
from policy_engine.services.afterwards import TOGETHER_COUNT, Afterwards, Told
from policy_engine.services.permissions import LOCAL
from tests.laws.sample import decisions, opened
from tests.services.interrupts import Struck, closed_beside

ALICE = Request("alice", "infer", "fable-5", "acme", Location("US"), "US")
OTHER = Request("alice", "infer", "opus-4-8", "acme", Location("US"), "US")


@pytest.fixture
def running(sample_database: Any, compiled: Any) -> Iterator[tuple[Any, Any]]:
    """Offer an engine on the real clock, and its principals."""
    with opened(sample_database, compiled) as found:
        yield found


def soon(happened: Callable[[], bool], seconds: float = 3.0) -> bool:
    """Return whether it happened within the time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if happened():
            return True
        time.sleep(0.005)
    return False


def allowed(engine: Any, request: Request = ALICE) -> Decision:
    """Return an allow that was just decided."""
    decision: Decision = engine.decider.decide(request, LOCAL)
    assert decision.allowed
    return decision


def test_a_switch_ends_what_it_covers_and_leaves_the_rest(running: Any) -> None:
    """Within a second of the commit the covered hold has ended with a recorded deny; the other one stands.

    Control: policy_engine/services/inuse.py: `if evaluation.outcome is not Outcome.ALLOW:`
    """
    engine, keys = running
    covered, other = engine.uses.hold(allowed(engine)), engine.uses.hold(allowed(engine, OTHER))
    told = threading.Event()
    covered.on_end(told.set)
    before = len(decisions(engine))
    engine.switches.engage(keys["operator"], "stop", {"models": ["fable-5"]}, "test")
    assert told.wait(1.0)
    assert {reason.code for reason in covered.ended.reasons} == {"switch.engaged"}
    assert other.ended is None
    assert soon(lambda: len(decisions(engine)) > before)
    recorded = decisions(engine)[before:]
    assert [(each.public["outcome"], each.body["subject"]) for each in recorded] == [("deny", "alice")]
    assert covered.ended.id == recorded[0].public["id"]


def test_a_fact_that_moves_ends_what_rested_on_it(running: Any) -> None:
    """A change of facts raises no epoch and ends the hold all the same."""
    engine, keys = running
    hold = engine.uses.hold(allowed(engine))
    engine.facts.set_facts(keys["operator"], "persons", "alice", {"list_match": "confirmed"})
    assert soon(lambda: hold.ended is not None)


def test_an_expiry_ends_it_at_its_instant(running: Any) -> None:
    """A hold is asked again at the instant at which its outcome may change, though nothing is written then."""
    engine, keys = running
    expires_at = (engine.store.now() // 1_000_000 + 2) * 1_000_000
    cleared = {"list_match": {"value": "none", "expires_at": format_instant(expires_at)}}
    engine.facts.set_facts(keys["operator"], "persons", "alice", cleared)
    hold, ended_at = engine.uses.hold(allowed(engine)), list[int]()
    hold.on_end(lambda: ended_at.append(engine.store.now()))
    assert soon(lambda: bool(ended_at), 4.0)
    assert 0 <= ended_at[0] - expires_at < 500_000


def test_an_allow_that_waited_lets_nothing_through_after_its_withdrawal(running: Any) -> None:
    """A queue between decision and use: the hold has ended before anything is let through, and the cut is recorded.

    Control: policy_engine/services/inuse.py: `if decision.epoch < self._snapshots.epoch or _is_spent(decision):`
    """
    engine, keys = running
    waited = allowed(engine)
    engine.switches.engage(keys["operator"], "stop", {"models": ["fable-5"]}, "test")
    engine.decider.decide(OTHER, LOCAL)  # this replica has the newer state, as one that has acknowledged it
    before = len(decisions(engine))
    hold = engine.uses.hold(waited)
    assert hold.ended is not None and hold.ended.reasons[0].code == "switch.engaged"
    assert soon(lambda: len(decisions(engine)) > before)
    assert decisions(engine)[before].public["id"] == hold.ended.id
    assert engine.uses.count == 0


def test_an_allow_that_is_older_than_its_budget_is_asked_for_again(running: Any) -> None:
    """Facts move without a new epoch; then its age says that it must be asked for, and a younger one is believed."""
    engine, keys = running
    young, old = allowed(engine), allowed(engine)
    engine.facts.set_facts(keys["operator"], "persons", "alice", {"list_match": "confirmed"})
    engine.decider.decide(OTHER, LOCAL)
    spent = replace(old, grant=old.grant._replace(spent=old.grant.spent - old.valid_for_ms / 1_000))
    assert engine.uses.hold(spent).ended is not None
    assert engine.uses.hold(replace(old, grant=None)).ended is not None  # it does not say how old it is
    assert young.grant.spent > 0 and soon(lambda: engine.uses.hold(young).ended is not None)


def test_an_allow_that_waited_ends_when_it_cannot_be_asked_for(running: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state that cannot be read, or an error nobody expected: it is not known to stand."""
    engine, _ = running
    old = replace(allowed(engine), grant=None)
    for error in (StoreUnavailable("away"), RuntimeError("broken")):

        def failing(error: Exception = error) -> None:
            raise error

        with monkeypatch.context() as patched:
            patched.setattr(engine.decider, "confirmed", failing)
            hold = engine.uses.hold(old)
            assert hold.ended is not None and [reason.code for reason in hold.ended.reasons] == ["log.unavailable"]
    assert engine.uses.hold(old).ended is None


def test_a_deny_that_cannot_be_recorded_leaves_the_watcher_alive(running: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error nobody expected behind one late use: what else is held still ends with its withdrawal."""
    engine, keys = running

    def broken(told: list[Any], snapshot: Any) -> None:
        if told:
            raise RuntimeError("broken")

    waited, other = allowed(engine), engine.uses.hold(allowed(engine, OTHER))
    with monkeypatch.context() as patched:
        patched.setattr(engine.uses._afterwards, "record", broken)
        engine.switches.engage(keys["operator"], "stop", {"models": ["fable-5"]}, "test")
        engine.decider.decide(OTHER, LOCAL)
        assert engine.uses.hold(waited).ended is not None
        assert soon(lambda: not engine.uses._late)
    assert other.ended is None
    engine.switches.engage(keys["operator"], "stop-2", {"models": ["opus-4-8"]}, "test")
    assert soon(lambda: other.ended is not None)


def test_a_state_that_cannot_be_read_ends_everything(running: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be confirmed for longer than a replica may be cut off ends, and the denies are counted."""
    engine, _ = running
    hold = engine.uses.hold(allowed(engine))

    def away() -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr(engine.decider, "confirmed", away)
    time.sleep(0.4)
    assert hold.ended is None
    assert soon(lambda: hold.ended is not None, 2.0)
    assert [reason.code for reason in hold.ended.reasons] == ["log.unavailable"]


def test_an_error_nobody_expected_ends_everything(running: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A watcher that cannot look lets nothing go on."""
    engine, _ = running

    def broken() -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(engine.decider, "confirmed", broken)
    hold = engine.uses.hold(allowed(engine))
    assert soon(lambda: hold.ended is not None, 1.0)


def test_closing_the_engine_ends_what_is_in_use(sample_database: Any, compiled: Any) -> None:
    """Nobody watches a closed engine's allows, so they have ended, and a late one has ended at once."""
    with opened(sample_database, compiled) as (engine, _):
        decision = allowed(engine)
        hold = engine.uses.hold(decision)
    assert hold.ended is not None
    assert engine.uses.hold(decision).ended is not None


def test_a_closed_hold_is_watched_no_longer(running: Any) -> None:
    """After `close`, or at the end of a `with`, a hold neither ends nor keeps the watcher busy."""
    engine, keys = running
    with engine.uses.hold(allowed(engine)) as hold:
        assert engine.uses.count == 1
    assert engine.uses.count == 0
    engine.switches.engage(keys["operator"], "stop", {"models": ["fable-5"]}, "test")
    time.sleep(0.5)
    assert hold.ended is None


def test_who_asks_late_is_told_at_once_and_a_failing_call_keeps_nobody_waiting(running: Any) -> None:
    """`on_end` after the end calls at once; a call that raises does not keep the next one from being made."""
    engine, keys = running
    hold, told = engine.uses.hold(allowed(engine)), threading.Event()

    def failing() -> None:
        raise RuntimeError("cannot be told")

    hold.on_end(failing)
    hold.on_end(told.set)
    engine.switches.engage(keys["operator"], "stop", {"models": ["fable-5"]}, "test")
    assert told.wait(1.0)
    late: list[int] = []
    hold.on_end(lambda: late.append(1))
    assert late == [1]


def test_only_an_allow_can_be_held(running: Any) -> None:
    """A deny, and an allow that knows no question, raise `ValueError`."""
    engine, _ = running
    denied = engine.decider.decide(Request("eve", "infer", "fable-5", "acme", Location("US"), "US"), LOCAL)
    bare = Decision(True, "x", (), (), (), "", 1, 0)
    for decision in (denied, bare):
        with pytest.raises(ValueError, match="only an allow"):
            engine.uses.hold(decision)


def test_an_allow_of_an_older_epoch_is_asked_again_at_once(running: Any) -> None:
    """A switch between the decision and the hold is not missed."""
    engine, keys = running
    decision = allowed(engine)
    engine.switches.engage(keys["operator"], "stop", {"models": ["fable-5"]}, "test")
    hold = engine.uses.hold(decision)
    assert soon(lambda: hold.ended is not None, 1.0)


def test_an_interrupt_of_whoever_holds_leaves_the_watcher_alive(running: Any) -> None:
    """Ctrl-C at whatever moment of holding takes nothing from the watcher: it waited for a lock for ever, so that no
    withdrawal ended what others held, and whoever held next waited too."""
    engine, keys = running
    told, late = threading.Event(), replace(allowed(engine), epoch=0)
    engine.uses.hold(allowed(engine)).on_end(told.set)
    moment, struck = 0, Struck(0)
    while struck.left <= 0:
        moment += 1
        struck = Struck(moment, ("inuse.py", "threading.py"))
        with suppress(KeyboardInterrupt):
            sys.setprofile(struck)
            try:
                engine.uses.hold(late)
            finally:
                sys.setprofile(None)
        other = threading.Thread(target=engine.uses.hold, args=(late,), daemon=True)
        other.start()
        other.join(5)
        assert not other.is_alive(), f"after an interrupt at moment {moment}"
    assert moment > 5
    engine.switches.engage(keys["operator"], "stop", {"models": ["fable-5"]}, "test")
    assert told.wait(2.0)


def test_a_hold_may_be_closed_in_the_middle_of_another(running: Any) -> None:
    """A handler of signals, or a stream that is collected, may close another hold in the very thread that uses one."""
    engine, _ = running
    assert closed_beside(engine.uses.hold(allowed(engine)), engine.uses.hold(allowed(engine)))


def told_one(engine: Any, request: Request = ALICE) -> tuple[Told, Any, Decision]:
    """Return a deny of now that was told and is not written, and the snapshot it was evaluated under."""
    snapshot, decider = engine.snapshots.refresh(), engine.decider
    (evaluation,) = decider.evaluations([(request, LOCAL)], snapshot, decider.now())
    decision, draft = decider.denied(evaluation, LOCAL, snapshot)
    return Told(evaluation, LOCAL, draft), snapshot, decision


def test_an_entry_that_the_state_overtook_is_written_under_the_id_that_was_told(running: Any) -> None:
    """A change between the end and its entry makes the entry one of the newer epoch, and nobody's id changes."""
    engine, keys = running
    engine.switches.engage(keys["operator"], "stop", {"models": ["fable-5"]}, "test")
    told, snapshot, decision = told_one(engine)
    engine.switches.engage(keys["operator"], "other", {"models": ["open-1"]}, "test")
    Afterwards(engine.decider, engine.recorder).record([told], snapshot)
    recorded = decisions(engine)[-1].public
    assert (recorded["id"], recorded["outcome"]) == (decision.id, "deny")
    assert recorded["epoch"] > snapshot.state.epoch


def test_what_would_be_allowed_by_then_or_cannot_be_written_is_counted(
    running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No entry says allow of an end that was a deny; it is counted, as is what a store that is away does not take."""
    engine, keys = running
    counted: list[str] = []
    monkeypatch.setattr(engine.recorder, "missed", counted.append)
    afterwards = Afterwards(engine.decider, engine.recorder)
    engine.facts.set_facts(keys["operator"], "persons", "alice", {"list_match": "confirmed"})
    told, snapshot, _ = told_one(engine)
    engine.facts.set_facts(keys["operator"], "persons", "alice", {"list_match": "none"})
    before = len(decisions(engine))
    afterwards.record([told], snapshot)
    assert (counted, len(decisions(engine))) == (["stale"], before)
    engine.facts.set_facts(keys["operator"], "persons", "alice", {"list_match": "confirmed"})
    told, snapshot, _ = told_one(engine)
    engine.recorder.close()
    afterwards.record([told], snapshot)
    assert counted == ["stale", "log.unavailable"]


def test_a_log_that_is_away_is_waited_for_once_however_many_were_told(
    running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for each batch of many watches nothing for as long; all of them are counted all the same."""
    engine, keys = running
    counted: list[str] = []
    monkeypatch.setattr(engine.recorder, "missed", counted.append)
    engine.facts.set_facts(keys["operator"], "persons", "alice", {"list_match": "confirmed"})
    told = [told_one(engine)[0] for _ in range(3 * TOGETHER_COUNT)]
    locked = dbapi2.connect(str(engine.settings.database_path), isolation_level=None)
    locked.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    try:
        Afterwards(engine.decider, engine.recorder).record(told, engine.snapshots.refresh())
    finally:
        locked.close()
    assert time.monotonic() - began < 2 * LIMITS.answer_seconds
    assert counted == ["log.unavailable"] * len(told)


def test_the_same_question_is_evaluated_once_in_a_look_and_others_by_themselves(
    running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many streams of one caller cost one evaluation; whatever differs in a question or its asker is another one."""
    engine, _ = running
    snapshot, decider, asked = engine.snapshots.refresh(), engine.decider, list[Request]()
    honest = decider._evaluator.evaluate

    def counted(request: Request, *more: Any) -> Any:
        asked.append(request)
        return honest(request, *more)

    monkeypatch.setattr(decider._evaluator, "evaluate", counted)
    eve = Request("eve", "infer", "fable-5", "acme", Location("US"), "US")
    away = Request("alice", "infer", "fable-5", "acme", Location("IR"), "US")
    bounded, silent = replace(LOCAL, tenants=frozenset()), replace(LOCAL, supplies=frozenset())
    questions = [(ALICE, LOCAL), (eve, LOCAL), (ALICE, LOCAL), (away, LOCAL), (OTHER, LOCAL)]
    questions += [(ALICE, bounded), (ALICE, silent)]
    found = [each.outcome.value for each in decider.evaluations(questions, snapshot, decider.now())]
    assert found == ["allow", "deny", "allow", "deny", "allow", "deny", "deny"]
    assert asked == [ALICE, eve, away, OTHER, ALICE, ALICE]
