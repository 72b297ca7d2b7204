"""The HTTP doors and the OPA-shaped one, driven message by message: who may ask, and what is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from policy_engine.api import exchange
from policy_engine.api.checks.data import DataApp
from policy_engine.api.checks.doors import CheckApp
from policy_engine.api.checks.table import BODY_HEADER, BODY_HEADER_BYTES, REMOVED, TO_REMOVE_HEADER
from policy_engine.core.dialects import Wording
from policy_engine.errors import StoreUnavailable
from policy_engine.limits import Limits
from tests.api.doors import KEY, WATCHER, FixtureDecider, TwoKeys, ask, knock
from tests.proxies.standins import BODY, DOORS, FACTS, HEADERS, checker, http, only_alice, opa, pairs

EVE = {**HEADERS, "x-policy-engine-subject": "eve"}
ENVOY, NGINX, FORWARD = DOORS


@pytest.mark.parametrize("path", DOORS)
def test_an_allow_names_the_decision_and_nothing_of_the_question(path: str) -> None:
    """Exactly 200, no body, and the headers for the upstream."""
    reply = http(checker(), path)
    assert (reply.status, reply.body) == (200, b"")
    assert len(reply.header("policy-engine-decision-id") or "") == 32
    assert reply.header("policy-engine-epoch") == "7" and reply.header("policy-engine-valid-for-ms") == "2000"
    assert reply.header("cache-control") == "no-store"
    assert b"alice" not in b"".join(value for _, value in reply.headers)


def test_envoy_is_told_what_to_take_out() -> None:
    """Key and facts stay between proxy and engine."""
    assert http(checker(), ENVOY).header(TO_REMOVE_HEADER) == ", ".join(REMOVED)
    assert http(checker(), FORWARD).header(TO_REMOVE_HEADER) is None


LEGAL = Wording(statuses=(("fixture", 451),), blocked_by="https://policy.example/who")


@pytest.mark.parametrize(
    ("path", "policy", "legal", "away"), [(ENVOY, 403, 451, 503), (NGINX, 403, 403, 500), (FORWARD, 403, 451, 503)]
)
def test_each_deny_has_the_status_of_the_table(path: str, policy: int, legal: int, away: int) -> None:
    """nginx shows its clients 401 and 403 alone, so it is told the status in a header."""

    class Away:
        async def decide_async(self, request: Any, principal: Any) -> Any:
            raise StoreUnavailable("away", where="log")

    denied, legally, lost = (
        http(checker(), path, EVE),
        http(checker(None, None, LEGAL), path, EVE),
        http(checker(Away()), path),
    )
    assert (denied.status, legally.status, lost.status) == (policy, legal, away)
    assert legally.header("link") == '<https://policy.example/who>; rel="blocked-by"'
    if path == NGINX:
        assert [each.header("policy-engine-status") for each in (denied, legally, lost)] == ["403", "451", "503"]
        assert legally.header(BODY_HEADER) == legally.body.decode()
    assert denied.header("x-should-retry") == "false" and lost.header("retry-after") == "1"


def test_a_body_too_long_for_a_header_is_left_out_of_it() -> None:
    """nginx reads a head of 4 KiB: without the body it still shows the status."""

    class Wordy(FixtureDecider):
        async def decide_async(self, request: Any, principal: Any) -> Any:
            from dataclasses import replace

            found = await super().decide_async(request, principal)
            return replace(found, alternatives=tuple(f"model-{n:0>250}" for n in range(8)))

    given = checker(Wordy(policy=lambda request: False))
    reply = http(given, NGINX)
    assert len(reply.body) > BODY_HEADER_BYTES
    assert reply.header(BODY_HEADER) is None and reply.header("policy-engine-status") == "403"


def without(name: str) -> dict[str, str | bytes]:
    """Return the headers of a good check without one."""
    return {each: value for each, value in HEADERS.items() if each != name}


@pytest.mark.parametrize("path", DOORS)
def test_the_proxy_needs_a_key_of_its_own(path: str) -> None:
    """None, another's, one without the scope, two, and a client's Authorization: 401, before anything is read."""
    unkeyed = without("policy-engine-key")
    decider = only_alice()
    for headers, more in (
        (unkeyed, ()),
        ({**unkeyed, "policy-engine-key": "pe_" + "x" * 43}, ()),
        ({**unkeyed, "policy-engine-key": WATCHER}, ()),
        ({**unkeyed, "policy-engine-key": b"\xff\xfe"}, ()),
        (unkeyed, pairs({"authorization": f"Bearer {KEY}"})),
    ):
        reply = http(checker(decider), path, headers, more=more)
        assert reply.status == 401 and KEY.encode() not in reply.body
    assert http(checker(decider), path, more=pairs({"policy-engine-key": KEY})).status in (400, 403)
    assert decider.asked == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "CONNECT", "TRACE", "BREW"])
def test_no_method_is_special(method: str) -> None:
    """A check has its client's method."""
    for path in DOORS:
        assert http(checker(), path, method=method).status == 200
        assert http(checker(), path, EVE, method=method).status == 403


def test_a_wish_to_upgrade_and_other_headers_of_a_client_change_nothing() -> None:
    """Whatever a client sends beside what is ours, twice or not, is not looked at."""
    noise = pairs(
        {"upgrade": "websocket", "authorization": "Basic x", "x-forwarded-for": "10.0.0.1", "cookie": b"\xff"}
    )
    for path in DOORS:
        assert http(checker(), path, more=(*noise, *noise)).status == 200
        assert http(checker(), path, EVE, more=(*noise, *noise)).status == 403


def test_paths_and_headers_choose_the_words_alone() -> None:
    """The client's path stands behind Envoy's prefix, or in a header of the others."""
    anthropic = http(checker(), "/check/ext-authz/v1/messages", EVE)
    assert anthropic.json()["type"] == "error"
    for path, header in ((NGINX, "x-original-uri"), (FORWARD, "x-forwarded-uri")):
        assert http(checker(), path, {**EVE, header: "/v1/messages?beta=true"}).json()["type"] == "error"
        assert (
            http(checker(), path, {**EVE, header: "/v1/chat/completions"}).json()["error"]["type"]
            == "request_forbidden"
        )
    for path in ("/check/nothing", "/check/ext-authzX", "/check/auth-request/x", "/check/"):
        assert http(checker(), path).status == 400


@pytest.mark.parametrize(("path", "header"), [(NGINX, "x-original-uri"), (FORWARD, "x-forwarded-uri")])
def test_a_path_that_is_told_twice_is_refused(path: str, header: str) -> None:
    """Its query may name another model, and a client that adds a header must not choose which of two is read."""
    other, plain = (header.encode(), b"/v1/x?model=mythos-5"), (header.encode(), b"/v1/x")
    assert http(checker(), path, more=(plain,)).status == 200
    for told in ((other,), (plain, other), (other, plain), (plain, plain)):
        reply = http(checker(), path, more=told)
        assert (reply.header("policy-engine-status") or str(reply.status)) == "400"


def test_the_id_of_a_request_comes_back_unless_it_could_do_harm() -> None:
    """What may not be echoed is dropped, and is no reason to refuse."""
    assert http(checker(), more=pairs({"x-request-id": "r-1"})).header("x-request-id") == "r-1"
    for bad in ("x" * 257, "a\x01b", b"\xff"):
        reply = http(checker(), more=pairs({"x-request-id": bad}))
        assert reply.status == 200 and reply.header("x-request-id") is None


def test_a_fact_that_is_no_text_is_refused() -> None:
    """Not UTF-8: denied, and said so without the bytes."""
    reply = http(checker(), headers={**HEADERS, "x-policy-engine-subject": b"al\xffice"})
    assert reply.status == 400 and "UTF-8" in reply.json()["error"]["message"]


def test_a_body_is_bounded_and_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One byte too many, a body that dawdles, and a client that hangs up: nothing is decided."""
    given = checker(decider := only_alice(), limits=Limits(checked_body_bytes=len(BODY)))
    assert http(given, body=BODY).status == 200
    assert http(given, body=BODY + b" ").status == 400
    assert http(given, chunks=[BODY, b" "]).status == 400
    assert len(decider.asked) == 1
    assert knock(CheckApp(given), path=ENVOY, key=None, headers=pairs(HEADERS), chunks=[b"{"], hang_up=True) is None

    async def never() -> Any:
        await asyncio.sleep(60)

    monkeypatch.setattr(exchange, "BODY_SECONDS", 0.02)
    monkeypatch.setattr(exchange, "_read_rest", lambda receive, message, most: never())
    assert http(given, chunks=[b"{", b"}"]).status == 400
    assert len(decider.asked) == 1


@pytest.mark.parametrize("path", [*DOORS, "/v1/data/gate"])
def test_a_body_of_which_nothing_comes_is_refused_in_time(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """A head without its body is waited for no longer than a body that dawdles, and keeps no withdrawal waiting."""
    monkeypatch.setattr(exchange, "BODY_SECONDS", 0.05)
    seen: list[str] = []

    @contextmanager
    def answering() -> Iterator[None]:
        seen.append("begun")
        yield

    given = checker(decider := only_alice(), answering=answering)
    app = DataApp(given) if path.startswith("/v1") else CheckApp(given)

    async def silent(scope: Any, receive: Any, send: Any) -> None:
        async def nothing() -> Any:
            await asyncio.sleep(60)

        async with asyncio.timeout(5):
            await app(scope, nothing, send)

    reply = ask(silent, b"", path=path, method="POST", key=None, headers=pairs(HEADERS))
    assert reply.status in (400, 403) and b"did not arrive" in reply.body
    assert (seen, decider.asked) == ([], [])


def test_an_answer_is_under_way_until_it_was_handed_on() -> None:
    """`drained` may not be said while an allow is on its way to a proxy."""
    seen: list[str] = []

    @contextmanager
    def answering() -> Iterator[None]:
        seen.append("begun")
        yield
        seen.append("ended")

    class Noting(FixtureDecider):
        async def decide_async(self, request: Any, principal: Any) -> Any:
            seen.append("decided")
            return await super().decide_async(request, principal)

    given = checker(Noting(policy=lambda request: True), answering=answering)
    sent = CheckApp(given)

    async def through(scope: Any, receive: Any, send: Any) -> None:
        async def sending(message: Any) -> None:
            seen.append(message["type"])
            await send(message)

        await sent(scope, receive, sending)

    knock(through, path=ENVOY, key=None, headers=pairs(HEADERS))
    assert seen == ["begun", "decided", "http.response.start", "http.response.body", "ended"]


def test_a_key_that_was_revoked_meanwhile_lets_nothing_pass() -> None:
    """A decision under another epoch asks for the key again."""
    keys = TwoKeys(epoch=6)
    keys.revoked = True  # only a fresh look sees it
    assert http(checker(None, keys)).status == 401


# OPA

APISIX = {"type": "http", "request": {"method": "POST", "path": "/v1/chat/completions", "headers": FACTS, "query": {}}}
KONG = {
    "request": {
        "http": {"method": "POST", "path": "/v1/messages", "headers": {**FACTS, "X-Policy-Engine-Subject": "eve"}}
    }
}


def test_apisix_reads_the_result_as_an_object() -> None:
    """`allow` and headers, or `allow`, reason, headers and status: what its plugin hands to its client."""
    result = opa(checker(), APISIX).json()["result"]
    assert result["allow"] is True and result.keys() == {"allow", "headers"}
    assert len(result["headers"]["policy-engine-decision-id"]) == 32
    denied = opa(
        checker(None, None, LEGAL),
        {**APISIX, "request": {**APISIX["request"], "headers": {**FACTS, "x-policy-engine-subject": "eve"}}},
    )  # type: ignore[dict-item]  # an object
    result = denied.json()["result"]
    assert denied.status == 200 and (result["allow"], result["status_code"]) == (False, 451)
    assert "Policy, not login" in result["reason"] and result["headers"]["x-should-retry"] == "false"


def test_a_path_that_ends_in_allow_is_a_bare_boolean() -> None:
    """As plugins ask that compare the result with true."""
    assert opa(checker(), APISIX, "/v1/data/httpapi/authz/allow").json() == {"result": True}
    for path in ("/v1/data/httpapi/authz/allow", "/v1/data/httpapi/authz/allow/"):  # an object would be true to some
        assert opa(checker(), {"request": {"headers": {}}}, path).json() == {"result": False}


def test_a_header_that_differs_in_case_stands_twice() -> None:
    """Names are compared as HTTP does."""
    assert opa(checker(), KONG).json()["result"]["status_code"] == 400


def test_a_question_in_the_shape_of_authzen_is_taken_too() -> None:
    """For policies of one's own that call the door directly."""
    asked = {
        "subject": {"type": "person", "id": "alice"},
        "action": {"name": "infer"},
        "resource": {"type": "model", "id": "fable-5"},
    }
    assert opa(checker(), asked).json()["result"]["allow"] is True
    assert opa(checker(), {**asked, "subject": {"type": "person", "id": "eve"}}).json()["result"]["allow"] is False
    assert opa(checker(), {**asked, "subject": {"type": "person"}}).json()["result"]["status_code"] == 400


def test_the_key_may_come_among_the_headers_that_the_gateway_set() -> None:
    """APISIX's plugin can send no header of its own."""
    keyed = {**APISIX, "request": {**APISIX["request"], "headers": HEADERS}}  # type: ignore[dict-item]  # an object
    assert opa(checker(), keyed, headers={}).json()["result"]["allow"] is True
    assert opa(checker(), APISIX, headers={}).status == 401
    assert opa(checker(), APISIX, headers={"authorization": f"Bearer {KEY}"}).json()["result"]["allow"] is True
    assert opa(checker(), APISIX, headers={"authorization": f"Basic {KEY}"}).status == 401
    assert opa(checker(), APISIX, headers={"authorization": f"Bearer {KEY}", "policy-engine-key": KEY}).status == 401
    assert opa(checker(), {"request": {"headers": {"x-policy-engine-nothing": "x"}}}, headers={}).status == 401


@pytest.mark.parametrize(
    "request_",
    [
        {"headers": {**FACTS, "x-policy-engine-tenant": ["acme", "acme-de"]}},
        {"headers": {**FACTS, "content-type": ["application/json", "application/x-www-form-urlencoded"]}},
        {"headers": {**FACTS, "Content-Encoding": ["gzip"]}},
        {"headers": {**FACTS, "x-envoy-auth-partial-body": ["true"]}},
        {"headers": FACTS, "body": '{"model":"mythos-5"}'},
        {"headers": FACTS, "body": {"model": "fable-5"}},
        {"http": {"headers": FACTS, "parsed_body": {"model": "fable-5"}}},
        {"headers": FACTS, "path": "/v1?model=mythos-5"},
        {"headers": FACTS, "path": ["/v1?model=mythos-5"]},
        {"headers": FACTS, "path": "/v1", "query": {"a": "1", "model": "mythos-5"}},
        {"headers": FACTS, "path": "/v1?a=1", "query": {"model": ["fable-5", "mythos-5"]}},
        {"headers": FACTS, "path": "/v1", "query": {"model": True}},
        {"headers": FACTS, "path": "/v1", "query": {"model[]": "fable-5"}},
        {"headers": FACTS, "path": "/v1", "query": "a=1&model=mythos-5"},
        {"headers": FACTS, "path": "/v1", "query": ["model=mythos-5"]},
        {"http": {"headers": FACTS, "path": "/v1", "querystring": {"model": "mythos-5"}}},
        {"headers": [["x-policy-engine-subject", "alice"]]},
        {"http": "x"},
        {},
        None,
        "x",
    ],
)
def test_what_a_plugin_tells_in_two_ways_is_a_deny(request_: Any) -> None:
    """A list, a parsed body, a body that says otherwise: `allow` is false, and never missing."""
    result = opa(checker(), {"request": request_}).json()["result"]
    assert (result["allow"], result["status_code"]) == (False, 400)


def test_a_body_that_agrees_is_taken() -> None:
    """The raw text of the client's body, as Kong's plugin can send it; so is a query, in either plugin's form."""
    for query in (
        {"query": {"model": "fable-5", "a": ["1", "2"]}},
        {"querystring": {"model": "fable-5"}},
        {"query": []},
    ):
        assert opa(checker(), {"request": {"headers": FACTS, **query}}).json()["result"]["allow"] is True
    http_ = {"headers": {n: v for n, v in FACTS.items() if "model" not in n}, "body": BODY.decode()}
    assert opa(checker(), {"request": {"http": http_}}).json()["result"]["allow"] is True


@pytest.mark.parametrize("asked", [None, [], "x", 1])
def test_what_is_no_input_is_an_error(asked: Any) -> None:
    """Nothing that a policy could be asked about: 400, which no plugin takes for an allow."""
    assert opa(checker(), asked).status == 400


def test_other_verbs_are_not_there() -> None:
    """OPA's own writing API is none of ours."""
    from policy_engine.api.checks.data import DataApp

    for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS"):
        reply = knock(DataApp(checker()), path="/v1/data/x", method=method)
        assert reply is not None and (reply.status, reply.header("allow")) == (405, "POST")
