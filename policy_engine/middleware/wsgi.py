"""The door for WSGI applications: Flask, Django, anything that is called with an environ.

Rules of the room: as in `asgi`, with what WSGI can do. An answer is cut at its next piece, which is not let out; while
nothing flows nobody can be told anything in WSGI, so where the server shows its socket (gunicorn, Werkzeug) the
connection is shut down when no piece comes in a moment. The decision stands in the environ as `policy_engine.decision`.
Left to others: the steps (`waiting`), settings (`guard`).
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from http import HTTPStatus
from io import BytesIO
from typing import Any, Unpack

from policy_engine.core.bodymodel import BodyProblem, BodyRefused
from policy_engine.core.decision import Decision
from policy_engine.core.dialects import Refusal, stream_end
from policy_engine.core.enforcing import Hold
from policy_engine.guarding import GuardedPieces
from policy_engine.middleware.exchange import CutOff
from policy_engine.middleware.guard import Guard, Settings
from policy_engine.middleware.head import Head
from policy_engine.middleware.listing import UNASKED, Listed, NotUnderstood
from policy_engine.middleware.waiting import OF_A_BODY, check_length, decided, declared_length, filtered

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]
WSGIApp = Callable[[Environ, StartResponse], Iterable[bytes]]
DECISION = "policy_engine.decision"


class PolicyEngineWSGI:
    """Guards a WSGI application: `app.wsgi_app = PolicyEngineWSGI(app.wsgi_app, engine=…, subject=…)`."""

    def __init__(self, app: WSGIApp, **settings: Unpack[Settings]) -> None:
        """Take the application and the settings (`guard.Guard`). Raises `InputRefused` for what could guard nothing."""
        self._app = app
        self._guard = Guard(**settings)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Hand on what is allowed, answer what is not."""
        head = Head.of_wsgi(environ)
        guard = self._guard
        if guard.is_exempt(head.path):
            return self._app(environ, start_response)
        try:
            if guard.is_listing(head):
                found = filtered(guard, head, lambda query: self._listed(environ, query))
                return _answer(start_response, Refusal(found.status, found.headers, found.body), head.method)
            decision = decided(guard, head, lambda: read_body(environ, guard))
            if not decision.allowed:
                return _answer(start_response, guard.denied(decision, head), head.method)
            hold = guard.engine.hold(decision)
        except Exception as error:  # noqa: BLE001  whatever fails before an allow refuses; no detail of a fault leaves
            return _answer(start_response, guard.failed(error, head), head.method)
        environ[DECISION] = decision
        return _Exchange(guard, head, hold, start_response).run(self._app, environ)

    def _listed(self, environ: Environ, query: str | None) -> Listed:
        """Return what the application lists, taken as a whole and not compressed; for a query of ours without the body
        that the client may have sent."""
        began: list[tuple[str, list[tuple[str, str]]]] = []
        pieces: list[bytes] = []

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
            began[:] = [(status, headers)]
            return pieces.append

        left_out = {f"HTTP_{name.upper().replace('-', '_')}" for name in UNASKED}
        plain = {name: value for name, value in environ.items() if name not in left_out}
        if query is not None:
            plain = {name: value for name, value in plain.items() if name not in OF_A_BODY}
            plain |= {"QUERY_STRING": query, "wsgi.input": BytesIO()}
        result = self._app({**plain, "REQUEST_METHOD": "GET"}, start)
        try:
            for piece in result:
                pieces.append(piece)
                if sum(map(len, pieces)) > self._guard.limits.guarded_listing_bytes:
                    raise NotUnderstood("is too long")
        finally:
            _close(result)
        if not began:
            raise NotUnderstood("is no whole answer")
        status, headers = began[0]
        kept = tuple((name.lower(), value) for name, value in headers)
        return Listed(int(status.split(" ")[0]), kept, b"".join(pieces))


class _Exchange:
    """One allowed request while its application runs."""

    def __init__(self, guard: Guard, head: Head, hold: Hold, start_response: StartResponse) -> None:
        self._guard = guard
        self._head = head
        self._hold = hold
        self._start_response = start_response
        self._headers: list[tuple[str, str]] = []
        self._sent = self._waiting = False

    def run(self, app: WSGIApp, environ: Environ) -> Iterable[bytes]:
        """Return the application's answer for as long as the hold stands."""
        connection = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
        if connection is not None:
            self._hold.on_end(lambda: self._ended(connection))
        try:
            result = app(environ, self._start)
        except BaseException:
            self._hold.close()
            raise
        return GuardedPieces(self._pieces(result), result, self._hold)

    def _start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
        self._headers = headers
        write = self._start_response(status, headers, *(() if exc_info is None else (exc_info,)))

        def guarded(piece: bytes) -> object:
            if self._hold.ended is not None:
                raise CutOff
            self._sent = True
            return write(piece)

        return guarded

    def _pieces(self, result: Iterable[bytes]) -> Generator[bytes, None, None]:
        try:
            iterator = iter(result)
            while self._hold.ended is None:
                self._waiting = True
                piece = next(iterator, None)
                self._waiting = False
                if self._hold.ended is not None:
                    break
                if piece is None:
                    return
                self._sent = self._sent or bool(piece)
                yield piece
            if self._hold.ended is not None:
                yield from self._last(self._hold.ended)
        finally:
            self._waiting = False
            self._hold.close()
            _close(result)

    def _last(self, denied: Decision) -> Iterator[bytes]:
        """Yield what ends a cut answer. Raises `CutOff` where it must stay unfinished: the server then closes it."""
        if not self._sent:
            refusal = self._guard.denied(denied, self._head)
            yield from _answer(self._start_response, refusal, self._head.method, replacing=True)
        elif self._is_event_stream():
            yield stream_end(denied, self._guard.dialect_of(self._head), self._guard.wording)
        else:
            raise CutOff

    def _is_event_stream(self) -> bool:
        kept = {name.lower(): value.lower() for name, value in self._headers}
        plain = kept.get("content-encoding", "identity") == "identity" and "content-length" not in kept
        return plain and kept.get("content-type", "").partition(";")[0].strip() == "text/event-stream"

    def _ended(self, connection: socket.socket) -> None:
        """Hear of the end: where pieces flow the next one carries it to the client, and where none does nothing can."""
        late = threading.Timer(self._guard.limits.guarded_next_seconds, self._shut_down, (connection,))
        late.daemon = True
        try:
            late.start()
        except RuntimeError:  # no more threads: at once, then
            self._shut_down(connection)

    def _shut_down(self, connection: socket.socket) -> None:
        if self._waiting:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def read_body(environ: Environ, guard: Guard) -> bytes:
    """Return the whole body, and put it back for the application. Raises `BodyRefused`, `TooLarge`."""
    bytes_max = guard.limits.guarded_prefix_bytes
    if environ.get("HTTP_TRANSFER_ENCODING"):
        if not environ.get("wsgi.input_terminated"):
            raise BodyRefused(BodyProblem.INCOMPLETE)
        body = environ["wsgi.input"].read(bytes_max + 1)
        check_length(len(body), guard)
        del environ["HTTP_TRANSFER_ENCODING"]
    else:
        length = declared_length(environ.get("CONTENT_LENGTH") or "")
        check_length(length, guard)
        body = environ["wsgi.input"].read(length) if length else b""
        if len(body) != length:
            raise BodyRefused(BodyProblem.INCOMPLETE)
    environ["CONTENT_LENGTH"] = str(len(body))
    environ["wsgi.input"] = BytesIO(body)
    return bytes(body)


def _answer(start_response: StartResponse, refusal: Refusal, method: str, *, replacing: bool = False) -> list[bytes]:
    try:
        phrase = HTTPStatus(refusal.status).phrase
    except ValueError:
        phrase = "Refused"
    headers = [*refusal.headers, ("content-length", str(len(refusal.body)))]
    instead = ((CutOff, CutOff(), None),) if replacing else ()
    start_response(f"{refusal.status} {phrase}", headers, *instead)
    return [] if method == "HEAD" else [refusal.body]


def _close(result: Any) -> None:
    close = getattr(result, "close", None)
    if close is not None:
        close()
