"""Server-Sent Events: one stream of revocations as an HTTP answer without an end.

Rules of the room: `id:` is the epoch, so that a reader who comes back with `Last-Event-ID` resumes there. A heartbeat
is a comment. Each reader is told a pause of its own before it comes back. Whoever does not take an event in time is
cut; whoever hangs up is noticed.
Left to others: which events there are (`feed`).
"""

from __future__ import annotations

import asyncio
from random import SystemRandom
from typing import Any, Final

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from policy_engine.api.exchange import Disconnected
from policy_engine.api.feed import Ended, Event, Feed, Standing, Stream, Void
from policy_engine.limits import LIMITS, Limits

_SPREAD = SystemRandom()  # of its own: whoever embeds this and seeds the module `random` must not be disturbed

MEDIA_TYPE: Final = "text/event-stream"
_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def encoded(event: Event, limits: Limits = LIMITS) -> bytes:
    """Return the bytes of an event."""
    if isinstance(event, Ended):
        return b"event: ended\ndata: {}\n\n"
    name = "changed"
    data: dict[str, Any] = {}
    if isinstance(event, Standing):
        heartbeat = round(limits.revocation_heartbeat_seconds * 1_000)
        name, data = "standing", {"epoch": event.epoch, "heartbeat_ms": heartbeat}
    elif isinstance(event, Void):
        name, data = "void", {"epoch": event.epoch, "reason": event.reason}
    else:
        data = event.document()
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.epoch, name.encode("ascii"), orjson.dumps(data))


class EventStream(Response):
    """The answer that carries a stream; it closes it when it is over, whatever ended it."""

    media_type = MEDIA_TYPE

    def __init__(self, feed: Feed, stream: Stream, limits: Limits = LIMITS) -> None:
        super().__init__(None, 200, _HEADERS)
        del self.headers["content-length"]
        self._feed = feed
        self._stream = stream
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the stream ends. Raises `Disconnected` when the reader is too slow: nobody is there."""
        gone = asyncio.ensure_future(_gone(receive))
        gone.add_done_callback(lambda _: self._stream.end())
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            least = self._limits.revocation_retry_milliseconds
            await self._send(send, b"retry: %d\n\n" % _SPREAD.randint(least, 3 * least))
            while True:
                try:
                    event = await self._stream.next()
                except StopAsyncIteration:
                    break
                await self._send(send, b": heartbeat\n\n" if event is None else encoded(event, self._limits))
            await self._send(send, b"", more=False)
        except TimeoutError:
            raise Disconnected from None
        finally:
            gone.cancel()
            self._feed.close(self._stream)

    async def _send(self, send: Send, body: bytes, *, more: bool = True) -> None:
        async with asyncio.timeout(self._limits.revocation_send_seconds):
            await send({"type": "http.response.body", "body": body, "more_body": more})


async def _gone(receive: Receive) -> None:
    """Return when the reader has hung up."""
    message: Any = {}
    while message.get("type") != "http.disconnect":
        message = await receive()
