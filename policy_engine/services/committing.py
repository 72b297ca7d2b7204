"""The thread in which the commits of event loops wait for the disk, one after the other.

Whoever hands a commit over waits for it, so handing over takes one lock that nobody holds for long: an executor makes a
future for each call and takes three, which costs as much as a decision's look-ups.
Rules of the room: what is handed over is called once, in order; closing waits for all of it. Calls raise nothing.
Left to others: what is committed (`services.looped`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

Call = tuple[Callable[..., None], tuple[Any, ...]]


class CommitThread:
    """One thread that calls what it is given; it starts with the first call."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False

    def submit(self, call: Callable[..., None], *arguments: Any) -> None:
        """Have a call made. Raises `RuntimeError` once closed."""
        with self._lock:  # so that nothing is put behind the end
            if self._closed:
                raise RuntimeError("nothing is committed any more: the recorder is closed")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="commits", daemon=True)
                self._thread.start()
            self._calls.put((call, arguments))

    def close(self) -> None:
        """Make what was handed over and end. Twice is no error."""
        with self._lock:
            self._closed = True
            thread, self._thread = self._thread, None
        if thread is not None:
            self._calls.put(None)
            thread.join()

    def _run(self) -> None:
        while (made := self._calls.get()) is not None:
            call, arguments = made
            call(*arguments)
