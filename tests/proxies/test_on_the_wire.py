"""The served check door over a raw socket: what proxies and strangers may send there, byte by byte."""

from __future__ import annotations

import pytest

from tests.api.served import Served
from tests.proxies import wire
from tests.proxies.wire import Header, Reply

FACTS = {
    "X-Policy-Engine-Subject": "alice",
    "X-Policy-Engine-Tenant": "acme",
    "X-Policy-Engine-Model": "fable-5",
    "X-Policy-Engine-Location": "US",
    "X-Policy-Engine-Serving-Region": "US",
}
CHECK = "/check/ext-authz/v1/chat/completions"


def check(served: Served, *more: Header, body: bytes = b"", version: str = "1.1", method: str = "POST") -> Reply:
    """Send a check with further headers."""
    headers: list[Header] = [("Policy-Engine-Key", served.keys["gateway"]), *FACTS.items(), *more]
    return wire.send(served.port, wire.head(method, CHECK, headers, version=version) + body, method=method)


@pytest.mark.parametrize("method", ["GET", "OPTIONS", "HEAD", "POST", "DELETE"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_every_method_and_version_is_decided(guarded: Served, method: str, version: str) -> None:
    """HTTP/1.0 as well; a client that is denied is denied in each."""
    assert check(guarded, version=version, method=method).status == 200
    refused = check(guarded, ("X-Policy-Engine-Anonymiser", "true"), version=version, method=method)
    assert refused.status == 403


def test_bodies_in_chunks_compressed_and_broken(guarded: Served) -> None:
    """Chunks are joined and read; what cannot be read, or disagrees, is refused; a length that lies is no check."""
    chunked = ("Transfer-Encoding", "chunked")
    assert check(guarded, chunked, body=b'9\r\n{"model":\r\na\r\n"fable-5"}\r\n0\r\n\r\n').status == 200
    assert check(guarded, chunked, body=b'9\r\n{"model":\r\nb\r\n"mythos-5"}\r\n0\r\n\r\n').status == 400
    assert check(guarded, chunked, body=b"nonsense\r\n").status in (0, 400)
    gzip = (("Content-Encoding", "gzip"), ("Content-Length", "4"))
    assert check(guarded, *gzip, body=b"\x1f\x8b\x08\x00").status == 400
    assert check(guarded, ("Content-Length", "9"), body=b'{"m":"\xff"}').status == 400
    assert check(guarded, ("Content-Length", "2000000")).status == 400
    assert check(guarded, ("Content-Length", "-1")).status in (0, 400)
    assert check(guarded, ("Content-Length", "2"), ("Content-Length", "3"), body=b"{}").status in (0, 400)


def test_heads_that_no_check_has(guarded: Served) -> None:
    """A huge header, a fact in Latin-1, a fact twice: refused; a wish to upgrade: decided as if it were not there."""
    assert check(guarded, ("X-Padding", "x" * 200_000)).status in (0, 400, 431)
    assert check(guarded, ("X-Policy-Engine-Action", b"inf\xe9r")).status == 400
    assert check(guarded, ("X-Policy-Engine-Tenant", "acme")).status == 400
    assert check(guarded, ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"), method="GET").status == 200
    assert check(guarded, ("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABkAAQAAP__")).status == 200


def test_strangers_learn_nothing(guarded: Served) -> None:
    """Without the key, with the client's Authorization in its place, or at a door that is none: no decision."""
    before = guarded.entries()
    for headers in ([], [("Authorization", f"Bearer {guarded.keys['gateway']}")], [("Policy-Engine-Key", "x")]):
        reply = wire.send(guarded.port, wire.head("GET", CHECK, [*headers, *FACTS.items()]))
        assert reply.status == 401 and b"alice" not in reply.body
    other = wire.head("GET", "/check/other", [("Policy-Engine-Key", guarded.keys["gateway"])])
    assert wire.send(guarded.port, other).status == 400
    assert guarded.entries() == before
