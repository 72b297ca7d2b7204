"""Many questions from afar: a few batches at a time, each with its own deadline, and none that spoils another's."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from policy_engine import Decision, PolicyEngine
from policy_engine.client.clock import budget_clock
from policy_engine.client.connection import Address
from policy_engine.client.heard import Heard
from policy_engine.core.questions import requests_of
from policy_engine.limits import LIMITS
from policy_engine.remote import RemoteEngine
from policy_engine.remote.asking import Asker, parts_of
from policy_engine.remote.breaker import Breaker
from policy_engine.remote.exchange import Exchange
from tests.remote.hostile import answer, hostile
from tests.remote.test_hostile import ASKED, KEY, yes

EACH = 5
"""Questions of a batch in these tests."""


class Busy:
    """A service that answers one batch after another, each in its time, and counts what waits for it at once."""

    def __init__(self, seconds: float, answering: Callable[[int], bytes | None] | None = None) -> None:
        self.seconds = seconds
        self.answering = answering or (lambda number: yes())
        self.most = 0
        self.batches = 0
        self._waiting = 0
        self._counting = threading.Lock()
        self._turn = threading.Lock()

    def __call__(self, connection: Any, asked: bytes) -> None:
        """Answer one batch; with nothing where `answering` returns `None` for its number. There is no other path."""
        if b"/evaluations" not in asked.split(b"\r\n")[0]:
            return connection.sendall(answer(b"", status="404 Not Found"))
        with self._counting:
            number, self.batches = self.batches, self.batches + 1
            self._waiting += 1
            self.most = max(self.most, self._waiting)
        with self._turn:
            time.sleep(self.seconds)
        with self._counting:
            self._waiting -= 1
        one = self.answering(number)
        if one is not None:
            count = len(json.loads(asked.partition(b"\r\n\r\n")[2])["evaluations"])
            connection.sendall(answer(b'{"evaluations":[' + b",".join([one] * count) + b"]}"))


def engine_at(url: str, seconds: float, **limits: Any) -> PolicyEngine:
    """Return a remote engine whose batches are small."""
    return PolicyEngine(
        RemoteEngine(url, KEY, timeout_seconds=seconds, limits=replace(LIMITS, remote_batch_count=EACH, **limits))
    )


def questions(batches: int) -> list[Any]:
    """Return questions that fill so many batches, each about a model of its own."""
    return [{**ASKED, "model": f"m{number}"} for number in range(batches * EACH)]


def codes(decisions: list[Decision]) -> Counter[str]:
    """Return how many decisions have which code."""
    return Counter(decision.reasons[0].code for decision in decisions)


@pytest.mark.parametrize("on_a_loop", [False, True])
def test_more_than_an_engine_answers_at_once_is_answered_all_the_same(on_a_loop: bool) -> None:
    """All together they take far longer than one answer may; a few at a time, each comes in its own time.

    A thread waits for all of them too, and each answer is of the question in whose place it stands.
    """
    service, asked = Busy(0.05), questions(50)
    with hostile(service) as server, engine_at(server.url, 0.5) as engine:
        found = asyncio.run(engine.decide_many_async(asked)) if on_a_loop else engine.decide_many(asked)
    assert codes(found) == {"access.closed": len(asked)}
    assert [decision.asked.model for decision in found if decision.asked is not None] == [q["model"] for q in asked]
    assert 1 < service.most <= LIMITS.remote_exchanges_count


def test_an_engine_that_does_not_answer_is_not_waited_for_batch_by_batch() -> None:
    """The first few find out, and what was sent before they had; what was not sent by then is denied at once."""
    service = Busy(0, lambda number: None)
    with hostile(service) as server, engine_at(server.url, 0.3) as engine:
        began = time.monotonic()
        found = engine.decide_many(questions(100))
        took = time.monotonic() - began
    sent = service.batches
    assert codes(found) == {"engine.unreachable": sent * EACH, "engine.away": (100 - sent) * EACH}
    assert sent < LIMITS.remote_exchanges_count + LIMITS.remote_failures_count
    assert took < 0.3 * 4, "two answers' time at most, and not one for each round"


def test_a_batch_that_fails_denies_its_own_questions() -> None:
    """Without an answer, and unreadable: what was asked before and after is decided."""
    bad = {3: None, 8: b"{", 15: b'{"decision":true}'}
    service = Busy(0.01, lambda number: bad.get(number, yes()))
    with hostile(service) as server, engine_at(server.url, 0.4) as engine:
        found = engine.decide_many(questions(20))
        after = engine.decide_many(questions(2))
    assert codes(found) == {
        "access.closed": 17 * EACH,
        "engine.unreachable": EACH,
        "engine.answer-unreadable": 2 * EACH,
    }
    assert all(after), "and the circuit is closed"


def test_a_fault_of_this_side_denies_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever errs while a batch is asked for spoils no other, and is no exception to whoever asked."""
    post, sent = Exchange.post, list[int]()

    async def failing(self: Exchange, *asked: Any) -> bytes:
        sent.append(1)
        if len(sent) == 2:
            raise RuntimeError
        return await post(self, *asked)

    monkeypatch.setattr(Exchange, "post", failing)
    with hostile(Busy(0)) as server, engine_at(server.url, 1.0) as engine:
        found = engine.decide_many(questions(6))
    assert codes(found) == {"access.closed": 5 * EACH, "engine.unreachable": EACH}


def test_the_budget_of_an_answer_counts_from_its_own_batch() -> None:
    """Those that are sent last are as fresh as if nothing had been sent before them."""
    service = Busy(0.05, lambda number: yes(valid_for_ms=400))
    with hostile(service) as server, engine_at(server.url, 1.0) as engine:
        found = engine.decide_many(questions(20))
        last, first = engine.hold(found[-1]), engine.hold(found[0])
        assert (last.ended, first.ended is not None) == (None, True)
    assert codes(found) == {"access.closed": 20 * EACH}


def test_what_holds_have_left_is_the_time_for_all_of_their_batches() -> None:
    """None waits until another is over, so that no renewal lasts longer than the budget that it is for."""
    limits = replace(LIMITS, remote_batch_count=EACH, remote_failures_count=100)

    async def asked(url: str) -> tuple[list[Decision], float]:
        exchange = Exchange(Address(url, KEY, None), limits)
        asker = Asker(exchange, Breaker(budget_clock, 100, 1.0, 1.0), Heard(), budget_clock, limits)
        began = time.monotonic()
        parts = parts_of(requests_of(questions(9)), limits)
        found = await asker.many(parts, 0.3, asker, at_once=len(parts))
        took = time.monotonic() - began
        await exchange.close()
        return found, took

    service = Busy(0, lambda number: None)
    with hostile(service) as server:
        found, took = asyncio.run(asked(server.url))
    assert codes(found) == {"engine.unreachable": 9 * EACH}
    assert service.batches == 9
    assert took < 0.6


def test_a_question_that_cannot_be_sent_denies_one_batch() -> None:
    """It never comes here through `PolicyEngine`, which refuses it; whoever asks the engine itself gets a deny too."""
    requests = requests_of(questions(3))
    requests[EACH] = replace(requests[EACH], tenant="\ud800")
    with hostile(Busy(0)) as server:
        far = RemoteEngine(server.url, KEY, limits=replace(LIMITS, remote_batch_count=EACH))
        found, alone = far.decide_many(requests), far.decide(requests[EACH])
        far.close()
    assert codes(found) == {"access.closed": 2 * EACH, "engine.unreachable": EACH}
    assert codes([alone]) == {"engine.unreachable": 1}


def test_a_batch_is_no_longer_than_a_body_may_be() -> None:
    """Long questions make more batches, and one that is longer than all others stands in its place."""
    requests = requests_of([{**ASKED, "tenant": "é" * 200 if number % 2 else "t"} for number in range(300)])
    parts = parts_of(requests, LIMITS)
    assert [request for part in parts for request in part] == requests
    assert max(map(len, parts)) <= LIMITS.remote_batch_count
    assert len(parts_of(requests, replace(LIMITS, body_bytes=1_000))) > len(parts)
    assert [len(part) for part in parts_of(requests[:3], replace(LIMITS, body_bytes=1))] == [1, 1, 1]
    assert parts_of([], LIMITS) == []
