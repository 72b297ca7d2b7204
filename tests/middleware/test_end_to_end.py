"""End to end: real client libraries through a served door, on an engine in the process and on a remote one."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
import uvicorn

from policy_engine import PolicyEngine
from policy_engine.middleware.asgi import PolicyEngineMiddleware
from tests.api.served import Served, serving
from tests.middleware.doors import SECRET, by_proxy, engage

NAMED = {"x-proxy-secret": SECRET, "x-user": "alice", "x-tenant": "acme", "x-country": "US"}
CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": []}
PING = b'event: ping\ndata: {"type": "ping"}\n\n'


async def speaking(scope: Any, receive: Any, send: Any) -> None:
    """Stream as the provider of the path does: a piece every 50 ms, for ever."""
    messages = scope["path"] == "/v1/messages"
    piece = PING if messages else b"data: " + json.dumps(CHUNK).encode() + b"\n\n"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    while True:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        await asyncio.sleep(0.05)


@contextmanager
def served_door(engine: Any) -> Iterator[str]:
    """Serve a guarded model server and give its address."""
    door = PolicyEngineMiddleware(speaking, engine=engine, subject=by_proxy(), serving_region="US")
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(door, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Served]:
    """Offer a service of this test's own, as one of the replicas: what is withdrawn here is withdrawn nowhere else."""
    with serving(tmp_path, replica=True) as running:
        yield running


@pytest.fixture(params=["in the process", "remote"])
def engine(request: pytest.FixtureRequest, service: Served) -> Iterator[Any]:
    """Offer the same engine as a program has it, in its process and from afar."""
    if request.param == "remote":
        with PolicyEngine.connect(f"http://127.0.0.1:{service.port}", key=service.keys["gateway"]) as remote:
            yield remote
    else:
        from policy_engine.inprocess import InProcess

        yield PolicyEngine(InProcess(service.engine))  # the service closes it


def operator(service: Served) -> Any:
    """Return the operator of the sample world."""
    return service.engine.keys.authenticate(service.keys["operator"], service.engine.store.now())


def test_an_openai_stream_is_cut_with_a_readable_error(service: Served, engine: Any) -> None:
    """The client library raises our sentence in the middle of its stream, within a second, and repeats nothing."""
    with served_door(engine) as address:
        client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=2, default_headers=NAMED)
        stream = client.chat.completions.create(model="fable-5", messages=[], stream=True)
        assert next(iter(stream)).id == "c"
        committed = engage(service.engine, operator(service))
        with pytest.raises(openai.APIError) as raised:
            for _ in stream:
                pass
        assert time.monotonic() - committed < 1.5
        assert raised.value.code == "model_suspended"
        with pytest.raises(openai.PermissionDeniedError):
            client.chat.completions.create(model="fable-5", messages=[])
        client.close()


def test_an_anthropic_stream_is_cut_with_a_readable_error(service: Served, engine: Any) -> None:
    """The same for the other provider's library."""
    with served_door(engine) as address:
        client = anthropic.Anthropic(base_url=address, api_key="none", max_retries=2, default_headers=NAMED)
        stream = client.messages.create(model="fable-5", max_tokens=1, messages=[], stream=True)
        committed = time.monotonic()
        threading.Timer(0.2, lambda: engage(service.engine, operator(service))).start()
        with pytest.raises(anthropic.APIStatusError):
            for _ in stream:
                pass
        assert time.monotonic() - committed < 2.0
        with pytest.raises(anthropic.NotFoundError):
            client.messages.create(model="fable-5", max_tokens=1, messages=[])
        client.close()
