"""Following `/v1/revocations` in a thread: resume, silence, jittered reconnect.

Rules of the room:
- A stream that is silent for three heartbeats is dead, whatever its connection says.
- After a loss it comes back with the last epoch it heard, after the pause it was told, doubled up to half a minute and
  spread at random, so that many who were cut together do not come back together.
- A key that is refused, or a stream that cannot be read, ends every answer: there is doubt.
Left to others: what is heard (`heard`). Hearing nothing ends no answer: the budget does.
"""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from http.client import HTTPException, HTTPResponse
from random import SystemRandom
from threading import Event as Flag
from threading import Thread
from typing import Final

from policy_engine.client.connection import Address
from policy_engine.client.heard import Heard
from policy_engine.client.sse import Event, Parser, Unreadable

_SPREAD = SystemRandom()  # of its own: whoever embeds this and seeds the module `random` must not be disturbed

PATH: Final = "/v1/revocations"
CONNECT_SECONDS: Final = 5.0
HEARTBEATS_MISSED: Final = 3
HEARTBEAT_MILLISECONDS_MAX: Final = 60_000
"""The longest time between heartbeats that is believed; a stream that claims more would never be taken for dead."""

RETRY_MILLISECONDS: Final = 1_000
RETRY_SECONDS_MAX: Final = 30.0
PIECE_BYTES: Final = 65_536


class Listener:
    """Follows one decision point. Start it, and close it when the enforcement point ends."""

    def __init__(self, address: Address, heard: Heard) -> None:
        self._address = address
        self._heard = heard
        self._last_id: str | None = None
        self._retry_ms = RETRY_MILLISECONDS
        self._failures = 0
        self._closed = Flag()
        self._socket: socket.socket | None = None
        self._thread = Thread(target=self._follow, name="revocations", daemon=True)
        self.connected = Flag()
        """Set while events come in; for display, not for deciding."""

    def start(self) -> Listener:
        """Begin to listen."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop listening; returns when the thread has ended."""
        self._closed.set()
        own = self._socket
        if own is not None:
            with suppress(OSError):
                own.shutdown(socket.SHUT_RDWR)
        self._thread.join(CONNECT_SECONDS * 2)

    def _follow(self) -> None:
        while not self._closed.is_set():
            try:
                self._listen()
            except (OSError, HTTPException):
                self._failures += 1
            except Exception:  # noqa: BLE001  whatever cannot be read is doubt, and the thread must live
                self._failures += 1
                self._begin_anew()
            self.connected.clear()
            self._closed.wait(pause_seconds(self._retry_ms, self._failures))

    def _begin_anew(self) -> None:
        """Be in doubt, and resume from nowhere."""
        self._last_id = None
        self._heard.doubt()

    def _listen(self) -> None:
        """Follow one stream to its end. Raises `OSError` or `HTTPException` when it breaks."""
        connection = self._address.connection(CONNECT_SECONDS)
        try:
            resume = {} if self._last_id is None else {"Last-Event-ID": self._last_id}
            headers = {**self._address.headers, "Accept": "text/event-stream", **resume}
            connection.request("GET", self._address.path(PATH), headers=headers)
            self._socket = connection.sock  # the connection lets go of it where the answer ends with it
            if self._closed.is_set():  # while it connected: whoever closed found no socket to shut
                return
            response = connection.getresponse()
            if response.status != 200:
                self._failures += 1
                if response.status in (400, 401, 403):
                    self._begin_anew()
                return
            with response:
                self._read(response)
        finally:
            self._socket = None
            connection.close()

    def _read(self, response: HTTPResponse) -> None:
        parser = Parser()
        while piece := response.read1(PIECE_BYTES):
            for event in parser.feed(piece):
                self._last_id = parser.last_id
                self._take(event)
                self._failures = 0
                self.connected.set()
            if parser.retry_ms is not None:
                self._retry_ms = parser.retry_ms

    def _take(self, event: Event) -> None:
        data = json.loads(event.data)
        if not isinstance(data, dict):
            raise Unreadable("an event's data are no object")
        if event.name == "ended":
            self._begin_anew()
            return
        beat = data.get("heartbeat_ms")
        if isinstance(beat, int) and beat > HEARTBEAT_MILLISECONDS_MAX:
            raise Unreadable("a heartbeat is too far from the next")
        if isinstance(beat, int) and beat > 0 and self._socket is not None:
            self._socket.settimeout(HEARTBEATS_MISSED * beat / 1_000)
        self._heard.take(event.name, data)


def pause_seconds(retry_ms: int, failures: int) -> float:
    """Return how long to wait before the next attempt."""
    base = min(retry_ms / 1_000 * 2.0 ** min(failures, 10), RETRY_SECONDS_MAX)
    return base * _SPREAD.uniform(0.5, 1.5)
