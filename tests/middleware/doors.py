"""What the tests of this folder stand on: an engine in this process, callers with tokens, and applications to guard."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from policy_engine.core.decision import Decision, Request
from policy_engine.core.enforcing import Hold
from policy_engine.core.factparse import parse_location
from policy_engine.middleware.asgi import PolicyEngineMiddleware
from policy_engine.middleware.subjects import HeaderSubjects, TrustedProxy, from_header
from policy_engine.services.permissions import LOCAL

SECRET = "a-secret-that-only-the-proxy-knows"
PROXY = TrustedProxy(secret=SECRET)
CHAT = "/v1/chat/completions"


def by_proxy() -> HeaderSubjects:
    """Return subjects as a proxy names them."""
    return from_header("x-user", proxy=PROXY, tenant="x-tenant", location="x-country")


def headers(user: str = "alice", tenant: str = "acme", country: str = "US", **more: str) -> list[tuple[bytes, bytes]]:
    """Return the headers of a request that the proxy passed on."""
    named = {"x-proxy-secret": SECRET, "x-user": user, "x-tenant": tenant, "x-country": country}
    named |= {"content-type": "application/json"} | {name.replace("_", "-"): value for name, value in more.items()}
    return [(name.encode(), value.encode()) for name, value in named.items()]


class Local:
    """The engine of a test as an enforcement point asks it, counting what it is asked."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.asked: list[Request] = []

    def decide(self, **question: Any) -> Decision:
        """Return the decision after its entry is durable."""
        decision: Decision = self.engine.decider.decide(self._request(question), LOCAL)
        return decision

    async def decide_async(self, **question: Any) -> Decision:
        """The same, waiting on the running event loop."""
        decision: Decision = await self.engine.decider.decide_async(self._request(question), LOCAL)
        return decision

    def decide_many(self, questions: Iterable[Any]) -> list[Decision]:
        """Return one decision a question, in order."""
        return list(self.engine.decider.decide_many([self._request(each) for each in questions], LOCAL))

    async def decide_many_async(self, questions: Iterable[Any]) -> list[Decision]:
        """The same, waiting on the running event loop."""
        return list(await self.engine.decider.decide_many_async([self._request(each) for each in questions], LOCAL))

    def hold(self, decision: Decision) -> Hold:
        """Watch an allow."""
        hold: Hold = self.engine.uses.hold(decision)
        return hold

    def _request(self, question: Any) -> Request:
        asked = {name: value for name, value in question.items() if name not in ("subject", "location", "explain")}
        request = Request(subject_id=question["subject"], location=parse_location(question["location"]), **asked)
        self.asked.append(request)
        return request


@dataclass(slots=True)
class Answered:
    """What a client got: `None` for a status of a connection that was closed before an answer."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    pieces: list[bytes] = field(default_factory=list)
    complete: bool = False
    messages: list[Any] = field(default_factory=list)

    @property
    def body(self) -> bytes:
        """Everything of the body that came."""
        return b"".join(self.pieces)

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class App:
    """An application that says what it got; `answer` is what it does then."""

    def __init__(self, answer: Callable[[Any, Any, Any], Any] | None = None) -> None:
        self.calls: list[str] = []
        self.bodies: list[bytes] = []
        self.scopes: list[Any] = []
        self.ended: list[str] = []
        self.answer = answer

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Take the whole body, then answer."""
        self.calls.append(scope["path"])
        self.scopes.append(scope)
        try:
            if scope["type"] == "http":
                self.bodies.append(await whole(receive))
            if self.answer is not None:
                await self.answer(scope, receive, send)
            else:
                await say(send, b'{"served":true}')
            self.ended.append("returned")
        except BaseException as error:
            self.ended.append(type(error).__name__)
            raise


async def whole(receive: Any) -> bytes:
    """Return the body; raise `ConnectionError` when the client goes."""
    pieces = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ConnectionError("gone")
        pieces.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(pieces)


async def say(send: Any, body: bytes, media: str = "application/json", status: int = 200) -> None:
    """Send a whole answer."""
    kept = [(b"content-type", media.encode()), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": kept})
    await send({"type": "http.response.body", "body": body})


async def begin_stream(send: Any, media: bytes = b"text/event-stream") -> None:
    """Begin a stream with one piece."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", media)]})
    await send({"type": "http.response.body", "body": b"data: one\n\n", "more_body": True})


async def exchange(
    app: Any,
    body: bytes | Iterable[bytes] = b'{"model":"fable-5"}',
    *,
    path: str = CHAT,
    method: str = "POST",
    sent: list[tuple[bytes, bytes]] | None = None,
    client: Any = ("127.0.0.1", 5_000),
    server: Any = ("127.0.0.1", 80),
    query: bytes = b"",
    raw: bytes | None = None,
    version: str = "1.1",
    pause: float = 0.0,
    on_piece: Callable[[Answered], None] | None = None,
) -> Answered:
    """Put one request to an ASGI application, its body in these pieces, and return what came back."""
    pieces = [body] if isinstance(body, bytes) else list(body)
    waiting = list(enumerate(pieces, start=1))
    answered, gone = Answered(), asyncio.Event()

    async def receive() -> Any:
        if not waiting:
            await gone.wait()
            return {"type": "http.disconnect"}
        if pause:
            await asyncio.sleep(pause)
        number, piece = waiting.pop(0)
        return {"type": "http.request", "body": piece, "more_body": number < len(pieces)}

    async def send(message: Any) -> None:
        answered.messages.append(message)
        assert not answered.complete, "sent behind the end"
        if message["type"] == "http.response.start":
            answered.status = message["status"]
            answered.headers = {n.decode().lower(): v.decode() for n, v in message.get("headers", ())}
        else:
            assert answered.status is not None, "a body before its head"
            answered.pieces.append(message.get("body", b""))
            answered.complete = not message.get("more_body", False)
            if on_piece is not None:
                on_piece(answered)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": version,
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode() if raw is None else raw,
        "query_string": query,
        "root_path": "",
        "headers": headers() if sent is None else sent,
        "client": client,
        "server": server,
    }
    async with asyncio.timeout(10):
        await app(scope, receive, send)
    return answered


def ask(app: Any, *arguments: Any, **more: Any) -> Answered:
    """The same, from a test that is not asynchronous."""
    return asyncio.run(exchange(app, *arguments, **more))


def guarded(engine: Any, app: Any, **settings: Any) -> PolicyEngineMiddleware:
    """Return an application guarded as these tests do it, unless told otherwise."""
    settings = {"subject": by_proxy(), "serving_region": "US", **settings}
    return PolicyEngineMiddleware(app, engine=engine if isinstance(engine, Local) else Local(engine), **settings)


@asynccontextmanager
async def later(seconds: float, call: Callable[[], Any]) -> AsyncIterator[None]:
    """Call something in another thread after a while."""
    task = asyncio.create_task(_after(seconds, call))
    try:
        yield
    finally:
        await task


async def _after(seconds: float, call: Callable[[], Any]) -> None:
    await asyncio.sleep(seconds)
    await asyncio.to_thread(call)


def engage(engine: Any, principal: Any, model: str = "fable-5", id: str = "stop") -> float:
    """Engage a switch on a model and return when it was committed, as `time.monotonic` counts."""
    engine.switches.engage(principal, id, {"models": [model]}, "test")
    return time.monotonic()
