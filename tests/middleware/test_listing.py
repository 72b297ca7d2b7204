"""Listings: what is shown is what could be called, in every door; what is not understood shows nothing."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from policy_engine.core.decision import Reason
from policy_engine.core.reasonclasses import Why
from policy_engine.core.wording import Wording
from policy_engine.limits import LIMITS
from policy_engine.middleware.listing import Listed, NotUnderstood, models_of, shown_to
from policy_engine.middleware.models import from_body, from_query
from policy_engine.middleware.subjects import Subject
from policy_engine.middleware.wsgi import PolicyEngineWSGI
from tests.laws.sample import decisions
from tests.middleware.doors import App, Local, ask, by_proxy, guarded, headers, say
from tests.middleware.test_cut import socket
from tests.middleware.test_paths import of_django, of_fastapi
from tests.middleware.test_wsgi import NAMED, call

MODELS = ("fable-5", "fable-latest", "mythos-5", "summit-4", "opus-4-8", "open-1", "never-heard-of")
LISTING = {"object": "list", "data": [{"id": model, "object": "model"} for model in MODELS]}


async def listing(scope: Any, receive: Any, send: Any) -> None:
    """Answer as model servers do."""
    await say(send, json.dumps(LISTING).encode())


@pytest.mark.parametrize("user", [("alice", "acme", "US"), ("eve", "acme", "US"), ("alice", "acme", "IR")])
def test_what_is_listed_is_what_can_be_called(engine: Any, user: tuple[str, str, str]) -> None:
    """Each model that is shown is allowed when it is asked for, and each that is hidden is denied (law 9)."""
    door = guarded(engine, App(listing))
    sent = headers(*user)
    shown = {each["id"] for each in ask(door, b"", path="/v1/models", method="GET", sent=sent).json()["data"]}
    callable_now = {model for model in MODELS if ask(door, b'{"model":"%s"}' % model.encode(), sent=sent).status == 200}
    assert shown == callable_now
    one = {
        model for model in MODELS if ask(door, b"", path=f"/v1/models/{model}", method="GET", sent=sent).status == 200
    }
    assert one == callable_now


def test_wsgi_lists_the_same(engine: Any) -> None:
    """The other door shows what this one shows."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", "5")])
        return [json.dumps(LISTING).encode()]

    wsgi = PolicyEngineWSGI(app, engine=Local(engine), subject=by_proxy(), serving_region="US")
    found = call(wsgi, b"", path="/v1/models", method="GET")
    other = ask(guarded(engine, App(listing)), b"", path="/v1/models", method="GET")
    assert json.loads(found.body) == other.json()
    assert found.headers["content-length"] == str(len(found.body)) and found.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    [
        *("/v1//models", "//v1/models", "/v1/./models", "/v1/x/../models", "/V1/Models", "/v1\\models"),
        *(
            "/v1/models;x",
            "/v1/models%2F",
            "/v1/mo%64els",
            "/v1/models ",
            "/v1/models\0x",
            "/v1/models?x",
            "//v1/models/a",
        ),
    ],
)
def test_a_path_that_may_be_a_listing_to_an_upstream_is_refused(engine: Any, path: str) -> None:
    """It would show all of it to whoever may use the one model that the body names."""
    app = App(listing)
    assert ask(guarded(engine, app), path=path, method="GET").status == 400
    assert app.calls == []


def test_other_paths_are_like_no_listing(engine: Any) -> None:
    """What only begins or ends like one passes, and so does what lies under a listing with a slash at its end."""
    for path in ("/v1/models-of-mine", "/x/v1/models", "/V1/modelling"):
        assert ask(guarded(engine, App()), path=path).status == 200
    for listings in (["/models/"], ["/"], []):
        assert ask(guarded(engine, App(), listings=listings), path="/models/x").status == 200


def test_head_and_errors_of_the_application_pass(engine: Any) -> None:
    """A HEAD has the head of the filtered listing; an answer that is no listing passes as it is."""

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await say(send, b"no", status=500)

    found = ask(guarded(engine, App(listing)), b"", path="/v1/models", method="HEAD")
    whole = ask(guarded(engine, App(listing)), b"", path="/v1/models", method="GET")
    assert (found.status, found.body) == (200, b"")
    assert found.headers["content-length"] == str(len(whole.body)) != "0"
    assert ask(guarded(engine, App(broken)), b"", path="/v1/models", method="GET").status == 500
    assert ask(guarded(engine, App(listing)), b"", path="/v1/models", method="GET", sent=[]).status == 401
    assert ask(guarded(engine, App(listing)), b"", path="/v1/models", method="POST").status == 400


@pytest.mark.parametrize(
    ("body", "more"),
    [
        (b"not json", {}),
        (b"[]", {}),
        (b'{"items":[{"id":"fable-5"}]}', {}),
        (b"[" * 5_000, {}),
        (b'{"data":[]}', {"content-encoding": "gzip"}),
        (json.dumps({"data": [{"id": str(number)} for number in range(1_001)]}).encode(), {}),
    ],
)
def test_a_listing_that_is_not_understood_shows_nothing(engine: Any, body: bytes, more: dict[str, str]) -> None:
    """Whatever cannot be filtered is an outage, not a leak."""
    with pytest.raises(NotUnderstood):
        models_of(Listed(200, tuple(more.items()), body), LIMITS)

    async def odd(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"y")]})
        await send({"type": "http.response.body", "body": body if not more else b"\x1f\x8b", "more_body": False})

    answered = ask(guarded(engine, App(odd)), b"", path="/v1/models", method="GET")
    assert answered.status == 503 and b"fable" not in answered.body


def test_a_client_that_kept_a_listing_gets_the_one_of_now(engine: Any) -> None:
    """What it kept was filtered for another moment: the application is asked for the whole, in either door."""

    async def kept(scope: Any, receive: Any, send: Any) -> None:
        asked = {bytes(name) for name, _ in scope["headers"]}
        if asked & {b"if-none-match", b"if-modified-since", b"range"}:
            await say(send, b"", status=304)
        else:
            await listing(scope, receive, send)

    def app(environ: Any, start_response: Any) -> list[bytes]:
        partial = "HTTP_IF_NONE_MATCH" in environ or "HTTP_IF_MODIFIED_SINCE" in environ
        start_response("304 Not Modified" if partial else "200 OK", [("Content-Type", "application/json")])
        return [b"" if partial else json.dumps(LISTING).encode()]

    sent = headers(if_none_match='"x"', if_modified_since="Fri, 27 Nov 2026 00:00:00 GMT")
    found = ask(guarded(engine, App(kept)), b"", path="/v1/models", method="GET", sent=sent)
    assert found.status == 200 and b"fable-5" in found.body
    wsgi = PolicyEngineWSGI(app, engine=Local(engine), subject=by_proxy(), serving_region="US")
    named = {**NAMED, "if-none-match": '"x"', "if-modified-since": "Fri, 27 Nov 2026 00:00:00 GMT"}
    assert call(wsgi, b"", path="/v1/models", method="GET", sent=named).status == 200


def test_other_forms_are_filtered_by_every_name() -> None:
    """`models` with several names each, entries that are texts, and Anthropic's paging hide what is not allowed."""
    document = {
        "data": ["open-1", "fable-5", 7, {"no": "id"}],
        "models": [{"name": "open-1", "model": "open-1"}, {"name": "open-1", "model": "fable-5"}],
        "first_id": "fable-5",
        "last_id": "fable-5",
        "has_more": False,
    }
    listed = Listed(200, (("etag", "x"),), json.dumps(document).encode())
    assert models_of(listed, LIMITS) == ["fable-5", "open-1"]
    found = shown_to(listed, frozenset(("open-1",)))
    assert found.headers == (("cache-control", "no-store"),)
    shown = json.loads(found.body)
    assert (shown["data"], shown["models"]) == (["open-1"], [{"name": "open-1", "model": "open-1"}])
    assert b"fable" not in found.body


OTHERS = ("POST", "OPTIONS", "get", "QUERY", "PUT", "DELETE", "BREW")


@pytest.mark.parametrize("method", OTHERS)
@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/", "/v1/models/open-1"])
def test_a_listing_is_only_read(engine: Any, method: str, path: str) -> None:
    """By any other method it would be shown as it is to whoever may use the one model that the body names.

    Control: policy_engine/middleware/guard.py: `if head.path in self.listings:`
    """

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(LISTING).encode()]

    body, asgi = b'{"model":"open-1"}', App(listing)
    wsgi = PolicyEngineWSGI(app, engine=Local(engine), subject=by_proxy(), serving_region="US")
    found = [
        ask(guarded(engine, asgi), body, path=path, method=method),
        call(wsgi, body, path=path, method=method),
        call(of_django(engine, {}), body, path=path, method=method),
    ]
    for each in found:
        assert each.status == 400 and b"mythos" not in each.body
    assert asgi.calls == []


def test_no_websocket_and_no_dependency_shows_a_listing(engine: Any) -> None:
    """Neither can filter what is shown, so a model that the query names opens it to neither."""
    settings = {"model": from_body() & from_query()}
    app = App(listing)
    told = asyncio.run(socket(guarded(engine, app, **settings), path="/v1/models", query_string=b"model=open-1"))
    assert told == [{"type": "websocket.close", "code": 1008, "reason": "policy"}] and app.calls == []
    found = ask(of_fastapi(engine, settings), b"", path="/v1/models", method="GET", query=b"model=open-1")
    assert found.status == 400
    one = ask(of_fastapi(engine, settings), b"", path="/v1/models/open-1", method="GET", query=b"model=open-1")
    assert one.status == 200


class Counting(Local):
    """An engine that counts how it is asked, and whose answers a test may change."""

    def __init__(self, engine: Any, change: Any = None) -> None:
        super().__init__(engine)
        self.batches: list[int] = []
        self.alone = 0
        self.change = change

    def decide(self, **question: Any) -> Any:
        """Count one."""
        self.alone += 1
        return super().decide(**question)

    async def decide_async(self, **question: Any) -> Any:
        """Count one."""
        self.alone += 1
        return await super().decide_async(**question)

    def decide_many(self, questions: Any) -> Any:
        """Count them."""
        return self._counted(super().decide_many(questions))

    async def decide_many_async(self, questions: Any) -> Any:
        """Count them."""
        return self._counted(await super().decide_many_async(questions))

    def _counted(self, decisions: list[Any]) -> list[Any]:
        self.batches.append(len(decisions))
        return decisions if self.change is None else [self.change(each) for each in decisions]


def listed_by(engine: Any, document: Any, method: str = "GET", **settings: Any) -> tuple[Any, Any]:
    """Return what the doors on ASGI and WSGI show of a listing."""
    body = json.dumps(document).encode()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await say(send, body)

    def other(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "application/json")])
        return [body]

    settings = {"subject": by_proxy(), **settings}
    wsgi = PolicyEngineWSGI(other, engine=engine, serving_region="US", **settings)
    return (
        ask(guarded(engine, App(app), **settings), b"", path="/v1/models", method=method),
        call(wsgi, b"", path="/v1/models", method=method),
    )


def test_the_models_of_a_listing_are_asked_about_together(engine: Any) -> None:
    """One question each, in one call: an engine afar is not overrun by a long listing."""
    asked = Counting(engine)
    many = {"data": [{"id": f"model-{number:03}"} for number in range(200)] + [{"id": "open-1"}]}
    for found in listed_by(asked, many):
        assert found.json() == {"data": [{"id": "open-1"}]}
    assert (asked.batches, asked.alone) == ([201, 201], 0)
    assert len(decisions(engine)) == 402
    assert [found.json() for found in listed_by(asked, {"data": []})] == [{"data": []}] * 2
    assert len(asked.batches) == 2


class Nameless:
    """Names a caller whose tenant has a name that nobody can ask about."""

    def identify(self, head: Any) -> Subject:
        """Return it."""
        return Subject("alice", tenant="x" * 257)

    async def identify_async(self, head: Any) -> Subject:
        """Return it."""
        return self.identify(head)


def test_a_name_that_could_not_be_asked_for_is_hidden(engine: Any) -> None:
    """It is refused when it is called, and hides no other; what is wrong of the caller itself is said."""
    odd = {"data": [{"id": "x" * 257}, {"id": ""}, {"id": "a\nb"}, {"id": "open-1"}]}
    assert [found.json() for found in listed_by(Counting(engine), odd)] == [{"data": [{"id": "open-1"}]}] * 2
    assert [found.status for found in listed_by(Counting(engine), odd, subject=Nameless())] == [400] * 2


def test_a_listing_that_nobody_could_decide_on_is_an_outage(engine: Any) -> None:
    """An empty listing would say that nothing may be used, while each call is told to come again.

    Control: policy_engine/middleware/listing.py:
    `if not decision.allowed and told(decision, wording) is Why.OUTAGE:`
    """
    engine.recorder.close()
    found = [*listed_by(Local(engine), LISTING), call(of_django(engine, {}), b"", path="/v1/models", method="GET")]
    for each in found:
        assert (each.status, each.headers["retry-after"]) == (503, "1") and b"open-1" not in each.body
    assert [each.status for each in listed_by(Local(engine), LISTING, method="HEAD")] == [503] * 2


@pytest.mark.parametrize("code", ["engine.away", "engine.answer-late", "replica.cut-off", "own.away"])
def test_one_model_that_nobody_could_decide_on_makes_the_listing_an_outage(engine: Any, code: str) -> None:
    """What is left out would be taken for denied; by the codes, one's own too, that make one request 503."""

    def away(decision: Any) -> Any:
        if decision.asked.model != "open-1":
            return decision
        return replace(decision, allowed=False, reasons=(Reason(code, "engine", "away"),))

    wording = Wording(classes=(("own.away", Why.OUTAGE),))
    found = listed_by(Counting(engine, away), LISTING, wording=wording)
    assert [each.status for each in found] == [503] * 2
    shown = listed_by(Counting(engine, away), {"data": [{"id": "opus-4-8"}]}, wording=wording)
    assert [each.status for each in shown] == [200] * 2


def test_a_hint_before_a_listing_and_one_mapping_for_all_change_nothing(engine: Any) -> None:
    """What an application says before its answer is no part of it, and its messages are its own to use again."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        message: dict[str, Any] = {"type": "http.response.early_hint", "links": []}
        await send(message)
        message.clear()
        message |= {"type": "http.response.start", "status": 200, "headers": iter([(b"x-own", b"kept")])}
        await send(message)
        message.clear()
        message |= {"type": "http.response.body", "body": json.dumps(LISTING).encode(), "more_body": True}
        await send(message)
        message |= {"body": b"", "more_body": False}
        await send(message)

    found = ask(guarded(engine, App(app)), b"", path="/v1/models", method="GET")
    assert found.status == 200 and found.headers["x-own"] == "kept" and b"open-1" in found.body
