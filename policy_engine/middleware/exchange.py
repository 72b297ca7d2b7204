"""Running an application under a hold, so that nothing of it leaves after the hold has ended.

Rules of the room:
- A piece of an answer costs one plain function more, and no task, lock or look at a clock.
- When the hold ends, the application's task is cancelled, and the answer is ended here, by a task of its own: an
  application that swallows the cancellation, or hangs, keeps nobody from being cut, and gets no byte out.
- What has not begun is answered with the refusal. A stream of events ends with an error event in the client's words.
  Any other answer that has begun is left unfinished, so that the server closes the connection and nobody takes it for
  whole. A WebSocket is closed with 1008.
- A cancellation from outside stays one.
Left to others: who ends the hold (the engine), what the refusal says (`guard`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from policy_engine.core.decision import Decision
from policy_engine.core.dialects import Refusal, stream_end
from policy_engine.core.enforcing import Hold
from policy_engine.errors import InputRefused
from policy_engine.middleware.bodies import App, Body, Message, Receive, Scope, Send
from policy_engine.middleware.guard import Guard
from policy_engine.middleware.head import Head

POLICY_VIOLATION = 1008


class CutOff(Exception):
    """The allow has ended; the application may send nothing more."""


class Exchange:
    """One allowed request while its application runs. Used once, on the event loop that runs the application."""

    __slots__ = (
        "_ending",
        "_guard",
        "_head",
        "_hear",
        "_holds",
        "_inside",
        "_loop",
        "_sent",
        "_task",
        "_websocket",
        "over",
    )

    def __init__(self, guard: Guard, head: Head, hold: Hold, *, websocket: bool = False) -> None:
        self.over = False
        """Whether the application was cut off."""
        self._guard = guard
        self._head = head
        self._holds = [hold]
        self._hear: Callable[[], None] | None = None
        self._websocket = websocket
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._inside = True
        self._ending: asyncio.Task[None] | None = None
        self._sent: Callable[[], tuple[Message | None, Message | None]] | None = None

    def also(self, hold: Hold) -> None:
        """Hold another allow for the same answer, that of a fallback: from now on the answer ends when either does."""
        if self._hear is None:  # the application is done
            hold.close()
            return
        self._holds.append(hold)
        hold.on_end(self._hear)

    @property
    def _ended_by(self) -> Decision | None:
        for hold in self._holds:
            if hold.ended is not None:
                return hold.ended
        return None

    async def run(self, app: App, scope: Scope, receive: Receive, send: Send, body: Body | None = None) -> None:
        """Run the application, on a body that was begun to be read where there is one. Raises what it raises, unless
        it was cut off."""
        guarded, self._sent, shut = guarded_send(send)

        def cut(refusal: Refusal | None = None) -> None:
            if self._inside and not self.over:
                self.over = True
                shut()
                self._ending = self._loop.create_task(self._end(send, refusal))
                if self._task is not None:
                    self._task.cancel()

        def hear() -> None:
            with suppress(RuntimeError):  # the loop has ended, and the exchange with it
                self._loop.call_soon_threadsafe(cut)

        if body is not None:
            receive = body.receive
            body.watch(lambda refused: cut(self._guard.failed(refused, self._head)))
        if self._ended_by is not None:  # before it was in use
            self._holds[0].close()
            return await self._end(send, None)
        self._hear = hear
        self._holds[0].on_end(hear)
        try:
            await app(scope, receive, guarded)
        except (Exception, asyncio.CancelledError):
            if not self.over:
                raise
        finally:
            self._inside, self._hear = False, None
            for hold in self._holds:
                hold.close()
        if self._ending is not None:
            await self._ended(self._ending)
        return None

    async def _ended(self, ending: asyncio.Task[None]) -> None:
        """Take our own cancellation back, wait for the end to be sent, and let one from outside through.

        An application that returned without waiting for anything left our cancellation undelivered: it is due now.
        """
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        if self._task is not None and self._task.uncancel() > 0:
            ending.cancel()
            raise asyncio.CancelledError
        await ending

    async def _end(self, send: Send, refusal: Refusal | None) -> None:
        """Send what is left to be sent, if the client still takes it; a client that has gone needs nothing."""
        with suppress(Exception):
            async with asyncio.timeout(self._guard.limits.guarded_end_seconds):
                await self._last(send, self._ended_by, refusal)

    async def _last(self, send: Send, denied: Decision | None, refusal: Refusal | None) -> None:
        first, last = (None, None) if self._sent is None else self._sent()
        if self._websocket:
            await close_websocket(send)
        elif first is None:
            await answer(send, refusal or self._denied(denied))
        elif denied is not None and last is not None and _is_open_event_stream(first, last):
            end = stream_end(denied, self._guard.dialect_of(self._head), self._guard.wording)
            await send({"type": "http.response.body", "body": end, "more_body": False})

    def _denied(self, denied: Decision | None) -> Refusal:
        if denied is None:
            return self._guard.failed(InputRefused("the request is refused"), self._head)
        return self._guard.denied(denied, self._head)


def guarded_send(
    send: Send,
) -> tuple[Send, Callable[[], tuple[Message | None, Message | None]], Callable[[], None]]:
    """Return a `send` for the application, what tells how its answer began and its last message, and what shuts it for
    good. Of the beginning a copy is kept: an application may use one mapping for all of its messages."""
    first: Message | None = None
    last: Message | None = None

    def refuse(message: Message) -> Awaitable[None]:
        raise CutOff

    pass_on: Send = refuse  # one of three, so that a piece in the middle costs no question

    def begin(message: Message) -> Awaitable[None]:
        nonlocal first, pass_on
        kind = message["type"]
        if kind != "http.response.start" and not kind.startswith("websocket."):
            return send(message)  # a hint, a push: the answer itself has not begun
        first, pass_on = {"type": kind, "headers": list(message.get("headers", ()))}, send
        return send({**message, "headers": first["headers"]} if "headers" in message else message)

    pass_on = begin

    def guarded(message: Message) -> Awaitable[None]:
        nonlocal last
        last = message
        return pass_on(message)

    def sent() -> tuple[Message | None, Message | None]:
        return first, last

    def shutting() -> None:
        nonlocal pass_on
        pass_on = refuse

    return guarded, sent, shutting


async def answer(send: Send, refusal: Refusal, *, head_only: bool = False) -> None:
    """Send a whole refusal; `head_only` leaves the body out, and the head still says its length (RFC 9110, 9.3.2)."""
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in refusal.headers]
    headers.append((b"content-length", b"%d" % len(refusal.body)))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head_only else refusal.body})


async def refuse_websocket(scope: Scope, send: Send, refusal: Refusal) -> None:
    """Refuse a WebSocket that was not accepted: with the whole refusal where the server can, else by closing it."""
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await close_websocket(send)
        return
    headers = [(name.encode("ascii"), value.encode("ascii")) for name, value in refusal.headers]
    await send({"type": "websocket.http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": refusal.body})


async def close_websocket(send: Send) -> None:
    """Close a WebSocket because of the policy."""
    await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": "policy"})


def _is_open_event_stream(first: Message, last: Message) -> bool:
    """Return whether an answer is a stream of plain events that has not ended, so that one more event fits on it."""
    if last.get("type") == "http.response.body" and not last.get("more_body", False):
        return False
    kept = {bytes(name).lower(): bytes(value).lower() for name, value in first.get("headers", ())}
    plain = kept.get(b"content-encoding", b"identity") == b"identity" and b"content-length" not in kept
    return plain and kept.get(b"content-type", b"").partition(b";")[0].strip() == b"text/event-stream"
