"""Whether the process answers and whether it can decide: `/healthz` and `/readyz`, raw, as they are asked first.

Rules of the room: `/healthz` reads nothing. `/readyz` reads the state each time, in a thread, and names a code for each
reason against it. Left to others: what is read (`condition`), what the answers look like in OpenAPI (`discovery`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import orjson

from policy_engine.api.condition import Condition
from policy_engine.api.exchange import JSON, NO_STORE, PROBLEM, Receive, Scope, Send, answer
from policy_engine.api.problems import RETRY_AFTER_SECONDS, Headers, Problem

HEALTH: Final = "/healthz"
READINESS: Final = "/readyz"
PATHS: Final = (HEALTH, READINESS)

HEALTHY: Final = b'{"status":"ok"}'


class Probes:
    """The raw ASGI application of `GET` on `PATHS`; the caller routes nothing else to it. `read` never raises."""

    def __init__(self, read: Callable[[], Condition]) -> None:
        self._read = read

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one probe."""
        if scope["path"] == HEALTH:
            return await answer(send, 200, HEALTHY, [JSON, NO_STORE], None)
        await answer(send, *readiness(await asyncio.to_thread(self._read)), None)


def readiness(found: Condition) -> tuple[int, bytes, Headers]:
    """Return status, body and headers: 200, or 503 with a code and a sentence for each reason."""
    if not found.reasons:
        ready: dict[str, Any] = {
            "status": "ready",
            "release": found.release,
            "epoch": found.epoch,
            "sample": found.sample,
            **_warnings(found),
        }
        return 200, orjson.dumps(ready), [JSON, NO_STORE]
    errors = [{"where": code, "detail": detail} for code, detail in found.reasons]
    problem = Problem(503, "not-ready", "Not ready", "No allow can be given at the moment.", errors=errors)
    return 503, problem.body(), [PROBLEM, NO_STORE, (b"retry-after", b"%d" % RETRY_AFTER_SECONDS)]


def _warnings(found: Condition) -> dict[str, Any]:
    if not found.suspensions:
        return {}
    detail = f"Suspensions not confirmed again by their date: {len(found.suspensions)}. `doctor` names them."
    return {"warnings": [{"where": "suspension.overdue", "detail": detail}]}
