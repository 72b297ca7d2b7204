"""What a remote engine loads, and how it lives with threads, event loops, forks and its own end."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from policy_engine import DecisionDenied, PolicyEngine
from policy_engine.errors import EngineUnavailable, InputRefused
from policy_engine.remote.holds import RemoteHold
from tests.api.served import Served
from tests.remote.hostile import answer, hostile, sending
from tests.remote.test_hostile import ASKED, KEY, yes
from tests.services.interrupts import closed_beside

HEAVY = ("fastapi", "starlette", "uvicorn", "sqlalchemy", "alembic", "casbin", "pydantic", "structlog", "orjson")
LOADED = f"""
import sys, policy_engine
assert "httpx2" not in sys.modules, "importing the package loads no HTTP library"
engine = policy_engine.PolicyEngine.connect("http://127.0.0.1:9", key="pe_x")
assert not engine.decide(subject="alice", model="fable-5", action="infer")
engine.close()
print(sorted(name for name in {HEAVY!r} if name in sys.modules))
"""


def connected(served: Served, **settings: Any) -> PolicyEngine:
    """Return the served engine, asked over HTTP."""
    return PolicyEngine.connect(f"http://127.0.0.1:{served.port}", key=served.keys["gateway"], **settings)


def test_importing_and_asking_from_afar_loads_nothing_of_the_server() -> None:
    """Neither the web framework nor the database nor casbin, not even after a question was asked."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", LOADED], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_connections_are_kept() -> None:
    """A hundred questions in a row go over one connection."""
    peers: set[Any] = set()

    def note(connection: Any, asked: bytes) -> None:
        peers.add(connection.getpeername())
        connection.sendall(answer(yes()))

    with hostile(note) as server, PolicyEngine.connect(server.url, key=KEY) as engine:
        assert all(engine.decide(**ASKED) for _ in range(100))
    assert len(peers) == 1
    assert all(b"accept-encoding: identity" in asked.lower() for asked in server.asked)


def test_threads_and_loops_share_an_engine(served: Served) -> None:
    """Threads with and without event loops of their own ask at once, and each gets its own answer."""
    with connected(served) as engine:

        def one(place: int) -> tuple[str, bool]:
            subject = ("alice", "eve")[place % 2]
            asked = {**ASKED, "subject": subject}
            decision = asyncio.run(engine.decide_async(**asked)) if place % 3 else engine.decide(**asked)
            return subject, decision.allowed

        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(one, range(40)))
    assert set(found) == {("alice", True), ("eve", False)}


def test_many_tasks_ask_at_once(served: Served) -> None:
    """A loop that asks two hundred questions at once gets two hundred answers, and is not kept from other work."""

    async def ask() -> list[bool]:
        async with connected(served, timeout_seconds=10.0) as engine:  # on a busy machine that may take a while
            return [d.allowed for d in await asyncio.gather(*(engine.decide_async(**ASKED) for _ in range(200)))]

    assert asyncio.run(ask()) == [True] * 200


def test_a_task_that_is_cancelled_leaves_nothing_behind() -> None:
    """Whoever asked gives up; the engine goes on to answer others, and its circuit stays closed."""
    answering = threading.Event()

    def slow(connection: Any, asked: bytes) -> None:
        answering.wait(0.3)
        connection.sendall(answer(yes()))

    async def ask(engine: PolicyEngine) -> None:
        for _ in range(5):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(engine.decide_async(**ASKED), 0.02)
        answering.set()
        assert await engine.decide_async(**ASKED)

    with hostile(slow) as server, PolicyEngine.connect(server.url, key=KEY) as engine:
        asyncio.run(ask(engine))


def test_a_closed_engine_denies() -> None:
    """Closing twice is no error; deciding is a deny, listing raises, and what was held has ended."""
    with hostile(sending(answer(yes()))) as server:
        engine = PolicyEngine.connect(server.url, key=KEY)
        decision = engine.decide(**ASKED)
        hold = engine.hold(decision)
        engine.close()
        engine.close()
        assert hold.ended is not None
        assert engine.hold(decision).ended is not None
        assert engine.decide(**ASKED).reasons[0].code == "engine.unreachable"
        assert not asyncio.run(engine.decide_async(**ASKED))
        with pytest.raises(EngineUnavailable):
            engine.who_can(model="fable-5")
        with pytest.raises(EngineUnavailable):
            asyncio.run(engine.what_can_async(subject="alice"))


def test_an_engine_that_is_closed_while_it_is_asked_cancels_nobody() -> None:
    """Who waits on a loop gets the deny, or the error of a listing, and no cancellation that nobody asked for."""

    async def main(engine: PolicyEngine) -> list[Any]:
        calls = (
            engine.decide_async(**ASKED),
            engine.decide_many_async([ASKED, ASKED]),  # type: ignore[list-item]  # the same names
            engine.what_can_async(subject="alice"),
        )
        tasks = [asyncio.ensure_future(call) for call in calls]
        await asyncio.sleep(0.1)
        await engine.aclose()
        return await asyncio.gather(*tasks, return_exceptions=True)

    with hostile(lambda connection, asked: None) as server:
        one, many, listed = asyncio.run(main(PolicyEngine.connect(server.url, key=KEY)))
    assert not one and not many[0] and not many[1] and isinstance(listed, EngineUnavailable)


def test_a_malformed_question_is_refused_before_it_is_sent() -> None:
    """The same refusals as near, and nothing goes out."""
    with hostile(sending(answer(yes()))) as server, PolicyEngine.connect(server.url, key=KEY) as engine:
        for wrong in ({"subject": ""}, {"model": "x\n"}, {"location": {"contry": "US"}}, {"tenant": "t" * 300}):
            with pytest.raises(InputRefused):
                engine.decide(**{**ASKED, **wrong})
            with pytest.raises(InputRefused, match=r"questions\[1\]"):
                engine.decide_many([ASKED, {**ASKED, **wrong}])  # type: ignore[list-item]  # the same names
        assert server.asked == []


def test_a_deny_can_be_raised(served: Served) -> None:
    """`as_error` carries the decision, wherever it was made."""
    with connected(served) as engine, pytest.raises(DecisionDenied) as raised:
        raise engine.decide(**{**ASKED, "subject": "eve"}).as_error()
    assert raised.value.decision.reasons[0].code == "evidence.declared-only"


def test_a_wrong_key_denies(served: Served) -> None:
    """Not an exception in the path of a request, and never an allow."""
    with PolicyEngine.connect(f"http://127.0.0.1:{served.port}", key="pe_wrong") as engine:
        assert engine.decide(**ASKED).reasons[0].code == "engine.refused"


FORKED = """
import os, sys, policy_engine
engine = policy_engine.PolicyEngine.connect(sys.argv[1], key=sys.argv[2])
asked = dict(subject="alice", model="fable-5", action="infer", tenant="acme", location="US")
assert engine.decide(**asked)
child = os.fork()
assert engine.decide(**asked)
if child == 0:
    engine.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert engine.decide(**asked)
engine.close()
print("both")
"""


def test_a_forked_process_asks_on_connections_of_its_own(served: Served) -> None:
    """Servers fork after they have loaded: neither process hangs, or takes the other's answers."""
    url, environment = f"http://127.0.0.1:{served.port}", {**os.environ, "PYTHONWARNINGS": "default"}
    command = [sys.executable, "-c", FORKED, url, served.keys["gateway"]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment, check=False)
    assert done.stdout.strip() == "both", done.stderr


FORKED_BUSY = """
import os, sys, threading, policy_engine
engine = policy_engine.PolicyEngine.connect(sys.argv[1], key=sys.argv[2])
asked = dict(subject="alice", model="fable-5", action="infer", tenant="acme", location="US")
own = engine._asked
allowed = engine.decide(**asked)
later = threading.Event()
own._background.soon(later.wait)  # until then nobody watches what is held
held = engine.hold(allowed)
busy, done = threading.Event(), threading.Event()
def work():
    with own._lock, own._background._lock, own._heard._lock, held._lock:
        busy.set()
        done.wait()
threading.Thread(target=work).start()
busy.wait()
child = os.fork()
if child == 0:
    held.close()
    engine.hold(engine.decide(**asked)).close()
    os._exit(0 if engine.decide(**asked) else 1)
later.set()
done.set()
until = threading.Timer(10, os.kill, (child, 9))
until.start()
assert os.waitpid(child, 0)[1] == 0, "the child waits for a thread that it has not"
until.cancel()
engine.close()
print("both")
"""


def test_a_process_that_is_forked_while_another_thread_asks_waits_for_nobody(served: Served) -> None:
    """Of the first process's threads only the one that forked is there: what the others had locked stays locked."""
    command = [sys.executable, "-c", FORKED_BUSY, f"http://127.0.0.1:{served.port}", served.keys["gateway"]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout.strip() == "both", done.stderr


def test_a_hold_may_be_closed_in_the_middle_of_another() -> None:
    """A handler of signals, or a stream that is collected, may close another hold in the very thread that uses one."""
    request: Any = None
    assert closed_beside(RemoteHold(request, request), RemoteHold(request, request))


HELD_IN_BOTH = """
import os, sys, threading, time, policy_engine
engine = policy_engine.PolicyEngine.connect(sys.argv[1], key=sys.argv[2])
asked = dict(subject="alice", model="fable-5", action="infer", tenant="acme", location="US")
def hears():
    until = time.monotonic() + 5
    while time.monotonic() < until:
        listener = engine._asked._listener
        if listener is not None and listener._thread.is_alive() and listener.connected.is_set():
            return True
        time.sleep(0.01)
    return False
held = engine.hold(engine.decide(**asked))
assert hears()
child = os.fork()
own = engine.hold(engine.decide(**asked))
heard = hears()
own.close()
engine.close()
if child == 0:
    os._exit(0 if heard else 1)
assert os.waitpid(child, 0)[1] == 0 and heard
print("both")
"""


def test_a_forked_process_hears_of_changes_on_a_stream_of_its_own(served: Served) -> None:
    """What it holds ends by what is heard too, and not by its budget alone."""
    command = [sys.executable, "-c", HELD_IN_BOTH, f"http://127.0.0.1:{served.port}", served.keys["gateway"]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout.strip() == "both", done.stderr


CLOSED_IN_CHILD = """
import os, sys, time, policy_engine
engine = policy_engine.PolicyEngine.connect(sys.argv[1], key=sys.argv[2])
asked = dict(subject="alice", model="fable-5", action="infer", tenant="acme", location="US")
held = engine.hold(engine.decide(**asked))
while (listener := engine._asked._listener) is None:
    time.sleep(0.01)
assert listener.connected.wait(5)
child = os.fork()
if child == 0:
    engine.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
until = time.monotonic() + 0.5
while time.monotonic() < until:
    assert listener.connected.is_set(), "the stream was cut"
engine.close()
print("goes on")
"""


def test_a_forked_process_that_closes_leaves_the_stream_of_the_first(served: Served) -> None:
    """A child that ends cuts nothing that its parent follows."""
    command = [sys.executable, "-c", CLOSED_IN_CHILD, f"http://127.0.0.1:{served.port}", served.keys["gateway"]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout.strip() == "goes on", done.stderr


def test_nothing_is_sent_by_connecting() -> None:
    """An engine that is configured and not used costs nobody anything, and no thread."""
    threads = threading.active_count()
    with hostile(sending(answer(yes()))) as server:
        engine = PolicyEngine.connect(server.url, key=KEY)
        time.sleep(0.05)
        assert server.asked == []
        engine.close()
    assert threading.active_count() == threads
