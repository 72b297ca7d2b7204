"""Reading Server-Sent Events from bytes as they come (WHATWG HTML, section 9.2.6), within bounds.

Left to others: what an event means (`heard`), the connection (`listener`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

EVENT_BYTES_MAX: Final = 1_048_576
_LINE: Final = re.compile(rb"\r\n|\n|\r(?=.)", re.DOTALL)


class Unreadable(Exception):
    """The stream is none of ours: an event without an end, or text that is not UTF-8."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its name and its data."""

    name: str
    data: str


class Parser:
    """Takes bytes, gives events. `last_id` is what a reader resumes with, `retry_ms` the pause it was told."""

    def __init__(self) -> None:
        self.last_id: str | None = None
        self.retry_ms: int | None = None
        self._rest = bytearray()
        self._name = ""
        self._id: str | None = None
        self._data: list[str] = []
        self._bytes = 0

    def feed(self, piece: bytes) -> list[Event]:
        """Return the events that a piece completes. Raises `Unreadable`."""
        whole = self._rest.endswith(b"\r") or b"\n" in piece or b"\r" in piece
        self._rest += piece
        lines: list[bytes] = []
        if whole:  # else a long line would be looked through again with each of its pieces
            *lines, rest = _LINE.split(bytes(self._rest))
            self._rest = bytearray(rest)
        events = []
        for line in lines:
            self._bytes += len(line)
            if line:
                self._field(line)
            else:
                events += self._event()
        if self._bytes + len(self._rest) > EVENT_BYTES_MAX:
            raise Unreadable("an event is too long")
        return events

    def _field(self, line: bytes) -> None:
        try:
            name, _, value = line.decode("utf-8").partition(":")
        except UnicodeDecodeError:
            raise Unreadable("a line is not UTF-8") from None
        value = value.removeprefix(" ")
        if name == "event":
            self._name = value
        elif name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit() and len(value) < 10:
            self.retry_ms = int(value)

    def _event(self) -> list[Event]:
        if self._id is not None:
            self.last_id = self._id
        found = [Event(self._name or "message", "\n".join(self._data))] if self._data else []
        self._name, self._data, self._bytes = "", [], 0
        return found
