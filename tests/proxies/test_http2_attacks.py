"""HTTP/2 as nobody should speak it: floods, bombs, dawdling, broken frames, strangers that stay."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.api.checks import connection as room
from policy_engine.api.checks import frames
from policy_engine.api.checks.connection import Connection
from policy_engine.api.checks.frames import Code, Kind
from policy_engine.limits import Limits
from tests.proxies.peer import HEADERS, PATH, Echo, Peer, talk

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


@given(st.binary(max_size=200))
def test_no_bytes_make_a_call_or_a_fault(noise: bytes) -> None:
    """Whatever follows the preface ends in frames that are read over, or in the end of the connection."""

    async def run() -> None:
        method = Echo()
        side = Connection((method,), set())

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


def test_whoever_only_asked_for_health_is_a_stranger_still() -> None:
    """A health check needs no key, so it may not make its caller one who stays when others must leave."""

    async def script(peer: Peer) -> None:
        peer.method.acquaints = False
        peer.begin()
        peer.say(peer.call(b"x"))
        assert (await peer.until(Kind.DATA)).payload == frames.message(b"x")
        address = peer.writer.get_extra_info("peername")
        proxy = Peer(*await asyncio.open_connection(*address), peer.method)
        await proxy.until(Kind.SETTINGS)
        assert await peer.ended() == Code.NO_ERROR
        proxy.writer.close()

    talk(script, Limits(grpc_connections_count=1))
