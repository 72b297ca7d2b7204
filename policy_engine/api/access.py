"""What a route needs of its caller, declared once: enforced here, shown in the OpenAPI document, compared by a test.

Rules of the room: every route under `/v1/` is made by `route_options`, so that each has a line about scopes; an empty
line means any living key, and is written on purpose. Holding one of the scopes named is enough to pass the door; what
it may do there the service decides again (persons, tenants, second persons). A parameter of the query stands once: the
framework would take the last of two and say nothing, so the answer would be to another question than was asked.
Left to others: authentication (`envelope`), status codes (`problems`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from threading import Semaphore
from typing import TYPE_CHECKING, Annotated, Any, Final, cast

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel

from policy_engine.api.envelope import PRINCIPAL, UNTIL
from policy_engine.api.problems import MEDIA_TYPE
from policy_engine.core.decision import Principal
from policy_engine.errors import Busy, NotPermitted
from policy_engine.limits import LIMITS, Limits

if TYPE_CHECKING:
    from policy_engine.bootstrap import Engine

SCOPES_MEMBER: Final = "x-policy-engine-scopes"


class PlaceOfError(BaseModel):
    """One of several places that a problem is about."""

    where: str
    detail: str


class ProblemDocument(BaseModel):
    """RFC 9457 problem document."""

    type: str
    title: str
    status: int
    code: str
    detail: str | None = None
    where: str | None = None
    errors: list[PlaceOfError] | None = None


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return OpenAPI responses for the statuses, each a problem document."""
    schema = {"$ref": "#/components/schemas/ProblemDocument"}
    return {
        status: {"description": _DESCRIPTIONS[status], "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in statuses
    }


_DESCRIPTIONS: Final = {
    400: "Malformed: the body is not one strict JSON object, or a value is refused.",
    401: "No key or token, or one that is unknown, expired or revoked.",
    403: "The key does not cover this.",
    404: "There is no such thing.",
    405: "The path has another verb.",
    409: "The state moved, or an id is taken; nothing was applied.",
    413: "The body is too large.",
    422: "Well-formed, but not what the route takes; for releases, not accepted.",
    500: "A fault of the engine; nothing was allowed by it.",
    503: "The log cannot be reached; nothing changes meanwhile.",
}

READING: Final = (400, 401, 403, 422, 500, 503)
READING_ONE: Final = (*READING, 404)
CHANGING: Final = (*READING_ONE, 409, 413)


def route_options(
    *scopes: str, problems: tuple[int, ...] = READING, waits: type[BaseModel] | None = None
) -> dict[str, Any]:
    """Return the keyword arguments of a route for callers that hold one of `scopes` (any living key, if none).

    `waits` is the body of a 202, of a route that may also answer that everything waits for a second person.
    """
    responses = problem_responses(*problems)
    if waits is not None:
        responses[202] = {"model": waits, "description": "Nothing has taken effect: a second person must approve."}
    return {
        "dependencies": [*([Depends(_needing(scopes))] if scopes else []), Depends(_each_once)],
        "openapi_extra": {SCOPES_MEMBER: list(scopes)},
        "responses": responses,
        "response_model_exclude_none": True,
    }


def _principal(request: Request) -> Principal:
    """Return the caller that the envelope authenticated; a route outside of it has none and fails."""
    return cast(Principal, request.scope["state"][PRINCIPAL])


def _until(request: Request) -> int | None:
    """Return when the caller's token ends, in microseconds; `None` for a key."""
    return cast("int | None", request.scope["state"][UNTIL])


def _engine(request: Request) -> Engine:
    return cast("Engine", request.app.state.engine)


class Few:
    """Lets few costly requests be answered at a time, and raises `Busy` in any other's turn.

    Each holds a thread, and a connection for long reads, for as long as it takes; without this all of both would be
    theirs, and neither a switch nor the news of one would pass.
    """

    def __init__(self, limits: Limits = LIMITS) -> None:
        self._left = Semaphore(limits.costly_requests_count)

    def __enter__(self) -> None:
        if not self._left.acquire(blocking=False):
            raise Busy("as many previews, queries and releases as may be are being answered; ask again in a moment")

    def __exit__(self, *error: object) -> None:
        self._left.release()


def _few(request: Request) -> Few:
    return cast(Few, request.app.state.few)


def _needing(scopes: tuple[str, ...]) -> Callable[[Principal], None]:
    def need(principal: Caller) -> None:
        if principal.scopes.isdisjoint(scopes):
            raise NotPermitted(f"this needs the scope {' or '.join(scopes)}, which the key does not hold")

    return need


async def _each_once(request: Request) -> None:
    """Raise `RequestValidationError` that names each parameter of the query that stands more than once."""
    counted = Counter(name for name, _ in request.query_params.multi_items())
    repeated = [name for name, count in counted.items() if count > 1]
    if repeated:
        message = "stands more than once; give one value"
        raise RequestValidationError(
            [{"type": "repeated", "loc": ("query", name), "msg": message} for name in repeated]
        )


Caller = Annotated[Principal, Depends(_principal)]
Costly = Annotated[Few, Depends(_few)]
Until = Annotated[int | None, Depends(_until)]
if TYPE_CHECKING:
    OpenEngine = Engine
else:
    # The web door is imported before an engine is open; at run time the name stands for the dependency alone.
    OpenEngine = Annotated[object, Depends(_engine)]
