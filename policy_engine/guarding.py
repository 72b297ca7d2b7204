"""A stream under an allow: it ends when the allow does, also while nothing flows, and hands out nothing after that.

Rules of the room:
- Nothing is done per piece but looking whether the hold has ended. Where the stream is waited for when it ends, the
  waiting is cancelled and the stream closed.
- A stream that swallows the cancellation, or comes back with one more piece, gets nothing out.
- With a dialect the last piece is an error in the client's words; without one the deny is raised.
Left to others: watching (whoever made the hold), the words (`core.dialects`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Generator, Iterable, Iterator
from contextlib import suppress
from inspect import GEN_CREATED, getgeneratorstate, isawaitable
from typing import Any, Generic, TypeVar, overload
from weakref import WeakMethod

from policy_engine.core.decision import Decision
from policy_engine.core.dialects import Dialect, Wording, stream_end
from policy_engine.core.enforcing import Hold

T = TypeVar("T")
_DEFAULT = Wording()


@overload
def guarded(
    upstream: AsyncIterable[T], hold: Hold, dialect: Dialect | None = None, wording: Wording = ...
) -> AsyncIterator[T | bytes]: ...


@overload
def guarded(
    upstream: Iterable[T], hold: Hold, dialect: Dialect | None = None, wording: Wording = ...
) -> Iterator[T | bytes]: ...


def guarded(upstream: Any, hold: Hold, dialect: Dialect | None = None, wording: Wording = _DEFAULT) -> Any:
    """Return the stream under the hold, asynchronous if the stream is; it closes the hold and the stream at its end.

    A stream of plain iteration cannot be left while it is waited for: it ends at its next piece, which is not let out.
    """
    if hasattr(upstream, "__aiter__"):
        return GuardedStream(upstream, hold, dialect, wording)
    return GuardedPieces(_guarded(upstream, hold, dialect, wording), upstream, hold)


class GuardedPieces(Generic[T]):
    """A stream of plain iteration under a hold, read through a generator that lets go of both when it ends.

    A generator that was never begun lets go of nothing, as for HEAD, so whoever closes or drops this does it here.
    """

    def __init__(self, pieces: Generator[T, None, None], upstream: object, hold: Hold) -> None:
        self._hold = hold
        self._upstream = upstream
        self._pieces = pieces

    def __del__(self) -> None:
        if getgeneratorstate(self._pieces) == GEN_CREATED:
            self._hold.close()

    def __iter__(self) -> GuardedPieces[T]:
        return self

    def __next__(self) -> T:
        return next(self._pieces)

    def close(self) -> None:
        """Close the hold and the stream; nothing comes after that."""
        begun = getgeneratorstate(self._pieces) != GEN_CREATED
        self._pieces.close()
        if not begun:
            self._hold.close()
            _close(self._upstream)


def _close(stream: object) -> None:
    close = getattr(stream, "close", None)
    if close is not None:
        close()


async def _aclose(stream: object) -> None:
    close = getattr(stream, "aclose", None) or getattr(stream, "close", None)
    closing = None if close is None else close()
    if isawaitable(closing):
        await closing


def _guarded(
    upstream: Iterable[T], hold: Hold, dialect: Dialect | None, wording: Wording
) -> Generator[T | bytes, None, None]:
    try:
        with hold:
            for piece in upstream:
                if hold.ended is not None:
                    break
                yield piece
            denied = hold.ended
    finally:
        _close(upstream)
    if denied is not None:
        yield _last(denied, dialect, wording)


class GuardedStream:
    """An asynchronous stream under a hold. Iterate it once, from any one task at a time."""

    def __init__(
        self, upstream: AsyncIterable[Any], hold: Hold, dialect: Dialect | None = None, wording: Wording = _DEFAULT
    ) -> None:
        self._hold = hold
        self._upstream = upstream
        self._iterator = upstream.__aiter__()
        self._dialect = dialect
        self._wording = wording
        self._loop: asyncio.AbstractEventLoop | None = None  # that of whoever reads: made where there may be none
        self._waiting: asyncio.Task[Any] | None = None
        self._cancelled = self._over = False
        heard = WeakMethod(self._ended)  # a stream that nobody reads any more is let go, and its hold with it

        def hear() -> None:
            ended = heard()
            if ended is not None:
                ended()

        hold.on_end(hear)

    def __del__(self) -> None:
        self._hold.close()

    def __aiter__(self) -> GuardedStream:
        return self

    async def __anext__(self) -> Any:
        """Return the next piece, or the last one of ours; raises `DecisionDenied` where no dialect was named."""
        if self._over:
            raise StopAsyncIteration
        task = self._waiting = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        if self._hold.ended is not None:  # looked at after the loop is known: an end from now on is heard there
            self._waiting = None
            return await self._end()
        try:
            piece = await self._iterator.__anext__()
        except asyncio.CancelledError:
            if self._cancelled and task is not None and task.uncancel() == 0:
                return await self._end()
            await self.aclose()
            raise
        except BaseException:
            if self._cancelled and task is not None:
                task.uncancel()
                return await self._end()
            await self.aclose()
            raise
        finally:
            self._waiting = None
        if self._hold.ended is None:
            return piece
        if self._cancelled and task is not None:
            task.uncancel()
        return await self._end()

    async def aclose(self) -> None:
        """Close the hold and the stream; nothing comes after that."""
        self._over = True
        self._hold.close()
        with suppress(RuntimeError):  # it is still running, in a task that left it behind
            await _aclose(self._iterator)
        if self._upstream is not self._iterator:  # as those of the providers' libraries, which hold the connection
            with suppress(RuntimeError):
                await _aclose(self._upstream)

    async def _end(self) -> Any:
        denied = self._hold.ended
        await self.aclose()
        if denied is None:
            raise RuntimeError("a hold that has ended says why")
        return _last(denied, self._dialect, self._wording)

    def _ended(self) -> None:
        """Hear of the end, in the watcher's thread. Whoever has not begun to read will see it."""
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # the loop has ended, and the stream with it
                loop.call_soon_threadsafe(self._cut)

    def _cut(self) -> None:
        if self._waiting is not None and not self._over and not self._cancelled:
            self._cancelled = True
            self._waiting.cancel()


def _last(denied: Decision, dialect: Dialect | None, wording: Wording) -> bytes:
    if dialect is None:
        raise denied.as_error()
    return stream_end(denied, dialect, wording)
