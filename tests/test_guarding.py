"""A guarded stream: everything while the allow lasts, the error in the client's words after it, and nothing else."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Any

import pytest

from policy_engine import DecisionDenied
from policy_engine.core.decision import Decision, Reason
from policy_engine.core.dialects import Dialect
from policy_engine.guarding import GuardedStream, guarded

DENIED = Decision(False, "d-1", (Reason("switch.engaged"),), (), (), "sha256:0", 2, 0, "stopped")


class ByHand:
    """A hold that a test ends, from another thread as a watcher does."""

    def __init__(self) -> None:
        self.ended: Decision | None = None
        self.closed = 0
        self._calls: list[Callable[[], None]] = []

    def on_end(self, call: Callable[[], None]) -> None:
        """Keep a call for the end."""
        self._calls.append(call)

    def end(self) -> None:
        """End, as a watcher does: in a thread of its own."""

        def ending() -> None:
            self.ended = DENIED
            for call in self._calls:
                call()

        thread = threading.Thread(target=ending)
        thread.start()
        thread.join()

    def close(self) -> None:
        """Count that it was closed."""
        self.closed += 1

    def __enter__(self) -> ByHand:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Source:
    """A stream of pieces that hangs at the end, and says whether it was closed."""

    def __init__(self, pieces: int, *, swallow: bool = False) -> None:
        self.closed = False
        self.pieces, self.swallow = pieces, swallow

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield the pieces, then wait for ever; one that swallows a cancellation yields once more."""
        try:
            for number in range(self.pieces):
                yield b"%d" % number
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if not self.swallow:
                    raise
                yield b"too late"
        finally:
            self.closed = True


@pytest.mark.parametrize("swallow", [False, True])
def test_it_is_cut_while_nothing_flows(swallow: bool) -> None:
    """The error comes out at once while the stream hangs, the stream is closed, and the reader's task goes on."""
    hold, source = ByHand(), Source(2, swallow=swallow)

    async def read() -> list[Any]:
        found = []
        asyncio.get_running_loop().call_later(0.05, hold.end)
        async with asyncio.timeout(2):
            async for piece in guarded(source.stream(), hold, Dialect.OPENAI):
                found.append(piece)
        task = asyncio.current_task()
        assert task is not None and task.cancelling() == 0
        return found

    found = asyncio.run(read())
    assert found[:2] == [b"0", b"1"]
    assert b"model_suspended" in found[2] and len(found) == 3
    assert source.closed and hold.closed


def test_it_raises_the_deny_without_a_dialect() -> None:
    """Where no dialect is named the reader gets `DecisionDenied`."""
    hold = ByHand()

    async def read() -> None:
        asyncio.get_running_loop().call_later(0.02, hold.end)
        async for _ in guarded(Source(1).stream(), hold):
            pass

    with pytest.raises(DecisionDenied, match="stopped"):
        asyncio.run(read())


def test_a_piece_that_was_ready_is_not_let_out_after_the_end() -> None:
    """A hold that ended between two pieces ends the stream before the next one."""
    hold = ByHand()

    async def read() -> list[Any]:
        stream = guarded(Source(3).stream(), hold, Dialect.OPENAI)
        found = [await anext(stream)]
        hold.end()
        found += [piece async for piece in stream]
        return found

    found = asyncio.run(read())
    assert found[0] == b"0" and len(found) == 2 and found[1].startswith(b"\n\ndata:")


def test_a_stream_that_ends_by_itself_closes_the_hold() -> None:
    """Everything comes out, and nobody watches afterwards; an error of the stream passes as it is."""

    async def read(pieces: int, fail: bool) -> list[Any]:
        async def stream() -> AsyncIterator[int]:
            for number in range(pieces):
                yield number
            if fail:
                raise KeyError("upstream")

        return [piece async for piece in guarded(stream(), hold)]

    hold = ByHand()
    assert asyncio.run(read(3, False)) == [0, 1, 2]
    with pytest.raises(KeyError):
        asyncio.run(read(1, True))
    assert hold.closed >= 2


def test_a_cancellation_from_outside_stays_one() -> None:
    """A reader that is cancelled by somebody else is cancelled, also when the hold ends at the same moment."""
    hold, source = ByHand(), Source(0)

    async def main() -> bool:
        async def read() -> None:
            async for _ in guarded(source.stream(), hold):
                pass

        task = asyncio.create_task(read())
        await asyncio.sleep(0.02)
        task.cancel()
        hold.end()
        await asyncio.wait({task})
        return task.cancelled()

    assert asyncio.run(main())
    assert source.closed and hold.closed


def test_a_stream_that_nobody_reads_to_its_end_lets_go_of_its_hold() -> None:
    """A reader that stops in the middle and forgets the stream leaves no hold watched for ever."""
    hold = ByHand()

    async def read() -> None:
        stream = GuardedStream(Source(2).stream(), hold)
        async for _ in stream:
            break

    asyncio.run(read())
    gc.collect()
    assert hold.closed


class Provider:
    """A stream as the providers' libraries have it: each iteration makes a generator of its own, and `close` alone lets
    go of the connection behind it."""

    def __init__(self) -> None:
        self.closed = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for number in range(9):
            yield b"%d" % number

    async def close(self) -> None:
        """Count that it was closed."""
        self.closed += 1


@pytest.mark.parametrize("how", ["cut", "read to its end", "closed unread"])
def test_a_stream_that_only_its_own_close_ends_is_closed(how: str) -> None:
    """What a provider's client hands over is let go of at the end, and not when somebody forgets the variable."""
    hold, upstream = ByHand(), Provider()

    async def read() -> None:
        stream = GuardedStream(upstream, hold, Dialect.OPENAI)
        if how != "closed unread":
            await anext(stream)
        if how == "cut":
            hold.end()
        if how != "closed unread":
            async for _ in stream:
                pass
        await stream.aclose()

    asyncio.run(read())
    assert upstream.closed and hold.closed


def test_plain_iteration_ends_at_its_next_piece() -> None:
    """The piece after the end is not let out; the error is, and the stream is closed."""
    hold, closed = ByHand(), []

    def stream() -> Iterator[bytes]:
        try:
            yield from (b"0", b"1", b"2")
        finally:
            closed.append(1)

    found: list[Any] = []
    for piece in guarded(stream(), hold, Dialect.ANTHROPIC):
        found.append(piece)
        if len(found) == 1:
            hold.end()
    assert found[0] == b"0" and found[1].startswith(b"\n\nevent: error\n") and len(found) == 2
    assert closed and hold.closed == 1


@pytest.mark.parametrize("fails", [True, False])
def test_a_stream_that_fails_or_ends_when_it_is_cut_gives_the_error_all_the_same(fails: bool) -> None:
    """Whatever the stream makes of the cancellation, its reader gets the client's error and goes on uncancelled."""
    hold = ByHand()

    async def stream() -> AsyncIterator[bytes]:
        yield b"0"
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if fails:
                raise KeyError("on the way out") from None

    async def read() -> list[Any]:
        asyncio.get_running_loop().call_later(0.02, hold.end)
        found = [piece async for piece in guarded(stream(), hold, Dialect.PROBLEM)]
        task = asyncio.current_task()
        assert task is not None and task.cancelling() == 0
        return found

    found = asyncio.run(read())
    assert found[0] == b"0" and b"denied" in found[1]


@pytest.mark.parametrize("closed", [True, False])
def test_plain_iteration_that_never_begins_lets_go_of_its_hold(closed: bool) -> None:
    """A stream that is closed or forgotten before its first piece (HEAD) leaves no hold, and nothing open, for ever."""

    class Upstream:
        closed = 0

        def __iter__(self) -> Iterator[bytes]:
            return iter((b"0",))

        def close(self) -> None:
            self.closed += 1

    hold, upstream = ByHand(), Upstream()
    stream: Any = guarded(upstream, hold)
    if closed:
        stream.close()
        assert list(stream) == [] and upstream.closed == 1
    del stream
    assert hold.closed


def test_a_hold_that_has_ended_lets_nothing_out_and_a_closed_stream_stays_closed() -> None:
    """The first piece of a stream whose allow is over already is the error; after it there is nothing."""
    hold = ByHand()
    hold.end()

    async def read() -> list[Any]:
        stream = guarded(Source(2).stream(), hold, Dialect.OPENAI)
        found = [piece async for piece in stream]
        return found + [piece async for piece in stream]

    assert len(asyncio.run(read())) == 1
    assert [b"model_suspended" in each for each in guarded([b"0"], hold, Dialect.OPENAI)] == [True]


@pytest.mark.parametrize("ends", [False, True])
def test_it_may_be_made_where_no_event_loop_runs(ends: bool) -> None:
    """A middleware that waits makes it in a thread; it is read on a loop, and an end before that is not missed."""
    hold = ByHand()
    stream = guarded(Source(1).stream(), hold, Dialect.OPENAI)
    if ends:
        hold.end()

    async def read() -> list[Any]:
        asyncio.get_running_loop().call_later(0.05, hold.end)
        async with asyncio.timeout(2):
            return [piece async for piece in stream]

    found = asyncio.run(read())
    assert found[:-1] == ([] if ends else [b"0"]) and b"model_suspended" in found[-1]
