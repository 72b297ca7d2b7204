"""The health check of gRPC, `grpc.health.v1.Health/Check`: may Envoy send its checks here?

The same as `/readyz` says, read fresh each time: SERVING where decisions can be made and recorded. Whoever asks needs
no key, and is no better known for having asked. `Watch` is not served: whoever calls it is told UNIMPLEMENTED, and asks
again instead, as Envoy and Kubernetes do (gRPC health checking protocol, github.com/grpc/grpc doc/health-checking.md).
Left to others: what readiness is (`api.condition`), the server (`listening`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from google.protobuf.message import DecodeError
from google.protobuf.wrappers_pb2 import StringValue

from policy_engine.api.checks.frames import Call, CallRefused, Metadata, Status
from policy_engine.api.condition import Condition
from policy_engine.limits import LIMITS

SERVICE: Final = "grpc.health.v1.Health"
SERVING: Final = b"\x08\x01"
NOT_SERVING: Final = b"\x08\x02"
"""A `HealthCheckResponse` has one member, the enumeration `status`, in field 1."""


class Health:
    """The method `Check`, for the whole server and for the services named. `read` never raises."""

    path = f"/{SERVICE}/Check".encode("ascii")
    acquaints = False

    def __init__(self, read: Callable[[], Condition], services: Sequence[str]) -> None:
        self._read = read
        self._services = frozenset(("", *services))

    def bytes_max(self, metadata: Metadata) -> int:
        """Return how long a request may be: the name of a service."""
        return LIMITS.grpc_stranger_bytes

    def under_way(self) -> AbstractContextManager[None]:
        """Return nothing to be entered: no decision is under way."""
        return nullcontext()

    async def answer(self, calls: Sequence[Call]) -> list[bytes | CallRefused]:
        """Return the response to each call, in order; the state is read once for calls that came together."""
        found = await asyncio.to_thread(self._read)
        status = NOT_SERVING if found.reasons else SERVING
        return [self._known(message) or status for message, _ in calls]

    def _known(self, message: bytes) -> CallRefused | None:
        """Return why a request cannot be answered, if so. A request is a text in field 1, as a `StringValue` is."""
        try:
            service = StringValue.FromString(message).value
        except DecodeError:
            return CallRefused(Status.INVALID_ARGUMENT, "the message is no health check request")
        return None if service in self._services else CallRefused(Status.NOT_FOUND, "there is no such service here")
