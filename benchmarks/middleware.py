"""The ASGI door beside the bare application: CPU of a request, cost of a streamed chunk, added latency.

Everything is in one process and one run. CPU is that of the event loop's thread, at sixteen requests in flight, of
three sides in turn: the bare application, what the door cannot do without (checking the token, deciding with its
append), and the guarded application; judged is the median of what the rounds leave to the door. All of the door runs in
that thread but its watcher, which looks ten times a second whatever is asked. Latency is that of one request after
another, less the bare application's, less what the store's own transaction took in the same requests; what checking the
token and deciding take of the rest stands beside it, and what it costs to have anything done in another thread, which
is what keeps the loop free of the disk. The event loop is the one that uvicorn uses.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from queue import SimpleQueue
from time import perf_counter, thread_time
from typing import TYPE_CHECKING, Any

import uvloop

from benchmarks.report import Line

if TYPE_CHECKING:
    from policy_engine.middleware.tokens import TokenSubjects

ROUNDS, REQUESTS = 40, 20
ROUNDS_QUICK, REQUESTS_QUICK = 8, 8
IN_FLIGHT = 16
CHUNKS = 20_000
BOUND_CPU, BOUND_CHUNK, BOUND_LATENCY = 60.0, 0.1, 150.0
ISSUER, AUDIENCE = "https://issuer.example", "models"
BODY = (
    b'{"messages":[{"role":"system","content":"You are helpful."},{"role":"user","content":"What is the capital of '
    b'France, and why?"}],"model":"fable-5","stream":true,"temperature":0.2,"max_tokens":400}'
)


class NotServed(RuntimeError):
    """A request of the benchmark was not answered as it must be, so nothing is measured."""


def measure(folder: Path, policies: Path, *, quick: bool, say: Callable[[str], None]) -> list[Line]:
    """Run both applications in turn and return the three lines. Raises `NotServed`."""
    from policy_engine import PolicyEngine

    say("middleware: the bare application and the guarded one in turn")
    with PolicyEngine.open(policies, database=f"sqlite:///{folder / 'middleware.db'}") as engine:
        rounds, requests = (ROUNDS_QUICK, REQUESTS_QUICK) if quick else (ROUNDS, REQUESTS)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_lines(engine, folder, rounds, requests))


async def _lines(engine: Any, folder: Path, rounds: int, requests: int) -> list[Line]:
    from policy_engine.middleware import PolicyEngineMiddleware
    from policy_engine.middleware.head import Head

    subjects, token = _tokens()
    sent = [(b"authorization", b"Bearer " + token.encode()), (b"content-type", b"application/json")]
    settings: dict[str, Any] = {"engine": engine, "subject": subjects, "location": "US", "serving_region": "US"}
    door = PolicyEngineMiddleware(_answering, **settings)
    streaming = PolicyEngineMiddleware(_streaming, **settings)

    async def parts() -> None:
        subject = await subjects.identify_async(Head("POST", "/", "", sent, None))
        question = {"subject": subject.id, "tenant": subject.tenant, "model": "fable-5", "action": "infer"}
        if not await engine.decide_async(**question, location="US", serving_region="US"):
            raise NotServed("the sample question was denied")

    sides = {"bare": lambda: _request(_answering, sent), "parts": parts, "door": lambda: _request(door, sent)}
    cpu = [{name: await _cpu(side, requests) for name, side in sides.items()} for _ in range(rounds + 1)][1:]
    own = statistics.median(each["door"] - each["parts"] - each["bare"] for each in cpu)
    detail: dict[str, Any] = {f"{name}_us": round(statistics.median(each[name] for each in cpu), 1) for name in sides}
    took = await _latency(engine, sides, rounds * requests // 4)
    chunks = [await _chunk(streaming, sent) for _ in range(max(rounds // 2, 5))]
    chunk = statistics.median(ours - theirs for ours, theirs in chunks)
    latency = {f"{name}_us": round(value, 1) for name, value in took.items()}
    added = took["door"] - took["bare"] - took["store"]
    handed = await _handed_over(folder, rounds * requests // 4)
    return [
        _line("middleware, CPU beyond token, decide and append", own, BOUND_CPU, detail),
        _line("middleware, one streamed chunk", chunk, BOUND_CHUNK, {"chunks": CHUNKS}),
        _line("middleware, added latency beyond a commit", added, BOUND_LATENCY, latency),
        _line("of it, handing one write to a thread and back", handed, None, {}),
    ]


def _line(name: str, figure: float, bound: float | None, detail: dict[str, Any]) -> Line:
    return Line(name, "us", figure, None, figure, bound, at_most=True, detail=detail)


async def _cpu(side: Callable[[], Awaitable[object]], requests: int) -> float:
    """Return the microseconds of the loop's CPU that one request takes, with several in flight."""

    async def some() -> None:
        for _ in range(requests):
            await side()

    before = thread_time()
    await asyncio.gather(*(some() for _ in range(IN_FLIGHT)))
    return (thread_time() - before) / requests / IN_FLIGHT * 1e6


async def _latency(engine: Any, sides: Mapping[str, Callable[[], Awaitable[object]]], count: int) -> dict[str, float]:
    """Return the median microseconds of a request of each side, in turn, and of the store's part of them."""
    store: list[float] = []
    _time_store(engine, store)
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(count):
        for name, side in sides.items():
            began = perf_counter()
            await side()
            times[name].append(perf_counter() - began)
    return {name: statistics.median(each) * 1e6 for name, each in (*times.items(), ("store", store))}


async def _handed_over(folder: Path, count: int) -> float:
    """Return the median microseconds that a bare durable write costs beyond itself when a thread makes it."""
    loop, calls, times, inside = asyncio.get_running_loop(), SimpleQueue[Any](), [], list[float]()

    def work() -> None:
        with (folder / "handed.probe").open("wb", buffering=0) as out:
            while (done := calls.get()) is not None:
                began = perf_counter()
                out.write(bytes(4096))
                os.fdatasync(out.fileno())
                inside.append(perf_counter() - began)
                loop.call_soon_threadsafe(done.set_result, None)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    for _ in range(count):
        done, began = loop.create_future(), perf_counter()
        calls.put(done)
        await done
        times.append(perf_counter() - began)
    calls.put(None)
    thread.join()
    return (statistics.median(times) - statistics.median(inside)) * 1e6


async def _chunk(streaming: Any, sent: list[tuple[bytes, bytes]]) -> tuple[float, float]:
    """Return the microseconds of a chunk of the guarded and of the bare stream, one after the other."""
    return await _request(streaming, sent), await _request(_streaming, sent)


async def _request(app: Any, sent: list[tuple[bytes, bytes]]) -> float:
    """Put one request to an application; return the microseconds that it says it took for a chunk."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "method": "POST",
        "path": "/v1/chat/completions",
        "query_string": b"",
        "headers": sent,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    status = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": BODY, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            status.append(message["status"])

    await app(scope, receive, send)
    if status != [200]:
        raise NotServed(f"a request of the benchmark was answered {status}")
    return float(scope.get("chunk_us", 0.0))  # type: ignore[arg-type]  # what `_streaming` wrote


async def _answering(scope: Any, receive: Any, send: Any) -> None:
    """Take the body and answer."""
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


async def _streaming(scope: Any, receive: Any, send: Any) -> None:
    """Stream chunks, and note how long one took."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    message = {"type": "http.response.body", "body": b"data: {}\n\n", "more_body": True}
    began = thread_time()
    for _ in range(CHUNKS):
        await send(message)
    scope["chunk_us"] = (thread_time() - began) / CHUNKS * 1e6
    await send({"type": "http.response.body", "body": b""})


def _time_store(engine: Any, found: list[float]) -> None:
    """Put the seconds that each of the store's own transactions takes, inserts and commit, into a list from now on."""
    store = engine._asked.engine.store
    stage, commit = store.try_stage, store.commit
    staged: list[float] = []

    def staging(*arguments: Any) -> Any:
        began = perf_counter()
        done = stage(*arguments)
        staged[:] = [perf_counter() - began]
        return done

    def committing(batch: Any) -> Any:
        began = perf_counter()
        done = commit(batch)
        found.append(perf_counter() - began + staged[0])
        return done

    store.try_stage, store.commit = staging, committing


def _tokens() -> tuple[TokenSubjects, str]:
    """Return subjects by RS256 tokens, and a token."""
    import json

    from joserfc import jws
    from joserfc.jwk import RSAKey

    from policy_engine.middleware import from_jwt

    key = RSAKey.generate_key(2048, {"kid": "one"})
    jwks = {"keys": [key.as_dict(private=False)]}
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "tenant": "acme", "nbf": now - 5, "exp": now + 3_600}
    token = jws.serialize_compact({"alg": "RS256", "typ": "JWT", "kid": "one"}, json.dumps(claims).encode(), key)
    return from_jwt(issuer=ISSUER, audience=AUDIENCE, jwks=jwks, tenant="tenant"), str(token)
