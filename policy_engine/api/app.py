"""The whole HTTP door, put together: decision endpoints raw, everything else through FastAPI, one OpenAPI document.

Rules of the room: no CORS (browsers of strangers have no business here), no interactive documentation unless a setting
asks for it, no redirects of slashes. Every error a route raises is mapped by `problems`, also those of the framework.
Left to others: the server (`server`), each room its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from policy_engine.api import problems
from policy_engine.api.callers import Authenticated
from policy_engine.api.condition import GAUGES, gauges, read_condition, tier_label
from policy_engine.api.decisions import PATHS, DecisionApp
from policy_engine.api.discovery import discovery_router
from policy_engine.api.envelope import Envelope, LargeBody
from policy_engine.api.exchange import Head, Receive, Scope, Send, answer_problem, read_head
from policy_engine.api.feed import EpochPoll, Feed
from policy_engine.api.metrics import Metrics
from policy_engine.api.openapi import describe
from policy_engine.api.problems import MEDIA_TYPE, Problem
from policy_engine.api.routes import ROUTERS, only_reading
from policy_engine.api.validation import places_of
from policy_engine.core.decision import Principal
from policy_engine.core.release import Catalogue
from policy_engine.errors import ApprovalNeeded, InputRefused, NotAuthenticated, PolicyEngineError
from policy_engine.limits import LIMITS, Limits
from policy_engine.services.revocations import Revocations

if TYPE_CHECKING:
    from policy_engine.bootstrap import Engine

DESCRIPTION: Final = "Decides who may use which restricted AI model, records each decision, and withdraws models."


class Door:
    """The ASGI application of an open engine."""

    def __init__(self, engine: Engine, limits: Limits = LIMITS) -> None:
        self._exchanges_max = limits.queue_entries_count
        self._under_way = 0
        keys = CurrentKeys(engine)
        metrics = Metrics(lambda: gauges(read_condition(engine)), GAUGES, lambda model: tier_label(engine, model))
        self._decisions = DecisionApp(engine.decider, keys, metrics, limits, answering=engine.decider.answering)
        self.management = management_app(engine, metrics)
        self._feed = revocation_feed(engine, limits)
        self.management.state.feed = self._feed
        large = {"/v1/releases": LargeBody("policy:write", limits.table_bytes)}
        self._management = Envelope(self.management, keys, limits, large)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand one exchange to the application of its path, or refuse it when too many are under way."""
        if scope["type"] != "http":
            return  # no web sockets; the server runs without lifespan, whoever opened the engine closes it
        if self._under_way >= self._exchanges_max:
            return await refuse_busy(scope, send)
        self._under_way += 1
        try:
            if scope["path"] in PATHS:
                await self._decisions(scope, receive, send)
            else:
                await self._management(scope, receive, send)
        finally:
            self._under_way -= 1

    def end_streams(self) -> None:
        """Let every open stream end: the server is about to stop, and would wait for them."""
        self._feed.end_all()


def revocation_feed(engine: Engine, limits: Limits = LIMITS) -> Feed:
    """Return the feed of an engine's changes, with no stream open."""

    def catalogue() -> Catalogue | None:
        release = engine.snapshots.refresh().release
        return None if release is None else release.catalogue

    def alive(principal: Principal, epoch: int) -> bool:
        return engine.keys.still_alive(principal, engine.store.now(), epoch=epoch)

    source = Revocations(engine.store, catalogue, limits)
    return Feed(source, alive, limits, EpochPoll(source.epoch, limits, engine.snapshots.subscribe))


async def refuse_busy(scope: Scope, send: Send) -> None:
    """Answer 503 without looking at more of the request than its id."""
    head = Head()
    with suppress(InputRefused):  # whatever else is wrong with it can wait until there is time
        read_head(scope, head)
    await answer_problem(send, problems.busy(), head.request_id)


class CurrentKeys:
    """Authentication by the keys of the engine, at the store's own clock."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def authenticate(self, token: str, *, fresh: bool) -> Authenticated:
        """Return the principal of a living key; raise `NotAuthenticated` otherwise.

        A key that the epoch of the decisions does not know may have been made since: then the store is asked.
        """
        if not fresh:
            epoch = self._engine.snapshots.current().state.epoch
            try:
                return self._under(token, epoch)
            except NotAuthenticated:
                if self._engine.store.state().epoch == epoch:
                    raise
        return self._under(token, self._engine.store.state().epoch)

    def _under(self, token: str, epoch: int) -> Authenticated:
        engine = self._engine
        return Authenticated(engine.keys.authenticate(token, engine.store.now(), epoch=epoch), epoch)


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
    app.include_router(discovery_router(engine.settings.public_url, metrics, lambda: read_condition(engine)))
    for router in ROUTERS:
        app.include_router(router if engine.settings.may_change else only_reading(router))
    app.add_exception_handler(PolicyEngineError, _engine_error)
    app.add_exception_handler(HTTPException, _framework_error)
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_exception_handler(Exception, _fault)
    described: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not described:
            described.update(describe(app))
        return described

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
    return _respond(problems.of_status(error.status_code), error.headers)


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
