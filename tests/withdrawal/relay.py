"""A relay in front of a PostgreSQL server's Unix socket that can be cut: nothing passes then, and nothing is closed."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class Relay:
    """Passes bytes both ways until it is cut."""

    def __init__(self, folder: Path, server: str) -> None:
        self.folder = folder
        self._server = server
        self._passing = threading.Event()
        self._passing.set()
        self._open: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / ".s.PGSQL.5432"))
        self._listener.listen()
        self._start(self._accept)

    def cut(self) -> None:
        """Let nothing pass, and leave every connection open: the network is gone, not the server."""
        self._passing.clear()

    def mend(self) -> None:
        """Let everything pass again."""
        self._passing.set()

    def close(self) -> None:
        """Close every connection."""
        self._passing.set()
        for each in (self._listener, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _start(self, target: object, *arguments: object) -> None:
        threading.Thread(target=target, args=arguments, daemon=True).start()  # type: ignore[arg-type]  # bound methods

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(self._server)
                self._open += [near, far]
                self._start(self._pass, near, far)
                self._start(self._pass, far, near)

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                self._passing.wait()
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)


@contextmanager
def relay(folder: Path, server: str) -> Iterator[Relay]:
    """Offer a relay in a folder, in front of the socket of a server."""
    made = Relay(folder, server)
    try:
        yield made
    finally:
        made.close()
