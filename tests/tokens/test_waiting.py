"""Who waits for keys: the request that needs them, bounded, and nobody else; the loop that decides never does."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import grpc as grpcio
import pytest

from policy_engine.errors import IssuerUnavailable, NotAuthenticated
from policy_engine.limits import LIMITS, Limits
from policy_engine.tokens.anchors import Anchor
from policy_engine.tokens.issuers import Issuers
from policy_engine.tokens.keysets import UrlKeys
from tests.api.served import ALICE, Served, serving
from tests.api.streams import soon
from tests.middleware.issuing import Issuer, certificate, issuing
from tests.middleware.tokens import AUDIENCE, ISSUER, claims, key, key_set, token, unsigned
from tests.tokens.parties import DOORS, EDGE, Trusting, anchor, good, knock


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Offer a certificate for loopback and its key, as files."""
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def issuer(certified: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Issuer]:
    """Run an issuer's endpoint whose certificate this process trusts."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certified[0]))
    with issuing(certified) as own:
        yield own


def issuers(issuer: Issuer, limits: Limits = LIMITS) -> Issuers:
    """Return the issuers of a service that trusts this one."""
    keys = UrlKeys(issuer.url, limits=limits)
    trusted = Anchor(ISSUER, AUDIENCE, keys, ("RS256",), "sub", ("jwt",), 0.0)
    return Issuers((trusted,), lambda: time.time_ns() // 1_000, limits)


@pytest.fixture
def service(issuer: Issuer, tmp_path: Path) -> Iterator[Served]:
    """Serve with an issuer whose endpoint has not answered yet."""
    issuer.open.clear()
    (tmp_path / "tokens.json").write_text(json.dumps([anchor(issuer.url)]))
    with serving(tmp_path, replica=True, tokens=tmp_path / "tokens.json") as running:
        Trusting(running, tmp_path).register(EDGE)
        yield running
        issuer.open.set()


def test_whoever_needs_the_keys_waits_and_nobody_else(service: Served, issuer: Issuer) -> None:
    """The start began the one fetch; tokens wait for it, all for the same; keys are answered meanwhile."""
    soon(lambda: issuer.asked == 1)
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(service.post, "/access/v1/evaluation", ALICE, key=good()) for _ in range(8)]
        began = time.monotonic()
        for _ in range(20):
            assert service.decide(ALICE)["decision"] is True
        assert service.post("/access/v1/evaluation", ALICE, key="not.a.token").status_code == 401
        assert time.monotonic() - began < LIMITS.jwks_seconds / 2
        assert not any(each.done() for each in waiting)
        issuer.open.set()
        assert [each.result(10).json()["decision"] for each in waiting] == [True] * 8
    assert issuer.asked == 1


def test_waiting_ends_and_an_unknown_key_fetches_once_in_a_pause(issuer: Issuer) -> None:
    """A token whose keys do not come lets nobody in after a while; a flood of made-up names fetches nothing more."""

    async def run() -> None:
        own = issuers(issuer, replace(LIMITS, jwks_seconds=0.3))
        issuer.open.clear()
        began = time.monotonic()
        await asyncio.gather(*(own.ready(token(by=key(name))) for name in ("one", "newer") * 3))
        assert 0.25 < time.monotonic() - began < 3.0
        with pytest.raises(IssuerUnavailable, match="cannot be had at the moment"):
            own.vouch(token())
        issuer.open.set()
        for _ in range(5):
            await own.ready(token(by=key("stranger")))
        assert issuer.asked == 1

    asyncio.run(run())


@pytest.fixture
def without_keys(issuer: Issuer, tmp_path: Path) -> Iterator[Trusting]:
    """Serve with an issuer whose endpoint fails."""
    issuer.status = 500
    (tmp_path / "tokens.json").write_text(json.dumps([anchor(issuer.url)]))
    with serving(tmp_path, replica=True, tokens=tmp_path / "tokens.json", grpc_port=0) as running:
        party = Trusting(running, tmp_path)
        party.register(EDGE)
        yield party


def test_tokens_of_an_issuer_that_fails_are_nobodys_yet(without_keys: Trusting) -> None:
    """Every door lets nobody in and says that it is not the token's fault; a token that is wrong anyway is refused."""
    before = without_keys.service.entries()
    answers = [knock(without_keys, door, good().encode()) for door in DOORS]
    assert [each.status_code for each in answers] == [503] * len(DOORS)
    assert answers[0].json()["code"] == "issuer.unavailable" and answers[0].headers["retry-after"] == "1"
    wrong = unsigned({"alg": "none", "typ": "JWT", "kid": "one"}, claims(sub=EDGE))
    assert {knock(without_keys, door, wrong.encode()).status_code for door in DOORS} == {401}
    with grpcio.insecure_channel(f"127.0.0.1:{without_keys.service.server.beside.port}") as channel:
        check = channel.unary_unary("/envoy.service.auth.v3.Authorization/Check")
        with pytest.raises(grpcio.RpcError) as refused:
            check(b"", metadata=(("policy-engine-key", good()),), timeout=10)
    assert refused.value.code() == grpcio.StatusCode.UNAVAILABLE  # type: ignore[attr-defined]  # a call's
    assert without_keys.service.entries() == before


def test_who_hangs_up_cancels_it_for_nobody_else(issuer: Issuer) -> None:
    """The first to ask goes away; the second is let in by the same fetch."""

    async def run() -> None:
        own = issuers(issuer)
        issuer.open.clear()
        first, second = (asyncio.ensure_future(own.ready(token())) for _ in range(2))
        while not issuer.asked:
            await asyncio.sleep(0.005)
        first.cancel()
        await asyncio.sleep(0.02)
        assert not second.done()
        issuer.open.set()
        await second
        assert own.vouch(token()).identity.subject == "alice" and issuer.asked == 1

    asyncio.run(run())


def test_no_more_than_so_many_wait(issuer: Issuer) -> None:
    """With as many waiting as may, the next goes on at once, with the keys there are; who waits is let in."""

    async def run() -> None:
        own = issuers(issuer, replace(LIMITS, token_waiting_count=2))
        issuer.open.clear()
        waiting = [asyncio.ensure_future(own.ready(token())) for _ in range(2)]
        while not issuer.asked:
            await asyncio.sleep(0.005)
        await asyncio.wait_for(own.ready(token(by=key("made-up"))), 0.1)
        assert not any(each.done() for each in waiting)
        issuer.open.set()
        await asyncio.gather(*waiting)
        assert own.vouch(token()).identity.subject == "alice"

    asyncio.run(run())


def test_a_set_that_is_old_holds_up_one_request_alone(issuer: Issuer) -> None:
    """Who comes while it is fetched again is known by the keys there are; a key that left is refused afterwards."""

    async def run() -> None:
        limits = replace(LIMITS, jwks_fresh_seconds=0.0, jwks_pause_seconds=0.2)
        own = issuers(issuer, limits)
        await own.ready(token())
        await asyncio.sleep(0.25)
        issuer.open.clear()
        issuer.document = key_set(key("newer"))
        first = asyncio.ensure_future(own.ready(token()))
        while issuer.asked < 2:
            await asyncio.sleep(0.005)
        await asyncio.wait_for(own.ready(token()), 0.1)
        assert own.vouch(token()).identity.subject == "alice" and not first.done()
        issuer.open.set()
        await first
        with pytest.raises(NotAuthenticated, match="key that is not accepted"):
            own.vouch(token())

    asyncio.run(run())


def test_nothing_of_tokens_is_loaded_without_the_setting() -> None:
    """A service that takes no tokens starts without the library, the code that verifies, and the management routes."""
    script = (
        "import sys\n"
        "import policy_engine.api.server, policy_engine.bootstrap, policy_engine.cli.serve\n"
        "wrong = ('joserfc', 'policy_engine.tokens.verifying', 'policy_engine.tokens.keysets', 'fastapi')\n"
        "print([name for name in wrong if name in sys.modules])\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert ran.stdout.strip() == "[]", ran.stderr
