"""The management routes as one FastAPI application: everything but the decision endpoints and the probes.

Rules of the room: no CORS (browsers of strangers have no business here), no interactive documentation unless a setting
asks for it, no redirects of slashes. Every error a route raises is mapped by `problems`, also those of the framework.
FastAPI and the routes take half a second to load, so nothing that decides imports this module: `app` loads it beside
the first decisions. Left to others: authenticating before it (`envelope`), the routes themselves (`routes`).
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Scope

from policy_engine.api import problems
from policy_engine.api.access import Few
from policy_engine.api.condition import read_condition
from policy_engine.api.discovery import discovery_router
from policy_engine.api.metrics import Metrics
from policy_engine.api.openapi import describe
from policy_engine.api.problems import MEDIA_TYPE, Problem
from policy_engine.api.routes import ROUTERS, only_reading
from policy_engine.api.validation import places_of
from policy_engine.errors import ApprovalNeeded, PolicyEngineError

if TYPE_CHECKING:
    from policy_engine.bootstrap import Engine

_DOCUMENTS: Final[dict[tuple[bool, str], dict[str, Any]]] = {}
"""The description of the routes, which takes longer to make than all the rest: one for all who may do the same under
the same address."""

DESCRIPTION: Final = "Decides who may use which restricted AI model, records each decision, and withdraws models."


def management_app(engine: Engine, metrics: Metrics) -> FastAPI:
    """Return the FastAPI application, without the envelope that authenticates for it."""
    docs = engine.settings.docs
    app = FastAPI(
        title="policy_engine",
        version=version("policy-engine"),
        description=DESCRIPTION,
        docs_url="/docs" if docs else None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
    )
    app.state.engine = engine
    app.state.few = Few()
    app.include_router(discovery_router(engine.settings.public_url, metrics, lambda: read_condition(engine)))
    for router in ROUTERS:
        app.include_router(router if engine.settings.may_change else only_reading(router))
    app.add_exception_handler(PolicyEngineError, _engine_error)
    app.add_exception_handler(HTTPException, _framework_error)
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_exception_handler(Exception, _fault)
    own = engine.settings.may_change, engine.settings.public_url

    def openapi() -> dict[str, Any]:
        if own not in _DOCUMENTS:
            _DOCUMENTS[own] = describe(app)
        return _DOCUMENTS[own]

    app.openapi = openapi  # type: ignore[method-assign]  # the documented way to replace it
    return app


def _engine_error(request: Request, error: Exception) -> Response:
    if isinstance(error, ApprovalNeeded):
        return JSONResponse(problems.waiting(error), 202, {"Location": f"/v1/approvals/{error.proposal}"})
    return _respond(problems.of_error(error))


def _framework_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        return _respond(problems.internal())
    if error.status_code == 405 and not request.app.state.engine.settings.may_change:
        return _respond(problems.of_status(404))  # what changes something does not exist in this process
    verbs = _verbs(request.scope) if error.status_code == 405 else ""
    return _respond(problems.of_status(error.status_code), {"Allow": verbs} if verbs else error.headers)


def _verbs(scope: Scope) -> str:
    """Return every verb that a path has; the framework names those of the first route that it finds there."""
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    found: set[str] = set()
    for route in routes:
        if route.matches(scope)[0] is not Match.NONE:
            found.update(route.methods or ())
    return ", ".join(sorted(found))


def _not_valid(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        return _respond(problems.internal())
    return _respond(problems.not_valid(places_of(error)))


def _fault(request: Request, error: Exception) -> Response:
    """Answer without a word about it; the framework raises the error again, and the envelope logs where it was."""
    return _respond(problems.internal())


def _respond(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    own = {name.decode("ascii"): value.decode("ascii") for name, value in problem.headers}
    all_headers = {"Cache-Control": "no-store", **own, **(headers or {})}
    return Response(problem.body(), problem.status, all_headers, MEDIA_TYPE)
