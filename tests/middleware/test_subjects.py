"""Callers named by a proxy: believed only if the proxy proved itself, in every way that was asked of it."""

from __future__ import annotations

from typing import Any

import pytest

from policy_engine.errors import InputRefused, NotAuthenticated
from policy_engine.middleware.head import Head
from policy_engine.middleware.models import from_model_header
from policy_engine.middleware.subjects import ProxyHeader, Subject, TrustedProxy, from_header
from tests.middleware.doors import SECRET, App, Local, ask, guarded, headers

NAMED = [(b"x-user", b"alice"), (b"x-tenant", b"acme")]


def head(*more: tuple[bytes, bytes], peer: str | None = "127.0.0.1", by_unix_socket: bool = False) -> Head:
    """Return the head of a request."""
    return Head("POST", "/", "", [*NAMED, *more], peer, by_unix_socket)


@pytest.mark.parametrize(
    ("proxy", "given", "believed"),
    [
        (TrustedProxy(addresses=["127.0.0.1"]), head(), True),
        (TrustedProxy(addresses=["10.0.0.0/8", "127.0.0.1"]), head(peer="10.9.8.7"), True),
        (TrustedProxy(addresses=["127.0.0.1"]), head(peer="127.0.0.2"), False),
        (TrustedProxy(addresses=["127.0.0.1"]), head(peer=None), False),
        (TrustedProxy(addresses=["127.0.0.1"]), head(peer="testclient"), False),
        (TrustedProxy(addresses=["127.0.0.1"]), head(peer="::ffff:127.0.0.1"), False),
        (TrustedProxy(addresses=["127.0.0.1"]), head((b"x-forwarded-for", b"127.0.0.1"), peer="192.0.2.1"), False),
        (TrustedProxy(unix_socket=True), head(peer=None, by_unix_socket=True), True),
        (TrustedProxy(unix_socket=True), head(peer=None), False),
        (TrustedProxy(secret=SECRET), head((b"x-proxy-secret", SECRET.encode())), True),
        (TrustedProxy(secret=SECRET), head((b"x-proxy-secret", SECRET.encode()[:-1])), False),
        (TrustedProxy(secret=SECRET), head(), False),
        (TrustedProxy(secret=SECRET, addresses=["10.0.0.1"]), head((b"x-proxy-secret", SECRET.encode())), False),
    ],
)
def test_a_proxy_must_prove_itself_in_every_way_that_is_set(proxy: TrustedProxy, given: Head, believed: bool) -> None:
    """The secret, the address of the connection, the Unix socket: all that are set must hold, and no header helps."""
    subjects = from_header("x-user", proxy=proxy, tenant="x-tenant")
    if believed:
        assert subjects.identify(given) == Subject("alice", tenant="acme")
    else:
        with pytest.raises(NotAuthenticated):
            subjects.identify(given)


def test_a_proxy_that_could_be_anybody_is_refused() -> None:
    """No proof, a short secret, and what is no address are mistakes of whoever deploys."""
    for settings in (
        {},
        {"secret": "short"},
        {"secret": "é" * 40},
        {"addresses": ["proxy.example"]},
        {"addresses": ["127.0.0.1/8"]},
    ):
        with pytest.raises(InputRefused):
            TrustedProxy(**settings)  # type: ignore[arg-type]  # each is wrong in its own way
    assert SECRET not in repr(TrustedProxy(secret=SECRET))


@pytest.mark.parametrize("name", ["", "x-us\u00e9r", "x user", "x-user:"])
def test_a_header_that_no_request_could_have_is_refused_when_it_is_set(name: str) -> None:
    """Each request would be told no more than that it cannot be decided."""
    proxy = TrustedProxy(secret=SECRET)
    for setting in (
        lambda: from_header(name, proxy=proxy),
        lambda: from_header("x-user", proxy=proxy, tenant=name),
        lambda: from_header("x-user", proxy=proxy, location=name),
        lambda: ProxyHeader(name, proxy),
        lambda: TrustedProxy(secret=SECRET, secret_header=name),
        lambda: from_model_header(name),
    ):
        with pytest.raises(InputRefused):
            setting()


def test_a_server_on_a_unix_socket_is_told_by_its_scope() -> None:
    """A scope without a client, of a server without a port, came over the socket; any other did not."""
    base: dict[str, Any] = {"path": "/", "headers": []}
    assert Head.of_asgi({**base, "client": None, "server": ("/run/app.sock", None)}).by_unix_socket
    for client, server in ((None, None), (None, ("127.0.0.1", 80)), (("127.0.0.1", 1), ("/run/app.sock", None))):
        assert not Head.of_asgi({**base, "client": client, "server": server}).by_unix_socket


def test_a_fact_of_the_proxy_is_used_if_it_comes_from_the_proxy(engine: Any) -> None:
    """Without the header the fact is unknown; with it from somebody else the request is refused."""
    place = ProxyHeader("x-country", TrustedProxy(addresses=["127.0.0.1"]))
    assert place(head()) is None
    assert place(head((b"x-country", b"US"))) == "US"
    with pytest.raises(NotAuthenticated):
        place(head((b"x-country", b"US"), peer="192.0.2.1"))
    asked = Local(engine)
    subject = from_header("x-user", proxy=TrustedProxy(secret=SECRET), tenant="x-tenant")
    door = guarded(asked, App(), subject=subject, location=place)
    assert ask(door, sent=headers()).status == 200
    assert ask(door, sent=headers(), client=("192.0.2.1", 1)).status == 401


def test_queries_that_cannot_be_read_are_refused() -> None:
    """A parameter that stands twice in any case, or bytes that are no text, are two readings."""
    assert Head("GET", "/", "model=a", [], None).parameter("model") == "a"
    assert Head("GET", "/", "n=1", [], None).parameter("model") is None
    for query in ("model=a&MODEL=b", "model=%ff", "&".join(f"a{number}=1" for number in range(101))):
        with pytest.raises(InputRefused):
            Head("GET", "/", query, [], None).parameter("model")
