"""Waiting for a message of a request no longer than is allowed; one that is there already costs no timer.

Rules of the room: the first message is bounded like every other, for a caller that sends its head and nothing behind it
would be waited for as long as it likes. Left to others: what a message is (`middleware`, `api`), what is said when it
is late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, MutableMapping
from functools import partial
from types import CoroutineType, coroutine
from typing import Any

Message = MutableMapping[str, Any]


async def received(receive: Callable[[], Awaitable[Message]], seconds: float) -> Message:
    """Return the next message. Raises `TimeoutError` when it does not come in time."""
    awaited: Any = receive()
    if type(awaited) is not CoroutineType:
        return await _within(awaited, seconds)
    try:
        waited_for = awaited.send(None)
    except StopIteration as done:
        message: Message = done.value
        return message
    return await _within(_resumed(awaited, waited_for), seconds)


async def _within(awaited: Awaitable[Message], seconds: float) -> Message:
    async with asyncio.timeout(max(seconds, 0.0)):
        return await awaited


@coroutine
def _resumed(awaited: CoroutineType[Any, Any, Message], waited_for: Any) -> Generator[Any, Any, Message]:
    """Go on with a coroutine that has begun and waits for this: hand everything through, as `yield from` would."""
    while True:
        try:
            sent = yield waited_for
        except BaseException as error:  # noqa: BLE001  a cancellation, or what it waited for has failed: its to handle
            step = partial(awaited.throw, error)
        else:
            step = partial(awaited.send, sent)
        try:
            waited_for = step()
        except StopIteration as done:
            message: Message = done.value
            return message
