"""A server that answers with whatever bytes a test likes, as slowly as it likes."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

Answering = Callable[[socket.socket, bytes], None]
"""Answers one request, given its bytes, on its connection."""

YES: dict[str, Any] = {
    "decision": True,
    "context": {
        "id": "d",
        "reasons": [{"code": "access.closed"}],
        "missing": [],
        "alternatives": [],
        "release": "sha256:0",
        "epoch": 1,
        "valid_for_ms": 2_000,
    },
}
"""The answer of an engine that allows, as a document."""


@dataclass
class Hostile:
    """Where it answers, and what it was asked so far."""

    url: str
    asked: list[bytes] = field(default_factory=list)


def sending(data: bytes) -> Answering:
    """Return an answering that sends bytes and no more."""

    def send(connection: socket.socket, asked: bytes) -> None:
        connection.sendall(data)

    return send


def answer(body: bytes, *, status: str = "200 OK", media: str = "application/json", more: str = "") -> bytes:
    """Return a whole HTTP answer."""
    head = f"HTTP/1.1 {status}\r\ncontent-type: {media}\r\ncontent-length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


@contextmanager
def hostile(answering: Answering, tls: ssl.SSLContext | None = None) -> Iterator[Hostile]:
    """Serve on a free port, each connection in a thread, until the test is over; over TLS where a context is given."""
    listening = socket.create_server(("127.0.0.1", 0))
    scheme = "http" if tls is None else "https"
    running = Hostile(f"{scheme}://127.0.0.1:{listening.getsockname()[1]}")
    threads: list[threading.Thread] = []
    open_: list[socket.socket] = []

    def serve(connection: socket.socket) -> None:
        with (
            suppress(OSError),
            connection if tls is None else tls.wrap_socket(connection, server_side=True) as connection,
        ):
            while request := _read(connection):
                running.asked.append(request)
                answering(connection, request)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                open_.append(connection)
                thread = threading.Thread(target=serve, args=(connection,))
                thread.start()
                threads.append(thread)

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield running
    finally:
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        accepting.join()
        for connection in open_:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()


def _read(connection: socket.socket) -> bytes:
    """Return one request: its head and as much of its body as its length says; nothing once the other side closed."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65_536)
        if not piece:
            return b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
    length = int(lengths[0]) if lengths else 0
    while len(body) < length:
        piece = connection.recv(65_536)
        if not piece:
            return b""
        body += piece
    return head + b"\r\n\r\n" + body
