"""One HTTP exchange without a framework: the few headers that matter, a bounded body, an answer.

Rules of the room:
- `X-Request-ID` comes back on every answer exactly as it came, after it was found short and free of control characters.
- A header that says who calls or what the body is stands once; two of them are two readings, so both are refused.
- A body is read up to a limit and for a time; whoever hangs up meanwhile gets no answer.
Left to others: who the caller is (`callers`), what the body means, which error is which status (`problems`).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

from policy_engine.api.problems import MEDIA_TYPE, Headers, Problem
from policy_engine.errors import InputRefused, TooLarge
from policy_engine.limits import LIMITS, Limits
from policy_engine.receiving import received

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BODY_SECONDS: Final = 10.0
JSON: Final = (b"content-type", b"application/json")
PROBLEM: Final = (b"content-type", MEDIA_TYPE.encode("ascii"))
NO_STORE: Final = (b"cache-control", b"no-store")

_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]")


class Disconnected(Exception):
    """The caller hung up before its body was complete: there is nobody to answer."""


@dataclass(slots=True)
class Head:
    """The headers of a request that the engine reads. `None` means not sent."""

    request_id: bytes | None = None
    authorization: bytes | None = None
    content_type: bytes | None = None
    content_length: int | None = None
    compressed: bool = False


def read_head(scope: Scope, head: Head, limits: Limits = LIMITS) -> None:
    """Fill `head` from the request; the request id comes first, so that whatever is refused later can carry it.

    Raises `InputRefused` for a request id that may not be echoed and for a header sent twice.
    """
    twice = False
    for name, value in scope["headers"]:
        if name == b"authorization":
            twice = twice or head.authorization is not None
            head.authorization = value
        elif name == b"content-type":
            twice = twice or head.content_type is not None
            head.content_type = value
        elif name == b"content-length":
            head.content_length = int(value) if value.isdigit() else None
        elif name == b"content-encoding":
            head.compressed = head.compressed or value.strip().lower() not in (b"", b"identity")
        elif name == b"x-request-id":
            if head.request_id is not None:
                head.request_id = None
                raise InputRefused("must be sent once", where="X-Request-ID")
            if len(value) > limits.request_id_characters:
                raise InputRefused(f"must have at most {limits.request_id_characters} bytes", where="X-Request-ID")
            if _CONTROL.search(value):
                raise InputRefused("must not hold control characters", where="X-Request-ID")
            head.request_id = value
    if twice:
        raise InputRefused("Authorization and Content-Type must each be sent once")


def require_json(head: Head) -> None:
    """Raise `InputRefused` unless the body is said to be `application/json`, with or without parameters, as it is."""
    media = head.content_type
    if media != b"application/json" and (
        media is None or media.partition(b";")[0].strip().lower() != b"application/json"
    ):
        raise InputRefused("must be application/json", where="Content-Type")
    if head.compressed:
        raise InputRefused("must be left out: send the body as it is, not compressed", where="Content-Encoding")


async def read_body(receive: Receive, head: Head, bytes_max: int) -> bytes:
    """Return the whole body. Raises `TooLarge` as soon as it is, `InputRefused` when it takes too long to arrive, and
    `Disconnected` when the caller hangs up."""
    if head.content_length is not None and head.content_length > bytes_max:
        raise TooLarge(f"the body is longer than {bytes_max} bytes")
    began = monotonic()
    try:
        message = await received(receive, BODY_SECONDS)
        if message["type"] == "http.request" and not message.get("more_body", False):
            body: bytes = message.get("body", b"")
            return body
        async with asyncio.timeout(max(0.0, began + BODY_SECONDS - monotonic())):
            return await _read_rest(receive, message, bytes_max)
    except TimeoutError:
        raise InputRefused(f"the body did not arrive within {BODY_SECONDS:g} seconds") from None


async def _read_rest(receive: Receive, message: Message, bytes_max: int) -> bytes:
    pieces: list[bytes] = []
    length = 0
    while True:
        if message["type"] != "http.request":
            raise Disconnected
        piece = message.get("body", b"")
        length += len(piece)
        if length > bytes_max:
            raise TooLarge(f"the body is longer than {bytes_max} bytes")
        pieces.append(piece)
        if not message.get("more_body", False):
            return b"".join(pieces)
        message = await receive()


async def answer(send: Send, status: int, body: bytes, headers: Headers, request_id: bytes | None) -> None:
    """Send one whole answer, with its length and the request id of the request."""
    headers.append((b"content-length", b"%d" % len(body)))
    if request_id is not None:
        headers.append((b"x-request-id", request_id))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def answer_problem(send: Send, problem: Problem, request_id: bytes | None) -> None:
    """Send a problem document; no cache keeps it, for it is about one caller."""
    await answer(send, problem.status, problem.body(), [PROBLEM, NO_STORE, *problem.headers], request_id)
