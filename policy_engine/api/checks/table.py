"""The adapter table: what each proxy reads as a permit, and how it is told of a deny.

| proxy | permit | deny | for a legal reason | our own failure |
| --- | --- | --- | --- | --- |
| Envoy, HTTP service | exactly 200 | 403, 404 | 451 and Link | 503 |
| nginx | 200 | 403, the status in `Policy-Engine-Status` | the same, 451 | 500 |
| Caddy, Traefik | 200 | 403, 404 | 451 and Link | 503 |
| OPA plugins | `allow: true` | `allow: false`, `status_code` | the same, 451 | `allow: false`, 503 |
| Envoy, gRPC | code 0 | code 7 and the status | code 7 and 451 | code 14 and 503 |

Rules of the room:
- Every one of these proxies passes a request on for some answer that looks like nothing: any 2xx, an empty message. So
  an answer is built as a deny, and only `permitted`, which takes a `Permit`, builds the other kind.
- A refusal below 400 is a fault: it is answered as our own failure.
- nginx shows its client nothing of a deny but 401 and 403, so the status and the body travel in headers.
Left to others: gRPC messages (`envoy`), the words of a refusal (`core.dialects`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from policy_engine.api.checks.checking import Permit
from policy_engine.api.checks.told import FACT_HEADERS, KEY_HEADER
from policy_engine.core.decision import Decision
from policy_engine.core.dialects import Dialect, Refusal, unavailable

REMOVED: Final = (KEY_HEADER, *FACT_HEADERS)
"""Headers between proxy and engine, which no upstream needs to see."""

STATUS_HEADER: Final = "policy-engine-status"
BODY_HEADER: Final = "policy-engine-body"
TO_REMOVE_HEADER: Final = "x-envoy-auth-headers-to-remove"
BODY_HEADER_BYTES: Final = 3_072
"""What of a body fits the 4 KiB that nginx reads an answer's head into, beside the other headers."""

Pairs = tuple[tuple[str, str], ...]


class Proxy(Enum):
    """Who reads an HTTP answer."""

    ENVOY = "/check/ext-authz"
    NGINX = "/check/auth-request"
    FORWARD = "/check/forward-auth"


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, ready to be sent."""

    status: int
    headers: Pairs
    body: bytes


def upstream_headers(decision: Decision) -> Pairs:
    """Return what the upstream is told of the decision that let a request pass."""
    return (
        ("policy-engine-decision-id", decision.id),
        ("policy-engine-epoch", str(decision.epoch)),
        ("policy-engine-release", decision.release),
        ("policy-engine-valid-for-ms", str(decision.valid_for_ms)),
    )


def permitted(proxy: Proxy, permit: Permit) -> Answer:
    """Return the answer that lets a request pass. This is the only place where one is built."""
    headers: Pairs = (*upstream_headers(permit.decision), ("cache-control", "no-store"))
    if proxy is Proxy.ENVOY:
        headers += ((TO_REMOVE_HEADER, ", ".join(REMOVED)),)
    return Answer(200, headers, b"")


def refused(proxy: Proxy, refusal: Refusal) -> Answer:
    """Return the answer that a proxy reads as a deny, whatever the refusal says."""
    sound = denying(refusal)
    if proxy is not Proxy.NGINX:
        return Answer(sound.status, sound.headers, sound.body)
    status = 500 if sound.status >= 500 else 401 if sound.status == 401 else 403
    carried: Pairs = ((STATUS_HEADER, str(sound.status)),)
    if len(sound.body) <= BODY_HEADER_BYTES:
        carried += ((BODY_HEADER, sound.body.decode("ascii")),)
    return Answer(status, (*sound.headers, *carried), sound.body)


def opa(outcome: Permit | Refusal) -> dict[str, Any]:
    """Return the `result` that APISIX and its like read: `allow`, and for a deny what the client is to see."""
    result: dict[str, Any] = {"allow": False}
    if isinstance(outcome, Permit):
        return {**result, "allow": True, "headers": dict(upstream_headers(outcome.decision))}
    sound = denying(outcome)
    return {
        **result,
        "reason": sound.body.decode("ascii"),
        "headers": dict(sound.headers),
        "status_code": sound.status,
    }


def denying(refusal: Refusal) -> Refusal:
    """Return the refusal if a proxy cannot take it for a permit, our own failure otherwise."""
    return refusal if 400 <= refusal.status <= 599 else unavailable(Dialect.PROBLEM)
