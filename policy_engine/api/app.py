"""The whole HTTP door, put together: decisions, searches and probes raw, everything else through the management routes.

Rules of the room: no allow waits for the management routes to load. They are loaded in a thread of their own from the
moment the server starts, or when first asked for; a request that needs them waits until they are there.
Left to others: the server (`server`), the routes (`management`), each room its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from threading import Lock, Thread
from typing import TYPE_CHECKING

import structlog

from policy_engine.api import probes, problems, searches
from policy_engine.api.checks import data, doors
from policy_engine.api.checks.checking import Checker
from policy_engine.api.checks.data import DataApp
from policy_engine.api.checks.doors import CheckApp
from policy_engine.api.condition import GAUGES, gauges, read_condition, tier_label
from policy_engine.api.currentkeys import CurrentKeys
from policy_engine.api.decisions import PATHS, DecisionApp
from policy_engine.api.envelope import Envelope, LargeBody
from policy_engine.api.exchange import Head, Receive, Scope, Send, answer_problem, read_head
from policy_engine.api.feed import EpochPoll, Feed
from policy_engine.api.metrics import Metrics
from policy_engine.api.probes import Probes
from policy_engine.api.searches import SearchApp
from policy_engine.core.decision import Principal
from policy_engine.core.release import Catalogue
from policy_engine.errors import InputRefused
from policy_engine.limits import LIMITS, Limits
from policy_engine.services.revocations import Revocations

if TYPE_CHECKING:
    from fastapi import FastAPI

    from policy_engine.bootstrap import Engine

log = structlog.get_logger(__name__)


class Door:
    """The ASGI application of an open engine."""

    def __init__(self, engine: Engine, limits: Limits = LIMITS) -> None:
        self._exchanges_max = limits.queue_entries_count
        self._under_way = 0
        keys = self._keys = CurrentKeys(engine)
        metrics = Metrics(lambda: gauges(read_condition(engine)), GAUGES, lambda model: tier_label(engine, model))
        self._decisions = DecisionApp(engine.decider, keys, metrics, limits, answering=engine.decider.answering)
        self._searches = SearchApp(engine.listings, keys, metrics, limits)
        wording = engine.settings.wording
        self.checker = Checker(engine.decider, keys, metrics, wording, limits, answering=engine.decider.answering)
        """What the doors for proxies ask, those beside this one included."""
        self._checks, self._data = CheckApp(self.checker), DataApp(self.checker)
        self._feed = revocation_feed(engine, limits)
        self.condition = partial(read_condition, engine)
        """Reads whether decisions can be made; the health check of gRPC says the same as `/readyz`."""
        self._probes = Envelope(Probes(self.condition), keys, limits)
        self._management = Loaded(partial(_load_management, engine, metrics, self._feed))
        large = {"/v1/releases": LargeBody("policy:write", limits.table_bytes)}
        self._managed = Envelope(self._management, keys, limits, large)

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
            elif scope["path"] in searches.PATHS:
                await self._searches(scope, receive, send)
            elif scope["path"].startswith(doors.PREFIX_PATH):
                await self._checks(scope, receive, send)
            elif scope["path"].startswith(data.PREFIX_PATH):
                await self._data(scope, receive, send)
            elif scope["path"] in probes.PATHS and scope["method"] in ("GET", "HEAD"):
                await self._probes(scope, receive, send)
            else:
                await self._managed(scope, receive, send)
        finally:
            self._under_way -= 1

    @property
    def management(self) -> FastAPI:
        """The management routes; waits until they are loaded."""
        return self._management.app()

    def load(self) -> Future[FastAPI]:
        """Begin to load the management routes, and the keys of issuers, beside whatever is asked meanwhile."""
        self._keys.begin()
        return self._management.begin()

    def end_streams(self) -> None:
        """Let every open stream end: the server is about to stop, and would wait for them."""
        self._feed.end_all()


class Loaded:
    """An ASGI application that is made in a thread of its own: requests wait for it. One that failed is tried again."""

    _alone = Lock()
    """One is made at a time in a process: what is loaded, and how the loading warns, is the whole process's."""

    def __init__(self, make: Callable[[], FastAPI]) -> None:
        self._make = make
        self._made: Future[FastAPI] | None = None
        self._lock = Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand one exchange on."""
        made = self.begin()
        app = made.result() if made.done() else await asyncio.wrap_future(made)
        await app(scope, receive, send)

    def begin(self) -> Future[FastAPI]:
        """Begin unless it has begun."""
        with self._lock:
            if self._made is None:
                self._made = Future()
                self._made.set_running_or_notify_cancel()  # a caller who hangs up cancels it for nobody else
                Thread(target=self._fulfil, args=(self._made,), name="management", daemon=True).start()
            return self._made

    def app(self) -> FastAPI:
        """Return the application, once it is there."""
        return self.begin().result()

    def _fulfil(self, made: Future[FastAPI]) -> None:
        try:
            with self._alone:
                made.set_result(self._make())
        except BaseException as error:  # whoever waits must learn of it, whatever it is
            with self._lock:
                self._made = None
            log.error("management.not-loaded", exc_info=error)
            made.set_exception(error)


def _load_management(engine: Engine, metrics: Metrics, feed: Feed) -> FastAPI:
    from fastapi.routing import iter_route_contexts

    from policy_engine.api.management import management_app

    app = management_app(engine, metrics)
    app.state.feed = feed
    app.openapi()
    for _ in iter_route_contexts(app.routes):  # builds each route, which would otherwise hold up a first request's loop
        pass
    return app


def revocation_feed(engine: Engine, limits: Limits = LIMITS) -> Feed:
    """Return the feed of an engine's changes, with no stream open."""

    def catalogue() -> Catalogue | None:
        release = engine.snapshots.refresh().release
        return None if release is None else release.catalogue

    def alive(principal: Principal, epoch: int, until: int | None) -> bool:
        now = engine.store.now()
        return (until is None or now < until) and engine.keys.still_alive(principal, now, epoch=epoch)

    source = Revocations(engine.store, catalogue, limits)
    return Feed(source, alive, limits, EpochPoll(source.epoch, limits, engine.snapshots.subscribe))


async def refuse_busy(scope: Scope, send: Send) -> None:
    """Answer 503 without looking at more of the request than its id."""
    head = Head()
    with suppress(InputRefused):  # whatever else is wrong with it can wait until there is time
        read_head(scope, head)
    await answer_problem(send, problems.busy(), head.request_id)
