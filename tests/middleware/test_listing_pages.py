"""Listings in pages: a caller sees all that it may use, whichever pages hold none of it, and no other name."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import anthropic
import httpx2
import pytest

from policy_engine.limits import LIMITS
from policy_engine.middleware.listing import Listed, NotUnderstood, query_behind
from tests.middleware.doors import App, ask, guarded, headers, say
from tests.middleware.paging import ALL, page
from tests.middleware.test_paths import of_django
from tests.middleware.test_wsgi import NAMED, call, door

ALICE, EVE = ("alice", "acme", "US"), ("eve", "acme", "US")
BARRED = tuple(f"unknown-{number}" for number in range(6))


def application(models: tuple[str, ...] = ALL) -> App:
    """Return an application that lists these models in pages."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await say(send, json.dumps(page(scope["query_string"].decode(), models)).encode())

    return App(answer)


def usable(engine: Any, user: tuple[str, str, str]) -> list[str]:
    """Return which models of the whole listing the caller may call, in the listing's order."""
    sent = headers(*user)
    return [
        id for id in ALL if ask(guarded(engine, App()), json.dumps({"model": id}).encode(), sent=sent).status == 200
    ]


def by_client(app: Any, user: tuple[str, str, str], **asked: Any) -> tuple[list[str], list[bytes]]:
    """Return what Anthropic's own client lists through a door, and what it was told on the way."""
    told: list[bytes] = []

    async def note(response: Any) -> None:
        told.append(await response.aread())

    async def main() -> list[str]:
        transport = httpx2.ASGITransport(app=app)
        named = {name.decode(): value.decode() for name, value in headers(*user)}
        async with httpx2.AsyncClient(transport=transport, event_hooks={"response": [note]}) as http:
            client = anthropic.AsyncAnthropic(
                api_key="none", base_url="http://models.example", http_client=http, default_headers=named, max_retries=0
            )
            return [model.id async for model in client.models.list(**asked)]

    return asyncio.run(main()), told


@pytest.mark.parametrize("user", [ALICE, EVE])
@pytest.mark.parametrize("limit", [1, 2, 3, 20])
def test_anthropics_client_lists_all_that_may_be_used(engine: Any, user: tuple[str, str, str], limit: int) -> None:
    """In any size of pages, forwards and backwards, what is listed is what can be called (law 9), and nothing else is
    named to the client.

    Control: policy_engine/middleware/listing.py:
    `if _members(_document(shown), "data") or not _members(document, "data"):`
    """
    expected = usable(engine, user)
    listed, told = by_client(guarded(engine, application()), user, limit=limit)
    assert listed == expected
    assert not [id for id in set(ALL) - set(expected) if any(json.dumps(id).encode() in each for each in told)]
    backwards, _ = by_client(guarded(engine, application()), user, limit=limit, before_id=ALL[-1])
    assert sorted(backwards) == sorted(expected)


@pytest.mark.parametrize("query", ["limit=2", "limit=2&after_id=open-1", "x=%26&limit=1&before_id=mythos-6", ""])
def test_every_door_passes_over_pages_without_anything(engine: Any, query: str) -> None:
    """WSGI and Django, on either of its handlers, show the page that ASGI shows, by queries of the same form."""
    asked: list[str] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        asked.append(environ["QUERY_STRING"])
        assert environ["wsgi.input"].read() == b"" or len(asked) == 1
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(page(environ["QUERY_STRING"])).encode()]

    app_asgi = application()
    sent = headers(*EVE, if_none_match='"x"', content_length="2")
    shown = ask(guarded(engine, app_asgi), b"{}", path="/v1/models", method="GET", query=query.encode(), sent=sent)
    named = {**NAMED, "x-user": "eve"}
    wsgi = call(door(engine, app), b"{}", path="/v1/models", method="GET", sent=named, QUERY_STRING=query)
    site = of_django(engine, {"listings": ["/paged/v1/models"]})
    django = call(site, b"{}", path="/paged/v1/models", method="GET", sent=named, QUERY_STRING=query)
    from django.core.asgi import get_asgi_application

    served = ask(get_asgi_application(), b"{}", path="/paged/v1/models", method="GET", query=query.encode(), sent=sent)
    assert shown.json() == wsgi.json() == django.json() == served.json()
    assert [each["id"] for each in shown.json()["data"]] == ([] if "after_id" in query else ["open-1"])
    assert [scope["query_string"].decode() for scope in app_asgi.scopes] == asked and asked[0] == query
    assert [body != b"" for body in app_asgi.bodies] == [True] + [False] * (len(asked) - 1)
    lengths = [dict(scope["headers"]).get(b"content-length") for scope in app_asgi.scopes]
    assert lengths == [b"2"] + [None] * (len(asked) - 1)


def test_as_many_pages_as_the_limit_says_are_asked_for(engine: Any) -> None:
    """A page that the limit just reaches is shown; one past it the answer is an outage, and no end of the listing."""
    for models, count, status in (
        ((*BARRED, "open-1"), 7, 200),
        ((*BARRED, "open-1"), 6, 503),
        (BARRED, 6, 200),
        (BARRED, 5, 503),
    ):
        limits = replace(LIMITS, guarded_listing_pages_count=count)
        app = application(models)
        found = ask(guarded(engine, app, limits=limits), b"", path="/v1/models", method="GET", query=b"limit=1")
        assert found.status == status and len(app.calls) == min(count, len(models))

        def other(environ: Any, start: Any, models: Any = models) -> list[bytes]:
            start("200 OK", [])
            return [json.dumps(page(environ["QUERY_STRING"], models)).encode()]

        wsgi = door(engine, other, limits=limits)
        assert call(wsgi, b"", path="/v1/models", method="GET", QUERY_STRING="limit=1").status == status
    assert LIMITS.guarded_listing_pages_count == 64


def document(**members: Any) -> Listed:
    """Return a page of a listing with one model that is hidden."""
    return Listed(200, (), json.dumps({"data": [{"id": "mythos-5"}], **members}).encode())


NOTHING = Listed(200, (), b'{"data":[]}')


@pytest.mark.parametrize(
    ("members", "query", "expected"),
    [
        ({"has_more": True, "last_id": "a b/&"}, "", "after_id=a%20b%2F%26"),
        ({"has_more": True, "last_id": "b"}, "limit=1&after%5Fid=a&x", "limit=1&x&after_id=b"),
        ({"has_more": True, "first_id": "b", "last_id": "c"}, "before_id=d", "before_id=b"),
        ({"last_id": "b"}, "", "after_id=b"),
        ({"last_id": None}, "", None),
        ({"has_more": False, "last_id": "b"}, "", None),
        ({"has_more": True}, "page=1", None),
        ({}, "", None),
    ],
)
def test_the_next_page_is_asked_for_as_clients_do(members: Any, query: str, expected: str | None) -> None:
    """Behind the last model of the page, before the first where the client goes backwards; never where a page's own
    form has no such members, and its clients go on by other means."""
    assert query_behind(document(**members), NOTHING, query) == expected
    assert query_behind(document(**members), Listed(200, (), b'{"data":["open-1"]}'), query) is None
    assert query_behind(Listed(404, (), b"no"), Listed(404, (), b"no"), query) is None


@pytest.mark.parametrize("members", [{"last_id": None}, {"last_id": 7, "first_id": "a"}, {"last_id": "mythos-5"}])
def test_a_page_that_does_not_say_how_to_go_on_is_no_end(engine: Any, members: dict[str, Any]) -> None:
    """It says that there is more, and not behind what, or it is the same page again: an outage, and no short list."""
    with pytest.raises(NotUnderstood):
        query_behind(document(has_more=True, **members), NOTHING, "after_id=mythos-5")

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await say(send, document(has_more=True, **members).body)

    app = App(answer)
    found = ask(guarded(engine, app), b"", path="/v1/models", method="GET")
    assert found.status == 503 and b"mythos" not in found.body and len(app.calls) <= 2
