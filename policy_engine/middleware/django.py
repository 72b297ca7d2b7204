"""A middleware for Django: `MIDDLEWARE = ["policy_engine.middleware.django.PolicyEngineMiddleware", …]`.

Rules of the room: put it first. Its settings are the mapping `POLICY_ENGINE` of Django's settings (`guard.Guard`). A
view finds the decision as `request.policy_engine`. Under Django's ASGI handler it runs in a thread, as every middleware
that waits does there; an application that streams there is better guarded as a whole (`asgi`).
Left to others: the steps (`waiting`), settings (`guard`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Iterator
from dataclasses import replace
from io import BytesIO
from typing import Any

from policy_engine.core.decision import Decision
from policy_engine.core.dialects import Refusal, stream_end
from policy_engine.core.enforcing import Hold
from policy_engine.errors import TooLarge
from policy_engine.guarding import GuardedPieces, GuardedStream
from policy_engine.middleware.exchange import CutOff
from policy_engine.middleware.guard import Guard
from policy_engine.middleware.head import Head
from policy_engine.middleware.listing import UNASKED, UNSENT, Listed, NotUnderstood
from policy_engine.middleware.waiting import OF_A_BODY, check_length, decided, declared_length, filtered

OUR_OWN = UNASKED | UNSENT


class PolicyEngineMiddleware:
    """Guards a Django project."""

    sync_capable, async_capable = True, False

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        """Read the settings. Raises `InputRefused` for what could guard nothing, and Django's own error for none."""
        from django.conf import settings

        self._get_response = get_response
        self._guard = Guard(**settings.POLICY_ENGINE)

    def __call__(self, request: Any) -> Any:
        """Hand on what is allowed, answer what is not."""
        head = _head_of(request)
        guard = self._guard
        if guard.is_exempt(head.path):
            return self._get_response(request)
        try:
            if guard.is_listing(head):
                found = filtered(guard, head, lambda query: self._listed(request, query))
                return _response(Refusal(found.status, found.headers, found.body))
            decision = decided(guard, head, lambda: self._body(request))
            if not decision.allowed:
                return _response(guard.denied(decision, head))
            hold = guard.engine.hold(decision)
        except Exception as error:  # noqa: BLE001  whatever fails before an allow refuses; no detail of a fault leaves
            return _response(guard.failed(error, head))
        return self._answered(request, head, decision, hold)

    def _answered(self, request: Any, head: Head, decision: Decision, hold: Hold) -> Any:
        """Return the view's answer, or the refusal when its allow ended before the answer was there."""
        request.policy_engine = decision
        streaming = False
        try:
            response = self._get_response(request)
            if hold.ended is not None:
                response.close()
                return _response(self._guard.denied(hold.ended, head))
            if response.streaming:
                response.streaming_content = self._streamed(response, head, hold)
                streaming = True  # from here on the stream closes the hold
            return response
        finally:
            if not streaming:
                hold.close()

    def _streamed(self, response: Any, head: Head, hold: Hold) -> Iterator[bytes] | AsyncIterator[bytes]:
        dialect, wording = self._guard.dialect_of(head), self._guard.wording
        events = response.headers.get("Content-Type", "").partition(";")[0].strip() == "text/event-stream"
        if response.is_async:
            return GuardedStream(response.streaming_content, hold, dialect if events else None, wording)

        def pieces() -> Generator[bytes, None, None]:
            with hold:
                for piece in source:
                    if hold.ended is not None:
                        break
                    yield piece
                if hold.ended is not None:
                    if not events:
                        raise CutOff
                    yield stream_end(hold.ended, dialect, wording)

        source = response.streaming_content
        return GuardedPieces(pieces(), source, hold)

    def _body(self, request: Any) -> bytes:
        from django.core.exceptions import RequestDataTooBig

        declared_length(request.META.get("CONTENT_LENGTH") or "")  # where it is none Django fails, or reads nothing
        try:
            body = bytes(request.body)
        except RequestDataTooBig:
            raise TooLarge("the body is longer than Django's DATA_UPLOAD_MAX_MEMORY_SIZE") from None
        check_length(len(body), self._guard)
        return body

    def _listed(self, request: Any, query: str | None) -> Listed:
        for name in UNASKED:
            request.META.pop(f"HTTP_{name.upper().replace('-', '_')}", None)
        response = self._get_response(request if query is None else _asking(request, query))
        if response.streaming:
            raise NotUnderstood("is streamed")
        headers = tuple((name.lower(), value) for name, value in response.headers.items())
        return Listed(response.status_code, headers, bytes(response.content))


def _response(refusal: Refusal) -> Any:
    from django.http import HttpResponse

    return HttpResponse(refusal.body, status=refusal.status, headers=dict(refusal.headers))


def _head_of(request: Any) -> Head:
    head = Head.of_wsgi(request.META, request.path)
    scope = getattr(request, "scope", None)  # Django's ASGI handler shows there how the path was sent
    return head if scope is None else replace(head, sent_path=scope.get("raw_path") or b"")


def _asking(request: Any, query: str) -> Any:
    """Return the same request with another query. It is made anew, for Django keeps what it has read of a query."""
    if hasattr(request, "scope"):
        kept = [(name, value) for name, value in request.scope["headers"] if name.decode("latin-1") not in OUR_OWN]
        asking = {"method": "GET", "query_string": query.encode("utf-8"), "headers": kept}
        return type(request)({**request.scope, **asking}, BytesIO())
    plain = {name: value for name, value in request.META.items() if name not in OF_A_BODY}
    return type(request)({**plain, "REQUEST_METHOD": "GET", "QUERY_STRING": query, "wsgi.input": BytesIO()})
