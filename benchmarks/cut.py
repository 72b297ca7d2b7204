"""Cutting a thousand open streams with one switch: how long after the commit each client had the end of its stream.

Real connections: uvicorn in this process with the embedded engine and the ASGI door, and a thousand clients in a
process of their own (`cut_clients`), half of them on streams that send a piece twenty times a second and half on silent
ones, all of one caller. A client is done when it has the error that ends its stream; anything else stops the benchmark.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.cut_clients import SECRET, WAIT_SECONDS, allow_files
from benchmarks.report import Line

if TYPE_CHECKING:
    from uvicorn import Server

STREAMS, STREAMS_QUICK = 1_000, 100
BOUND_SECONDS = 1.0
PICTURE = "stream-cut.svg"
PIECE_SECONDS = 0.05


class NotCut(RuntimeError):
    """A stream did not open, or did not end as it must, so nothing is measured."""


def measure(
    folder: Path, policies: Path, out: Path, about: dict[str, Any], *, quick: bool, say: Callable[[str], None]
) -> list[Line]:
    """Open the streams, engage the switch, and return the line; the picture is put into `out`. Raises `NotCut`."""
    from policy_engine import PolicyEngine

    count = STREAMS_QUICK if quick else STREAMS
    allow_files(2 * count)
    say(f"cut: {count} open streams, one switch")
    listening = socket.create_server(("127.0.0.1", 0), backlog=count)
    with listening, PolicyEngine.open(policies, database=f"sqlite:///{folder / 'cut.db'}") as engine:
        server = _serve(engine, listening)
        try:
            committed, ends = _cut(engine, listening.getsockname()[1], count)
        finally:
            server.should_exit = True
    late = sorted(end - committed for end in ends)
    if late[0] < 0:
        raise NotCut("a stream ended before the switch was committed")
    from benchmarks.cut_plot import draw

    draw([each * 1_000 for each in late], f"{about['processor']}, {about['cores']} cores", out / PICTURE)
    p99 = late[min(len(late) - 1, round(len(late) * 0.99))]
    detail = {"streams": count, "p50_s": late[len(late) // 2], "first_s": late[0], "last_s": late[-1]}
    shown = {name: round(value, 4) for name, value in detail.items()}
    return [Line("stream cut, p99 after committed", "s", p99, None, p99, BOUND_SECONDS, at_most=True, detail=shown)]


def _cut(engine: Any, port: int, count: int) -> tuple[float, list[float]]:
    """Return when the switch was committed, and when each stream had its end, on the clock that processes share."""
    command = [sys.executable, "-m", "benchmarks.cut_clients", str(port), str(count)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as clients:
        if clients.stdout is None or clients.stdout.readline().strip() != "open":
            raise NotCut("the streams did not open")
        committed = _engage(engine)
        ends = json.loads(clients.stdout.readline() or "[]")
    if len(ends) != count:
        raise NotCut("not every stream ended with its error")
    return committed, ends


def _engage(engine: Any) -> float:
    """Engage the switch as the sample operator, and return when that was committed."""
    inner = engine._asked.engine
    operator = next(key.secret for key in inner.sample_keys if key.label == "operator")
    inner.switches.engage(inner.keys.authenticate(operator), "stop", {"models": ["fable-5"]}, "benchmark")
    return time.monotonic()


async def _stream(scope: Any, receive: Any, send: Any) -> None:
    """Stream for ever: pieces, or one and then silence."""
    kept = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": kept})
    while True:
        await send({"type": "http.response.body", "body": b"data: one\n\n", "more_body": True})
        await asyncio.sleep(WAIT_SECONDS if scope["query_string"] else PIECE_SECONDS)


def _serve(engine: Any, listening: socket.socket) -> Server:
    """Serve the guarded stream in a thread of its own."""
    import uvicorn

    from policy_engine.middleware import PolicyEngineMiddleware, TrustedProxy, from_header

    subject = from_header("x-user", proxy=TrustedProxy(secret=SECRET), tenant="x-tenant", location="x-country")
    door = PolicyEngineMiddleware(_stream, engine=engine, subject=subject, serving_region="US")
    settings = uvicorn.Config(door, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(settings)
    threading.Thread(target=server.run, args=([listening],), daemon=True).start()
    return server
