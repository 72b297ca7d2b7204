"""Raw HTTP/1.x: a request as bytes, and what came back; client libraries would not send most of these."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any

Header = tuple[str, str | bytes]


@dataclass(frozen=True)
class Reply:
    """Status, headers by lower-case name, and body; status 0 when the connection ended without an answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)


def head(method: str, path: str, headers: Iterable[Header], *, version: str = "1.1", close: bool = True) -> bytes:
    """Return the head of a request."""
    lines = [f"{method} {path} HTTP/{version}".encode("latin-1"), b"Host: models.example"]
    if close:
        lines.append(b"Connection: close")
    for name, value in headers:
        lines.append(name.encode("latin-1") + b": " + (value if isinstance(value, bytes) else value.encode("utf-8")))
    return b"\r\n".join(lines) + b"\r\n\r\n"


def send(port: int, data: bytes, *, method: str = "GET", seconds: float = 10.0) -> Reply:
    """Send bytes and read one answer. A connection that is closed without one gives status 0."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        try:
            connection.sendall(data)
            response = HTTPResponse(connection, method=method)
            response.begin()
            body = b"" if response.status == 101 else response.read()
        except (ConnectionError, OSError, ValueError) as error:
            if isinstance(error, TimeoutError):
                raise
            return Reply(0, {}, b"")
        except Exception as error:
            if type(error).__module__ != "http.client":
                raise
            return Reply(0, {}, b"")
        return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, body)
