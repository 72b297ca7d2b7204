"""One HTTP exchange with another cell: bounded in time and size, no redirects, no proxy.

Rules of the room:
- Only the addresses of the file of cells are spoken to. A redirect is an answer like any other that is not understood;
  https checks the certificate against the system's authorities.
- A timer ends what takes too long, however it trickles; an answer is read up to a limit; it is one JSON object, or
  nothing is known of it.
- Whatever an answer says is somebody else's word: who believes what of it is left to others, and so is the retry of
  what changes something. Only a question that changes nothing is asked again, on a new connection, once.
Left to others: what is asked (`sending`, `standing`, `peers`).
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from policy_engine.errors import PolicyEngineError
from policy_engine.limits import LIMITS, Limits
from policy_engine.services.cells.addresses import Cell

CLOSING_SECONDS = 0.1
"""How long closing waits for a question under way, which has just been broken off."""


class CellSilent(PolicyEngineError):
    """A cell cannot be reached, took too long, or said what nobody understands: nothing is known of its word."""

    code = "cell.silent"


@dataclass(frozen=True, slots=True)
class CellAnswer:
    """What came back: the status and the members of one JSON object. *Nobody has checked any of it.*"""

    status: int
    document: Mapping[str, Any]


class CellClient:
    """Speaks with one cell, on a connection that is kept. For one thread; `close` may come from another."""

    def __init__(self, cell: Cell, limits: Limits = LIMITS) -> None:
        self.cell = cell
        self._limits = limits
        self._parts = urlsplit(cell.url)
        self._connection: http.client.HTTPConnection | None = None
        self._closed = False
        self._asking = threading.Lock()

    def get(self, path: str) -> CellAnswer:
        """Ask for a path; once more when a kept connection turns out to be gone. Raises `CellSilent`."""
        with self._asking:
            kept = self._connection is not None
            try:
                return self._exchange("GET", path, None)
            except _Gone:
                if not kept:
                    raise
            return self._exchange("GET", path, None)

    def post(self, path: str, body: Mapping[str, Any]) -> CellAnswer:
        """Send a body, once, on a connection of its own. Raises `CellSilent`: then nobody knows what became of it."""
        with self._asking:
            self._drop()
            return self._exchange("POST", path, json.dumps(body).encode())

    def close(self) -> None:
        """Break off whatever is under way; nothing is asked any more."""
        self._closed = True
        connection = self._connection
        _shut(None if connection is None else connection.sock)
        if self._asking.acquire(timeout=CLOSING_SECONDS):
            self._drop()
            self._asking.release()

    def _exchange(self, method: str, path: str, body: bytes | None) -> CellAnswer:
        if self._closed:
            raise CellSilent("the engine is closing")
        until = time.monotonic() + self._limits.cell_seconds
        try:
            connection = self._connection = self._connection or self._connect()
            if connection.sock is None:
                connection.connect()
            watch = threading.Timer(max(0.0, until - time.monotonic()), _shut, (connection.sock,))
            watch.daemon = True
            watch.start()
            try:
                return self._read(connection, method, path, body, until)
            finally:
                watch.cancel()
        except CellSilent:
            self._drop()
            raise
        except (OSError, http.client.HTTPException, UnicodeError) as failed:
            self._drop()
            gone = isinstance(failed, (ConnectionError, http.client.BadStatusLine)) and time.monotonic() < until
            said = "it cannot be reached" if gone else "it cannot be reached, or does not answer in time"
            raise (_Gone if gone else CellSilent)(said) from failed

    def _read(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None, until: float
    ) -> CellAnswer:
        headers = {"Authorization": f"Bearer {self.cell.key}", "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection.request(method, self._parts.path + path, body, headers)
        response = connection.getresponse()
        data = response.read(self._limits.cell_answer_bytes + 1)
        if len(data) > self._limits.cell_answer_bytes:
            raise CellSilent(f"it answers with over {self._limits.cell_answer_bytes} bytes")
        if response.length or time.monotonic() >= until:  # it ended early, or the timer ended it
            raise CellSilent("its answer is not whole, or does not come in time")
        if not response.isclosed() or response.will_close:  # what follows would be taken for the next answer
            self._drop()
        return CellAnswer(response.status, _object(data))

    def _connect(self) -> http.client.HTTPConnection:
        host, port, seconds = self._parts.hostname or "", self._parts.port, self._limits.cell_seconds
        if self._parts.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=seconds, context=ssl.create_default_context())
        return http.client.HTTPConnection(host, port, timeout=seconds)

    def _drop(self) -> None:
        """Close the connection: the next question opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class _Gone(CellSilent):
    """The other side closed the connection before it answered."""


def _object(data: bytes) -> Mapping[str, Any]:
    """Return the members of an answer, none of one that is empty. Raises `CellSilent` when it is no JSON object."""
    if not data:
        return {}
    try:
        found = json.loads(data, object_pairs_hook=_once, parse_constant=_refuse)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise CellSilent("its answer is not one JSON object")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a member is named twice")
    return found


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _shut(sock: socket.socket | None) -> None:
    """Wake a thread that waits on a socket: what it waits for ends now."""
    if sock is not None:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
