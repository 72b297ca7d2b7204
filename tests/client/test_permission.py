"""Budgets on made-up clocks: no allow is used after `settled`, whatever clocks, networks and machines do."""

from __future__ import annotations

import ast
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import policy_engine.client
from policy_engine.client import COUNTS_SUSPEND, Answer, Heard, Permission, Question, budget_clock
from tests.client.clocks import MachineClock, World

BUDGET = 2.0
SETTLED_SHARE = 1.01
"""How much longer than the budget an engage waits before it reports `settled`."""

CLIENT = Path(policy_engine.client.__file__).parent
ALLOW = Answer(True, "a" * 32, 7, round(BUDGET * 1_000))

seconds = st.floats(0.0, 3 * BUDGET)
rates = st.sampled_from([0.99, 0.995, 1.0, 1.005, 1.01])


def allowed(
    world: World, clock: Any, heard: Heard | None = None, took: float = 0.0, answer: Answer = ALLOW
) -> Permission:
    """Send a question, and get its answer so many true seconds later."""
    question = Question.of("fable-5", "infer", Heard() if heard is None else heard, clock)
    world.now += took
    return question.answered(answer)


@given(seconds, seconds, seconds, rates, rates, st.booleans(), st.lists(seconds, max_size=5))
@example(0.0, 0.0, 0.0, 0.99, 1.0, False, [1.99])
@example(0.0, 0.0, 3.0, 1.0, 1.0, False, [0.0])
def test_law_4_no_allow_is_used_after_settled(
    to_commit: float, to_engage: float, to_answer: float, point: float, engager: float, asleep: bool, uses: list[float]
) -> None:
    """Sent, committed, engaged, answered, used: with any delay between any two, a use is before `settled`.

    The entry is committed before the engage, or the fence refuses it; all else is free: a network that keeps the answer
    back, a process that is stopped, a machine that is suspended, a clock that is off by one percent.

    Control: policy_engine/client/permission.py
    `return Permission(self, answer)`
    """
    world = World()
    clock = MachineClock(world, point)
    question = Question.of("fable-5", "infer", Heard(), clock)
    engage_committed = to_commit + to_engage
    settled = engage_committed + BUDGET * SETTLED_SHARE / engager
    world.now = to_commit + to_answer
    permission = question.answered(ALLOW)
    if asleep:
        clock.suspended.append((world.now, world.now + to_answer))
    for wait in sorted(uses):
        world.now = to_commit + to_answer + wait
        if permission.is_usable():
            assert world.now <= settled


@pytest.mark.parametrize("budgets", [1, 2, 3, 4, 5])
def test_an_answer_that_comes_late_is_used_up(budgets: int) -> None:
    """The budget counts from the moment of sending: an answer kept back for it is worth nothing when it comes."""
    world = World()
    assert not allowed(world, MachineClock(world), took=BUDGET * budgets).is_usable()


def test_an_answer_that_comes_at_once_may_be_used_for_its_budget() -> None:
    """The laws above would hold for a client that never uses anything; this one uses 99% of each budget."""
    world = World()
    permission = allowed(world, MachineClock(world), took=0.01)
    for world.now in (0.01, 1.0, 1.97):
        assert permission.is_usable()
    assert permission.remaining_seconds() == pytest.approx(0.01)
    world.now = 1.981
    assert (permission.is_usable(), permission.remaining_seconds()) == (False, 0.0)


@pytest.mark.parametrize("step", [-3_600.0, 3_600.0])
def test_a_wall_clock_that_steps_by_an_hour_changes_nothing(step: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time of day is set back or forth between sending and using: the real clock of budgets does not notice."""
    permission = Question.of("fable-5", "infer", Heard()).answered(ALLOW)
    real, real_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: real() + step)
    monkeypatch.setattr(time, "time_ns", lambda: real_ns() + int(step * 1e9))
    assert permission.is_usable()
    assert BUDGET - 1.0 < permission.remaining_seconds() <= BUDGET


def test_the_client_reads_no_wall_clock() -> None:
    """No module of the client names a clock that can be set."""
    for path in sorted(CLIENT.glob("*.py")):
        names = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
        assert not names & {"time_ns", "CLOCK_REALTIME", "now", "utcnow", "today", "localtime", "gmtime"}, path.name
        assert "time.time(" not in path.read_text()


@pytest.mark.skipif(not COUNTS_SUSPEND, reason="this system has no clock that counts suspend")
def test_the_clock_counts_suspend() -> None:
    """Budgets are counted on CLOCK_BOOTTIME, which goes on in suspend."""
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= budget_clock() <= time.clock_gettime(time.CLOCK_BOOTTIME)


@pytest.mark.parametrize(("counts", "usable"), [(True, False), (False, True)])
def test_a_machine_that_slept_has_nothing_left(counts: bool, usable: bool) -> None:
    """A clock that counts suspend ends the answer; the second line shows what one that stands still would do."""
    world = World()
    clock = MachineClock(world, counts_suspend=counts, suspended=[(0.5, 3_600.0)])
    permission = allowed(world, clock)
    world.now = 3_600.5
    assert permission.is_usable() is usable
    permission.question.heard.doubt()  # what whoever has no such clock calls when the machine wakes
    assert not permission.is_usable()


def test_a_clock_that_goes_back_is_doubt() -> None:
    """It never should; when it does, nothing is left."""
    world = World(5.0)
    permission = allowed(world, MachineClock(world))
    world.now = 4.9
    assert not permission.is_usable()


GOOD = {"decision": True, "context": {"id": "a" * 32, "epoch": 7, "valid_for_ms": 2_000, "reasons": [{"code": "r"}]}}


def test_a_readable_answer_is_read() -> None:
    """Id, epoch, budget and reasons; a deny is never usable, however long it is valid."""
    assert Answer.read(GOOD) == Answer(True, "a" * 32, 7, 2_000, ("r",))
    world = World()
    denied = Answer.read({**GOOD, "decision": False})
    assert not allowed(world, MachineClock(world), answer=denied).is_usable()


@pytest.mark.parametrize(
    "body",
    [
        None, [], "yes", {}, {"decision": True}, {"decision": True, "context": []}, {**GOOD, "decision": 1},
        {**GOOD, "decision": "true"},
        *({**GOOD, "context": {**GOOD["context"], **wrong}} for wrong in (
            {"epoch": None}, {"epoch": "7"}, {"epoch": -1}, {"epoch": True}, {"id": None}, {"valid_for_ms": None},
            {"valid_for_ms": "2000"}, {"valid_for_ms": 2_000.0}, {"valid_for_ms": -1}, {"valid_for_ms": 60_001},
            {"valid_for_ms": True},
        )),
    ],
)  # fmt: skip
def test_an_answer_that_cannot_be_read_allows_nothing(body: Any) -> None:
    """A missing, odd or impossible member is no allow; a budget beyond the longest there is, is not believed."""
    world = World()
    assert not allowed(world, MachineClock(world), answer=Answer.read(body)).is_usable()


EVENTS = st.tuples(
    st.sampled_from(["standing", "changed", "void", "other"]),
    st.fixed_dictionaries(
        {},
        optional={"epoch": st.integers(-1, 12) | st.none(), "voids": st.sampled_from(["nothing", "everything", {}, 5])},
    ),
)


@given(st.lists(EVENTS), st.lists(EVENTS), st.integers(0, 12), st.floats(0.0, 3.0))
def test_nothing_heard_makes_an_allow_last_longer(
    before: list[Any], after: list[Any], epoch: int, waited: float
) -> None:
    """Whatever the stream says, before the question or after it: usable only where it is without a stream at all."""
    world, heard = World(), Heard()
    for event in before:
        heard.take(*event)
    answer = Answer(True, "a" * 32, epoch, 2_000)
    permission = allowed(world, MachineClock(world), heard, answer=answer)
    for event in after:
        heard.take(*event)
    deaf = allowed(World(), MachineClock(World()), answer=answer)
    world.now = deaf.question.clock.world.now = waited  # type: ignore[attr-defined]  # a made-up clock
    assert not permission.is_usable() or deaf.is_usable()
