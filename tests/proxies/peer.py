"""The other side of an HTTP/2 connection, in frames, and a method that echoes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from hpack import Encoder

from policy_engine.api.checks import frames
from policy_engine.api.checks.connection import Connection
from policy_engine.api.checks.frames import Call, CallRefused, Code, Kind, Metadata, Status
from policy_engine.limits import LIMITS, Limits

PATH = b"/a.Service/Method"
HEADERS = (
    *((":method", "POST"), (":scheme", "http"), (":path", PATH.decode()), (":authority", "x")),
    *(("te", "trailers"), ("content-type", "application/grpc")),
)


class Echo:
    """A method that sends back what it got, `times` over; `slow` waits to be let go."""

    path = PATH
    acquaints = True

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, Metadata]] = []
        self.go = asyncio.Event()
        self.go.set()

    def bytes_max(self, metadata: Metadata) -> int:
        """Return a bound."""
        return 200_000

    def under_way(self) -> AbstractContextManager[None]:
        """Return nothing to enter."""
        return nullcontext()

    async def answer(self, calls: Sequence[Call]) -> list[bytes | CallRefused]:
        """Answer."""
        self.asked += calls
        await self.go.wait()
        if any(message == b"fail" for message, _ in calls):
            raise RuntimeError("fault")
        refused = CallRefused(Status.PERMISSION_DENIED, "no: 100%\n")
        return [refused if message == b"refuse" else message for message, _ in calls]


class Peer:
    """The other side: it says what it is told to, and reads frames."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, method: Echo) -> None:
        self.reader, self.writer, self.method = reader, writer, method
        self.encoder = Encoder()
        self.stream = -1

    def say(self, *pieces: bytes) -> None:
        """Send bytes."""
        self.writer.write(b"".join(pieces))

    def begin(self, settings: tuple[tuple[int, int], ...] = ()) -> None:
        """Send the preface and settings."""
        self.say(frames.PREFACE, frames.settings(settings))  # type: ignore[arg-type]  # numbers that a peer may choose

    def head(self, headers: Any = HEADERS, *, end: int = frames.END_HEADERS) -> bytes:
        """Return the head of a new call."""
        self.stream += 2
        return frames.write_frame(Kind.HEADERS, end, self.stream, self.encoder.encode(headers))

    def call(self, message: bytes, headers: Any = HEADERS) -> bytes:
        """Return a whole new call."""
        data = frames.message(message)
        pieces = [data[at : at + 16_384] for at in range(0, len(data), 16_384)]
        out = self.head(headers)
        for number, piece in enumerate(pieces):
            last = frames.END_STREAM if number == len(pieces) - 1 else 0
            out += frames.write_frame(Kind.DATA, last, self.stream, piece)
        return out

    async def frame(self) -> frames.Frame | None:
        """Return the next frame, `None` at the end."""
        try:
            head = await asyncio.wait_for(self.reader.readexactly(9), 5)
            payload = await asyncio.wait_for(self.reader.readexactly(int.from_bytes(head[:3], "big")), 5)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return frames.Frame(head[3], head[4], int.from_bytes(head[5:], "big"), payload)

    async def until(self, kind: Kind, *, flags: int = 0) -> frames.Frame:
        """Return the next frame of a kind."""
        while (frame := await self.frame()) is not None:
            if frame.kind == kind and frame.flags & flags == flags:
                return frame
        raise AssertionError(f"the connection ended before {kind.name}")

    async def ended(self) -> Code:
        """Return the code that the connection ends with; -1 without one."""
        found = -1
        while (frame := await self.frame()) is not None:
            if frame.kind == Kind.GOAWAY:
                found = int.from_bytes(frame.payload[4:8], "big")
        return Code(found) if found >= 0 else Code.NO_ERROR


def talk(script: Callable[[Peer], Awaitable[None]], limits: Limits = LIMITS) -> Echo:
    """Run a script against one connection, and return the method with what it was asked."""

    async def run() -> Echo:
        method, everyone = Echo(), set[Connection]()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Connection((method,), everyone, limits), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        try:
            await asyncio.wait_for(script(Peer(reader, writer, method)), 20)
        finally:
            writer.close()
            method.go.set()
            server.close()
            for each in list(everyone):
                each._transport.abort()
            await asyncio.sleep(0)
        return method

    return asyncio.run(run())
