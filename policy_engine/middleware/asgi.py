"""The door for ASGI applications: `http` and `websocket`, without a framework.

The steps of a request, numbered in `_decided`: 1. who asks, 2. which model the head names, 3. which the body names,
4. both agree, 5. the decision, 6. the application under a hold. What fails before 6 is answered here, and the
application never learns of the request.
Rules of the room: every method and every path but the exempted ones; nothing a framework does (its own routing, mounts,
exception handlers) comes before the guard. The application finds an `Allowed` under `scope["policy_engine"]`.
Left to others: cutting (`exchange`), listings (`listing`), settings (`guard`).
"""

from __future__ import annotations

from typing import Unpack

from policy_engine.core.decision import Decision
from policy_engine.core.dialects import Refusal
from policy_engine.core.enforcing import Hold
from policy_engine.middleware.bodies import App, Body, Disconnected, Receive, Scope, Send
from policy_engine.middleware.exchange import Exchange, answer, refuse_websocket
from policy_engine.middleware.guard import Asked, Guard, Settings
from policy_engine.middleware.head import Head
from policy_engine.middleware.listing import answer_listing

SCOPE_KEY = "policy_engine"


class Allowed:
    """What the application finds under `scope["policy_engine"]`: the allow it runs under, and a way to ask again.

    An application that falls back to another model asks with `ask`, and uses it only if allowed. What it asked for and
    was allowed is held too: the answer ends when any of its allows does.
    """

    __slots__ = ("_asked", "_exchange", "_guard", "decision", "model")

    def __init__(self, guard: Guard, asked: Asked, model: str, decision: Decision) -> None:
        self.decision = decision
        self.model = model
        self._guard = guard
        self._asked = asked
        self._exchange: Exchange | None = None

    def used_in(self, exchange: Exchange) -> Exchange:
        """Say which exchange the allow is used in, and return it."""
        self._exchange = exchange
        return exchange

    async def ask(self, model: str) -> Decision:
        """Return the decision on another model for the same caller, with an entry of its own."""
        decision = await self._guard.engine.decide_async(**self._asked.of(self._guard.resolved(model)))
        if decision.allowed and self._exchange is not None:
            self._exchange.also(self._guard.engine.hold(decision))
        return decision


class PolicyEngineMiddleware:
    """Guards an ASGI application: `app.add_middleware(PolicyEngineMiddleware, engine=…, subject=…, model=…)`."""

    def __init__(self, app: App, **settings: Unpack[Settings]) -> None:
        """Take the application and the settings (`guard.Guard`). Raises `InputRefused` for what could guard nothing."""
        self._app = app
        self._guard = Guard(**settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on what is allowed, answer what is not."""
        kind = scope["type"]
        if kind == "lifespan" or (kind in ("http", "websocket") and self._guard.is_exempt(scope["path"])):
            await self._app(scope, receive, send)
        elif kind == "http":
            await self._http(scope, receive, send)
        elif kind == "websocket":
            await self._websocket(scope, receive, send)
        else:
            raise ValueError("only lifespan, http and websocket are guarded; nothing else is handed on")

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        head = Head.of_asgi(scope)
        refusal: Refusal | None = None
        try:
            if self._guard.is_listing(head):
                return await answer_listing(self._guard, head, self._app, scope, receive, send)
            body = Body(receive)
            found = await self._decided(head, body)
            if not found.decision.allowed:
                refusal = self._guard.denied(found.decision, head)
            else:
                hold = self._guard.engine.hold(found.decision)
        except Disconnected:
            return None
        except Exception as error:  # noqa: BLE001  whatever fails before an allow refuses; no detail of a fault leaves
            refusal = self._guard.failed(error, head)
        if refusal is not None:
            return await answer(send, refusal)
        scope[SCOPE_KEY] = found
        exchange = found.used_in(Exchange(self._guard, head, hold))  # 6
        return await exchange.run(self._app, scope, receive, send, body if self._guard.model.body is not None else None)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        head = Head.of_asgi(scope)
        refusal: Refusal | None = None
        try:
            found = await self._decided(head, None)
            if not found.decision.allowed:
                refusal = self._guard.denied(found.decision, head)
            else:
                hold: Hold = self._guard.engine.hold(found.decision)
        except Exception as error:  # noqa: BLE001  as above
            refusal = self._guard.failed(error, head)
        if refusal is not None:
            return await refuse_websocket(scope, send, refusal)
        scope[SCOPE_KEY] = found
        exchange = found.used_in(Exchange(self._guard, head, hold, websocket=True))
        return await exchange.run(self._app, scope, receive, send)

    async def _decided(self, head: Head, body: Body | None) -> Allowed:
        """Return the decision, allowed or not. Raises what says that there can be none."""
        guard = self._guard
        subject = await guard.subject.identify_async(head)  # 1
        asked = guard.asked(head, subject)
        named = guard.named(head)  # 2
        in_body = None
        if body is not None and guard.model.body is not None:
            await body.read(guard.model, lambda: guard.model.check_media(head), guard.limits)  # 3
            in_body = body.model
        model = guard.resolved(guard.model.agreed(named, in_body, guard.limits))  # 4
        decision = await guard.engine.decide_async(**asked.of(model))  # 5
        return Allowed(guard, asked, model, decision)
