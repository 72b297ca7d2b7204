"""HTTP/1.1 from uvicorn, with bounds on the head of a request that uvicorn leaves open.

Rules of the room: a head that is too long, or does not arrive in time, ends the connection before any of our code sees
it. Bodies are bounded and timed where they are read (`exchange`).
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES: Final = 65_536
HEAD_SECONDS: Final = 10.0


class BoundedHead(HttpToolsProtocol):
    """uvicorn's protocol that hangs up on endless or dawdling heads."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._in_head = False
        self._head_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Give the first head its time."""
        super().connection_made(transport)
        self._deadline = self.loop.call_later(HEAD_SECONDS, self._hang_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        self._stop_waiting()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Begin to count a head."""
        self._in_head = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Stop counting: from here on it is a body."""
        self._in_head = False
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Parse, and hang up when what was parsed is still an unfinished head and too much of it.

        The piece in which a head begins is not counted: it may hold the end of a body, and is itself bounded.
        """
        continues = self._in_head
        super().data_received(data)
        if not self._in_head:
            self._stop_waiting()
            return
        self._head_bytes += len(data) if continues else 0
        if self._head_bytes > HEAD_BYTES:
            self._hang_up()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_SECONDS, self._hang_up)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _hang_up(self) -> None:
        self._stop_waiting()
        if not self.transport.is_closing():
            self.transport.close()
