"""What stands behind a gateway: it answers every request, speaks any protocol, and remembers what reached it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ANSWER = b'{"served":true}'


@dataclass
class Arrived:
    """A request as the upstream saw it; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Upstream:
    """The server's port, and what arrived."""

    port: int = 0
    arrived: list[Arrived] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    upstream: Upstream

    def _serve(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        if headers.get("transfer-encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        self.upstream.arrived.append(Arrived(self.command, self.path, headers, body))
        if headers.get("upgrade"):
            self.send_response(101)
            self.send_header("Upgrade", headers["upgrade"])
            self.send_header("Connection", "Upgrade")
            self.end_headers()
            self.close_connection = True
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(ANSWER)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(ANSWER)

    do_GET = do_POST = do_PUT = do_DELETE = do_OPTIONS = do_HEAD = do_PATCH = do_PROPFIND = _serve

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def upstream() -> Iterator[Upstream]:
    """Serve on a free port."""
    kept = Upstream()
    handler = type("Handler", (_Handler,), {"upstream": kept})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        kept.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield kept
        finally:
            server.shutdown()
