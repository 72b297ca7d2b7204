"""A network between a client and a server that keeps things back, or breaks off, when a test says so."""

from __future__ import annotations

import socket
from contextlib import suppress
from threading import Event, Lock, Thread


class Proxy:
    """Passes bytes on. `hold` keeps what the server says back until `heal`; `cut` breaks every connection off."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._open = Event()
        self._open.set()
        self._refusing = False
        self._lock = Lock()
        self._sockets: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.accepted = 0
        self.sent: bytearray | None = None
        """What clients say, once a test has put a `bytearray` here."""
        Thread(target=self._accept, daemon=True).start()

    def hold(self) -> None:
        """Keep every byte of the server back, on old and new connections; what the client says still goes through."""
        self._open.clear()

    def heal(self) -> None:
        """Deliver what was kept back, and pass everything on."""
        self._refusing = False
        self._open.set()

    def cut(self) -> None:
        """Break every connection off, and take none until healed."""
        self._refusing = True
        with self._lock:
            for each in self._sockets:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Break everything off for good."""
        self.cut()
        self._open.set()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            if self._refusing:
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", self._target))
            with self._lock:
                self._sockets |= {near, far}
            for a, b, held in ((near, far, False), (far, near, True)):
                Thread(target=self._pass, args=(a, b, held), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, held: bool) -> None:
        with suppress(OSError):
            while piece := source.recv(65_536):
                if held:
                    self._open.wait()
                elif self.sent is not None:
                    self.sent += piece
                sink.sendall(piece)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._sockets -= {source}
        source.close()
