"""What surrounds the management routes: callers before bodies, strict bodies before models, request ids throughout."""

from __future__ import annotations

from typing import Any

import pytest

from policy_engine.api.envelope import Envelope, LargeBody
from policy_engine.core.decision import Principal
from policy_engine.errors import Conflict
from policy_engine.limits import LIMITS
from tests.api import doors

PATH = "/v1/things"


class Inside:
    """The application inside: remembers what reached it and answers, or raises."""

    def __init__(self, result: Any = b"done") -> None:
        self.result = result
        self.bodies: list[bytes] = []
        self.principals: list[Principal | None] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer 200 with what the test gave."""
        self.principals.append(scope.get("state", {}).get("principal"))
        self.bodies.append((await receive())["body"])
        if isinstance(self.result, Exception):
            raise self.result
        headers = [(b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": self.result})


def envelope(inside: Inside, **options: Any) -> Envelope:
    return Envelope(inside, doors.TwoKeys(), **options)


def test_a_route_receives_the_caller_and_the_body_as_sent() -> None:
    """The body arrives byte by byte, in one piece, once."""
    inside = Inside()
    reply = doors.ask(envelope(inside), b' {"a": 1}', path=PATH, headers=((b"x-request-id", b"7"),))
    assert (reply.status, reply.body) == (200, b"done")
    assert inside.bodies == [b' {"a": 1}'] and inside.principals[0] is not None
    assert inside.principals[0].id == "gateway"
    assert (reply.header("x-request-id"), reply.header("cache-control")) == ("7", "no-store")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "LOCK"])
@pytest.mark.parametrize("path", [PATH, "/v1/", "/v1/nothing/here"])
def test_no_path_under_v1_is_reached_without_a_key(method: str, path: str) -> None:
    """Authentication comes before routing: not even the absence of a path can be learnt."""
    inside = Inside()
    reply = doors.ask(envelope(inside), {}, path=path, method=method, key=None, headers=((b"x-request-id", b"7"),))
    assert (reply.status, reply.header("x-request-id")) == (401, "7")
    assert inside.bodies == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b'{"a": 1, "a": 2}', 400),
        (b'{"a": NaN}', 400),
        (b'{"a": "\\ud800"}', 400),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, 400),
        (b" " * (LIMITS.document_bytes + 1), 413),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_bodies_are_as_strict_as_those_of_decisions(body: bytes, status: int, method: str) -> None:
    """What a decision body may not be, no other body may be; the route is not reached."""
    inside = Inside()
    reply = doors.ask(envelope(inside), body, path=PATH, method=method)
    assert (reply.status, reply.header("content-type")) == (status, "application/problem+json")
    assert inside.bodies == []


def test_a_body_that_is_not_json_is_refused() -> None:
    """The media type is checked for every route."""
    assert doors.ask(envelope(Inside()), {}, path=PATH, content_type="text/plain").status == 400


def test_a_large_body_is_read_for_callers_with_the_scope_alone() -> None:
    """Whoever may not publish cannot make the service read a release."""
    large = {PATH: LargeBody("policy:write", 3 * LIMITS.document_bytes)}
    body = b"{" + b" " * (2 * LIMITS.document_bytes) + b"}"
    assert doors.ask(envelope(Inside(), large=large), body, path=PATH).status == 403
    large = {PATH: LargeBody("decide", 3 * LIMITS.document_bytes)}
    assert doors.ask(envelope(Inside(), large=large), body, path=PATH).status == 200


def test_outside_of_v1_no_body_is_read_and_no_key_asked_for() -> None:
    """A stranger's body is not even looked at."""
    inside = Inside()
    assert doors.ask(envelope(inside), b"x" * 100, path="/healthz", key=None).status == 200
    assert inside.bodies == [b""] and inside.principals == [None]


@pytest.mark.parametrize(("fault", "status"), [(RuntimeError("a secret"), 500), (Conflict("the row has moved"), 409)])
def test_what_a_route_raises_is_a_problem(fault: Exception, status: int) -> None:
    """An error of ours keeps its sentence; anything else says nothing."""
    reply = doors.ask(envelope(Inside(fault)), {}, path=PATH, headers=((b"x-request-id", b"7"),))
    assert (reply.status, reply.json()["status"], reply.header("x-request-id")) == (status, status, "7")
    assert b"secret" not in reply.body


def test_whoever_hangs_up_reaches_no_route() -> None:
    """A body that is cut off is nobody's request."""
    inside = Inside()
    assert doors.knock(envelope(inside), b"{", path=PATH, hang_up=True) is None
    assert inside.bodies == []


def test_a_forged_request_id_reaches_nothing() -> None:
    """It is refused before the caller is looked up, and comes back nowhere."""
    inside = Inside()
    reply = doors.ask(envelope(inside), {}, path=PATH, headers=((b"x-request-id", b"a\r\nb: c"),))
    assert reply.status == 400 and reply.header("x-request-id") is None and inside.bodies == []
