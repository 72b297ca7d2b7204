"""One HTTP connection to a decision point, from the standard library.

Rules of the room: a time for an answer is for all of it: a socket's own timeout begins again with each byte, so that
whoever sends one after the other would hold a caller for as long as it likes.
Left to others: what is asked (`asking`), what is followed (`listener`).
"""

from __future__ import annotations

import io
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from typing import cast
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Address:
    """Where the decision point is and with which key it is asked. `tls` replaces the default context."""

    url: str
    key: str = field(repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("the address of a decision point is an http or https URL with a host and without a query")

    @property
    def headers(self) -> dict[str, str]:
        """Return the header that says who asks."""
        return {"Authorization": f"Bearer {self.key}"}

    def path(self, path: str) -> str:
        """Return a path behind the address's own."""
        return urlsplit(self.url).path.rstrip("/") + path

    def connection(self, timeout_seconds: float) -> HTTPConnection:
        """Return a connection that is not yet made."""
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        if parts.scheme == "http":
            return HTTPConnection(host, parts.port, timeout=timeout_seconds)
        return HTTPSConnection(host, parts.port, timeout=timeout_seconds, context=self.tls)


def answer_of(connection: HTTPConnection, until: float) -> HTTPResponse:
    """Return the answer to what was requested. It is read until `until` on the monotonic clock; then `TimeoutError`."""
    connection.sock = cast(socket.socket, _Until(connection.sock, until))  # all that is asked of it from here on
    return connection.getresponse()


class _Until:
    """As much of a socket as an answer is read from."""

    def __init__(self, own: socket.socket, until: float) -> None:
        self._own = own
        self._until = until
        self.close: Callable[[], None] = own.close

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self._own, self._until))


class _Reader(io.RawIOBase):
    def __init__(self, own: socket.socket, until: float) -> None:
        self._own = own
        self._until = until
        self._raw = own.makefile("rb", buffering=0)  # it keeps the socket open until it is closed itself

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int | None:  # type: ignore[override]  # the base takes any buffer
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._own.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()
