"""A reader of `/v1/revocations` for tests: a real connection to a real server, and what came over it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from typing import Any

from policy_engine.client.sse import Parser


@dataclass
class Reader:
    """One open stream."""

    response: HTTPResponse
    parser: Parser = field(default_factory=Parser)
    waiting: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    text: bytes = b""

    def next(self) -> tuple[str, dict[str, Any]]:
        """Return the name and data of the next event; raise `EOFError` at the end of the stream."""
        while not self.waiting:
            piece = self.response.read1(65_536)
            if not piece:
                raise EOFError
            self.text += piece
            self.waiting += [(event.name, json.loads(event.data)) for event in self.parser.feed(piece)]
        return self.waiting.pop(0)

    def until_end(self) -> list[tuple[str, dict[str, Any]]]:
        """Return every event up to the end of the stream."""
        found = []
        try:
            while True:
                found.append(self.next())
        except EOFError:
            return found


@contextmanager
def reading(port: int, key: str, last: int | str | None = None, seconds: float = 10.0) -> Iterator[Reader]:
    """Open a stream as the holder of a key."""
    connection = HTTPConnection("127.0.0.1", port, timeout=seconds)
    headers = {"Authorization": f"Bearer {key}"} | ({} if last is None else {"Last-Event-ID": str(last)})
    connection.request("GET", "/v1/revocations", headers=headers)
    try:
        yield Reader(connection.getresponse())
    finally:
        connection.close()


def soon(what: Any, seconds: float = 20.0) -> Any:
    """Return the first true answer of a question asked again and again; fail when there is none in time."""
    until = time.monotonic() + seconds
    while not (answer := what()):
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.005)
    return answer
