"""The listener against a real server, through a network that breaks: it resumes, comes back spread, and doubts."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from policy_engine.client import Address, DecisionPoint, Heard, Listener, Unanswered
from policy_engine.client import listener as room
from policy_engine.client.listener import CONNECT_SECONDS, RETRY_SECONDS_MAX, pause_seconds
from tests.api.certificates import Authority
from tests.api.served import ALICE, EVE, Served, serving
from tests.api.streams import soon
from tests.client.proxy import Proxy


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Offer one running service to this module, whose budgets are long: what ends here, ends by what was heard."""
    with serving(tmp_path_factory.mktemp("served"), valid_for_ms=60_000) as running:
        yield running


@pytest.fixture
def proxy(served: Served) -> Iterator[Proxy]:
    """Offer a network before the service."""
    made = Proxy(served.port)
    yield made
    made.close()


@contextmanager
def listening(port: int, key: str, heard: Heard) -> Iterator[Listener]:
    """Listen while a test runs, with short pauses."""
    listener = Listener(Address(f"http://127.0.0.1:{port}", key), heard)
    listener.start()
    try:
        yield listener
    finally:
        listener.close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    real = pause_seconds
    monkeypatch.setattr(room, "pause_seconds", lambda retry_ms, failures: real(retry_ms, failures) / 20)


def engage(served: Served, id: str, model: str) -> int:
    """Engage a switch and return the epoch it raised."""
    body = {"id": id, "scope": {"models": [model]}, "reason": "why"}
    assert served.post("/v1/switches", body, key="operator").status_code == 201
    return int(served.engine.store.state().epoch)


def test_an_allow_ends_when_its_switch_is_heard_of(served: Served) -> None:
    """Asked and allowed; a switch on another model leaves it, one on its own ends it, long before its budget does."""
    heard = Heard()
    point = DecisionPoint(Address(f"http://127.0.0.1:{served.port}", served.keys["gateway"]), heard)
    with listening(served.port, served.keys["gateway"], heard):
        soon(lambda: heard.epoch)
        permission = point.ask(ALICE)
        other = engage(served, "l-other", "summit-4")
        soon(lambda: heard.epoch == other)
        assert permission.is_usable()
        permission = point.ask(ALICE)
        own = engage(served, "l-own", "fable-5")
        soon(lambda: heard.epoch == own)
        assert not permission.is_usable()
        assert permission.remaining_seconds() > 20.0
        assert not point.ask(ALICE).answer.allowed


def test_a_cut_stream_is_resumed_without_a_gap(served: Served, proxy: Proxy) -> None:
    """What changed while it was cut off is heard when it is back, and nothing is taken for void."""
    heard = Heard()
    with listening(proxy.port, served.keys["gateway"], heard):
        first = soon(lambda: heard.epoch)
        mark = heard.mark()
        proxy.cut()
        for number in range(3):
            last = engage(served, f"cut-{number}", "open-1")
        assert not heard.ends(first, mark, "open-1", "infer")
        proxy.heal()
        soon(lambda: heard.epoch == last)
        assert heard.ends(first, mark, "open-1", "infer")
        assert not heard.ends(first, mark, "opus-4-8", "infer")


def test_a_stream_that_falls_silent_is_left(served: Served, proxy: Proxy) -> None:
    """No byte for three heartbeats on a connection that still stands: it comes back over another one."""
    heard = Heard()
    with listening(proxy.port, served.keys["gateway"], heard) as listener:
        soon(listener.connected.is_set)
        before = proxy.accepted
        proxy.hold()
        soon(lambda: proxy.accepted > before)
        proxy.heal()
        soon(listener.connected.is_set)


def test_closing_while_it_connects_does_not_wait_for_the_stream(tmp_path: Path) -> None:
    """Whoever closes during the handshake waits for the handshake, and not for what a stream that never ends says."""
    authority = Authority(tmp_path, "authority")
    files = authority.signed("slow")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(files.certificate, files.key)
    arrived, shake = threading.Event(), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as door:

        def serve() -> None:
            plain, _ = door.accept()
            arrived.set()
            shake.wait(10)
            with suppress(OSError), tls.wrap_socket(plain, server_side=True) as connection:
                while connection.recv(4_096):  # and never a word
                    pass

        server = threading.Thread(target=serve)
        server.start()
        url = f"https://127.0.0.1:{door.getsockname()[1]}"
        listener = Listener(Address(url, "pe_made-up", authority.trusted()), Heard()).start()
        assert arrived.wait(10)
        closing = threading.Thread(target=listener.close)
        closing.start()
        shake.set()
        closing.join(CONNECT_SECONDS)
        assert not closing.is_alive()
        server.join(10)
        assert not listener._thread.is_alive()


def test_a_refused_key_is_doubt(served: Served) -> None:
    """A key that the service does not know any more: every answer that was given to it is let go of."""
    heard = Heard()
    mark = heard.mark()
    with listening(served.port, "pe_" + "x" * 43, heard):
        soon(lambda: heard.ends(1, mark, "fable-5", "infer"))


BEATING = b'event: standing\ndata: {"epoch": 1, "heartbeat_ms": %b}\n\n'


@pytest.mark.parametrize(
    "body",
    [
        b"data: []\n\n",
        b"data: {\n\n",
        b"data: \xff\n\n",
        b"event: changed\ndata: {}\n\n",
        b"data: " + b"[" * 200_000 + b"\n\n",
        BEATING % b"60001",
        BEATING % (b"9" * 20),
        BEATING % (b"9" * 400),
    ],
    ids=["list", "torn", "not text", "no epoch", "nested", "beats too rarely", "never beats", "beat of no number"],
)
def test_a_stream_of_something_else_is_doubt(body: bytes) -> None:
    """A server that is not ours, or a proxy's own page under status 200, ends every answer; and it is listened on."""
    heard = Heard()
    mark = heard.mark()
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer() -> None:
            near, _ = other.accept()
            with near:
                near.recv(65_536)
                near.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

        thread = threading.Thread(target=answer)
        thread.start()
        with listening(other.getsockname()[1], "pe_x", heard) as listener:
            soon(lambda: heard.ends(1, mark, "fable-5", "infer"))
            other.settimeout(10)
            other.accept()[0].close()
            assert listener._thread.is_alive()
        thread.join()


@pytest.mark.parametrize("failures", [0, 1, 4, 20])
def test_the_pause_is_spread_doubled_and_bounded(failures: int) -> None:
    """Around what the server said, twice as long with every failure, at most about half a minute."""
    pauses = {pause_seconds(1_000, failures) for _ in range(200)}
    base = min(2.0**failures, RETRY_SECONDS_MAX)
    assert min(pauses) >= base / 2 and max(pauses) <= base * 1.5
    assert max(pauses) - min(pauses) > base / 2


@pytest.mark.parametrize("answer", [b"", b"nonsense", b"HTTP/1.1 500 X\r\nContent-Length: 2\r\n\r\n{}",
                                    b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nnot json!",
                                    b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"[" * 200_000])  # fmt: skip
def test_no_readable_answer_is_no_answer(answer: bytes) -> None:
    """A connection that ends, another protocol, an error, another text: `Unanswered`, so nothing is allowed."""
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answering() -> None:
            near, _ = other.accept()
            with near:
                near.recv(65_536)
                near.sendall(answer)

        thread = threading.Thread(target=answering)
        thread.start()
        with pytest.raises(Unanswered):
            DecisionPoint(Address(f"http://127.0.0.1:{other.getsockname()[1]}", "pe_x")).ask(ALICE)
        thread.join()


ALLOW = json.dumps({"decision": True, "context": {"id": "d-1", "epoch": 1, "valid_for_ms": 60_000}}).encode()


@contextmanager
def sending(head: bytes, pause_seconds: float) -> Iterator[DecisionPoint]:
    """Offer a decision point that takes half a second, whose answer comes a byte at a time after its `head`."""
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answering() -> None:
            near, _ = other.accept()
            with near, suppress(OSError):
                asked = b""
                while not asked.endswith(b"}"):  # whoever closes on what was not read resets the connection
                    asked += near.recv(65_536)
                near.sendall(head)
                for byte in ALLOW:
                    near.sendall(bytes([byte]))
                    time.sleep(pause_seconds)

        thread = threading.Thread(target=answering)
        thread.start()
        yield DecisionPoint(Address(f"http://127.0.0.1:{other.getsockname()[1]}", "pe_x"), timeout_seconds=0.5)
        thread.join()


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(ALLOW), b"HTTP/1.1 200 OK\r\nX-"]
)
def test_an_answer_that_trickles_is_none_once_its_time_is_over(head: bytes) -> None:
    """Whoever sends byte after byte, of the head or of the body, holds nobody longer than the time for an answer."""
    with sending(head, 0.05) as point:
        began = time.monotonic()
        with pytest.raises(Unanswered):
            point.ask(ALICE)
        assert time.monotonic() - began < 2


@pytest.mark.parametrize("length", [b"Content-Length: %d" % len(ALLOW), b"Connection: close"])
def test_an_answer_in_many_pieces_is_read_to_its_end(length: bytes) -> None:
    """With its length, and up to the end of the connection."""
    with sending(b"HTTP/1.1 200 OK\r\n" + length + b"\r\n\r\n", 0) as point:
        assert point.ask(ALICE).is_usable()


def test_a_deny_is_an_answer(served: Served) -> None:
    """It has its reasons, and is not usable."""
    permission = DecisionPoint(Address(f"http://127.0.0.1:{served.port}/", served.keys["gateway"])).ask(EVE)
    assert permission.answer.reasons and not permission.is_usable()


@pytest.mark.parametrize(
    "url", ["pdp.example", "ftp://pdp.example", "https://", "https://pdp.example/?a", "https://a/#b"]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    """At once, and without showing the key."""
    with pytest.raises(ValueError, match="http or https URL") as raised:
        Address(url, "pe_secret")
    assert "pe_secret" not in str(raised.value) + repr(Address("https://pdp.example", "pe_secret"))


def test_the_client_loads_nothing_of_the_engine() -> None:
    """In a process of its own: no web framework, no database, no Casbin, no part of the engine that decides."""
    script = "import sys, json, policy_engine.client; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    loaded: list[Any] = json.loads(done.stdout)
    heavy = ("fastapi", "starlette", "sqlalchemy", "casbin", "pydantic", "uvicorn", "pysqlite3")
    assert [name for name in loaded if name.partition(".")[0] in heavy] == []
    assert [name for name in loaded if name.startswith(("policy_engine.services", "policy_engine.store"))] == []
