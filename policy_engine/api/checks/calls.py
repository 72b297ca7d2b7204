"""What a connection and the methods that it serves need of each other: calls, and the streams that they come on.

Rules of the room: a method answers calls together that came together, each with bytes or with a refusal, and never
raises for what a caller sent.
Left to others: frames and state (`connection`), what a call means (`envoy`, `health`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from policy_engine.api.checks import frames
from policy_engine.api.checks.frames import Call, CallRefused, Metadata, Status
from policy_engine.limits import Limits

log = structlog.get_logger(__name__)


class Method(Protocol):
    """A method that is served, under its path. `acquaints`: who is answered has shown a key, and is no stranger."""

    path: bytes
    acquaints: bool

    def bytes_max(self, metadata: Metadata) -> int:
        """Return how long the message of a call with this metadata may be."""
        ...

    def under_way(self) -> AbstractContextManager[None]:
        """Return what is entered before calls are answered and left when the answers were handed on."""
        ...

    async def answer(self, calls: Sequence[Call]) -> Sequence[bytes | CallRefused]:
        """Return the answer of each call, in order."""
        ...


@dataclass(slots=True, eq=False)
class Stream:
    """A call: its metadata once that is there, what came of its message, and how much may still be sent."""

    id: int
    window: int
    deadline: float
    metadata: Metadata | None = None
    method: Method | None = None
    data: bytearray = field(default_factory=bytearray)
    asked: bool = False


async def answers_of(method: Method, calls: Sequence[Call]) -> Sequence[bytes | CallRefused]:
    """Return the answer of each call. A fault of the method ends each of them, and nothing of it leaves."""
    try:
        answers = await method.answer(calls)
        if len(answers) != len(calls):
            raise RuntimeError("a method answers each call once")
    except Exception as error:  # the last line of defence
        log.error("check.failed", exc_info=error)
        return [CallRefused(Status.INTERNAL, "the call could not be answered")] * len(calls)
    return answers


def require_bounds(stream: Stream, method: Method, limits: Limits) -> None:
    """Raise `CallRefused` for a message that is too long for who sends it, and for more than one."""
    length = frames.length_of_message(stream.data)
    if length is None:
        return
    if length > limits.grpc_stranger_bytes and length > method.bytes_max(stream.metadata or ()):
        raise CallRefused(Status.RESOURCE_EXHAUSTED, "the message is too long")
    if len(stream.data) > frames.MESSAGE_HEAD_BYTES + length:
        raise CallRefused(Status.INVALID_ARGUMENT, "a call has one message")
