"""Errors as RFC 9457 problem documents: the only place that maps the classes of `errors.py` to status codes.

Rules of the room:
- `type` is a URN made of the error's stable code, `title` the same for each type, `detail` the sentence of this
  occurrence, `where` the member, file or line it is about. No value that a caller sent, no traceback, no personal fact.
- A class without a line in the table is a fault of ours: 500, without detail; the log names the class and the lines.
- A change that waits for a second person is no error: 202 with the proposal to approve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import orjson

from policy_engine.errors import (
    ApprovalNeeded,
    Busy,
    Conflict,
    EngineUnavailable,
    Gone,
    InputRefused,
    IssuerUnavailable,
    LoadRefused,
    LogForked,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    Overtaken,
    PolicyEngineError,
    ReplicaCutOff,
    RollbackSuspected,
    StartRefused,
    StoreUnavailable,
    TooLarge,
    VerificationFailed,
)

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:policy-engine:problem:"
RETRY_AFTER_SECONDS: Final = 1

_SENTENCES: Final = {
    404: "There is nothing at this path.",
    405: "This path has other verbs; the header Allow names them.",
}

Headers = list[tuple[bytes, bytes]]

BUSY: Final = "Too many requests are under way"
_STATUS: Final[tuple[tuple[type[PolicyEngineError], int, str], ...]] = (
    # Leaves before their bases: the first line that fits is taken.
    (TooLarge, 413, "The input is too large"),
    (InputRefused, 400, "The input is refused"),
    (NotAuthenticated, 401, "The caller is not authenticated"),
    (IssuerUnavailable, 503, "The issuer of the token is unavailable"),
    (NotPermitted, 403, "The caller is not permitted"),
    (Gone, 410, "It was erased or pruned"),
    (NotFound, 404, "Not found"),
    (Overtaken, 409, "The state has moved"),
    (Conflict, 409, "The state has moved"),
    (LoadRefused, 422, "The release is not accepted"),
    (Busy, 503, BUSY),
    (LogForked, 503, "The log is unavailable"),
    (ReplicaCutOff, 503, "The replica is cut off"),
    (RollbackSuspected, 503, "The database is not believed"),
    (EngineUnavailable, 503, "The engine is unavailable"),
    (StoreUnavailable, 503, "The log is unavailable"),
    (StartRefused, 500, "Internal error"),
    (VerificationFailed, 500, "The log does not verify"),
)


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem document. `errors` names several places of one type, each `{detail, where}`."""

    status: int
    code: str
    title: str
    detail: str = ""
    where: str | None = None
    errors: Sequence[Mapping[str, str]] = ()
    headers: Headers = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """Return the members of the document; empty ones are left out."""
        members = {
            "type": TYPE_PREFIX + self.code,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "where": self.where,
            "errors": list(self.errors),
        }
        return {name: value for name, value in members.items() if value}

    def body(self) -> bytes:
        """Return the document as JSON bytes."""
        return orjson.dumps(self.document())


def of_error(error: BaseException) -> Problem:
    """Return the problem that `error` is to a caller; what is not an error of ours says nothing but 500."""
    if isinstance(error, PolicyEngineError):
        for kind, status, title in _STATUS:
            if isinstance(error, kind):
                if status >= 500 and status != 503:
                    break
                return Problem(status, error.code, title, str(error), error.where, (), _headers(error))
    return internal()


def internal() -> Problem:
    """Return the answer to a fault of ours: nothing about it leaves; the log has its class and place."""
    return Problem(500, "internal", "Internal error", "The request could not be handled; nothing was allowed by it.")


def method_not_allowed(allowed: str) -> Problem:
    """Return 405 with the `Allow` header."""
    title = "The method is not allowed"
    return Problem(
        405, "method.not-allowed", title, f"Use {allowed} here.", headers=[(b"allow", allowed.encode("ascii"))]
    )


def busy() -> Problem:
    """Return 503 for an exchange beyond those that may be under way at once."""
    headers = [(b"retry-after", str(RETRY_AFTER_SECONDS).encode("ascii"))]
    return Problem(503, Busy.code, BUSY, "Ask again in a moment.", headers=headers)


def of_status(status: int) -> Problem:
    """Return the problem of a bare status that the framework chose, such as 404 for a path that no route has."""
    return Problem(status, f"http.{status}", HTTPStatus(status).phrase, _SENTENCES.get(status, ""))


def not_valid(errors: Sequence[Mapping[str, str]]) -> Problem:
    """Return 422: well-formed JSON that is not what the route takes. `errors` name the members."""
    return Problem(422, "input.not-valid", "The input is not valid", "See errors for each member.", errors=errors)


def waiting(needed: ApprovalNeeded) -> dict[str, str]:
    """Return the body of 202: the change is recorded as a proposal and takes effect when a second person approves."""
    return {"proposal": needed.proposal, "status": "waiting", "detail": needed.message}


def _headers(error: PolicyEngineError) -> Headers:
    if isinstance(error, NotAuthenticated):
        return [(b"www-authenticate", b'Bearer realm="policy_engine"')]
    if isinstance(error, StoreUnavailable | IssuerUnavailable | Busy):
        return [(b"retry-after", str(RETRY_AFTER_SECONDS).encode("ascii"))]
    return []
