"""The circuit: denies at once while an engine is away, lets one question try, and closes when that one is answered."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from policy_engine import PolicyEngine
from policy_engine.limits import LIMITS
from policy_engine.remote import RemoteEngine
from policy_engine.remote.breaker import Breaker, Circuit
from tests.remote.hostile import answer, hostile, sending
from tests.remote.test_hostile import ASKED, KEY, yes


class Circuits(RuleBasedStateMachine):
    """Questions begin and end in any order while time goes by."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.breaker = Breaker(lambda: self.now, 3, 1.0, 8.0)
        self.under_way: list[Circuit] = []
        self.failed_at = -100.0
        self.failures = 0

    @rule(seconds=st.floats(0, 10))
    def wait(self, seconds: float) -> None:
        """Let time go by."""
        self.now += seconds

    @rule()
    def begin(self) -> None:
        """Ask; while the circuit is open nothing is sent."""
        found = self.breaker.begin()
        if found is not Circuit.OPEN:
            self.under_way.append(found)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), answered=st.sampled_from((True, False, None)))
    def end(self, data: st.DataObject, answered: bool | None) -> None:
        """Have one of the questions end."""
        found = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        before = self.breaker.circuit
        self.breaker.end(found, answered)
        if answered:
            assert self.breaker.circuit is Circuit.CLOSED
        if answered is None:
            assert self.breaker.circuit is before

    @invariant()
    def at_most_one_tries(self) -> None:
        """Half open, one question is under way at most; and no opening lasts longer than the longest pause."""
        assert self.under_way.count(Circuit.HALF_OPEN) <= 1
        if self.breaker.circuit is Circuit.OPEN:
            now, self.now = self.now, self.now + 8.0
            assert self.breaker.circuit is Circuit.HALF_OPEN
            self.now = now


TestCircuits = Circuits.TestCase
TestCircuits.settings = settings(max_examples=25, stateful_step_count=30)


def test_pauses_grow_and_an_answer_ends_them() -> None:
    """One second, two, four, up to the longest; then from the beginning."""
    now = 0.0
    breaker = Breaker(lambda: now, 1, 1.0, 3.0)
    for pause in (1.0, 2.0, 3.0, 3.0):
        found = breaker.begin()
        assert found is not Circuit.OPEN
        breaker.end(found, False)
        now += pause - 0.01
        assert breaker.begin() is Circuit.OPEN
        now += 0.02
    breaker.end(breaker.begin(), True)
    assert breaker.circuit is Circuit.CLOSED


def engine_at(url: str, **limits: Any) -> PolicyEngine:
    """Return a remote engine with limits of its own."""
    return PolicyEngine(RemoteEngine(url, KEY, timeout_seconds=0.2, limits=replace(LIMITS, **limits)))


def test_an_engine_that_is_away_is_denied_for_at_once_and_asked_again_later() -> None:
    """Nobody waits for a dead engine; when it is back, one question finds out, and everything is as before."""
    with hostile(sending(answer(yes()))) as server, engine_at(server.url, remote_pause_seconds=0.3) as engine:
        assert engine.decide(**ASKED)
        port = int(server.url.rpartition(":")[2])
    with engine_at(server.url, remote_pause_seconds=0.3) as engine:
        codes = [engine.decide(**ASKED).reasons[0].code for _ in range(5)]
        assert codes == ["engine.unreachable"] * 3 + ["engine.away"] * 2
        began = time.perf_counter()
        for _ in range(20):
            assert not engine.decide(**ASKED)
        assert time.perf_counter() - began < 0.25, "denies of an open circuit wait for nothing"
        with socket.create_server(("127.0.0.1", port)) as listening:
            threading.Thread(target=_answering_one, args=(listening,), daemon=True).start()
            time.sleep(0.4)
            assert engine.decide(**ASKED), "the question that tries is answered, and that answer counts"


def _answering_one(listening: socket.socket) -> None:
    connection, _ = listening.accept()
    with connection:
        connection.recv(65_536)
        connection.sendall(answer(yes()))
        time.sleep(1)


def test_half_open_one_question_tries_and_the_others_are_denied() -> None:
    """A hundred callers do not fall upon an engine that may just be coming back."""
    silent = threading.Event()

    def hang(connection: socket.socket, asked: bytes) -> None:
        silent.wait(5)

    with hostile(hang) as server, engine_at(server.url, remote_failures_count=1, remote_pause_seconds=0.1) as engine:
        assert engine.decide(**ASKED).reasons[0].code == "engine.unreachable"
        sent = len(server.asked)
        time.sleep(0.15)
        codes: list[str] = []
        threads = [
            threading.Thread(target=lambda: codes.append(engine.decide(**ASKED).reasons[0].code)) for _ in range(10)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        silent.set()
        assert sorted(codes) == ["engine.away"] * 9 + ["engine.unreachable"]
        assert len(server.asked) == sent + 1


def test_a_refused_key_or_question_opens_no_circuit() -> None:
    """The engine is there and says no: every question is sent, and denied for what was said."""
    with hostile(sending(answer(b"{}", status="403 Forbidden"))) as server, engine_at(server.url) as engine:
        codes = {engine.decide(**ASKED).reasons[0].code for _ in range(6)}
        assert codes == {"engine.refused"}
        assert len(server.asked) == 6
