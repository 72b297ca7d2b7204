"""The real thing as the good gateway: the ASGI middleware with an engine in its process, before the fake upstream."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from policy_engine import PolicyEngine
from policy_engine.core.decision import Decision
from policy_engine.errors import StoreUnavailable
from policy_engine.inprocess import InProcess
from policy_engine.middleware.asgi import PolicyEngineMiddleware
from policy_engine.middleware.models import from_body, from_query
from policy_engine.middleware.tokens import from_jwt
from policy_engine.probe import Credentials, Models, Switching, Target
from tests.api.served import serving
from tests.middleware.tokens import AUDIENCE, ISSUER, claims, key, key_set, token
from tests.probe.conftest import Served, listening
from tests.probe.upstream import Upstream

ALLOWED, FORBIDDEN, FAILING = "open-1", "fable-5", "opus-4-8"
MODELS = {name: name for name in (ALLOWED, FORBIDDEN, FAILING, "mythos-5")} | {"fable-latest": FORBIDDEN}


class Reachable(PolicyEngine):
    """An embedded engine that the tests can take away."""

    up = True

    async def decide_async(self, **question: Any) -> Decision:
        """Decide, or be away."""
        if not self.up:
            raise StoreUnavailable("the log is away")
        return await super().decide_async(**question)


@contextmanager
def real(folder: Path, upstream: Upstream, **settings: Any) -> Iterator[tuple[Served, dict[str, Any]]]:
    """Offer the real gateway before an upstream, and what an operator can give the probe for it."""
    with serving(folder) as running:
        withdraw(running)
        engine = Reachable(InProcess(running.engine))
        app = guarded(engine, upstream, **settings)
        with listening(app) as port:
            who = {"sub": "bruno", "tenant": "acme-de"}
            now = int(time.time())
            yield (
                Served(app, upstream, port, engine),
                {
                    "url": f"http://127.0.0.1:{port}",
                    "models": Models((ALLOWED,), (FORBIDDEN,), ("fable-latest",), ("mythos-5",), FAILING),
                    "credentials": Credentials(
                        own=token(claims(**who)),
                        foreign=token(claims(**who, aud="elsewhere")),
                        expired=token(claims(**who, exp=now - 10)),
                    ),
                    "privileged": ("alice",),
                    "down": lambda: setattr(engine, "up", False),
                    "up": lambda: setattr(engine, "up", True),
                    "switching": Switching(f"http://127.0.0.1:{running.port}", running.keys["operator"], ALLOWED),
                    "pause_seconds": 0.0,
                    "stale_seconds": 0.5,
                    "cut_seconds": 1.0,
                    "timeout_seconds": 5.0,
                },
            )


def guarded(engine: PolicyEngine, upstream: Upstream, **settings: Any) -> PolicyEngineMiddleware:
    """Return the upstream behind the middleware, set up as its page says; `settings` replace the usual ones."""
    subject = from_jwt(issuer=ISSUER, audience=AUDIENCE, jwks=key_set(key("one")), tenant="tenant")
    given = {"model": from_body() & from_query(), "location": "DE", "serving_region": "US", **settings}
    return PolicyEngineMiddleware(upstream, engine=engine, subject=subject, **given)


def withdraw(running: Any) -> None:
    """Engage a switch on what the caller of these tests may not use."""
    scope = {"models": [FORBIDDEN, "mythos-5"]}
    answered = running.post("/v1/switches", {"id": "withdrawn", "scope": scope, "reason": "test"}, key="operator")
    assert answered.status_code == 201, answered.text


def target(given: dict[str, Any], **changes: Any) -> Target:
    """Return the target."""
    return Target(**{**given, **changes})
