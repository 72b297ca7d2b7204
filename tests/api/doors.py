"""A door to knock at: an ASGI application driven message by message, and small deciders to stand behind it.

The drivers send what a client library would refuse to send. `FixtureDecider` is the policy of the AuthZEN
certification scenario written out in Python: the protocol is tried with it, the engine's own policy elsewhere.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from policy_engine.api.answers import Answer
from policy_engine.api.callers import Authenticated
from policy_engine.api.decisions import EVALUATION, DecisionApp
from policy_engine.api.metrics import Metrics
from policy_engine.core.decision import Decision, Principal, PrincipalKind, Reason, Request
from policy_engine.errors import NotAuthenticated

KEY = "pe_" + "k" * 43
WATCHER = "pe_" + "w" * 43
RELEASE = "sha256:" + "0" * 64
Handle = tuple[tuple[bytes, bytes], ...]

__all__ = ["EVALUATION", "KEY", "RELEASE", "WATCHER", "Answer"]


class TwoKeys:
    """A key that may decide and one that may not. `epoch` is the one of the keys; `revoked` takes the first away."""

    def __init__(self, epoch: int = 7) -> None:
        self.epoch = epoch
        self.revoked = False

    def authenticate(self, token: str, *, fresh: bool) -> Authenticated:
        """Return the principal of either key; only a fresh look sees a revocation."""
        if token == KEY and not (fresh and self.revoked):
            return Authenticated(
                Principal("gateway", PrincipalKind.SERVICE, frozenset(["decide"]), key_id="k1"), self.epoch
            )
        if token == WATCHER:
            return Authenticated(
                Principal("watcher", PrincipalKind.SERVICE, frozenset(["audit:read"]), key_id="k2"), self.epoch
            )
        raise NotAuthenticated("the key is unknown")

    async def ready(self, token: str) -> None:
        """Have nothing to wait for: here are no tokens."""

    def now(self) -> int:
        """Return an instant; no key here ends."""
        return 0


def fixture_policy(request: Request) -> bool:
    """Return what the certification scenario says of a request."""
    subject = request.raw["subject"].get("properties", {})
    resource = request.raw["resource"].get("properties", {})
    action = request.raw["action"].get("properties", {})
    if request.action == "read":
        return True
    if request.action == "delete":
        return request.subject_id == "alice" and action.get("soft") is True
    if resource.get("status") == "archived":
        return subject.get("role") == "admin"
    return request.subject_id == "alice"


@dataclass
class FixtureDecider:
    """Decides as `policy` says, remembers what it was asked, and ends early where the semantic does."""

    policy: Callable[[Request], bool] = fixture_policy
    asked: list[Request] = field(default_factory=list)
    valid_for_ms: int = 2_000

    async def decide_async(self, request: Request, principal: Principal) -> Decision:
        """Return one decision with an id of its own."""
        self.asked.append(request)
        allowed = self.policy(request)
        reason = Reason("fixture", rule="F1", message="As the scenario says.")
        return Decision(
            allowed, f"{len(self.asked):032x}", (reason,), (), (), RELEASE, 7, self.valid_for_ms, "As it is."
        )

    async def decide_many_async(
        self, requests: Sequence[Request], principal: Principal, *, semantic: str = "execute_all"
    ) -> list[Decision]:
        """Return decisions in order, up to and with the one that ends the batch."""
        found: list[Decision] = []
        for request in requests:
            found.append(await self.decide_async(request, principal))
            if semantic == ("permit_on_first_permit" if found[-1].allowed else "deny_on_first_deny"):
                break
        return found


@dataclass(frozen=True)
class Reply:
    """What came back: status, headers as sent, body bytes."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the value of a header that stands at most once."""
        found = [value.decode("latin-1") for key, value in self.headers if key == name.lower().encode()]
        assert len(found) <= 1
        return found[0] if found else None

    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)


def door(decider: Any = None, keys: TwoKeys | None = None) -> DecisionApp:
    """Return the decision endpoints before a decider."""
    return DecisionApp(decider or FixtureDecider(), keys or TwoKeys(), Metrics())


def knock(
    app: Any,
    body: Any = b"",
    *,
    path: str = EVALUATION,
    method: str = "POST",
    key: str | None = KEY,
    content_type: str | None = "application/json",
    headers: Handle = (),
    chunks: Sequence[bytes] | None = None,
    hang_up: bool = False,
) -> Reply | None:
    """Send one request, its body whole or in `chunks`; return the reply, or `None` when nothing was answered."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    pieces = list(chunks) if chunks is not None else [content]
    sent = list(headers)
    if key is not None:
        sent.append((b"authorization", b"Bearer " + key.encode()))
    if content_type is not None:
        sent.append((b"content-type", content_type.encode()))
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "scheme": "http",
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1),
        "headers": sent,
    }
    out: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if not pieces:
            return {"type": "http.disconnect"}
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces) or hang_up}

    async def send(message: Any) -> None:
        out.append(message)

    asyncio.run(app(scope, receive, send))
    if not out:
        return None
    return Reply(out[0]["status"], list(out[0]["headers"]), b"".join(m.get("body", b"") for m in out[1:]))


def ask(app: Any, body: Any = b"", **options: Any) -> Reply:
    """Send one request that must be answered."""
    reply = knock(app, body, **options)
    assert reply is not None
    return reply
