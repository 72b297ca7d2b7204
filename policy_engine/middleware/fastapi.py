"""A FastAPI dependency that asks for one route: `decision: Annotated[Decision, Depends(require(engine=…, …))]`.

Rules of the room: this module alone of the room imports FastAPI. A dependency guards the routes that name it and no
other; an application that must not be reached any other way is guarded as a whole (`asgi`). The route finds the
decision in its parameter, and streams through `engine.guard_stream(upstream, decision)`.
Left to others: the steps (`asgi`), settings (`guard`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Unpack

from fastapi import FastAPI, HTTPException, Request, Response, WebSocketException
from fastapi.requests import HTTPConnection

from policy_engine.core.decision import Decision
from policy_engine.core.dialects import Refusal
from policy_engine.errors import InputRefused
from policy_engine.middleware.exchange import POLICY_VIOLATION
from policy_engine.middleware.guard import Guard, Settings
from policy_engine.middleware.head import Head
from policy_engine.middleware.waiting import check_length


class Refused(HTTPException):
    """The route is not run. `answer_refusals` answers it in the client's own dialect; without it FastAPI answers with
    the same status and headers and no more than that."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        kept = {name: value for name, value in refusal.headers if name != "content-type"}
        super().__init__(refusal.status, "The request is refused.", kept)


def require(**settings: Unpack[Settings]) -> Callable[[HTTPConnection], Awaitable[Decision]]:
    """Return the dependency. It reads the body that FastAPI keeps for the route anyway, up to its bounds. A WebSocket
    has none, and is refused before it is accepted."""
    guard = Guard(**settings)

    async def dependency(connection: HTTPConnection) -> Decision:
        head = Head.of_asgi(connection.scope)
        request = connection if isinstance(connection, Request) else None
        try:
            decision = await _decided(guard, head, request)
        except Exception as error:  # noqa: BLE001  whatever fails before an allow refuses; no detail of a fault leaves
            raise _refused(guard.failed(error, head), request) from None
        if not decision.allowed:
            raise _refused(guard.denied(decision, head), request)
        return decision

    return dependency


def _refused(refusal: Refusal, request: Request | None) -> Exception:
    return WebSocketException(POLICY_VIOLATION, "policy") if request is None else Refused(refusal)


def answer_refusals(app: FastAPI) -> None:
    """Let an application answer refusals with the body that its clients understand."""

    async def answered(request: Request, error: Exception) -> Response:
        if not isinstance(error, Refused):
            raise error
        return Response(error.refusal.body, error.refusal.status, dict(error.refusal.headers))

    app.add_exception_handler(Refused, answered)


async def _decided(guard: Guard, head: Head, request: Request | None) -> Decision:
    asked = guard.asked(head, await guard.subject.identify_async(head))
    named = guard.named(head)
    in_body = None
    if request is not None and guard.model.body is not None:
        body = await _whole(request, head, guard)
        if body:
            in_body = guard.model.in_whole_body(body, guard.model.check_media(head), guard.limits)
    model = guard.resolved(guard.model.agreed(named, in_body, guard.limits))
    return await guard.engine.decide_async(**asked.of(model))


async def _whole(request: Request, head: Head, guard: Guard) -> bytes:
    """Return the body, which the route can read again. One that is too long or too slow is not taken to its end."""
    length = head.header("content-length") or "0"
    check_length(int(length[:20]) if length.isdigit() else 0, guard)  # a number without end is none to Python
    if length != "0" or head.header("transfer-encoding") is not None:
        guard.model.check_media(head)
    pieces, taken = list[bytes](), 0
    try:
        async with asyncio.timeout(guard.limits.guarded_body_seconds):
            async for piece in request.stream():  # at once, where FastAPI has read the body for the route
                taken += len(piece)
                check_length(taken, guard)
                pieces.append(piece)
    except TimeoutError:
        raise InputRefused("the body did not arrive in time") from None
    except RuntimeError:
        raise InputRefused(
            "the body was taken as a form before it could be decided on; guard a route that takes forms as a whole "
            "application (PolicyEngineMiddleware)"
        ) from None
    request._body = b"".join(pieces)  # as `Request.body` keeps it, which knows no bound
    return request._body
