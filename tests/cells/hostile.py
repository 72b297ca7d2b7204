"""A cell that answers whatever a test wants, byte by byte if need be."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from policy_engine.services.cells.addresses import Cell

KEY = "pe_" + "k" * 43
DIGEST = "0" * 64


def answered(body: bytes, status: str = "200 OK", *more: str) -> bytes:
    """Return an HTTP answer."""
    lines = (f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *more, "", "")
    return "\r\n".join(lines).encode() + body


def standing(**members: Any) -> bytes:
    """Return the answer of a cell that has nothing in force, but for the members given."""
    return answered(json.dumps(document(**members)).encode())


def document(**members: Any) -> dict[str, Any]:
    """Return a standing with nothing in force, but for the members given."""
    return {"release": "r", "epoch": 1, "digest": DIGEST, "switches": [], "orders": [], **members}


@contextmanager
def answering(said: bytes, *, pause_seconds: float = 0.0) -> Iterator[Cell]:
    """Answer each connection with these bytes, one at a time with a pause between if there is one."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def answer(near: socket.socket) -> None:
        with near, suppress(OSError):
            near.recv(65_536)
            if not pause_seconds:
                near.sendall(said)
                return
            for place in range(len(said)):
                near.sendall(said[place : place + 1])
                time.sleep(pause_seconds)

    def accept() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=answer, args=(near,)))
            threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield Cell("there", f"http://127.0.0.1:{listener.getsockname()[1]}", KEY)
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join()
        for thread in threads:
            thread.join()
