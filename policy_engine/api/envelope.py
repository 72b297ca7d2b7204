"""What every exchange outside the decision endpoints goes through before a route sees it, and after.

Rules of the room:
- Under `/v1/` a caller is authenticated before its body is read, whatever the route; a route cannot forget to.
- A body is `application/json`, bounded, and parsed as strictly as a decision body, before pydantic sees it.
- Every answer carries the request id that came, and under `/v1/` no cache may keep it.
- An exception that no handler knows ends as a 500 that says nothing; the log names its class and place.
Left to others: scopes of routes (`access`), what the members mean (`routes`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from policy_engine.api import problems
from policy_engine.api.callers import Authenticated, Keys, identify, require_scope, require_time
from policy_engine.api.exchange import (
    NO_STORE,
    Disconnected,
    Head,
    Message,
    Receive,
    Scope,
    Send,
    answer_problem,
    read_body,
    read_head,
    require_json,
)
from policy_engine.api.parse import parse_object
from policy_engine.errors import PolicyEngineError
from policy_engine.limits import LIMITS, Limits

App = Callable[[Scope, Receive, Send], Awaitable[None]]

PROTECTED: Final = "/v1/"
PRINCIPAL: Final = "principal"
UNTIL: Final = "until"
"""Where a route finds when the caller's token ends: an instant in microseconds, `None` for a key."""

_WITHOUT_BODY: Final = ("GET", "HEAD", "OPTIONS")
_ALLOW_GET: Final = (b"allow", b"GET")
_WITH_HEAD: Final = b"GET, HEAD"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LargeBody:
    """A path that takes a larger body, from callers with the scope alone; asked for before the body is read."""

    scope: str
    bytes_max: int


class Envelope:
    """An ASGI application around another one."""

    def __init__(
        self, app: App, keys: Keys, limits: Limits = LIMITS, large: Mapping[str, LargeBody] | None = None
    ) -> None:
        self._app = app
        self._keys = keys
        self._limits = limits
        self._large = large or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one exchange; never raises."""
        head = Head()
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message = {**message, "headers": _with_own(message["headers"], scope, head)}
            await send(message)

        try:
            await self._pass_on(scope, receive, sending, head)
            return
        except Disconnected:
            return
        except PolicyEngineError as error:
            problem = problems.of_error(error)
        except Exception as error:  # the last line of defence: nothing of a fault leaves
            problem = problems.internal()
            log.error("request.failed", exc_info=error)
        if not started:
            await answer_problem(send, problem, head.request_id)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send, head: Head) -> None:
        read_head(scope, head, self._limits)
        path: str = scope["path"]
        if path.startswith(PROTECTED):
            caller = await identify(self._keys, head.authorization)
            scope.setdefault("state", {}).update({PRINCIPAL: caller.principal, UNTIL: caller.until})
            if scope["method"] not in _WITHOUT_BODY:
                receive = await self._checked(receive, head, caller, path)
        else:
            receive = _no_body  # nothing outside of /v1/ takes one, and a stranger's is not read
            if scope["method"] == "HEAD":  # as probes ask (`wget --spider`); the server sends no body then
                scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)

    async def _checked(self, receive: Receive, head: Head, caller: Authenticated, path: str) -> Receive:
        """Read and check the body; return a receive that gives it to the route, once."""
        bytes_max = self._limits.document_bytes
        if path in self._large:
            require_scope(caller.principal, self._large[path].scope)
            bytes_max = self._large[path].bytes_max
        body = await read_body(receive, head, bytes_max)
        require_time(self._keys, caller)
        require_json(head)
        parse_object(body, limits=self._limits, bytes_max=bytes_max)
        left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def given() -> Message:
            return left.pop() if left else await receive()

        return given


async def _no_body() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


def _with_own(headers: list[tuple[bytes, bytes]], scope: Scope, head: Head) -> list[tuple[bytes, bytes]]:
    own = list(headers)
    if not scope["path"].startswith(PROTECTED):  # HEAD is served there, and the routes do not know
        own = [(name, _WITH_HEAD if (name, value) == _ALLOW_GET else value) for name, value in own]
    if head.request_id is not None:
        own.append((b"x-request-id", head.request_id))
    if scope["path"].startswith(PROTECTED) and not any(name.lower() == b"cache-control" for name, _ in own):
        own.append(NO_STORE)
    return own
