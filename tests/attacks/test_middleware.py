"""Attacks on the doors in front of other applications, over real sockets: refused, and the application unreached.

The server is uvicorn with the ASGI door around an application that writes down every body it got.
"""

from __future__ import annotations

import gzip
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import uvicorn

from policy_engine.limits import LIMITS
from policy_engine.middleware.asgi import PolicyEngineMiddleware
from tests.laws.sample import opened
from tests.middleware.doors import SECRET, App, Local, by_proxy, say

NAMED = f"X-Proxy-Secret: {SECRET}\r\nX-User: alice\r\nX-Tenant: acme\r\nX-Country: US\r\n"
JSON = "Content-Type: application/json\r\n"
QUICK = replace(LIMITS, guarded_body_seconds=0.5, guarded_prefix_bytes=100_000)


@dataclass(slots=True)
class Target:
    """A served application: where it listens, what it got."""

    port: int
    app: App
    engine: Any
    operator: Any
    seen: list[str] = field(default_factory=list)

    def raw(self, data: bytes, *, more: bytes = b"", seconds: float = 3.0) -> bytes:
        """Send bytes and return everything that comes until the server closes or falls silent."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as connection:
            connection.sendall(data)
            if more:
                time.sleep(0.05)
                with_suppressed(connection, more)
            found = b""
            while not whole(found):
                try:
                    piece = connection.recv(65_536)
                except (TimeoutError, ConnectionError):
                    return found
                if not piece:
                    return found
                found += piece
            return found

    def post(self, body: bytes, headers: str = JSON, path: str = "/v1/chat/completions", version: str = "1.1") -> bytes:
        """Send a POST with a length."""
        head = f"POST {path} HTTP/{version}\r\nHost: localhost\r\n{NAMED}{headers}Content-Length: {len(body)}\r\n\r\n"
        return self.raw(head.encode("latin-1") + body)


def with_suppressed(connection: socket.socket, data: bytes) -> None:
    """Send more, to a server that may have closed by now."""
    try:
        connection.sendall(data)
    except ConnectionError:
        return


def whole(answer: bytes) -> bool:
    """Say whether an answer with a length has come."""
    head, separator, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head.lower())
    return bool(separator) and length is not None and len(body) >= int(length[1])


def status(answer: bytes) -> int:
    """Return the status of an answer, 0 for none."""
    found = re.match(rb"HTTP/1\.[01] (\d{3})", answer)
    return 0 if found is None else int(found[1])


@pytest.fixture(scope="module")
def target(sample_database: Any, compiled: Any) -> Iterator[Target]:
    """Serve the guarded application until the module's tests are done."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await say(send, b'{"served":true}')

    with opened(sample_database, compiled) as (engine, keys):
        app = App(answer)
        door = PolicyEngineMiddleware(
            app, engine=Local(engine), subject=by_proxy(), serving_region="US", limits=QUICK, exempt=["/healthz"]
        )
        listening = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(door, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        yield Target(listening.getsockname()[1], app, engine, keys["operator"])
        server.should_exit = True
        thread.join()
        listening.close()


@pytest.fixture(autouse=True)
def unreached(target: Target) -> Iterator[None]:
    """Count what reached the application from here on."""
    target.app.calls.clear()
    target.app.bodies.clear()
    yield


def test_the_target_serves_what_is_allowed(target: Target) -> None:
    """Without an attack the application answers, over HTTP/1.1 and 1.0, and in chunks."""
    body = b'{"model":"fable-5"}'
    assert status(target.post(body)) == 200
    assert status(target.post(body, version="1.0")) == 200
    chunks = b"5\r\n" + body[:5] + b"\r\n" + b"%x\r\n" % len(body[5:]) + body[5:] + b"\r\n0\r\n\r\n"
    head = f"POST /v1/messages HTTP/1.1\r\nHost: x\r\n{NAMED}{JSON}Transfer-Encoding: chunked\r\n\r\n".encode()
    assert status(target.raw(head + chunks)) == 200
    assert target.app.bodies == [body] * 3


SECOND = [
    b'{"model":"open-1","model":"mythos-5"}',
    b'{"model":"open-1","\\u006dodel":"mythos-5"}',
    b'{"model":"open-1","Model":"mythos-5"}',
    b'{"model":"open-1","model\\u0000":"mythos-5"}',
    b'{"model":"open-1"}\n{"model":"mythos-5"}',
    b'{"model":["mythos-5"]}',
    b'[{"model":"mythos-5"}]',
    b'{"model":"open-1"/*,"x":"*/,"model":"mythos-5"/*"*/}',
    b"model=mythos-5",
    b'{"model":"\xff"}',
    '{"model":"open-1"}'.encode("utf-16"),
    b"[" * 50_000,
    b"",
]


@pytest.mark.parametrize("body", SECOND)
def test_a_body_that_readers_could_take_in_two_ways(target: Target, body: bytes) -> None:
    """Duplicates in any spelling, several documents, comments, other encodings, deep nesting: 400 or a deny."""
    assert status(target.post(body)) == 400
    assert target.app.calls == []


@pytest.mark.parametrize(
    "headers",
    [
        "Content-Type: text/plain\r\n",
        "Content-Type: application/x-www-form-urlencoded\r\n",
        "Content-Type: multipart/form-data; boundary=x\r\n",
        "Content-Type: application/json; charset=utf-7\r\n",
        "",
        JSON + "Content-Type: text/plain\r\n",
        JSON + "Content-Encoding: gzip\r\n",
        JSON + "Content-Encoding: br, identity\r\n",
    ],
)
def test_a_body_said_to_be_something_else(target: Target, headers: str) -> None:
    """Another media type, two of them, another character set, or a compressed body is refused."""
    body = b'{"model":"open-1"}'
    assert status(target.post(gzip.compress(body) if "gzip" in headers else body, headers)) == 400
    assert target.app.calls == []


def test_a_second_model_behind_a_long_body(target: Target) -> None:
    """The first model is allowed, a megabyte follows, and a second model is last: the application has no whole body."""
    begin, end = b'{"model":"fable-5","messages":["', b'"],"model":"mythos-5"}'
    middle = b"a" * 1_000_000
    length = len(begin) + len(middle) + len(end)
    head = f"POST /v1/responses HTTP/1.1\r\nHost: x\r\n{NAMED}{JSON}Content-Length: {length}\r\n\r\n".encode()
    answer = target.raw(head + begin, more=middle + end)
    assert status(answer) == 400 and b"twice" in answer
    assert target.app.bodies == []


def test_a_model_that_comes_too_late(target: Target) -> None:
    """A body that does not name its model within what is held back is refused, not kept."""
    body = b'{"messages":["' + b"a" * 300_000 + b'"],"model":"fable-5"}'
    assert status(target.post(body)) in (0, 400)  # it may be closed while the client still sends
    assert target.app.calls == []


@pytest.mark.parametrize("sent", [b"", b'{"mod'])
def test_a_slow_body(target: Target, sent: bytes) -> None:
    """A caller that stops sending before its model is known is refused in time."""
    head = f"POST /v1/responses HTTP/1.1\r\nHost: x\r\n{NAMED}{JSON}Content-Length: 50\r\n\r\n".encode()
    began = time.monotonic()
    assert status(target.raw(head + sent)) == 400
    assert time.monotonic() - began < 2.5
    assert target.app.calls == []


def test_a_huge_header_or_token(target: Target) -> None:
    """A header larger than the server takes is its 4xx; a user or secret too long names nobody."""
    assert 400 <= status(target.post(b"{}", JSON + f"X-Big: {'a' * 100_000}\r\n")) < 500
    head = f"POST / HTTP/1.1\r\nHost: x\r\nX-Proxy-Secret: {SECRET}\r\nX-User: {'a' * 300}\r\nContent-Length: 0\r\n\r\n"
    assert status(target.raw(head.encode())) == 401
    assert target.app.calls == []


@pytest.mark.parametrize(
    "headers",
    [
        "X-User: alice\r\nX-Tenant: acme\r\nX-Country: US\r\n",
        "X-Proxy-Secret: guess\r\nX-User: alice\r\n",
        f"X-Proxy-Secret: {SECRET}\r\nX-Proxy-Secret: guess\r\nX-User: alice\r\n",
        f"X-Proxy-Secret: {SECRET}\r\nX-User: alice\r\nX-User: root\r\n",
        f"X-Proxy-Secret: {SECRET}\r\nX-User: al\xefce\r\n",
    ],
)
def test_spoofed_headers_of_a_proxy(target: Target, headers: str) -> None:
    """Who is not the proxy, or sends its headers twice or as no text, is nobody or refused."""
    body = b'{"model":"fable-5"}'
    head = f"POST / HTTP/1.1\r\nHost: x\r\n{headers}{JSON}Content-Length: {len(body)}\r\n\r\n"
    assert status(target.raw(head.encode("latin-1") + body)) in (400, 401)
    assert target.app.calls == []


@pytest.mark.parametrize("path", ["/healthz/../v1/responses", "//healthz", "/healthz%2f", "/HEALTHZ", "/healthz;x"])
def test_a_path_near_an_exempted_one(target: Target, path: str) -> None:
    """Only the exact path is exempted."""
    assert status(target.post(b"", path=path)) == 400
    assert target.app.calls == []


def test_an_options_request_and_a_websocket(target: Target) -> None:
    """Neither is special."""
    head = "{} HTTP/1.1\r\nHost: x\r\nOrigin: https://a.example\r\nAccess-Control-Request-Method: POST\r\n{}\r\n"
    assert status(target.raw(head.format("OPTIONS /v1/responses", "").encode())) == 401
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    upgrade += "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    assert status(target.raw(head.format("GET /v1/realtime?model=fable-5", upgrade).encode())) in (401, 403)
    assert target.app.calls == []


def test_nothing_personal_and_no_traceback_is_logged(
    target: Target, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """A refused request leaves no user, no prompt and no traceback in any log."""
    body = json.dumps({"model": "mythos-5", "messages": ["a private prompt"]}).encode()
    assert status(target.post(body)) == 403
    assert status(target.post(body[:-1])) == 400
    captured = capfd.readouterr()
    for text in (caplog.text, captured.out, captured.err):
        assert "private" not in text and "alice" not in text and "Traceback" not in text
