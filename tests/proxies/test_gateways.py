"""Every gateway, run from its printed configuration: what its clients see, and what reaches the upstream."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from policy_engine.api.checks.table import REMOVED
from tests.api.served import Served
from tests.proxies.conftest import BLOCKER
from tests.proxies.gateways import NAMES, TOKEN, Gateway
from tests.proxies.upstream import ANSWER, Upstream


@pytest.fixture(params=NAMES)
def gate(request: pytest.FixtureRequest, gateways: Any) -> Gateway:
    """Offer one gateway after the other."""
    found: Gateway = gateways(request.param)
    return found


def test_an_allow_reaches_the_upstream_with_the_decision_and_without_what_is_ours(gate: Gateway) -> None:
    """The upstream learns the decision's id; the proxy's key and the facts stay between proxy and engine."""
    before = len(gate.upstream.arrived)
    reply = gate.ask("alice")
    assert (reply.status, reply.body, len(gate.upstream.arrived)) == (200, ANSWER, before + 1)
    arrived = gate.upstream.arrived[-1]
    assert len(arrived.headers["policy-engine-decision-id"]) == 32
    assert not [name for name in arrived.headers if name.startswith("x-policy-engine-")]
    assert "policy-engine-key" not in arrived.headers
    assert b"fable-5" in arrived.body


DENIED = [("bruno", 403), ("eve", 451), ("nobody", 404)]
"""Persons, and the status that the engine's settings choose for the reason of their deny."""


@pytest.mark.parametrize(("person", "status"), DENIED)
def test_a_deny_is_shown_in_the_words_of_the_client(gate: Gateway, person: str, status: int) -> None:
    """Status, body and headers of the dialect arrive whole behind every gateway, and nothing reaches the upstream."""
    before = len(gate.upstream.arrived)
    reply = gate.ask(person)
    assert (reply.status, len(gate.upstream.arrived)) == (status, before)
    error = reply.json()["error"]
    assert error["type"] == "request_forbidden" and error["param"] == "model"
    assert error["message"].startswith("Policy, not login")
    assert reply.headers["policy-engine-decision-id"] == error["decision_id"]
    assert reply.headers["cache-control"] == "no-store" and reply.headers["x-should-retry"] == "false"
    assert reply.headers["content-type"] == "application/json"
    assert (reply.headers.get("link") == f'<{BLOCKER}>; rel="blocked-by"') == (status == 451)


def test_an_anthropic_client_gets_its_own_words(gate: Gateway) -> None:
    """The path that the gateway tells chooses the dialect."""
    reply = gate.ask("bruno", path="/v1/messages")
    assert reply.status == 403
    assert reply.json()["type"] == "error" and reply.json()["error"]["type"] == "permission_error"


SPOOFED = [
    ("X-Policy-Engine-Subject", "alice"),
    ("x-policy-engine-subject", "alice"),
    ("X-Policy-Engine-Subject-Type", "service"),
    ("X-Policy-Engine-Tenant", "acme-de"),
    ("X-Policy-Engine-Model", "open-1"),
    ("X-Policy-Engine-Action", "list"),
    ("X-Policy-Engine-Location", "DE"),
    ("X-Policy-Engine-Anonymiser", "false"),
    ("X-Policy-Engine-Serving-Region", "DE"),
    ("X-Policy-Engine-Nothing", "at-all"),
    ("Policy-Engine-Key", "pe_" + "x" * 43),
    ("Policy-Engine-Decision-Id", "0" * 32),
    ("Policy-Engine-Status", "200"),
    ("Policy-Engine-Body", "{}"),
    ("X-Original-URI", "/healthz"),
    ("X-Original-Method", "OPTIONS"),
    ("X-Forwarded-Uri", "/healthz"),
    ("X-Forwarded-Method", "OPTIONS"),
    ("X-Envoy-Auth-Partial-Body", "false"),
    ("X-Envoy-Original-Path", "/healthz"),
]


def test_what_a_client_says_of_itself_is_not_heard(gate: Gateway) -> None:
    """No header of a client opens anything, closes anything for others, or reaches the upstream as if it were ours."""
    assert not gate.served("bruno", headers=SPOOFED)
    before = len(gate.upstream.arrived)
    reply = gate.ask("alice", headers=SPOOFED)
    assert reply.status == 200 and len(gate.upstream.arrived) == before + 1
    arrived = gate.upstream.arrived[-1]
    assert arrived.headers["policy-engine-decision-id"] not in ("", "0" * 32)
    assert arrived.headers.keys().isdisjoint(REMOVED)


def test_one_spoofed_header_at_a_time_changes_no_answer(gate: Gateway) -> None:
    """Each alone, so that none hides behind another."""
    for header in SPOOFED:
        assert not gate.served("bruno", headers=[header]), header


def test_a_client_that_the_gateway_does_not_know_gets_no_further(gate: Gateway) -> None:
    """Authentication comes first: the engine is not asked about strangers."""
    before = len(gate.upstream.arrived)
    for headers in ([], [("Authorization", "Bearer x.y.z")], [("Authorization", "Basic eDp5")]):
        assert gate.raw("", b'{"model":"fable-5"}', headers=headers).status in (400, 401, 403)
    assert len(gate.upstream.arrived) == before


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "PROPFIND"])
def test_no_method_is_special(gate: Gateway, method: str) -> None:
    """A preflight, a look or a verb that nobody knows is decided like a POST."""
    assert not gate.served("bruno", method=method)
    assert gate.served("alice", method=method)


def test_a_web_socket_is_decided_before_it_is_opened(gate: Gateway) -> None:
    """An upgrade is a request like any other; without a body the gateway must name the model, or it is refused."""
    upgrade = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "c2FtcGxlIG5vbmNlIHNhbQ=="),
    ]
    before = len(gate.upstream.arrived)
    denied = gate.raw("bruno", method="GET", headers=upgrade, close=False, path="/v1/realtime")
    assert denied.status in (400, 403) and len(gate.upstream.arrived) == before
    allowed = gate.raw("alice", method="GET", headers=upgrade, close=False, path="/v1/realtime")
    assert allowed.status == (400 if gate.sees_bodies else 101)


@pytest.mark.parametrize("wishes", [["h2c"], ["TLS/1.2"], ["h2c", "websocket"], ["h2c, websocket"]])
def test_no_other_protocol_is_spoken_to_the_upstream(gate: Gateway, wishes: list[str]) -> None:
    """Requests in a tunnel of HTTP/2 would be decided by nobody: the upstream never hears of the wish."""
    upgrade = [("Connection", "Upgrade, HTTP2-Settings"), ("HTTP2-Settings", "AAMAAABkAAQAAP__")]
    before = len(gate.upstream.arrived)
    reply = gate.ask("alice", headers=[*upgrade, *(("Upgrade", wish) for wish in wishes)], close=False)
    assert reply.status in (200, 400, 403, 101 if "websocket" in wishes else 200)
    arrived = gate.upstream.arrived[before:]
    assert len(arrived) == (reply.status in (101, 200))
    assert all(request.headers.get("upgrade", "websocket") == "websocket" for request in arrived)


def test_http_1_0_is_decided_or_refused(gate: Gateway) -> None:
    """An old client is denied like others; Envoy takes none at all."""
    assert not gate.served("bruno", version="1.0")
    assert gate.ask("alice", version="1.0").status == (426 if gate.sees_bodies else 200)


def test_a_body_in_chunks_is_decided(gate: Gateway) -> None:
    """A body without a length is read as far as the gateway shows it."""
    chunks = b'd\r\n{"model":"fab\r\n7\r\nle-5"}\n\r\n0\r\n\r\n'
    headers = [("Transfer-Encoding", "chunked")]
    assert gate.raw("bruno", chunks, headers=headers).status == 403
    assert gate.raw("alice", chunks, headers=headers).status == 200
    assert gate.upstream.arrived[-1].body == b'{"model":"fable-5"}\n'


def test_a_huge_header_is_refused(gate: Gateway) -> None:
    """What no head may hold is refused by the gateway or by the engine, and the client is told."""
    before = len(gate.upstream.arrived)
    reply = gate.ask("alice", headers=[("X-Padding", "x" * 100_000)])
    assert reply.status in (0, 400, 403, 431, 502, 503) and len(gate.upstream.arrived) == before


def test_nothing_is_served_while_the_engine_is_down(gate: Gateway) -> None:
    """A refused connection is a closed door, said as an outage that may pass; and it does."""
    assert gate.served("alice")
    gate.engine.cut()
    before = len(gate.upstream.arrived)
    reply = gate.ask("alice")
    assert reply.status in (502, 503) and len(gate.upstream.arrived) == before
    gate.engine.heal()
    assert any(gate.ask("alice").status == 200 for _ in range(20))


def test_nothing_is_served_while_the_engine_is_slow(gateways: Any, behind: Upstream) -> None:
    """An answer that does not come in time is a deny, and comes too late for what was refused."""
    gates: list[Gateway] = [gateways(name) for name in NAMES]
    before = len(behind.arrived)
    for gate in gates:
        gate.engine.hold()
    with ThreadPoolExecutor(len(gates)) as together:
        replies = list(together.map(lambda gate: gate.ask("alice"), gates))
    assert {reply.status for reply in replies} <= {502, 503, 504}
    for gate in gates:
        gate.engine.heal()
        assert any(gate.ask("alice").status == 200 for _ in range(20))
    assert len(behind.arrived) - before >= len(gates)


BODIES = {
    "gzip": (b"\x1f\x8b\x08\x00", [("Content-Encoding", "gzip")]),
    "two models": (b'{"model":"open-1","model":"fable-5"}', []),
    "two models, one escaped": (b'{"model":"open-1","\\u006dodel":"fable-5"}', []),
    "another case": (b'{"Model":"fable-5"}', []),
    "no JSON": (b"model=fable-5", [("Content-Type", "application/x-www-form-urlencoded")]),
    "a form": (b"--x\r\n", [("Content-Type", "multipart/form-data; boundary=x")]),
    "not UTF-8": (b'{"model":"fable-5","x":"\xff"}', []),
    "UTF-16": ('{"model":"fable-5"}'.encode("utf-16"), [("Content-Type", "application/json; charset=utf-16")]),
    "a number": (b'{"model":5}', []),
    "a list": (b'["fable-5"]', []),
    "no model": (b"{}", []),
    "cut off": (b'{"model":"fable-5"', []),
    "another in the query": (b'{"model":"fable-5"}', []),
}


@pytest.mark.parametrize("name", ["envoy", "envoy-http"])
@pytest.mark.parametrize("kind", BODIES)
def test_a_body_that_can_be_read_in_two_ways_is_refused(gateways: Any, name: str, kind: str) -> None:
    """Where the engine sees bodies, what does not name one model in one way is refused clearly."""
    gate: Gateway = gateways(name)
    body, headers = BODIES[kind]
    before = len(gate.upstream.arrived)
    path = "/v1/chat/completions" + ("?model=open-1" if kind == "another in the query" else "")
    reply = gate.raw("alice", body, headers=headers, path=path)
    assert (reply.status, len(gate.upstream.arrived)) == (400, before), reply
    assert reply.json()["error"]["message"].startswith("The request cannot be decided: ")


@pytest.mark.parametrize("name", ["envoy", "envoy-http"])
def test_a_body_beyond_the_bound_is_refused_by_envoy(gateways: Any, name: str) -> None:
    """The engine is not asked about a part of a body; one just below the bound is decided."""
    gate: Gateway = gateways(name)
    before = len(gate.upstream.arrived)
    large = b'{"model":"fable-5","input":"%s"}'
    assert gate.raw("alice", large % (b"x" * 1_048_576)).status == 413
    assert len(gate.upstream.arrived) == before
    assert gate.raw("alice", large % (b"x" * 1_040_000)).status == 200


BAD_TOKENS = {
    "no signature": {"alg": "none"},
    "another audience": {"aud": "elsewhere"},
    "another issuer": {"iss": "https://evil.example"},
    "expired": {"exp": 1},
}


@pytest.mark.parametrize("name", ["envoy", "envoy-http"])
@pytest.mark.parametrize("kind", BAD_TOKENS)
def test_a_bad_token_is_no_subject(gateways: Any, name: str, kind: str) -> None:
    """Envoy's own filter refuses it, and nothing is decided for whom it names."""
    gate: Gateway = gateways(name)
    before = len(gate.upstream.arrived)
    bad = TOKEN("alice", **BAD_TOKENS[kind])
    gate.prove, proving = (lambda person: ("Authorization", f"Bearer {bad}")), gate.prove
    try:
        assert gate.ask("alice").status in (401, 403)
    finally:
        gate.prove = proving
    assert len(gate.upstream.arrived) == before


def test_a_switch_holds_from_the_next_request_on(gateways: Any, guarded: Served) -> None:
    """An engaged kill switch denies at once, and in the words that make a client offer another model."""
    gates: list[Gateway] = [gateways(name) for name in ("envoy", "envoy-http")]
    assert {gate.ask("alice", "summit-4").status for gate in gates} == {200}
    switch = {"id": "gateways", "scope": {"models": ["summit-4"]}, "reason": "drill"}
    assert guarded.post("/v1/switches", switch, key="operator").status_code == 201
    before = len(gates[0].upstream.arrived)
    for gate in gates:
        reply = gate.ask("alice", "summit-4")
        assert (reply.status, reply.json()["error"]["code"]) == (403, "model_suspended")
        assert gate.ask("alice", "summit-4", path="/v1/messages").status == 404
    assert len(gates[0].upstream.arrived) == before
