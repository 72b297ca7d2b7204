"""A FastAPI dependency that asks for one route: `decision: Annotated[Decision, Depends(require(engine=…, …))]`.

Rules of the room: this module alone of the room imports FastAPI. A dependency guards the routes that name it and no
other; an application that must not be reached any other way is guarded as a whole (`asgi`). The route finds the
decision in its parameter, and streams through `engine.guard_stream(upstream, decision)`.
Left to others: the steps (`asgi`), settings (`guard`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Unpack

from fastapi import FastAPI, HTTPException, Request, Response

from policy_engine.core.decision import Decision
from policy_engine.core.dialects import Refusal
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


def require(**settings: Unpack[Settings]) -> Callable[[Request], Awaitable[Decision]]:
    """Return the dependency. It reads the body that FastAPI keeps for the route anyway."""
    guard = Guard(**settings)

    async def dependency(request: Request) -> Decision:
        head = Head.of_asgi(request.scope)
        try:
            decision = await _decided(guard, head, request)
        except Exception as error:  # noqa: BLE001  whatever fails before an allow refuses; no detail of a fault leaves
            raise Refused(guard.failed(error, head)) from None
        if not decision.allowed:
            raise Refused(guard.denied(decision, head))
        return decision

    return dependency


def answer_refusals(app: FastAPI) -> None:
    """Let an application answer refusals with the body that its clients understand."""

    async def answered(request: Request, error: Exception) -> Response:
        if not isinstance(error, Refused):
            raise error
        return Response(error.refusal.body, error.refusal.status, dict(error.refusal.headers))

    app.add_exception_handler(Refused, answered)


async def _decided(guard: Guard, head: Head, request: Request) -> Decision:
    asked = guard.asked(head, await guard.subject.identify_async(head))
    named = guard.named(head)
    in_body = None
    if guard.model.body is not None:
        body = await request.body()
        if body:
            boundary = guard.model.check_media(head)
            check_length(len(body), guard)
            in_body = guard.model.in_whole_body(body, boundary, guard.limits)
    model = guard.resolved(guard.model.agreed(named, in_body, guard.limits))
    return await guard.engine.decide_async(**asked.of(model))
