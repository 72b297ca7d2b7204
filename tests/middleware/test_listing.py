"""Listings: what is shown is what could be called, in every door; what is not understood shows nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from policy_engine.limits import LIMITS
from policy_engine.middleware.listing import Listed, NotUnderstood, models_of, shown_to
from policy_engine.middleware.wsgi import PolicyEngineWSGI
from tests.middleware.doors import App, Local, ask, by_proxy, guarded, headers, say
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
    found = shown_to(listed, lambda models: frozenset(("open-1",)), LIMITS)
    assert found.headers == (("cache-control", "no-store"),)
    shown = json.loads(found.body)
    assert (shown["data"], shown["models"]) == (["open-1"], [{"name": "open-1", "model": "open-1"}])
    assert b"fable" not in found.body
