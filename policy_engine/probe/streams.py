"""Watches one streamed answer while something else happens: when its last word came, when it ended, and how.

Rules of the room: what is streamed is not kept, only when it came. A comment or a ping is no word of a model.
Left to others: what is asked meanwhile (`switched`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from threading import Event, Thread
from typing import Final

from policy_engine.limits import LIMITS
from policy_engine.probe.asks import Ask
from policy_engine.probe.reading import error_in
from policy_engine.probe.sender import Sender
from policy_engine.probe.wire import Exchange, Unanswered

_LAST_EVENTS: Final = frozenset({"message_stop", "response.completed"})


@dataclass(slots=True)
class Watched:
    """What was seen of a stream, in seconds of the monotonic clock; `None` where it did not happen."""

    problem: str = ""
    first: float | None = None
    last: float | None = None
    ended: float | None = None
    finished: bool = False
    error: str = ""


class _Reader:
    """Reads a stream line by line and notes what came when."""

    def __init__(self) -> None:
        self.seen = Watched()
        self.begun = Event()
        self._rest = b""

    def read(self, opened: Exchange) -> None:
        """Read to the end, or until the connection is closed by whoever watches."""
        with suppress(OSError, HTTPException, ValueError, AttributeError):
            while piece := opened.piece():
                self._take(piece)
        self.seen.ended = time.monotonic()
        self.begun.set()

    def _take(self, piece: bytes) -> None:
        *lines, rest = (self._rest + piece).split(b"\n")
        self._rest = rest[-LIMITS.probe_piece_bytes :]
        for line in lines:
            self._line(line.strip())

    def _line(self, line: bytes) -> None:
        data = line.removeprefix(b"data:").strip()
        if data == b"[DONE]":
            self.seen.finished = True
        if not data.startswith(b"{"):
            return
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            return
        if not isinstance(document, dict) or document.get("type") == "ping":
            return
        if error := error_in(document):
            self.seen.error = error
            return
        self.seen.finished = self.seen.finished or document.get("type") in _LAST_EVENTS
        self.seen.last = time.monotonic()
        self.seen.first = self.seen.first or self.seen.last
        self.begun.set()


@contextmanager
def watching(sender: Sender, ask: Ask, wait_seconds: float) -> Iterator[Watched]:
    """Open a stream and watch it until the block ends, which begins when the first word is there or none will come."""
    try:
        with sender.open(ask, LIMITS.probe_stream_bytes) as opened:
            reader = _Reader()
            if not 200 <= opened.status < 300:
                reader.seen.problem = f"the stream was not opened: {opened.status}"
                yield reader.seen
                return
            thread = Thread(target=reader.read, args=(opened,), name="probe-stream", daemon=True)
            thread.start()
            reader.begun.wait(wait_seconds)
            yield reader.seen
            opened.end()
            thread.join(wait_seconds)
    except Unanswered as unanswered:
        yield Watched(problem=f"the stream was not opened: {unanswered.lack}")
