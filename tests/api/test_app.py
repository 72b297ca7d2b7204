"""The door as a whole: which application answers a path, and what happens when too much is under way."""

from __future__ import annotations

import asyncio
import io
import json
from dataclasses import replace
from threading import Event
from typing import Any

import pytest
import structlog

from policy_engine import logs
from policy_engine.api.app import Door, Loaded
from policy_engine.api.management import management_app
from policy_engine.api.metrics import Metrics
from policy_engine.errors import ApprovalNeeded
from policy_engine.limits import LIMITS
from tests.api import doors
from tests.api.served import ALICE, Served
from tests.middleware.tokens import claims, token


@pytest.mark.parametrize("path", ["/access/v1/evaluation", "/v1/models", "/healthz", "/nowhere"])
def test_beyond_the_exchanges_that_may_be_under_way_the_answer_is_503(served: Served, path: str) -> None:
    """Whoever comes too many is told so at once, with the request id; nothing is read or decided."""
    door = Door(served.engine, replace(LIMITS, queue_entries_count=0))
    reply = doors.ask(door, ALICE, path=path, headers=((b"x-request-id", b"7"),))
    assert (reply.status, reply.json()["code"]) == (503, "busy")
    assert (reply.header("retry-after"), reply.header("x-request-id")) == ("1", "7")
    forged = doors.ask(door, ALICE, path=path, headers=((b"x-request-id", b"a\nb"),))
    assert (forged.status, forged.header("x-request-id")) == (503, None)


def test_an_exchange_that_ended_makes_room_for_the_next(served: Served) -> None:
    """The count goes down whatever became of the exchange."""
    door = Door(served.engine, replace(LIMITS, queue_entries_count=1))
    for body in (ALICE, b"{", ALICE):
        assert doors.ask(door, body, key=served.keys["gateway"]).status in (200, 400)


@pytest.mark.parametrize("kind", ["websocket", "lifespan"])
def test_only_http_is_answered(served: Served, kind: str) -> None:
    """Nothing is said on other protocols."""

    async def silent(*_: Any) -> None:
        raise AssertionError("something was sent or read")

    asyncio.run(Door(served.engine)({"type": kind, "path": "/v1/models"}, silent, silent))


def test_management_routes_that_could_not_be_loaded_are_tried_again(served: Served) -> None:
    """A failure is one answer's, and not the rest of the process's; it is logged, for it may be nobody's answer."""
    tried: list[int] = []

    def make() -> Any:
        tried.append(len(tried))
        if len(tried) == 1:
            raise ImportError
        return management_app(served.engine, Metrics())

    loaded = Loaded(make)
    with structlog.testing.capture_logs() as logged, pytest.raises(ImportError):
        loaded.app()
    assert [each["event"] for each in logged] == ["management.not-loaded"]
    assert loaded.app() is loaded.app() and tried == [0, 1]


def test_a_caller_who_hangs_up_while_routes_load_takes_them_from_nobody(served: Served) -> None:
    """Its request is cancelled; the loading goes on for whoever comes after it."""
    may = Event()

    def make() -> Any:
        may.wait(10)
        return management_app(served.engine, Metrics())

    async def hang_up(loaded: Loaded) -> None:
        asking = asyncio.ensure_future(loaded({"type": "http"}, _silent, _silent))
        await asyncio.sleep(0.05)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        may.set()

    loaded = Loaded(make)
    asyncio.run(hang_up(loaded))
    assert loaded.app().title == "policy_engine"


async def _silent(*_: Any) -> None:
    raise AssertionError("something was sent or read")


def test_interactive_documentation_is_a_setting(served: Served) -> None:
    """Off unless asked for; then it is one page beside the document."""
    settings = served.engine.settings.model_copy(update={"docs": True})
    engine = replace(served.engine, settings=settings)
    assert doors.ask(management_app(engine, Metrics()), path="/docs", method="GET").status == 200
    assert doors.ask(management_app(served.engine, Metrics()), path="/docs", method="GET").status == 404


def test_a_change_that_waits_is_answered_202_with_its_proposal(served: Served) -> None:
    """A service that raises for want of a second person is no error over HTTP."""
    app = management_app(served.engine, Metrics())

    @app.get("/waits")
    def waits() -> None:
        raise ApprovalNeeded("a second person must approve", proposal="prop-7")

    reply = doors.ask(app, path="/waits", method="GET")
    assert (reply.status, reply.header("location")) == (202, "/v1/approvals/prop-7")
    assert reply.json()["proposal"] == "prop-7"


def test_a_fault_in_a_route_says_nothing_and_is_logged_by_class(served: Served, planted_facts: Any) -> None:
    """The whole way from a route through the framework and the envelope: one answer, one line, no value in either."""
    door = Door(served.engine)
    out = io.StringIO()
    logs.configure(level="info", stream=out)

    @door.management.get("/v1/breaks")
    def breaks() -> None:
        raise RuntimeError(planted_facts.nationality)

    reply = doors.ask(door, path="/v1/breaks", method="GET", key=served.keys["gateway"])
    assert (reply.status, reply.header("content-type")) == (500, "application/problem+json")
    (line,) = [json.loads(line) for line in out.getvalue().splitlines()]
    assert (line["event"], line["error"]) == ("request.failed", "RuntimeError")
    assert planted_facts.nationality not in reply.body.decode() + out.getvalue()


def test_a_token_is_an_unknown_key_where_no_issuer_is_trusted(served: Served) -> None:
    """Without the setting a JWT is 401, with the sentence of an unknown key, and nothing looks into it."""
    answer = served.post("/access/v1/evaluation", ALICE, key=token(claims()))
    assert (answer.status_code, answer.json()["detail"]) == (401, "the key is unknown")
    assert served.engine.issuers is None
