"""HTTP/2 as nobody should speak it: floods, bombs, dawdling, broken frames; and flow control as it should be."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
from hpack import Encoder
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.api.checks import connection as room
from policy_engine.api.checks import frames
from policy_engine.api.checks.connection import Connection
from policy_engine.api.checks.frames import Call, CallRefused, Code, Kind, Metadata, Status
from policy_engine.api.checks.headerblocks import HeaderBlocks
from policy_engine.limits import LIMITS, Limits

PATH = b"/a.Service/Method"
HEADERS = (
    *((":method", "POST"), (":scheme", "http"), (":path", PATH.decode()), (":authority", "x")),
    *(("te", "trailers"), ("content-type", "application/grpc")),
)


class Echo:
    """A method that sends back what it got, `times` over; `slow` waits to be let go."""

    path = PATH

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
        server = await loop.create_server(lambda: Connection(method, everyone, limits), "127.0.0.1", 0)
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


def test_calls_are_answered_in_frames_that_fit() -> None:
    """Small and large messages, headers that repeat, padding and priority, trailers of the caller, unknown frames."""

    async def script(peer: Peer) -> None:
        peer.begin()
        for message in (b"", b"x", b"y" * 60_000):
            peer.say(peer.call(message))
            got = b""
            while not (frame := await peer.until(Kind.DATA)).flags & frames.END_STREAM:
                assert len(frame.payload) <= 16_384
                got += frame.payload
                if len(got) == 5 + len(message):
                    break
            assert got == frames.message(message)
            await peer.until(Kind.HEADERS, flags=frames.END_STREAM)
            peer.say(frames.window_update(0, 65_000))
        block = peer.encoder.encode(HEADERS)
        peer.stream += 2
        padded = frames.END_HEADERS | frames.PADDED | frames.PRIORITISED
        peer.say(frames.write_frame(10, 0, 0, b"?"), frames.write_frame(Kind.PRIORITY, 0, 1, b"12345"))
        peer.say(frames.write_frame(Kind.HEADERS, padded, peer.stream, b"\x02" + b"12345" + block + b"\0\0"))
        peer.say(frames.write_frame(Kind.DATA, frames.PADDED, peer.stream, b"\x01" + frames.message(b"z") + b"\0"))
        end = frames.END_HEADERS | frames.END_STREAM
        peer.say(frames.write_frame(Kind.HEADERS, end, peer.stream, peer.encoder.encode((("t", "v"),))))
        assert (await peer.until(Kind.DATA)).payload == frames.message(b"z")

    assert [len(message) for message, _ in talk(script).asked] == [0, 1, 60_000, 1]


def test_a_header_block_in_pieces_and_a_repeated_one_mean_the_same() -> None:
    """What the table of headers remembers is kept exactly, however the block arrives."""

    async def script(peer: Peer) -> None:
        peer.begin()
        for number in range(6):
            peer.say(peer.call(b"x", (*HEADERS, ("n", str(number // 2)), ("policy-engine-key", "k"))))
            await peer.until(Kind.HEADERS, flags=frames.END_STREAM)
        peer.stream += 2
        block = peer.encoder.encode((*HEADERS, ("n", "9")))
        peer.say(frames.write_frame(Kind.HEADERS, 0, peer.stream, block[:2]))
        peer.say(frames.write_frame(Kind.CONTINUATION, 0, peer.stream, block[2:4]))
        peer.say(frames.write_frame(Kind.CONTINUATION, frames.END_HEADERS, peer.stream, block[4:]))
        peer.say(frames.write_frame(Kind.DATA, frames.END_STREAM, peer.stream, frames.message(b"x")))
        await peer.until(Kind.HEADERS, flags=frames.END_STREAM)

    asked = talk(script).asked
    assert [dict(metadata)["n"] for _, metadata in asked] == [b"0", b"0", b"1", b"1", b"2", b"2", b"9"]


@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["", "1", "2", "x" * 3_000])), max_size=6),
        max_size=12,
    )
)
def test_remembered_blocks_never_change_what_a_block_means(blocks: list[list[tuple[str, str]]]) -> None:
    """With entries that push each other out of the table, each block is decoded as if nothing had been remembered."""

    encoder, reader = Encoder(), HeaderBlocks(65_536)
    for block in blocks:
        assert reader.read(encoder.encode(block)) == tuple((name, value.encode()) for name, value in block)


def test_an_answer_waits_for_room() -> None:
    """No byte more than the other side's windows is sent; the rest follows when there is room."""

    async def script(peer: Peer) -> None:
        peer.begin(((frames.Setting.INITIAL_WINDOW_SIZE, 10),))
        peer.say(peer.call(b"0123456789"))
        got = (await peer.until(Kind.DATA)).payload
        assert got == frames.message(b"0123456789")[:10]
        peer.say(frames.window_update(peer.stream, 3), frames.settings(((frames.Setting.INITIAL_WINDOW_SIZE, 12),)))
        while len(got) < 15:
            got += (await peer.until(Kind.DATA)).payload
        assert got == frames.message(b"0123456789")

    talk(script)


def test_an_answer_that_nobody_makes_room_for_is_dropped() -> None:
    """An allow may not lie about until somebody takes it; calls after it are answered."""

    async def script(peer: Peer) -> None:
        peer.begin(((frames.Setting.INITIAL_WINDOW_SIZE, 3),))
        peer.say(peer.call(b"x"))
        assert (await peer.until(Kind.RST_STREAM)).stream == 1
        peer.say(frames.settings(((frames.Setting.INITIAL_WINDOW_SIZE, 100),)), peer.call(b"y"))
        assert (await peer.until(Kind.DATA)).payload == frames.message(b"y")

    talk(script, Limits(answer_seconds=0.05))


@pytest.mark.parametrize("whose", ["the connection's", "the stream's"])
def test_an_answer_is_not_kept_for_later_by_room_that_comes_in_drops(whose: str) -> None:
    """Room for others wakes whoever waits, and a byte at a time is some: neither gives an answer more time."""

    async def script(peer: Peer) -> None:
        peer.begin(((frames.Setting.INITIAL_WINDOW_SIZE, 3),))
        peer.say(peer.call(b"x" * 100))

        async def drip() -> None:
            while True:
                peer.say(frames.window_update(0 if whose == "the connection's" else 1, 1))
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        try:
            async with asyncio.timeout(1):
                assert (await peer.until(Kind.RST_STREAM)).stream == 1
        finally:
            dripping.cancel()

    talk(script, Limits(answer_seconds=0.1))


def test_refusals_and_faults_end_a_call_with_a_status() -> None:
    """The connection lives on, and the sentence is safe in a header."""

    async def script(peer: Peer) -> None:
        peer.begin()
        for message, status in ((b"refuse", b"7"), (b"fail", b"13")):
            peer.say(peer.call(message))
            block = (await peer.until(Kind.HEADERS)).payload
            assert b"\x0bgrpc-status" + bytes((len(status),)) + status in block and b"\n" not in block
        cases = (
            (peer.call(b"x", ((":method", "GET"), *HEADERS[1:])), b"12"),
            (peer.call(b"x", (*HEADERS[:2], (":path", "/other"), *HEADERS[3:])), b"12"),
            (peer.head() + frames.write_frame(Kind.DATA, 1, peer.stream, b"\1\0\0\0\0"), b"12"),
            (peer.head() + frames.write_frame(Kind.DATA, 1, peer.stream, b"\0\0\0\0\2x"), b"3"),
            (peer.head() + frames.write_frame(Kind.DATA, 1, peer.stream, b"\0\0\0\0\1xy"), b"3"),
            (peer.head() + frames.write_frame(Kind.DATA, 0, peer.stream, b"\0\x7f\xff\xff\xff"), b"8"),
            (peer.head(end=frames.END_HEADERS | frames.END_STREAM), b"3"),
        )
        for said, status in cases:
            peer.say(said)
            block = (await peer.until(Kind.HEADERS)).payload
            assert b"grpc-status" + bytes((len(status),)) + status in block
        peer.say(peer.call(b"well"))
        assert (await peer.until(Kind.DATA)).payload == frames.message(b"well")

    assert [message for message, _ in talk(script).asked] == [b"refuse", b"fail", b"well"]


BREAKS: dict[str, tuple[bytes, Code]] = {
    "HTTP/1": (b"GET / HTTP/1.1\r\n\r\n", Code.PROTOCOL_ERROR),
    "a frame that is too long": (frames.PREFACE + b"\xff\xff\xff\0\0\0\0\0\0", Code.FRAME_SIZE_ERROR),
    "an even stream": (frames.PREFACE + frames.write_frame(Kind.HEADERS, 4, 2, b"\x82"), Code.PROTOCOL_ERROR),
    "stream nought": (frames.PREFACE + frames.write_frame(Kind.HEADERS, 4, 0, b"\x82"), Code.PROTOCOL_ERROR),
    "data of no stream": (frames.PREFACE + frames.write_frame(Kind.DATA, 0, 1, b"x"), Code.PROTOCOL_ERROR),
    "a continuation of nothing": (frames.PREFACE + frames.write_frame(Kind.CONTINUATION, 4, 1), Code.PROTOCOL_ERROR),
    "something between": (
        frames.PREFACE + frames.write_frame(Kind.HEADERS, 0, 1, b"") + frames.write_frame(Kind.PING, 0, 0, bytes(8)),
        Code.PROTOCOL_ERROR,
    ),
    "too much padding": (frames.PREFACE + frames.write_frame(Kind.HEADERS, 12, 1, b"\xff\x82"), Code.PROTOCOL_ERROR),
    "no padding": (frames.PREFACE + frames.write_frame(Kind.HEADERS, 12, 1, b""), Code.FRAME_SIZE_ERROR),
    "an index beyond the table": (
        frames.PREFACE + frames.write_frame(Kind.HEADERS, 4, 1, b"\xff\xff\x7f"),
        Code.COMPRESSION_ERROR,
    ),
    "half a setting": (frames.PREFACE + frames.write_frame(Kind.SETTINGS, 0, 0, b"123"), Code.FRAME_SIZE_ERROR),
    "a window beyond all bounds": (frames.PREFACE + frames.window_update(0, 2**31 - 1), Code.FLOW_CONTROL_ERROR),
    "a setting beyond all bounds": (
        frames.PREFACE + frames.write_frame(Kind.SETTINGS, 0, 0, struct.pack(">HI", 4, 2**31)),
        Code.FLOW_CONTROL_ERROR,
    ),
    "an empty window": (frames.PREFACE + frames.window_update(0, 0), Code.PROTOCOL_ERROR),
    "half a ping": (frames.PREFACE + frames.write_frame(Kind.PING, 0, 0, b"1"), Code.FRAME_SIZE_ERROR),
    "a promise": (frames.PREFACE + frames.write_frame(Kind.PUSH_PROMISE, 4, 1, bytes(4)), Code.PROTOCOL_ERROR),
    "a reset of nothing": (frames.PREFACE + frames.reset(1, Code.CANCEL), Code.PROTOCOL_ERROR),
}


@pytest.mark.parametrize("kind", BREAKS)
def test_whoever_breaks_the_protocol_loses_the_connection(kind: str) -> None:
    """With the code that says why, and without a call."""
    said, code = BREAKS[kind]

    async def script(peer: Peer) -> None:
        peer.say(said)
        assert await peer.ended() == code

    assert talk(script).asked == []


def test_a_flood_of_continuations_a_bomb_and_a_flood_of_resets_are_cut() -> None:
    """Each of the known attacks on HTTP/2 servers ends its connection; who goes on talking may miss the last word."""
    cut = (Code.ENHANCE_YOUR_CALM, Code.NO_ERROR)

    async def continuations(peer: Peer) -> None:
        peer.begin()
        peer.say(frames.write_frame(Kind.HEADERS, 0, 1, b"\x82"), frames.write_frame(Kind.CONTINUATION, 0, 1))
        assert await peer.ended() == Code.ENHANCE_YOUR_CALM

    async def long_block(peer: Peer) -> None:
        peer.begin()
        peer.say(frames.write_frame(Kind.HEADERS, 0, 1, b"\x82"))
        peer.say(*(frames.write_frame(Kind.CONTINUATION, 0, 1, b"\x82" * 16_000) for _ in range(5)))
        assert await peer.ended() in cut

    async def bomb(peer: Peer) -> None:
        peer.begin()
        entry = b"\x40\x01a\x7f\xa1\x1e" + b"x" * 4_000  # one entry of the table, then named again and again
        peer.say(frames.write_frame(Kind.HEADERS, 4, 1, entry + b"\xbe" * 12_000))
        assert await peer.ended() == Code.COMPRESSION_ERROR

    async def resets(peer: Peer) -> None:
        peer.begin()
        for _ in range(60):
            peer.say(peer.head(), frames.reset(peer.stream, Code.CANCEL))
        assert await peer.ended() in cut

    for script in (continuations, long_block, bomb, resets):
        assert talk(script, Limits(grpc_resets_count=50)).asked == []


def test_calls_beyond_the_bound_are_refused_and_the_others_answered() -> None:
    """Reset streams whose calls still run count too: that is what rapid resets would use up."""

    async def script(peer: Peer) -> None:
        peer.begin()
        peer.method.go.clear()
        for count in (1, 2, 3):
            peer.say(peer.call(b"given up before it began"), frames.reset(peer.stream, Code.CANCEL), peer.call(b"x"))
            while len(peer.method.asked) < count:
                await asyncio.sleep(0.001)
            peer.say(frames.reset(peer.stream, Code.CANCEL))
        peer.say(peer.call(b"y"))
        frame = await peer.until(Kind.RST_STREAM)
        assert (frame.stream, frame.payload) == (peer.stream, bytes((0, 0, 0, Code.REFUSED_STREAM)))
        peer.method.go.set()
        await asyncio.sleep(0.01)
        peer.say(peer.call(b"z"))
        assert (await peer.until(Kind.DATA)).payload == frames.message(b"z")

    assert [message for message, _ in talk(script, Limits(grpc_streams_count=3)).asked] == [b"x", b"x", b"x", b"z"]


def test_who_dawdles_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A preface that never comes or a block that never ends takes the connection, a message its stream alone."""
    monkeypatch.setattr(room, "SWEEP_SECONDS", 0.02)

    async def nothing(peer: Peer) -> None:
        peer.say(frames.PREFACE[:10])
        assert await peer.ended() == Code.NO_ERROR

    async def block(peer: Peer) -> None:
        peer.begin()
        peer.say(frames.write_frame(Kind.HEADERS, 0, 1, b"\x82"))
        assert await peer.ended() == Code.NO_ERROR

    async def message(peer: Peer) -> None:
        peer.begin()
        peer.say(peer.head(), frames.write_frame(Kind.DATA, 0, 1, b"\0\0\0"))
        assert (await peer.until(Kind.RST_STREAM)).stream == 1
        peer.say(frames.write_frame(Kind.DATA, 1, 1, b"\0\1x"), peer.call(b"y"))
        assert (await peer.until(Kind.DATA)).payload == frames.message(b"y")

    asked = [talk(script, Limits(grpc_arrive_seconds=0.05)).asked for script in (nothing, block, message)]
    assert [len(each) for each in asked] == [0, 0, 1]


def test_pings_and_settings_are_acknowledged() -> None:
    """Envoy asks whether we live, and may change its mind about windows."""

    async def script(peer: Peer) -> None:
        peer.begin()
        assert (await peer.until(Kind.SETTINGS, flags=frames.ACK)).payload == b""
        peer.say(frames.write_frame(Kind.PING, 0, 0, b"12345678"))
        assert (await peer.until(Kind.PING, flags=frames.ACK)).payload == b"12345678"

    talk(script)


def test_the_window_of_the_connection_is_given_back() -> None:
    """Much more than the window arrives over one connection, call by call."""

    async def script(peer: Peer) -> None:
        peer.begin(((frames.Setting.INITIAL_WINDOW_SIZE, 2**20),))
        peer.say(frames.window_update(0, 2**30))
        for _ in range(100):
            peer.say(peer.call(b"x" * 190_000))
            await peer.until(Kind.HEADERS, flags=frames.END_STREAM)

    assert len(talk(script).asked) == 100


@given(st.binary(max_size=200))
def test_no_bytes_make_a_call_or_a_fault(noise: bytes) -> None:
    """Whatever follows the preface ends in frames that are read over, or in the end of the connection."""

    async def run() -> None:
        method = Echo()
        side = Connection(method, set())

        class Sink(asyncio.Transport):
            def write(self, data: Any) -> None: ...
            def close(self) -> None: ...
            def abort(self) -> None: ...
            def get_write_buffer_size(self) -> int:
                return 0

        side.connection_made(Sink())
        side.data_received(frames.PREFACE + noise)
        side.data_received(noise)
        side.connection_lost(None)
        assert method.asked == []

    asyncio.run(run())


def test_connections_beyond_the_bound_are_closed_at_once() -> None:
    """Those that were answered before live on."""

    async def script(peer: Peer) -> None:
        peer.begin()
        peer.say(peer.call(b"x"))
        await peer.until(Kind.DATA)
        reader, writer = await asyncio.open_connection(*peer.writer.get_extra_info("peername"))
        assert await Peer(reader, writer, peer.method).frame() is None
        writer.close()
        peer.say(peer.call(b"x"))
        assert (await peer.until(Kind.DATA)).payload == frames.message(b"x")

    talk(script, Limits(grpc_connections_count=1))


def test_strangers_that_only_stand_there_keep_no_proxy_out() -> None:
    """Whoever was refused, or never asked, makes way for the next, the oldest first."""

    async def script(peer: Peer) -> None:
        peer.begin()
        peer.say(peer.call(b"refuse"))
        await peer.until(Kind.HEADERS)
        address = peer.writer.get_extra_info("peername")
        idle = Peer(*await asyncio.open_connection(*address), peer.method)
        await idle.until(Kind.SETTINGS)
        proxy = Peer(*await asyncio.open_connection(*address), peer.method)
        proxy.begin()
        proxy.say(proxy.call(b"x"))
        assert (await proxy.until(Kind.DATA)).payload == frames.message(b"x")
        assert await peer.ended() == Code.NO_ERROR
        peer.writer.close()
        third = Peer(*await asyncio.open_connection(*address), peer.method)
        await third.until(Kind.SETTINGS)
        assert await idle.ended() == Code.NO_ERROR
        proxy.say(proxy.call(b"y"))
        assert (await proxy.until(Kind.DATA)).payload == frames.message(b"y")
        for each in (idle, proxy, third):
            each.writer.close()

    talk(script, Limits(grpc_connections_count=2))


IDLE = {
    "pings": frames.write_frame(Kind.PING, 0, 0, bytes(8)),
    "settings": frames.settings(()),
    "acknowledgements": frames.write_frame(Kind.PING, frames.ACK, 0, bytes(8)),
    "priorities": frames.write_frame(Kind.PRIORITY, 0, 3, bytes(5)),
    "windows": frames.window_update(0, 1),
    "nothing": frames.write_frame(Kind.DATA, 0, 1),
    "unknown": frames.write_frame(99, 0, 0),  # type: ignore[arg-type]  # a number that is no kind
}


@pytest.mark.parametrize("kind", IDLE)
def test_a_flood_of_frames_that_ask_for_nothing_is_cut(kind: str) -> None:
    """Also by who reads every answer; as many beside calls are let be."""

    async def flood(peer: Peer) -> None:
        peer.begin()
        peer.say(peer.head())
        peer.say(IDLE[kind] * 60)
        assert await peer.ended() == Code.ENHANCE_YOUR_CALM

    async def calls(peer: Peer) -> None:
        peer.begin()
        for number in range(20):
            peer.say(peer.call(b"%d" % number), IDLE[kind] * 6)
            assert (await peer.until(Kind.DATA)).payload == frames.message(b"%d" % number)

    assert talk(flood, Limits(grpc_idle_frames_count=50)).asked == []
    assert len(talk(calls, Limits(grpc_idle_frames_count=50)).asked) == 20


FORBIDDEN = {
    "a name of HTTP/2 twice": (*HEADERS, (":path", PATH.decode())),
    "another before it": ((":path", "/other"), *HEADERS),
    "one behind others": (*HEADERS[1:], HEADERS[0]),
    "one that is unknown": ((":protocol", "websocket"), *HEADERS),
    "capitals": (*HEADERS, ("Policy-Engine-Key", "x")),
    "of the connection": (*HEADERS, ("connection", "close")),
    "of its coding": (*HEADERS, ("transfer-encoding", "chunked")),
}


@pytest.mark.parametrize("kind", FORBIDDEN)
def test_headers_that_can_be_read_in_two_ways_are_no_call(kind: str) -> None:
    """The stream ends with the code for it, and the connection serves the next call."""

    async def script(peer: Peer) -> None:
        peer.begin()
        for _ in range(2):  # remembered, they mean no more
            peer.say(peer.call(b"x", FORBIDDEN[kind]))
            assert (await peer.until(Kind.RST_STREAM)).payload == bytes((0, 0, 0, Code.PROTOCOL_ERROR))
        peer.say(peer.call(b"y"))
        assert (await peer.until(Kind.DATA)).payload == frames.message(b"y")

    assert [message for message, _ in talk(script).asked] == [b"y"]


@pytest.mark.parametrize("media", [(), (("content-type", "application/json"),)])
def test_who_does_not_speak_gRPC_is_not_told_200(media: tuple[tuple[str, str], ...]) -> None:
    """A proxy that goes by the status of HTTP, sent here by mistake, would take gRPC's 200 for a permit."""

    async def script(peer: Peer) -> None:
        peer.begin()
        for method, path in (("GET", "/check/ext-authz/x"), ("POST", PATH.decode())):
            peer.say(peer.call(b"x", ((":method", method), (":scheme", "http"), (":path", path), *media)))
            frame = await peer.until(Kind.HEADERS)
            assert frame.flags & frames.END_STREAM and b"\x07:status\x03415" in frame.payload
        peer.say(peer.call(b"y"))
        assert (await peer.until(Kind.DATA)).payload == frames.message(b"y")

    assert [message for message, _ in talk(script).asked] == [b"y"]
