"""One HTTP/2 connection as it should be: answers, refusals, flow control, what is said back."""

from __future__ import annotations

import asyncio

import pytest
from hpack import Encoder
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.api.checks import frames
from policy_engine.api.checks.frames import Kind
from policy_engine.api.checks.headerblocks import HeaderBlocks
from policy_engine.limits import Limits
from tests.proxies.peer import HEADERS, Peer, talk


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
