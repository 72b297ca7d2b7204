"""The HTTP door: POST /add-checkpoint and GET /<hex sha256(origin)>/checkpoint, with a bound on everything.

Rules: a request has `REQUEST_SECONDS` from its first byte to its last, however it trickles; bodies, header lines and
connections are counted; a caller beyond a bound is cut off and the others are served on. Only a commit makes a 200.
"""

from __future__ import annotations

import io
import logging
import re
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

from policy_engine_witness.notes import Cosigner, Key, Refused, read_request
from policy_engine_witness.record import Record

BODY_BYTES_MAX = 65_536
DRAINED_BYTES_MAX = 1_048_576
REQUEST_SECONDS = 10.0
CONNECTIONS_MAX = 64

_LENGTH = re.compile(r"[0-9]{1,9}")
_NEWEST = re.compile(r"/([0-9a-f]{64})/checkpoint")

log = logging.getLogger("policy_engine_witness")


class Witness:
    """What the door asks: the logs it knows with their keys, its own key, the record and the clock."""

    def __init__(
        self,
        logs: Mapping[str, Sequence[Key]],
        cosigner: Cosigner,
        record: Record,
        clock: Callable[[], int] = lambda: int(time.time()),
    ) -> None:
        self._logs = dict(logs)
        self._named = {sha256(origin.encode()).hexdigest(): origin for origin in logs}
        self.key = cosigner.key
        self._cosigner = cosigner
        self._record = record
        self._clock = clock

    def add_checkpoint(self, body: bytes) -> str:
        """Return the cosignature line. Raises `Refused` with the status that C2SP tlog-witness says."""
        request = read_request(body)
        if request.origin not in self._logs:
            raise Refused(404, "this witness does not know the log")
        signed = request.check_signature(self._logs[request.origin])
        if request.old_size > request.size:
            raise Refused(400, "the old size is above that of the checkpoint")
        seconds = self._clock()
        try:
            line = self._record.advance(request, signed, lambda: self._cosigner.cosign(request.text, seconds), seconds)
        except Refused as refused:
            log.warning("refused %d origin=%s size=%d: %s", refused.status, request.origin, request.size, refused)
            raise
        log.info("cosigned origin=%s size=%d", request.origin, request.size)
        return line

    def newest(self, hash: str) -> bytes:
        """Return the last cosigned checkpoint of the log whose origin has this SHA-256. Raises `Refused` (404)."""
        origin = self._named.get(hash)
        note = None if origin is None else self._record.newest(origin)
        if note is None:
            raise Refused(404, "there is no such checkpoint")
        return note


class Server(ThreadingHTTPServer):
    """One thread a connection, and no more than `CONNECTIONS_MAX` of them."""

    daemon_threads = True
    request_queue_size = CONNECTIONS_MAX

    def __init__(self, host: str, port: int, witness: Witness) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.witness = witness
        self._room = threading.BoundedSemaphore(CONNECTIONS_MAX)
        super().__init__((host, port), Handler)

    def server_bind(self) -> None:
        """Bind without looking up the host's name, which may take long."""
        TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own, or close it when there are too many."""
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._room.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Make room when the connection ends, however it ends."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Write nothing: whoever hangs up in the middle is no event, and `Handler` logs what is."""


class Handler(BaseHTTPRequestHandler):
    """One connection; it is kept open between requests for as long as one request may take."""

    protocol_version = "HTTP/1.1"
    server_version = "policy-engine-witness"
    sys_version = ""
    error_content_type = "text/plain; charset=utf-8"
    error_message_format = "%(code)d\n"
    server: Server

    def setup(self) -> None:
        """Read through a deadline."""
        super().setup()
        self.rfile.close()
        self._reader = _Deadlined(self.connection)
        self.rfile = io.BufferedReader(self._reader)

    def handle_one_request(self) -> None:
        """Give the request its time."""
        self._reader.until = time.monotonic() + REQUEST_SECONDS
        super().handle_one_request()

    def do_POST(self) -> None:
        """Answer add-checkpoint."""
        if self.path != "/add-checkpoint":
            self._refuse(Refused(404, "there is no such place"))
            return
        lengths = self.headers.get_all("Content-Length", [])
        if "Transfer-Encoding" in self.headers or len(lengths) != 1 or not _LENGTH.fullmatch(lengths[0]):
            self._refuse(Refused(411, "the request needs one Content-Length"))
            return
        length = int(lengths[0])
        if length > BODY_BYTES_MAX:
            self._refuse(Refused(413, f"the body has more than {BODY_BYTES_MAX} bytes"), unread=length)
            return
        body = self.rfile.read(length)
        if len(body) < length:
            self.close_connection = True
            return
        self._give(lambda: self.server.witness.add_checkpoint(body).encode())

    def do_GET(self) -> None:
        """Answer with the last cosigned checkpoint of a log."""
        if "Transfer-Encoding" in self.headers or self.headers.get_all("Content-Length", ["0"]) != ["0"]:
            self.close_connection = True  # what follows is the body of this request, and none of the next
        named = _NEWEST.fullmatch(self.path)
        self._give(lambda: self.server.witness.newest(named[1] if named else ""))

    def _give(self, make: Callable[[], bytes]) -> None:
        try:
            body = make()
        except Refused as refused:
            self._refuse(refused)
        except sqlite3.Error as failed:  # the record is not known to have moved, so there is no cosignature
            log.error("the record failed: %s", failed)
            self._refuse(Refused(503, "the record cannot be used now"))
        else:
            self._answer(200, "text/plain; charset=utf-8", body)

    def _refuse(self, refused: Refused, unread: int = 0) -> None:
        if refused.size is not None:
            self._answer(refused.status, "text/x.tlog.size", b"%d\n" % refused.size)
            return
        self.close_connection = self.close_connection or refused.status in (404, 411, 413)  # its body was not read
        self._answer(refused.status, "text/plain; charset=utf-8", f"{refused}\n".encode())
        while 0 < unread <= DRAINED_BYTES_MAX and self.rfile.read1(BODY_BYTES_MAX):
            pass  # so that the answer arrives instead of a reset

    def _answer(self, status: int, type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", type)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Write nothing: `Witness` logs what it cosigned and refused."""


class _Deadlined(io.RawIOBase):
    """Reads from a socket until a point in time; what has not come by then raises `TimeoutError`."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.until = 0.0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        rest = self.until - time.monotonic()
        if rest <= 0:
            raise TimeoutError("the request took too long")
        self._connection.settimeout(rest)
        return self._connection.recv_into(buffer)
