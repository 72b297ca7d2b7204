"""One HTTP/1.1 exchange, byte for byte as it is asked for: a library would mend just what is tried here.

Rules of the room: a deadline holds for the exchange as a whole, not for each byte; no more than a bounded number of
bytes is read; each exchange has a connection of its own; no redirect is followed. What goes wrong is an `Unanswered`.
Left to others: what is asked (`asks`), what an answer means (`reading`), how often (`sender`).
"""

from __future__ import annotations

import contextlib
import io
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from http.client import HTTPException, HTTPResponse
from typing import Any

from policy_engine.limits import LIMITS
from policy_engine.probe.target import Address


class Lack(StrEnum):
    """Why there is no answer."""

    UNREACHABLE = "unreachable"
    SILENT = "silent"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `whole` is false where the bound on bytes or the deadline ended the reading."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    whole: bool

    def header(self, name: str) -> str:
        """Return the first header with a name in lower case, empty without one."""
        return next((value for each, value in self.headers if each == name), "")


class Unanswered(Exception):
    """Nothing came back that is an answer; `lack` says why."""

    def __init__(self, lack: Lack) -> None:
        super().__init__(lack.value)
        self.lack = lack


class _Bounded(io.RawIOBase):
    """Reads a socket until a deadline and up to a number of bytes."""

    def __init__(self, connection: socket.socket, deadline: float, bytes_max: int) -> None:
        self.connection, self.deadline, self.left = connection, deadline, bytes_max
        self.spent = False

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what there is, in time and within the bound."""
        if self.left <= 0:
            self.spent = True
            return 0
        remaining = self.deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        self.connection.settimeout(remaining)
        count = self.connection.recv_into(memoryview(buffer)[: self.left])
        self.left -= count
        return count

    def makefile(self, *_: Any) -> io.BufferedReader:
        """Be what the standard library's response reads."""
        return io.BufferedReader(self)


class Exchange:
    """An answer that is being read. `reader` gives what follows the head, for what is no plain answer."""

    def __init__(self, connection: socket.socket, bounded: _Bounded, response: HTTPResponse) -> None:
        self.connection, self.bounded, self.response = connection, bounded, response

    @property
    def status(self) -> int:
        """Return the status."""
        return self.response.status

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Return the headers, names in lower case."""
        return tuple((name.lower(), value) for name, value in self.response.getheaders())

    def piece(self) -> bytes:
        """Return what comes next of the body, empty at its end. Raises what a socket raises."""
        return self.response.read1(LIMITS.probe_piece_bytes)

    def wait(self, seconds: float) -> None:
        """Set how long what comes next may take, from now."""
        self.bounded.deadline = time.monotonic() + seconds

    def raw(self, count: int) -> bytes:
        """Return exactly so many bytes behind the head, for a connection that was upgraded; fewer at its end."""
        reader: Any = self.response.fp
        return b"" if reader is None else bytes(reader.read(count))

    def send(self, data: bytes) -> None:
        """Send on a connection that was upgraded."""
        self.connection.sendall(data)

    def end(self) -> None:
        """End the connection, also for whoever reads it in another thread."""
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def rest(self) -> Answer:
        """Return the whole answer, as far as the bounds let it come."""
        body, whole = bytearray(), True
        try:
            while piece := self.piece():
                body += piece
        except (OSError, HTTPException, ValueError):
            whole = False
        return Answer(self.status, self.headers, bytes(body), whole and not self.bounded.spent)


class Wire:
    """Connections to one address."""

    def __init__(self, to: Address, ca_file: str | None = None) -> None:
        self.to = to
        self._tls = ssl.create_default_context(cafile=ca_file) if to.tls else None

    def exchange(self, request: bytes, method: str, timeout_seconds: float) -> Answer:
        """Send a request and return its answer. Raises `Unanswered`."""
        with self.open(request, method, timeout_seconds, LIMITS.probe_answer_bytes) as opened:
            return opened.rest()

    @contextmanager
    def open(self, request: bytes, method: str, timeout_seconds: float, bytes_max: int) -> Iterator[Exchange]:
        """Send a request and read the head of its answer. Raises `Unanswered`."""
        deadline = time.monotonic() + timeout_seconds
        connection = self._connect(timeout_seconds)
        try:
            with contextlib.suppress(OSError):  # a gateway may refuse before it has read everything: its answer counts
                connection.sendall(request)
            bounded = _Bounded(connection, deadline, bytes_max)
            response = HTTPResponse(bounded, method=method)  # type: ignore[arg-type]  # it reads `makefile` alone
            try:
                response.begin()
            except TimeoutError:
                raise Unanswered(Lack.SILENT) from None
            except (OSError, HTTPException, ValueError):
                raise Unanswered(Lack.DROPPED) from None
            with contextlib.closing(response):
                yield Exchange(connection, bounded, response)
        finally:
            connection.close()

    def _connect(self, timeout_seconds: float) -> socket.socket:
        try:
            connection = socket.create_connection((self.to.host, self.to.port), timeout=timeout_seconds)
        except OSError:
            raise Unanswered(Lack.UNREACHABLE) from None
        if self._tls is None:
            return connection
        try:
            return self._tls.wrap_socket(connection, server_hostname=self.to.host)
        except (OSError, ValueError):
            connection.close()
            raise Unanswered(Lack.UNREACHABLE) from None
