"""HTTP/1.1 from uvicorn, with bounds on the head of a request that uvicorn leaves open.

Rules of the room:
- A head that is too long, or does not arrive in time, ends the connection before any of our code sees it. Bodies are
  bounded and timed where they are read (`exchange`).
- A wish to upgrade (`Upgrade: h2c`, as Java's clients send it with each request) is passed over: the request is read as
  if it had none. The parser alone would take its body for the other protocol's, and what was sent for nothing.
- Whoever takes nothing of an answer for a while loses the connection: an exchange that waits for that holds a place.
- What is left of a body that nobody waits for, since the answer is given, has as much time as a head.
- What stands behind a body in chunks is no header: a proxy that sets headers over its client's does not look there.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES: Final = 65_536
HEAD_SECONDS: Final = 10.0
UNREAD_SECONDS: Final = 10.0
UPGRADE: Final = b"upgrade"
NOT_HTTP: Final = "Invalid HTTP request received."


class BoundedHead(HttpToolsProtocol):
    """uvicorn's protocol that hangs up on endless or dawdling heads."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._in_head = self._head_is_new = self._wished = False
        self._in_body = self._in_rest = False
        self._head_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Give the first head its time."""
        super().connection_made(transport)
        self._deadline = self.loop.call_later(HEAD_SECONDS, self._hang_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadlines."""
        self._stop_waiting()
        self._read_again()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Begin to look whether the other side takes what waits for it."""
        super().pause_writing()
        self._look(self.transport.get_write_buffer_size() + 1)

    def resume_writing(self) -> None:
        """Look no more."""
        self._read_again()
        super().resume_writing()

    def on_message_begin(self) -> None:
        """Begin to count a head."""
        self._in_head = self._head_is_new = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; what comes after the body is passed over."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Stop counting: from here on it is a body. A request that wishes to upgrade begins when it is read again."""
        self._in_head = False
        self._wished = any(name == UPGRADE for name, _ in self.headers) and self.parser.should_upgrade()
        self._in_body = not self._wished
        if self._in_body:
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End the body, unless it is one that the parser has not looked for."""
        if not self._wished:
            self._in_body = self._in_rest = False
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Give what is left of the request its time."""
        super().on_response_complete()
        if self._in_body and not self._in_rest:
            self._in_rest = True
            self._stop_waiting()
            self._deadline = self.loop.call_later(HEAD_SECONDS, self._hang_up)

    def data_received(self, data: bytes) -> None:
        """Parse, and hang up when what was parsed is still an unfinished head and too much of it.

        The piece in which a head begins is not counted: it may hold the end of a body, and is itself bounded.
        """
        self._head_is_new = False
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except HttpParserError:
            self.logger.warning(NOT_HTTP)
            self.send_400_response(NOT_HTTP)
        if not self._in_head:
            if not self._in_rest:
                self._stop_waiting()
            return
        self._head_bytes += 0 if self._head_is_new else len(data)
        if self._head_bytes > HEAD_BYTES:
            self._hang_up()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_SECONDS, self._hang_up)

    def _parse(self, data: bytes | memoryview) -> None:
        """Hand a piece to the parser; where a wish to upgrade stops it, to another one that is not told of the wish."""
        while True:
            try:
                return self.parser.feed_data(data)
            except HttpParserUpgrade as stopped:
                if not self._wished:  # CONNECT, which has no body and is answered as any other method
                    return None
                data = memoryview(data)[stopped.args[0] :]
            head = self._head_without_wish()
            self.parser = HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
            self.parser.feed_data(head)

    def _head_without_wish(self) -> bytes:
        version = self.parser.get_http_version().encode("ascii")
        lines = [self.parser.get_method() + b" " + self.url + b" HTTP/" + version]
        lines += [name + b": " + value for name, value in self.headers if name != UPGRADE]
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def _look(self, before: int) -> None:
        left = self.transport.get_write_buffer_size()
        if left >= before:
            return self.transport.abort()
        self._unread = self.loop.call_later(UNREAD_SECONDS, self._look, left)

    def _read_again(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _hang_up(self) -> None:
        self._stop_waiting()
        if not self.transport.is_closing():
            self.transport.close()
