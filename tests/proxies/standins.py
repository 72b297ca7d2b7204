"""The doors for proxies before small deciders, driven message by message; no server, no proxy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from envoy.service.auth.v3 import external_auth_pb2 as auth

from policy_engine.api.checks.checking import PLAIN, Checker
from policy_engine.api.checks.data import DataApp
from policy_engine.api.checks.doors import CheckApp
from policy_engine.api.checks.envoy import Checks
from policy_engine.api.checks.frames import CallRefused
from policy_engine.api.metrics import Metrics
from policy_engine.core.dialects import Wording
from tests.api.doors import KEY, FixtureDecider, Reply, TwoKeys, ask

DOORS = ("/check/ext-authz/v1/chat/completions", "/check/auth-request", "/check/forward-auth")
FACTS = {"x-policy-engine-subject": "alice", "x-policy-engine-tenant": "acme", "x-policy-engine-model": "fable-5"}
HEADERS = {"policy-engine-key": KEY, **FACTS}
BODY = b'{"model":"fable-5"}'


def only_alice() -> FixtureDecider:
    """Return a decider that allows alice everything."""
    return FixtureDecider(policy=lambda request: request.subject_id == "alice")


def checker(decider: Any = None, keys: Any = None, wording: Wording = PLAIN, **options: Any) -> Checker:
    """Return a checker before a decider."""
    return Checker(decider or only_alice(), keys or TwoKeys(), options.pop("metrics", Metrics()), wording, **options)


def pairs(headers: Mapping[str, str | bytes]) -> tuple[tuple[bytes, bytes], ...]:
    """Return headers as a server gives them."""
    return tuple(
        (name.encode(), value if isinstance(value, bytes) else value.encode()) for name, value in headers.items()
    )


def http(
    given: Checker,
    path: str = DOORS[0],
    headers: Mapping[str, str | bytes] = HEADERS,
    body: bytes = b"",
    **options: Any,
) -> Reply:
    """Ask one of the HTTP doors."""
    method = options.pop("method", "GET")
    more = options.pop("more", ())
    return ask(
        CheckApp(given), body, path=path, method=method, key=None, content_type=None,
        headers=(*pairs(headers), *more), **options,
    )  # fmt: skip


def opa(given: Checker, asked: Any, path: str = "/v1/data/gate", headers: Mapping[str, str] | None = None) -> Reply:
    """Ask the door for OPA's plugins."""
    own = {"policy-engine-key": KEY} if headers is None else headers
    return ask(DataApp(given), {"input": asked}, path=path, key=None, headers=pairs(own))


def check_request(
    headers: Mapping[str, str] = FACTS,
    *,
    path: str = "/v1/chat/completions",
    body: bytes = b"",
    extensions: Mapping[str, str] | None = None,
    claims: Mapping[str, Any] | None = None,
) -> auth.CheckRequest:
    """Return what Envoy would ask."""
    request = auth.CheckRequest()
    request.attributes.request.http.path = path
    request.attributes.request.http.raw_body = body
    for name, value in headers.items():
        request.attributes.request.http.headers[name] = value
    for name, value in (extensions or {}).items():
        request.attributes.context_extensions[name] = value
    if claims is not None:
        payloads = request.attributes.metadata_context.filter_metadata["envoy.filters.http.jwt_authn"]
        payloads.update({"policy_engine": dict(claims)})
    return request


def grpc(
    given: Checker, request: auth.CheckRequest | bytes | None = None, key: str | None = KEY, *, together: int = 1
) -> auth.CheckResponse | CallRefused:
    """Call `Check`, several times `together`; return the last response, or the status that the call ended with."""
    asked = check_request() if request is None else request
    data = asked if isinstance(asked, bytes) else asked.SerializeToString()
    metadata = () if key is None else (("policy-engine-key", key.encode()),)
    answers = asyncio.run(Checks(given).answer([(data, metadata)] * together))
    assert len(answers) == together and len({type(answer) for answer in answers}) == 1
    answer = answers[-1]
    if isinstance(answer, CallRefused):
        return answer
    assert answer
    return auth.CheckResponse.FromString(answer)


def passes(response: auth.CheckResponse | CallRefused) -> bool:
    """Say whether Envoy lets a request pass: any response whose status is 0, whatever stands beside it."""
    return isinstance(response, auth.CheckResponse) and response.status.code == 0


ADAPTERS: dict[str, Callable[[Checker], bool]] = {
    **{f"HTTP {path}": (lambda given, path=path: http(given, path).status < 300) for path in DOORS},  # type: ignore[misc]  # bound
    "OPA object": lambda given: opa(given, {"request": {"headers": FACTS}}).json()["result"]["allow"] is not False,
    "OPA boolean": lambda given: (
        opa(given, {"request": {"headers": FACTS}}, "/v1/data/a/allow").json()["result"] is not False
    ),
    "gRPC": lambda given: passes(grpc(given)),
    "gRPC, several together": lambda given: passes(grpc(given, together=3)),
}
"""By adapter: ask it for alice, and say whether the proxy would let her request pass."""
