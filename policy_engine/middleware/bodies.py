"""Reading an ASGI body up to its model, and handing it on as it came, watched to its end.

Rules of the room: what was read is kept until the application takes it, up to `limits.guarded_prefix_bytes`, and never
stored or logged. The rest streams through the scan: a piece that turns out to name a second model, or is no JSON, is
not handed on, nor is anything after it; the application is cut off and the caller refused.
Left to others: what a body may be (`core.bodymodel`), cutting (`asgi`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from policy_engine.core.bodymodel import BodyProblem, BodyRefused, ModelScan
from policy_engine.errors import InputRefused, TooLarge
from policy_engine.limits import Limits
from policy_engine.middleware.models import ModelSource
from policy_engine.receiving import received

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Disconnected(Exception):
    """The caller hung up: there is nobody to answer."""


class Body:
    """The body of one request: read up to its model, then received by the application through `receive`."""

    __slots__ = ("_messages", "_on_refused", "_receive", "_refused", "_scan", "absent", "model")

    def __init__(self, receive: Receive) -> None:
        self.model: str | None = None
        self.absent = False
        """Whether there is no body at all."""
        self._receive = receive
        self._messages: deque[Message] = deque()
        self._scan: ModelScan | None = None
        self._refused = False
        self._on_refused: Callable[[BodyRefused], None] | None = None

    async def read(self, source: ModelSource, check: Callable[[], bytes | None], limits: Limits) -> None:
        """Read until the model is known. `check` says whether a body that there is may be read at all, and how: as a
        form with a boundary, or as JSON.

        Raises `InputRefused` for a body that names no model in time, and `Disconnected`.
        """
        first = await self._receive_in(limits.guarded_body_seconds)
        self._messages.append(first)
        piece = _piece(first)
        if not first.get("more_body", False):
            self.absent = not piece
            if piece:
                self.model = source.in_whole_body(piece, check(), limits)
            return
        boundary = check()
        if boundary is not None:
            self.model = source.in_whole_body(await self._whole(piece, limits), boundary, limits)
            return
        scan = source.scan(limits)
        scan.feed(piece)
        await self._read_on(scan, len(piece), limits)

    async def _whole(self, piece: bytes, limits: Limits) -> bytes:
        """Return the whole body. Raises `TooLarge`."""
        pieces, length = [piece], len(piece)
        deadline = asyncio.get_running_loop().time() + limits.guarded_body_seconds
        while True:
            if length > limits.guarded_prefix_bytes:
                raise TooLarge(f"the form is longer than {limits.guarded_prefix_bytes} bytes")
            message = await self._receive_in(deadline - asyncio.get_running_loop().time())
            self._messages.append(message)
            pieces.append(_piece(message))
            length += len(pieces[-1])
            if not message.get("more_body", False):
                return b"".join(pieces)

    async def _read_on(self, scan: ModelScan, length: int, limits: Limits) -> None:
        deadline = asyncio.get_running_loop().time() + limits.guarded_body_seconds
        while scan.model is None:
            if length > limits.guarded_prefix_bytes:
                raise BodyRefused(BodyProblem.MODEL_NOT_REACHED)
            message = await self._receive_in(deadline - asyncio.get_running_loop().time())
            self._messages.append(message)
            piece = _piece(message)
            length += len(piece)
            scan.feed(piece)
            if not message.get("more_body", False):
                self.model = scan.end()
                return
        self.model, self._scan = scan.model, scan

    async def _receive_in(self, seconds: float) -> Message:
        """Return the next message of a body. Raises `InputRefused` when it is late, and `Disconnected`."""
        try:
            message = await received(self._receive, seconds)
        except TimeoutError:
            raise InputRefused("the body did not arrive in time") from None
        if message["type"] != "http.request":
            raise Disconnected
        return message

    def watch(self, on_refused: Callable[[BodyRefused], None]) -> None:
        """Say what to do when the rest of the body turns out to be refused."""
        self._on_refused = on_refused

    async def receive(self) -> Message:
        """Hand on the next message: what was read, then what comes, once it was found to be no second model."""
        if self._messages:
            return self._messages.popleft()
        if self._refused:
            return {"type": "http.disconnect"}
        message = await self._receive()
        scan = self._scan
        if scan is None or message["type"] != "http.request":
            return message
        try:
            scan.feed(_piece(message))
            if not message.get("more_body", False):
                scan.end()
                self._scan = None
        except BodyRefused as refused:
            self._refused = True
            if self._on_refused is not None:
                self._on_refused(refused)
            return {"type": "http.disconnect"}
        return message


def _piece(message: Message) -> bytes:
    """Return the piece of a message, which what stands before this door may have made a view of other memory."""
    return bytes(message.get("body") or b"")
