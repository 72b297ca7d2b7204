"""A line to PostgreSQL that is cut: a Unix socket in front of the server's own, which ends connections at any byte."""

from __future__ import annotations

import socket
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

NAME = ".s.PGSQL.5432"
PIECE_BYTES = 65_536


class CuttingLine:
    """Forwards bytes both ways; `cut(n)` lets n more pass, on whatever connection, and then ends all connections."""

    def __init__(self, server: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pe-cut-"))
        self.cuts = 0
        self._server = server / NAME
        self._lock = threading.Lock()
        self._left: int | None = None
        self._serving: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(self.folder / NAME))
        self.folder.chmod(0o755)
        self._listening.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, bytes_left: int) -> None:
        """Let so many bytes pass and then end every connection."""
        with self._lock:
            self._left = bytes_left

    def close(self) -> None:
        """Take no more connections and end those there are."""
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        with self._lock:
            self._end()
        for one in self._serving:
            one.join(10)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.socket(socket.AF_UNIX)
                try:
                    far.connect(str(self._server))
                except OSError:
                    near.close()
                    far.close()
                    continue
                with self._lock:
                    self._open |= {near, far}
                one = threading.Thread(target=self._serve, args=(near, far), daemon=True)
                self._serving = [*(other for other in self._serving if other.is_alive()), one]
                one.start()

    def _serve(self, near: socket.socket, far: socket.socket) -> None:
        """Forward one connection both ways until it ends, and close it."""
        back = threading.Thread(target=self._forward, args=(far, near), daemon=True)
        back.start()
        self._forward(near, far)
        back.join()
        with self._lock:
            self._open -= {near, far}
        near.close()
        far.close()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(PIECE_BYTES):
                with self._lock:
                    ends = self._left is not None and len(data) > self._left
                    if self._left is not None:
                        data = data[: self._left]
                        self._left -= len(data)
                    target.sendall(data)
                    if ends:
                        self._left = None
                        self.cuts += 1
                        self._end()
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _end(self) -> None:
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
