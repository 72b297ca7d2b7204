"""One bounded HTTP exchange with another machine: so many seconds, so many bytes, no redirect, no proxy.

Rules of the room:
- A proxy of the environment is not asked; a redirect is an answer like any other. https checks the certificate against
  the system's authorities.
- A timer ends what takes too long, however it trickles; an answer is read up to a limit, and is whole or none.
- Whatever an answer says is somebody else's word: nobody has checked any of it.
Left to others: who may be spoken to (`witnessclient`, `cells`), what an answer means, whether something is asked again.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

CLOSING_SECONDS = 0.1
"""How long closing waits for a question under way, which has just been broken off."""


class PeerSilent(Exception):
    """The other side cannot be reached, took too long or said too much: nothing is known of its word."""


class PeerGone(PeerSilent):
    """The other side closed the connection before it answered."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    type: str
    body: bytes


class Peer:
    """Speaks with one address, on a connection that is kept. For one thread; `close` may come from another."""

    def __init__(self, url: str, *, seconds: float, bytes_max: int) -> None:
        self._parts = urlsplit(url)
        self._seconds = seconds
        self._bytes_max = bytes_max
        self._connection: http.client.HTTPConnection | None = None
        self._closed = False
        self._asking = threading.Lock()

    def ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
        """Ask what may be asked twice: once more on a new connection when a kept one is gone. Raises `PeerSilent`."""
        with self._asking:
            kept = self._connection is not None and self._connection.sock is not None
            try:
                return self._exchange(method, path, headers, body)
            except PeerGone:
                if not kept:
                    raise
            return self._exchange(method, path, headers, body)

    def tell(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Ask once, on a connection of its own. Raises `PeerSilent`: then nobody knows what became of it."""
        with self._asking:
            self._drop()
            return self._exchange(method, path, headers, body)

    def close(self) -> None:
        """Break off whatever is under way; nothing is asked any more."""
        self._closed = True
        connection = self._connection
        _shut(None if connection is None else connection.sock)
        if self._asking.acquire(timeout=CLOSING_SECONDS):
            self._drop()
            self._asking.release()

    def _exchange(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        if self._closed:
            raise PeerSilent("the engine is closing")
        until = time.monotonic() + self._seconds
        try:
            connection = self._connection = self._connection or self._connect()
            if connection.sock is None:
                connection.connect()
            watch = threading.Timer(max(0.0, until - time.monotonic()), _shut, (connection.sock,))
            watch.daemon = True
            watch.start()
            try:
                connection.request(method, self._parts.path + path, body, dict(headers))
                return self._read(connection, until)
            finally:
                watch.cancel()
        except PeerSilent:
            self._drop()
            raise
        except (OSError, http.client.HTTPException, UnicodeError) as failed:
            self._drop()
            gone = isinstance(failed, (ConnectionError, http.client.BadStatusLine)) and time.monotonic() < until
            if gone:
                raise PeerGone("it cannot be reached") from failed
            raise PeerSilent("it cannot be reached, or does not answer in time") from failed

    def _read(self, connection: http.client.HTTPConnection, until: float) -> Answer:
        response = connection.getresponse()
        data = response.read(self._bytes_max + 1)
        if len(data) > self._bytes_max:
            raise PeerSilent(f"it answers with over {self._bytes_max} bytes")
        if response.length or time.monotonic() >= until:  # it ended early, or the timer ended it
            raise PeerSilent("its answer is not whole, or does not come in time")
        if not response.isclosed() or response.will_close:  # what follows would be taken for the next answer
            self._drop()
        return Answer(response.status, response.headers.get("Content-Type", ""), data)

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(host, port, timeout=self._seconds, context=context)
        return http.client.HTTPConnection(host, port, timeout=self._seconds)

    def _drop(self) -> None:
        """Close the connection: the next question opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _shut(sock: socket.socket | None) -> None:
    """Wake a thread that waits on a socket: what it waits for ends now."""
    if sock is not None:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
