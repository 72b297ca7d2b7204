"""Hostile request heads against a running service, sent as raw bytes: forged headers, wrong verbs, doubled lengths."""

from __future__ import annotations

import json
import socket
import time
from contextlib import suppress

import pytest

from policy_engine.api import protocol
from tests.api.served import Served, request

BODY = json.dumps(request("alice", "acme", "US", "fable-5")).encode()


def raw(served: Served, head: list[str | bytes], body: bytes = b"", *, close: bool = True) -> bytes:
    """Send bytes as they are and return what comes back until the service closes or falls silent."""
    lines = [line if isinstance(line, bytes) else line.encode("latin-1") for line in head]
    lines += [b"Connection: close"] if close else []
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
        connection.sendall(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        got = b""
        while True:
            piece = connection.recv(65_536)
            if not piece:
                return got
            got += piece


def post(served: Served, *headers: str | bytes, path: str = "/access/v1/evaluation", verb: str = "POST") -> bytes:
    """Send the whole request with headers of its own."""
    head: list[str | bytes] = [f"{verb} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {served.keys['gateway']}"]
    head += ["Content-Type: application/json", f"Content-Length: {len(BODY)}", *headers]
    return raw(served, head, BODY)


def status(answer: bytes) -> int:
    """Return the status of the first answer."""
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize(
    "value",
    [
        b"a\nSet-Cookie: x=1",
        b"a\rSet-Cookie: x=1",
        b"a\x00b",
        b"a\x0bb",
        b"a\x7fb",
        b"x" * 257,
        b"\t\tx\x01",
    ],
)
def test_a_request_id_cannot_forge_a_header(served: Served, value: bytes) -> None:
    """Whether the HTTP parser or we refuse it: no header of the caller's making comes back."""
    answer = post(served, b"X-Request-ID: " + value)
    assert b"set-cookie" not in answer.lower().split(b"\r\n\r\n")[0]
    assert status(answer) in (200, 400)
    if status(answer) == 200:  # a bare line feed ends a header for the parser: then there was no such request id
        assert b"x-request-id: a\r\n" in answer


def test_a_request_id_is_echoed_byte_by_byte(served: Served) -> None:
    """Other bytes than ASCII are opaque, not text."""
    assert b"x-request-id: id \xc3\xa9 / %0d%0a\r\n" in post(served, b"X-Request-ID: id \xc3\xa9 / %0d%0a")


@pytest.mark.parametrize("verb", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "SEARCH"])
@pytest.mark.parametrize("path", ["/access/v1/evaluation", "/access/v1/evaluations"])
def test_a_wrong_verb_is_told_the_right_one(served: Served, verb: str, path: str) -> None:
    """405 with `Allow`, whatever stands in the body."""
    answer = post(served, path=path, verb=verb)
    assert status(answer) == 405 and b"allow: POST\r\n" in answer


@pytest.mark.parametrize("verb", ["FOO", "post", "P" * 100])
def test_a_verb_that_does_not_exist_is_refused(served: Served, verb: str) -> None:
    """The parser's refusal is a 400 as well."""
    assert status(post(served, verb=verb)) in (400, 405)


@pytest.mark.parametrize(
    "headers",
    [
        ["Content-Length: 0"],
        ["Transfer-Encoding: chunked"],
        ["Content-Type: text/plain"],
        ["Authorization: Bearer x"],
    ],
)
def test_doubled_headers_are_refused(served: Served, headers: list[str]) -> None:
    """Two lengths, two types or two keys are two requests in one."""
    assert status(post(served, *headers)) == 400


def test_a_hundred_thousand_headers_do_not_bring_it_down(served: Served) -> None:
    """An endless head is cut off or answered; the next request is."""
    with suppress(OSError):  # the service may close before it has read everything
        post(served, *[f"X-{number}: y" for number in range(100_000)])
    assert status(post(served)) == 200


@pytest.mark.parametrize(
    "path",
    [
        "/access/v1/evaluation/",
        "/access/v1/evaluation/../evaluation",
        "/access/v1//evaluation",
        "/ACCESS/v1/evaluation",
        "/access/v1/search/",
        "/access/v1/search/subject/",
        "/access/v1/search/Subject",
        "/v1/../access/v1/evaluation",
        "/%2e%2e/etc/passwd",
        "//evil.example/access/v1/evaluation",
    ],
)
def test_only_the_exact_paths_answer(served: Served, path: str) -> None:
    """No path is cleaned up into one that decides."""
    assert status(post(served, path=path)) in (400, 401, 404, 405)


def test_an_encoded_path_is_the_path_it_names(served: Served) -> None:
    """Percent-encoding does not go round authentication: the same path is the same endpoint."""
    answer = raw(
        served,
        ["POST /access/v1/ev%61luation HTTP/1.1", "Host: x", "Content-Type: application/json", "Content-Length: 2"],
        b"{}",
    )
    assert status(answer) == 401


def test_no_server_is_named(served: Served) -> None:
    """Answers say what was decided, not what runs."""
    assert b"\r\nserver:" not in post(served).lower()


def test_strangers_browsers_get_no_leave(served: Served) -> None:
    """No origin is allowed to read answers."""
    answer = post(served, "Origin: https://evil.example")
    assert b"access-control" not in answer.lower()


def test_half_a_request_ends_without_a_decision(served: Served) -> None:
    """A caller that hangs up in the middle of its body gets nothing and leaves nothing behind."""
    before = served.entries()
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
        head = f"POST /access/v1/evaluation HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {served.keys['gateway']}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
        connection.sendall(head.encode() + BODY[:20])
    assert status(post(served)) == 200
    assert served.entries() == before + 1


def test_requests_in_one_piece_are_answered_in_order(served: Served) -> None:
    """Pipelined requests are separate: each has its own answer and its own request id."""
    one = [
        f"POST /access/v1/evaluation HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {served.keys['gateway']}\r\n"
        f"Content-Type: application/json\r\nX-Request-ID: {n}\r\nContent-Length: {len(BODY)}\r\n"
        for n in (1, 2)
    ]
    first = one[0].encode() + b"\r\n" + BODY
    second = one[1].encode() + b"Connection: close\r\n\r\n" + BODY
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
        connection.sendall(first + second)
        got = b""
        while piece := connection.recv(65_536):
            got += piece
    assert got.count(b"HTTP/1.1 200") == 2
    assert got.index(b"x-request-id: 1") < got.index(b"x-request-id: 2")


def test_an_endless_head_is_cut_off(served: Served) -> None:
    """A head that never ends costs a bounded amount of memory: the connection is closed in the middle of it."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
        connection.sendall(b"POST /access/v1/evaluation HTTP/1.1\r\nHost: x\r\n")
        with pytest.raises(OSError):  # the other end has gone; which way it says so is the system's choice
            for number in range(100_000):
                connection.sendall(b"X-%d: %s\r\n" % (number, b"y" * 1_000))
    assert status(post(served)) == 200


def test_a_dawdling_head_is_hung_up_on(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither silence nor half a head holds a connection for long; a busy connection is left alone."""
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    for beginning in (b"", b"POST /access/v1/evaluation HTTP/1.1\r\nHost: "):
        with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
            connection.sendall(beginning)
            assert connection.recv(1) == b""
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
        for _ in range(2):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
            time.sleep(0.3)


def test_a_second_head_on_one_connection_has_its_time_as_well(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever was answered once cannot hold the connection with half of the next request."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost")
        assert connection.recv(1) == b""


UPGRADE = "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"


def test_a_wish_to_upgrade_leaves_the_request_as_it_is(served: Served) -> None:
    """Clients of Java and curl wish for HTTP/2 with every request: body and next requests are read all the same."""
    one = f"POST /access/v1/evaluation HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {served.keys['gateway']}\r\n"
    one += "Content-Type: application/json\r\n"
    wish = one + "\r\n".join(UPGRADE) + "\r\n"
    whole = f"{wish}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY
    chunked = f"{wish}Transfer-Encoding: chunked\r\n\r\n{len(BODY):x}\r\n".encode() + BODY + b"\r\n0\r\n\r\n"
    last = f"{one}Connection: close\r\nContent-Length: {len(BODY)}\r\n\r\n".encode() + BODY
    sent = whole + chunked + whole + last
    for size in (len(sent), 7):
        with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
            for at in range(0, len(sent), size):
                connection.sendall(sent[at : at + size])
            got = b""
            while piece := connection.recv(65_536):
                got += piece
        assert got.count(b"HTTP/1.1 200") == got.count(b'{"decision":true') == 4, got[:500]


def test_a_wish_to_upgrade_hides_no_body_from_a_check(served: Served) -> None:
    """A body that names another model than the proxy is refused, whatever protocol the client wishes for."""
    key, named = served.keys["gateway"], b'{"model": "mythos-5"}'
    facts = [
        ("Subject", "alice"),
        ("Tenant", "acme"),
        ("Location", "US"),
        ("Serving-Region", "US"),
        ("Model", "open-1"),
    ]
    head = ["POST /check/ext-authz/v1/chat HTTP/1.1", "Host: x", f"Policy-Engine-Key: {key}"]
    head += [f"X-Policy-Engine-{name}: {value}" for name, value in facts]
    for wish in ((), UPGRADE):
        assert status(raw(served, [*head, *wish])) == 200
        assert status(raw(served, [*head, *wish, f"Content-Length: {len(named)}"], named)) == 400


def test_what_stands_behind_a_body_is_no_header(served: Served) -> None:
    """A proxy sets headers over its client's and does not look behind the body: nothing there is taken for one."""
    key = served.keys["gateway"]
    head: list[str | bytes] = ["POST /access/v1/evaluation HTTP/1.1", "Host: x", "Content-Type: application/json"]
    body = (
        f"{len(BODY):x}\r\n".encode()
        + BODY
        + f"\r\n0\r\nX-Request-ID: 7\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
    )
    answer = raw(served, [*head, "Transfer-Encoding: chunked"], body)
    assert status(answer) == 401 and b"x-request-id" not in answer
    known = [*head, f"Authorization: Bearer {key}", "Transfer-Encoding: chunked"]
    assert status(raw(served, known, body)) == 200


def test_many_requests_in_one_piece_are_no_endless_head(served: Served) -> None:
    """A piece that ends one head and begins the next is longer than a head may be, and none of its heads is."""
    one = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
        for _ in range(3):  # each piece ends in the middle of a head
            connection.sendall(one * 4_000 + one[:10])
            time.sleep(0.05)
            connection.sendall(one[10:])
        connection.sendall(one.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        got = 0
        while piece := connection.recv(1 << 20):
            got += piece.count(b"HTTP/1.1 200")
    assert got > 11_900  # one in a hundred may be torn at the edge of a piece


def test_a_body_that_nobody_waits_for_holds_no_connection(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever was answered before the end of a body may send the rest soon and ask again; not a byte now and then."""
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.3)
    refused = b"POST /check/forward-auth HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
        connection.sendall(refused)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 401")
        connection.sendall(b"x" * 1_000 + b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        time.sleep(0.4)
        connection.sendall(refused)  # between requests there is more time
        assert connection.recv(65_536).startswith(b"HTTP/1.1 401")
        with suppress(OSError):
            for _ in range(40):
                connection.sendall(b"x")
                time.sleep(0.05)
        with suppress(OSError):
            assert connection.recv(1) == b""
        with pytest.raises(OSError):
            connection.sendall(b"x")
            connection.sendall(b"x")


def test_who_reads_no_answers_loses_the_connection(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that nobody takes would keep one of the places for exchanges; who reads slowly gets everything."""
    monkeypatch.setattr(protocol, "UNREAD_SECONDS", 0.3)
    wanted = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 60
    for reads in (False, True):
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            connection.settimeout(10)
            connection.connect(("127.0.0.1", served.port))
            connection.sendall(wanted + b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            if not reads:
                time.sleep(1.5)
            got = b""
            with suppress(ConnectionError):
                while piece := connection.recv(1 << 16):
                    got = got[-100:] + piece
        assert got.endswith(b'{"status":"ok"}') is reads
