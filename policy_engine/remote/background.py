"""An event loop in a thread of its own, on which everything that is sent to one engine happens.

Rules of the room:
- Callers, with and without a loop of their own, hand coroutines over; so there is one implementation, one set of
  connections, and a deadline that holds whatever a server trickles.
- The thread begins with the first call, and again in a process that was forked: threads do not survive a fork.
- It is a daemon: a program that forgets to close ends all the same.
Left to others: what is run (`engine`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from inspect import CORO_CREATED, getcoroutinestate
from threading import Lock, Thread
from typing import Any, TypeVar

T = TypeVar("T")
CLOSING_SECONDS = 5.0
_LAST_TURNS_COUNT = 4


class Closed(Exception):
    """Nothing can be asked: the engine was closed, or there is no thread to ask in."""


class Background:
    """The loop and its thread. `begin` is called on the loop, in each process once, before anything else."""

    def __init__(self, begin: Callable[[], None]) -> None:
        self._begin = begin
        self._lock = Lock()
        self._process = -1
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: Thread | None = None
        self._closed = False

    def submit(self, call: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine on the loop. Raises `Closed`."""
        try:
            with self._lock:  # so that whoever closes finds it on the loop, and ends it
                return asyncio.run_coroutine_threadsafe(call, self._running())
        except BaseException:
            if getcoroutinestate(call) == CORO_CREATED:  # one that has begun is left to the loop
                with suppress(ValueError):  # it begins just now
                    call.close()
            raise

    def soon(self, call: Callable[[], object]) -> bool:
        """Run a plain call on the loop, soon; return whether it will be, which it is not once this is closed."""
        with suppress(Closed, RuntimeError), self._lock:
            self._running().call_soon_threadsafe(call)
            return True
        return False

    def renew(self) -> None:
        """Take a lock of its own in a forked process: a thread that is not here may have the other."""
        self._lock = Lock()

    def close(self, last: Callable[[], Awaitable[None]]) -> None:
        """Run `last` on the loop, end it, and wait for the thread. Closing twice is no error."""
        with self._lock:
            loop, thread, own = self._loop, self._thread, self._process == os.getpid()
            self._closed, self._loop, self._thread = True, None, None
        if loop is None or thread is None or not own:
            return

        async def end() -> None:
            with suppress(Exception):
                await last()
            others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            await loop.shutdown_asyncgens()
            for _ in range(_LAST_TURNS_COUNT):  # a connection that was let go closes in a later turn of the loop
                await asyncio.sleep(0)
            loop.stop()

        loop.call_soon_threadsafe(lambda: loop.create_task(end()))
        thread.join(CLOSING_SECONDS)

    def _running(self) -> asyncio.AbstractEventLoop:
        """Return the loop, begun if need be; the lock is held."""
        if self._closed:
            raise Closed("this engine was closed")
        if self._loop is None or self._process != os.getpid():
            loop = asyncio.new_event_loop()
            thread = Thread(target=_run, args=(loop,), name="policy-engine-remote", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                loop.close()
                raise Closed("no thread can be begun at the moment") from None
            except BaseException:  # an interrupt: the next call begins anew
                loop.call_soon_threadsafe(loop.stop)
                raise
            loop.call_soon_threadsafe(self._begin)
            self._process, self._loop, self._thread = os.getpid(), loop, thread
        return self._loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()
