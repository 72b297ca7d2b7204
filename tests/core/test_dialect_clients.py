"""What the real client libraries make of our denies: the exception, its message, and how many requests they send."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import anthropic
import openai
import pytest

from policy_engine.core.decision import Decision, Reason
from policy_engine.core.dialects import Dialect, Refusal, Wording, message, refusal, stream_end, unavailable

STREAM = (("content-type", "text/event-stream"), ("cache-control", "no-store"))
CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": []}
PING = b'event: ping\ndata: {"type": "ping"}\n\n'


def deny(code: str) -> Decision:
    """Return a deny for one reason."""
    return Decision(False, "01jdecision", (Reason(code),), (), ("opus-4-8",), "sha256:0", 7, 0)


@contextmanager
def answering(answer: Refusal) -> Iterator[tuple[str, list[str]]]:
    """Serve one answer to everything; give the address and the paths that were asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        """Answers every POST alike."""

        def do_POST(self) -> None:
            """Read what was sent and answer."""
            self.rfile.read(int(self.headers.get("content-length", "0")))
            asked.append(self.path)
            self.send_response(answer.status)
            for name, value in answer.headers:
                self.send_header(name, value)
            self.send_header("content-length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ask_openai(address: str, *, stream: bool = False) -> None:
    """Ask through the provider's library, which would repeat twice."""
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=2) as client:
        answer = client.chat.completions.create(model="fable-5", messages=[], stream=stream)
        for _ in answer:
            pass


def ask_anthropic(address: str, *, stream: bool = False) -> None:
    """Ask through the provider's library, which would repeat twice."""
    with anthropic.Anthropic(base_url=address, api_key="none", max_retries=2) as client:
        answer = client.messages.create(model="fable-5", max_tokens=1, messages=[], stream=stream)
        for _ in answer:
            pass


@pytest.mark.parametrize(
    ("wording", "kind", "status"),
    [
        (Wording(), openai.PermissionDeniedError, 403),
        (Wording((("", 404),)), openai.NotFoundError, 404),
        (Wording((("directive", 451),), "https://law.example/o"), openai.APIStatusError, 451),
    ],
)
def test_openai_shows_the_deny_and_asks_once(wording: Wording, kind: type[openai.APIError], status: int) -> None:
    """The exception is of its status, the message whole, and our members survive in its body."""
    decision = deny("directive.everyone")
    with (
        answering(refusal(decision, Dialect.OPENAI, wording)) as (address, asked),
        pytest.raises(kind) as raised,
    ):
        ask_openai(address)
    error = raised.value
    assert isinstance(error, openai.APIStatusError)
    assert (error.status_code, len(asked)) == (status, 1)
    assert message(decision, wording) in error.message
    assert isinstance(error.body, dict)
    assert (error.body["decision_id"], error.body["alternatives"]) == ("01jdecision", ["opus-4-8"])
    assert error.code == "model_suspended"


@pytest.mark.parametrize(
    ("code", "kind"),
    [("tenant.denied", anthropic.PermissionDeniedError), ("switch.engaged", anthropic.NotFoundError)],
)
def test_anthropic_shows_the_deny_and_asks_once(code: str, kind: type[anthropic.APIStatusError]) -> None:
    """A denied account and a withdrawn model are different exceptions; the message says that no login will help."""
    decision = deny(code)
    with (
        answering(refusal(decision, Dialect.ANTHROPIC)) as (address, asked),
        pytest.raises(kind) as raised,
    ):
        ask_anthropic(address)
    assert len(asked) == 1
    assert "Policy, not login" in raised.value.message
    assert message(decision) in json.dumps(raised.value.body)
    assert raised.value.request_id == "01jdecision"


@pytest.mark.parametrize("sent", [b"", b"data: " + json.dumps(CHUNK).encode() + b"\n\n"])
def test_openai_raises_what_ends_a_stream(sent: bytes) -> None:
    """A stream that is cut ends with an exception that has the message, not with silence, and is not begun again."""
    decision = deny("switch.engaged")
    with (
        answering(Refusal(200, STREAM, sent + stream_end(decision, Dialect.OPENAI))) as (address, asked),
        pytest.raises(openai.APIError) as raised,
    ):
        ask_openai(address, stream=True)
    assert len(asked) == 1
    assert message(decision) in raised.value.message


@pytest.mark.parametrize("sent", [b"", PING])
def test_anthropic_raises_what_ends_a_stream(sent: bytes) -> None:
    """The same with its `error` event."""
    decision = deny("switch.engaged")
    with (
        answering(Refusal(200, STREAM, sent + stream_end(decision, Dialect.ANTHROPIC))) as (address, asked),
        pytest.raises(anthropic.APIStatusError) as raised,
    ):
        ask_anthropic(address, stream=True)
    assert len(asked) == 1
    assert message(decision) in json.dumps(raised.value.body)


def test_an_outage_is_tried_again() -> None:
    """503 with `Retry-After` is what the libraries come back for, as often as they are told to."""
    with (
        answering(unavailable(Dialect.OPENAI)) as (address, asked),
        openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=1) as client,
        pytest.raises(openai.InternalServerError),
    ):
        client.chat.completions.create(model="fable-5", messages=[])
    assert len(asked) == 2
