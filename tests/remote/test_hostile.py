"""Attacks of whoever answers in the engine's place, or of an engine gone wrong: a deny, in time and in bounds."""

from __future__ import annotations

import gzip
import json
import socket
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from policy_engine import PolicyEngine
from policy_engine.errors import EngineUnavailable, InputRefused
from policy_engine.limits import LIMITS
from tests.remote.hostile import YES, Answering, answer, hostile, sending

KEY = "pe_made-up-for-tests"
ASKED: dict[str, Any] = {"subject": "alice", "model": "fable-5", "action": "infer", "tenant": "acme", "location": "US"}
SECONDS = 0.15


def yes(**context: Any) -> bytes:
    """Return the body of an allow with some members of its context replaced; `...` leaves one out."""
    members = {name: value for name, value in {**YES["context"], **context}.items() if value is not ...}
    return json.dumps({**YES, "context": members}).encode()


def trickled(data: bytes, pause: float, *, head: bytes = b"") -> Answering:
    """Return an answering that sends byte after byte."""

    def send(connection: socket.socket, asked: bytes) -> None:
        connection.sendall(head)
        for byte in data:
            connection.sendall(bytes((byte,)))
            time.sleep(pause)

    return send


def endless(connection: socket.socket, asked: bytes) -> None:
    """Answer with a body that never ends, as fast as it is taken."""
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"10000\r\n" + b"[" * 65_536 + b"\r\n")


ANSWERS: dict[str, Answering] = {
    "nothing, closed": lambda connection, asked: connection.shutdown(socket.SHUT_RDWR),
    "nothing, open": lambda connection, asked: None,
    "no HTTP": sending(b"220 mail.example ESMTP\r\n"),
    "an endless head": trickled(b"x" * 200, 0.02, head=b"HTTP/1.1 200 OK\r\nx-"),
    "a huge head": sending(b"HTTP/1.1 200 OK\r\nx-a: " + b"x" * 2_000_000 + b"\r\n\r\n"),
    "an endless body": endless,
    "a trickled allow": trickled(answer(yes()), 0.01),
    "a huge length": sending(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99999999999\r\n\r\n{"
    ),
    "a short length": sending(answer(yes()).replace(b"content-length: ", b"content-length: 1")),
    "two lengths": sending(answer(yes(), more="content-length: 3\r\n")),
    "a redirect": sending(answer(b"", status="307 Temporary Redirect", more="location: http://127.0.0.1:1/\r\n")),
    "an allow with a redirect": sending(answer(yes(), status="302 Found", more="location: /elsewhere\r\n")),
    "an allow with 201": sending(answer(yes(), status="201 Created")),
    "an allow with 206": sending(answer(yes(), status="206 Partial Content")),
    "an allow with 403": sending(answer(yes(), status="403 Forbidden")),
    "an allow with 500": sending(answer(yes(), status="500 Internal Server Error")),
    "too many requests": sending(answer(b"{}", status="429 Too Many Requests", more="retry-after: 9999\r\n")),
    "an allow as text": sending(answer(yes(), media="text/plain")),
    "an allow as HTML": sending(answer(yes(), media="text/html")),
    "an allow without type": sending(answer(yes()).replace(b"content-type: application/json\r\n", b"")),
    "a compressed allow": sending(answer(gzip.compress(yes()), more="content-encoding: gzip\r\n")),
    "a compressed bomb": sending(answer(gzip.compress(b"[" * 10_000_000), more="content-encoding: gzip\r\n")),
    "a switch of protocols": sending(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"),
    "no JSON": sending(answer(b"yes")),
    "empty": sending(answer(b"")),
    "an array": sending(answer(b"[true]")),
    "true": sending(answer(b"true")),
    "deep": sending(answer(b'{"decision":true,"context":' + b"[" * 100_000 + b"]" * 100_000 + b"}")),
    "decided twice": sending(answer(b'{"decision":false,' + yes()[1:])),
    "decision 1": sending(answer(yes().replace(b'"decision": true', b'"decision": 1'))),
    "decision text": sending(answer(yes().replace(b'"decision": true', b'"decision": "true"'))),
    "decision null": sending(answer(yes().replace(b'"decision": true', b'"decision": null'))),
    "no context": sending(answer(b'{"decision":true}')),
    "not UTF-8": sending(answer(yes().replace(b"sha256:0", b"\xff\xfe"))),
}
CONTEXTS: dict[str, dict[str, Any]] = {
    "no id": {"id": ...},
    "an empty id": {"id": ""},
    "an id with a line break": {"id": "a\r\nset-cookie: b"},
    "a huge id": {"id": "x" * 5_000},
    "no epoch": {"epoch": ...},
    "epoch true": {"epoch": True},
    "a negative epoch": {"epoch": -1},
    "an epoch beyond counting": {"epoch": 2**70},
    "no release": {"release": ...},
    "no budget": {"valid_for_ms": ...},
    "a budget of an hour": {"valid_for_ms": 3_600_000},
    "a budget beyond counting": {"valid_for_ms": 10**30},
    "a budget with a fraction": {"valid_for_ms": 2_000.5},
    "a budget as text": {"valid_for_ms": "2000"},
    "a negative budget": {"valid_for_ms": -1},
    "no budget left": {"valid_for_ms": 0},
    "no code": {"reasons": [{}]},
    "reasons of text": {"reasons": ["access.closed"]},
    "a million reasons": {"reasons": [{"code": "x"}] * 5_000},
    "reasons no list": {"reasons": {"code": "x"}},
    "missing no list": {"missing": "nothing"},
    "alternatives no texts": {"alternatives": [7]},
    "a receipt that is none": {"receipt": "yes"},
    "a message of a book": {"message": "x" * 100_000},
}


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """Let no attack take much longer than the time that was given, whatever else the machine does."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_of_a_wrong_shape_is_a_deny_in_time(name: str) -> None:
    """No exception, no allow, a code that says what it was; the listings raise, for they cannot deny."""
    with hostile(ANSWERS[name]) as server, PolicyEngine.connect(server.url, key=KEY, timeout_seconds=SECONDS) as engine:
        began = time.monotonic()
        alone, both = engine.decide(**ASKED), engine.decide_many([ASKED, ASKED])  # type: ignore[list-item]  # its names
        assert time.monotonic() - began < SECONDS * 3 + 1
        for decision in (alone, *both):
            assert not decision
            assert decision.id == ""
            assert decision.reasons[0].code in {
                "engine.unreachable",
                "engine.refused",
                "engine.answer-unreadable",
                "engine.away",
            }
        with pytest.raises(EngineUnavailable):
            engine.filter_models(["fable-5"], subject="alice")
        with pytest.raises(EngineUnavailable):
            engine.what_can(subject="alice")


@pytest.mark.parametrize("name", CONTEXTS)
def test_an_allow_that_claims_what_no_engine_may_claim_is_a_deny(name: str) -> None:
    """Wrong types, budgets beyond what an engine may give, texts that could break a header or fill a memory.

    Control: policy_engine/remote/reading.py: `if allowed and not (id and release and "epoch" in context):`
    """
    bad = yes(**CONTEXTS[name])

    def both(connection: socket.socket, asked: bytes) -> None:
        batch = b'{"evaluations":[' + bad + b"," + yes() + b"]}"
        connection.sendall(answer(batch if b"/evaluations" in asked.split(b"\r\n")[0] else bad))

    with hostile(both) as server, PolicyEngine.connect(server.url, key=KEY) as engine:
        assert not engine.decide(**ASKED)
        wrong, right = engine.decide_many([ASKED, ASKED])  # type: ignore[list-item]  # the same names
        assert not wrong
        assert wrong.reasons[0].code in ("engine.answer-unreadable", "engine.answer-late")
        assert right, "an item that can be read stands for itself"


def test_the_attacks_begin_with_an_answer_that_is_believed() -> None:
    """The same server's proper answer is an allow, so each attack above differs from it in what it attacks."""
    with hostile(sending(answer(yes()))) as server, PolicyEngine.connect(server.url, key=KEY) as engine:
        assert engine.decide(**ASKED)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_batch_with_another_number_of_answers_allows_nothing(count: int) -> None:
    """Nothing says which answer is whose."""
    body = b'{"evaluations":[' + b",".join([yes()] * count) + b"]}"
    with hostile(sending(answer(body))) as server, PolicyEngine.connect(server.url, key=KEY) as engine:
        decisions = engine.decide_many([ASKED, ASKED])  # type: ignore[list-item]  # the same names
    assert [decision.allowed for decision in decisions] == [False, False]


def test_an_answer_without_end_takes_no_memory_without_end() -> None:
    """What is longer than its limit is dropped as soon as it is."""
    with hostile(endless) as server, PolicyEngine.connect(server.url, key=KEY, timeout_seconds=5) as engine:
        tracemalloc.start()
        try:
            decision = engine.decide(**ASKED)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert decision.reasons[0].code == "engine.answer-unreadable"
    assert peak < LIMITS.remote_answer_bytes * 3


def test_an_allow_counts_from_before_its_question_was_sent() -> None:
    """One that comes after its own budget was never usable.

    Control: policy_engine/remote/asking.py:
    `return replace(decision, grant=Grant(owner, permission)) if permission.is_usable() else None`
    """

    def late(connection: socket.socket, asked: bytes) -> None:
        time.sleep(0.15)
        connection.sendall(answer(yes(valid_for_ms=100)))

    with hostile(late) as server, PolicyEngine.connect(server.url, key=KEY) as engine:
        assert engine.decide(**ASKED).reasons[0].code == "engine.answer-late"


def test_the_key_follows_no_redirect() -> None:
    """Another server, named by an answer, is not asked: neither the key nor the question goes there."""
    with hostile(sending(answer(yes()))) as thief:
        away = answer(b"", status="308 Permanent Redirect", more=f"location: {thief.url}/access/v1/evaluation\r\n")
        with hostile(sending(away)) as server, PolicyEngine.connect(server.url, key=KEY) as engine:
            assert engine.decide(**ASKED).reasons[0].code == "engine.refused"
        assert thief.asked == []


def test_nothing_of_the_environment_changes_where_a_question_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the environment is for browsing; it would see the key and could answer."""
    with hostile(sending(answer(yes()))) as thief, hostile(sending(answer(yes()))) as server:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, thief.url)
        with PolicyEngine.connect(server.url, key=KEY) as engine:
            assert engine.decide(**ASKED)
        assert thief.asked == []
        assert len(server.asked) == 1


def test_a_connection_that_was_closed_meanwhile_is_no_failure() -> None:
    """An idle connection that the server closed is replaced, and the question sent once more."""

    def once(connection: socket.socket, asked: bytes) -> None:
        connection.sendall(answer(yes()))
        connection.shutdown(socket.SHUT_RDWR)

    with hostile(once) as server, PolicyEngine.connect(server.url, key=KEY) as engine:
        assert all(engine.decide(**ASKED) for _ in range(20))


def told(asked: bytes) -> str:
    """Return the header that names a question, as the engine sends it back."""
    (line,) = (line for line in asked.split(b"\r\n") if line.lower().startswith(b"x-request-id:"))
    return line.decode() + "\r\n"


def test_an_answer_to_another_question_is_none() -> None:
    """One that was sent twice waits on a kept connection for the next question, which nobody has recorded.

    Control: policy_engine/remote/exchange.py: `if told != id and _QUESTION in told:`
    """
    given: list[bytes] = []

    def twice(connection: socket.socket, asked: bytes) -> None:
        given.append(answer(yes(id=f"d-{len(given)}"), more=told(asked)))
        connection.sendall(given[-1] * (2 if len(given) == 1 else 1))

    with hostile(twice) as server, PolicyEngine.connect(server.url, key=KEY) as engine:
        found = [engine.decide(**ASKED) for _ in range(3)]
    assert [decision.id for decision in found if decision] == ["d-0", "d-2"]
    assert [decision.reasons[0].code for decision in found if not decision] == ["engine.answer-unreadable"]


@pytest.mark.parametrize("more", ["", "x-request-id: 6f0c5c5a-2f6a-4f43-9d53-8a1c36c0a8a1\r\n"])
def test_a_proxy_may_leave_out_or_replace_the_id_of_a_question(more: str) -> None:
    """As Envoy and nginx do, each with an id of its own: that names no other question of ours."""
    with hostile(sending(answer(yes(), more=more))) as server, PolicyEngine.connect(server.url, key=KEY) as engine:
        assert engine.decide(**ASKED)


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("http://pdp.example", KEY),
        ("http://10.0.0.7:8181", KEY),
        ("http://localhost.example", KEY),
        ("ftp://127.0.0.1", KEY),
        ("127.0.0.1:8181", KEY),
        ("http://127.0.0.1:99999", KEY),
        ("https://user:secret@pdp.example", KEY),
        ("https://pdp.example/?key=x", KEY),
        ("https://", KEY),
        ("https://pdp.example\n", KEY),
        ("https://pdp .example", KEY),
        ("https://pdp.example", ""),
        ("https://pdp.example", "pe_x\r\nx: y"),
        ("https://pdp.example", "pe_\u00e9"),
        ("https://pdp.example", None),
    ],
)
def test_an_address_or_key_that_could_not_be_used_safely_is_refused(url: str, key: Any) -> None:
    """In clear to this machine only, unless it was said; what is refused does not say the key."""
    with pytest.raises(InputRefused) as refused:
        PolicyEngine.connect(url, key=key)
    assert KEY not in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("seconds", [0, 61, float("nan"), "2", None])
def test_a_timeout_that_bounds_nothing_is_refused(seconds: Any) -> None:
    """Also one that is no number, as a variable of the environment is none."""
    with pytest.raises(InputRefused, match="timeout_seconds"):
        PolicyEngine.connect("https://pdp.example", key=KEY, timeout_seconds=seconds)


@pytest.mark.parametrize(
    ("url", "given"),
    [
        ("https://pdp.example", {"tls": False}),
        ("https://pdp.example", {"tls": True}),
        ("https://pdp.example", {"tls": "authorities.pem"}),
        ("http://pdp.example", {"cleartext": "no"}),
        ("http://pdp.example", {"cleartext": 1}),
    ],
)
def test_what_says_how_a_key_is_sent_is_of_its_own_type(url: str, given: dict[str, Any]) -> None:
    """To the library `tls=False` would mean that any certificate will do, and text from a variable is true."""
    with pytest.raises(InputRefused, match=next(iter(given))):
        PolicyEngine.connect(url, key=KEY, **given)


def test_clear_text_has_to_be_said() -> None:
    """Where a mesh encrypts, the address may be http; nothing is sent by connecting."""
    PolicyEngine.connect("http://pdp.example:8181", key=KEY, cleartext=True).close()
    PolicyEngine.connect("https://pdp.example/engine", key=KEY).close()
    PolicyEngine.connect("http://[::1]:8181", key=KEY).close()
