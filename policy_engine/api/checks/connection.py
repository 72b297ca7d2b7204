"""One HTTP/2 connection that serves unary gRPC methods, on the event loop that decides.

gRPC's own server hands every call from a thread of its own to the loop; beside deciding and committing that costs more
than the decision (decision 0019). A check is one small message each way, so this is all that it needs of HTTP/2.

Rules of the room:
- Everything is bounded: headers, messages, streams, calls under way, idle frames in a second, what waits to be sent.
  Who breaks the protocol or a bound loses the connection, or the stream where only that is wrong, and no answer comes.
- Who was never answered, as nobody is without a key, makes way for others: strangers cannot keep a proxy out.
- A message that does not arrive in time is dropped with its stream, and so is a connection that never begins.
- A stream that the other side has given up is decided to its end and answered to nobody: its entry stands.
Left to others: bytes of frames (`frames`), what a call means (`envoy`, `health`), listening (`listening`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from hpack.exceptions import HPACKError

from policy_engine.api.checks import frames
from policy_engine.api.checks.calls import Method, Stream, answers_of, require_bounds
from policy_engine.api.checks.frames import Call, CallRefused, Code, Fault, Frame, Kind, Setting, Status
from policy_engine.api.checks.headerblocks import HeaderBlocks
from policy_engine.api.checks.pace import Pace, who_leaves
from policy_engine.limits import LIMITS, Limits

SWEEP_SECONDS: Final = 1.0


class Connection(asyncio.Protocol):
    """The server's side of one connection. `everyone` holds the open ones."""

    def __init__(self, methods: Iterable[Method], everyone: set[Connection], limits: Limits = LIMITS) -> None:
        self._limits = limits
        self._methods = {method.path: method for method in methods}
        self._everyone = everyone
        self._loop = asyncio.get_running_loop()
        self._blocks = HeaderBlocks(limits.grpc_headers_bytes)
        self._buffer = b""
        self._begun = self._closing = False
        self.opened, self.known = self._loop.time(), False
        self._streams: dict[int, Stream] = {}
        self._last = 0
        self._block: tuple[Stream, bytearray, bool] | None = None
        self._window = self._window_of_stream = frames.WINDOW_BYTES
        self._unacknowledged = self._held = self._under_way = 0
        self._pace = Pace(limits)
        self._waiting: list[asyncio.Future[None]] = []
        self._asked: list[Stream] = []
        self._tasks: set[asyncio.Task[None]] = set()

    # What the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say what we take, and begin to look after deadlines."""
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # of a stream server it is one
        self._sweeping = self._loop.call_later(SWEEP_SECONDS, self._sweep)
        self._everyone.add(self)
        leaving = who_leaves(self._everyone, self._limits.grpc_connections_count)
        if leaving is not None:
            leaving.leave()
        if self._closing:
            return
        pairs = (
            (Setting.MAX_CONCURRENT_STREAMS, self._limits.grpc_streams_count),
            (Setting.INITIAL_WINDOW_SIZE, self._limits.grpc_received_bytes),
            (Setting.MAX_HEADER_LIST_SIZE, self._limits.grpc_headers_bytes),
        )
        more = frames.window_update(0, self._limits.grpc_received_bytes - frames.WINDOW_BYTES)
        self._transport.write(frames.settings(pairs) + more)

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop the streams; calls under way end by themselves."""
        self._closing = True
        self._sweeping.cancel()
        self._streams.clear()
        self._wake()
        self._everyone.discard(self)

    def data_received(self, data: bytes) -> None:
        """Take what has arrived, as far as frames are whole."""
        if self._closing:
            return
        try:
            self._take(self._buffer + data if self._buffer else data)
        except Fault as fault:
            self._end(fault.code)
        except HPACKError:
            self._end(Code.COMPRESSION_ERROR)
        if self._asked:
            self._begin()
        if self._transport.get_write_buffer_size() > self._limits.grpc_unsent_bytes:
            self._transport.abort()

    def leave(self) -> None:
        """End at once, without a word."""
        self._closing = True
        self._everyone.discard(self)
        self._transport.abort()

    async def finish(self) -> None:
        """Take no more calls, wait for those under way, and close."""
        if not self._closing:
            self._transport.write(frames.go_away(self._last, Code.NO_ERROR))
        self._closing = True
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._transport.close()

    # Frames

    def _take(self, buffer: bytes) -> None:
        place = 0
        if not self._begun:
            if not frames.PREFACE.startswith(buffer[: len(frames.PREFACE)]):
                raise Fault(Code.PROTOCOL_ERROR)
            if len(buffer) < len(frames.PREFACE):
                self._buffer = buffer
                return
            self._begun, place = True, len(frames.PREFACE)
        while (frame := frames.read_frame(buffer, place)) is not None:
            place += frames.HEAD_BYTES + len(frame.payload)
            if (self._block is not None) != (frame.kind == Kind.CONTINUATION):
                raise Fault(Code.PROTOCOL_ERROR)
            if frame.kind > Kind.HEADERS or not frame.payload:
                self._pace.count(frame)
            taker = _TAKERS.get(frame.kind)
            if taker is not None:
                taker(self, frame)
        self._buffer = buffer[place:]

    def _headers(self, frame: Frame) -> None:
        stream = self._streams.get(frame.stream)
        if frame.stream % 2 == 0:
            raise Fault(Code.PROTOCOL_ERROR)
        if stream is None:
            stream = Stream(frame.stream, self._window_of_stream, self._loop.time() + self._limits.grpc_arrive_seconds)
            if stream.id > self._last:
                self._last = stream.id
                self._streams[stream.id] = stream
        elif not frame.flags & frames.END_STREAM or stream.asked:
            raise Fault(Code.PROTOCOL_ERROR)  # trailers end a stream, and nothing comes after its end
        self._block = (stream, bytearray(frames.content(frame)), bool(frame.flags & frames.END_STREAM))
        self._end_of_block(frame)

    def _continuation(self, frame: Frame) -> None:
        if self._block is None or self._block[0].id != frame.stream:
            raise Fault(Code.PROTOCOL_ERROR)
        self._block[1].extend(frame.payload)
        if len(self._block[1]) > self._limits.grpc_headers_bytes or not frame.payload:
            raise Fault(Code.ENHANCE_YOUR_CALM)
        self._end_of_block(frame)

    def _end_of_block(self, frame: Frame) -> None:
        if not frame.flags & frames.END_HEADERS or self._block is None:
            return
        stream, block, ends = self._block
        self._block = None
        metadata = self._blocks.read(bytes(block))
        if stream.id not in self._streams:
            return  # of a stream that is over: read, for the table of headers goes on
        most = self._limits.grpc_streams_count
        if self._under_way + len(self._asked) >= most or len(self._streams) > most:
            return self._reset(stream, Code.REFUSED_STREAM)
        if metadata is None:
            return self._reset(stream, Code.PROTOCOL_ERROR)
        if stream.metadata is None:
            stream.metadata = metadata
            pseudo = dict(metadata)
            if not pseudo.get("content-type", b"").startswith(b"application/grpc"):
                return self._refuse(stream, frames.NO_GRPC)
            stream.method = self._methods.get(pseudo.get(":path", b""))
            if pseudo.get(":method") != b"POST" or stream.method is None:
                return self._refuse(stream, CallRefused(Status.UNIMPLEMENTED, "there is no such method here"))
        if ends:
            self._ask(stream)

    def _data(self, frame: Frame) -> None:
        if frame.stream == 0 or frame.stream > self._last:
            raise Fault(Code.PROTOCOL_ERROR)
        size = len(frame.payload)
        self._held += size
        if self._held > self._limits.grpc_received_bytes:
            raise Fault(Code.FLOW_CONTROL_ERROR)
        stream = self._streams.get(frame.stream)
        if stream is None or stream.asked or stream.method is None:
            return self._release(size)  # of a stream that is over
        stream.data += frames.content(frame)
        self._release(size - len(frames.content(frame)))
        try:
            require_bounds(stream, stream.method, self._limits)
        except CallRefused as refused:
            return self._refuse(stream, refused)
        if frame.flags & frames.END_STREAM:
            self._ask(stream)

    def _reset_by_peer(self, frame: Frame) -> None:
        if frame.stream == 0 or frame.stream > self._last:
            raise Fault(Code.PROTOCOL_ERROR)
        frames.read_number(frame)
        stream = self._streams.pop(frame.stream, None)
        if stream is not None:
            if stream in self._asked:
                self._asked.remove(stream)  # given up before it began: there is nothing to decide
            self._let_go(stream)
            self._wake()

    def _settings(self, frame: Frame) -> None:
        if frame.flags & frames.ACK:
            return
        given = frames.read_settings(frame)
        window = given.get(Setting.INITIAL_WINDOW_SIZE, self._window_of_stream)
        if window > frames.WINDOW_BYTES_MAX:
            raise Fault(Code.FLOW_CONTROL_ERROR)
        for stream in self._streams.values():
            stream.window += window - self._window_of_stream
        self._window_of_stream = window
        self._transport.write(frames.write_frame(Kind.SETTINGS, frames.ACK, 0))
        self._wake()

    def _ping(self, frame: Frame) -> None:
        if len(frame.payload) != 8 or frame.stream:
            raise Fault(Code.FRAME_SIZE_ERROR)
        if not frame.flags & frames.ACK:
            self._transport.write(frames.write_frame(Kind.PING, frames.ACK, 0, frame.payload))

    def _window_update(self, frame: Frame) -> None:
        size = frames.read_number(frame)
        if size == 0:
            raise Fault(Code.PROTOCOL_ERROR)
        stream = self._streams.get(frame.stream)
        if frame.stream == 0:
            self._window += size
        elif stream is not None:
            stream.window += size
        if max(self._window, 0 if stream is None else stream.window) > frames.WINDOW_BYTES_MAX:
            raise Fault(Code.FLOW_CONTROL_ERROR)
        self._wake()

    def _pushed(self, frame: Frame) -> None:
        raise Fault(Code.PROTOCOL_ERROR)

    # Calls

    def _ask(self, stream: Stream) -> None:
        """Begin the call of a stream whose message is there."""
        try:
            length = frames.length_of_message(stream.data)
            if length is None or len(stream.data) != frames.MESSAGE_HEAD_BYTES + length:
                raise CallRefused(Status.INVALID_ARGUMENT, "the message is cut off")
        except CallRefused as refused:
            return self._refuse(stream, refused)
        stream.asked = True
        self._pace.asked()
        self._asked.append(stream)

    def _begin(self) -> None:
        """Begin to answer what has been asked of each method, together: it came together."""
        everything, self._asked = self._asked, []
        for method in self._methods.values():
            asked = [each for each in everything if each.method is method]
            if not asked:
                continue
            calls = [(bytes(each.data[frames.MESSAGE_HEAD_BYTES :]), each.metadata or ()) for each in asked]
            for each in asked:
                self._let_go(each)
            self._under_way += len(asked)
            task = self._loop.create_task(self._serve(method, asked, calls))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, method: Method, streams: Sequence[Stream], calls: Sequence[Call]) -> None:
        with method.under_way():
            try:
                pairs = list(zip(streams, await answers_of(method, calls), strict=True))
            finally:
                self._under_way -= len(streams)
            if method.acquaints and not all(isinstance(answer, CallRefused) for _, answer in pairs):
                self.known = True
            await self._hand_on(pairs)

    async def _hand_on(self, pairs: Sequence[tuple[Stream, bytes | CallRefused]]) -> None:
        """Send the answers that there is room for at once, in one piece, and the others as room is made for them."""
        out: list[bytes] = []
        waiting = []
        for stream, answer in pairs:
            if isinstance(answer, CallRefused):
                self._refuse(stream, answer)
            elif stream.id in self._streams:
                data = frames.message(answer)
                if len(data) > min(self._window, stream.window, frames.FRAME_BYTES_MAX):
                    waiting.append(self._send(stream, data))
                    continue
                self._window -= len(data)
                del self._streams[stream.id]
                out.append(frames.answer(stream.id, data))
        if out:
            self._transport.write(b"".join(out))
        if waiting:
            await asyncio.gather(*waiting)

    async def _send(self, stream: Stream, data: bytes) -> None:
        """Send the answer of a call as the other side makes room for it, soon; to a stream that is over, nothing."""
        self._transport.write(frames.write_frame(Kind.HEADERS, frames.END_HEADERS, stream.id, frames.BEGIN))
        until = self._loop.time() + self._limits.answer_seconds
        while data and stream.id in self._streams:
            size = min(len(data), self._window, stream.window, frames.FRAME_BYTES_MAX)
            if size <= 0:
                if not await self._room(until):
                    return self._reset(stream, Code.CANCEL)  # an allow that leaves late would be an older one
                continue
            self._window -= size
            stream.window -= size
            self._transport.write(frames.write_frame(Kind.DATA, 0, stream.id, data[:size]))
            data = data[size:]
        if self._streams.pop(stream.id, None) is not None:
            ends = frames.END_HEADERS | frames.END_STREAM
            self._transport.write(frames.write_frame(Kind.HEADERS, ends, stream.id, frames.DONE))

    async def _room(self, until: float) -> bool:
        """Wait until there is room for something, and say whether there is in time: that of the whole answer."""
        waiter = self._loop.create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout_at(until):
                await waiter
        except TimeoutError:
            return False
        return True

    def _refuse(self, stream: Stream, refused: CallRefused) -> None:
        """End a call without a message; what is still to come of it is not wanted."""
        if self._streams.pop(stream.id, None) is None:
            return
        self._let_go(stream)
        ends = frames.END_HEADERS | frames.END_STREAM
        out = frames.write_frame(Kind.HEADERS, ends, stream.id, frames.refused(refused))
        self._transport.write(out if stream.asked else out + frames.reset(stream.id, Code.NO_ERROR))

    def _reset(self, stream: Stream, code: Code) -> None:
        self._streams.pop(stream.id, None)
        self._let_go(stream)
        self._transport.write(frames.reset(stream.id, code))

    # Bookkeeping

    def _let_go(self, stream: Stream) -> None:
        size = len(stream.data)
        stream.data = bytearray()
        self._release(size)

    def _release(self, size: int) -> None:
        """Make room for as much as is no longer held; said in large steps."""
        self._held -= size
        self._unacknowledged += size
        if self._unacknowledged > self._limits.grpc_received_bytes // 4:
            self._transport.write(frames.window_update(0, self._unacknowledged))
            self._unacknowledged = 0

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    def _sweep(self) -> None:
        """Once in a while: drop what did not arrive in time."""
        self._pace.begin()
        now = self._loop.time()
        late = [each for each in self._streams.values() if not each.asked and each.deadline < now]
        if (not self._begun and self.opened + self._limits.grpc_arrive_seconds < now) or (
            self._block is not None and self._block[0] in late
        ):
            return self._transport.abort()
        for stream in late:
            self._reset(stream, Code.CANCEL)
        self._sweeping = self._loop.call_later(SWEEP_SECONDS, self._sweep)

    def _end(self, code: Code) -> None:
        self._closing = True
        self._transport.write(frames.go_away(self._last, code))
        self._transport.close()


_TAKERS: Final[dict[int, Callable[[Connection, Frame], None]]] = {
    Kind.DATA: Connection._data,
    Kind.HEADERS: Connection._headers,
    Kind.RST_STREAM: Connection._reset_by_peer,
    Kind.SETTINGS: Connection._settings,
    Kind.PUSH_PROMISE: Connection._pushed,
    Kind.PING: Connection._ping,
    Kind.WINDOW_UPDATE: Connection._window_update,
    Kind.CONTINUATION: Connection._continuation,
}
"""Frames of other kinds are read over, as the standard says."""
