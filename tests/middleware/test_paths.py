"""Paths that an upstream could read otherwise, in every door: as http, as a WebSocket, in WSGI, Django and FastAPI."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi import Depends, FastAPI

from policy_engine.errors import InputRefused
from policy_engine.middleware.fastapi import answer_refusals, require
from policy_engine.middleware.head import Head
from policy_engine.middleware.models import from_body, from_path, from_query
from tests.middleware.djangosite import configured
from tests.middleware.doors import CHAT, App, Local, ask, by_proxy, guarded
from tests.middleware.test_cut import socket
from tests.middleware.test_wsgi import call, door, echo

OPEN = b'{"model":"open-1"}'
SHOWN: dict[str, Any] = {"websocket.http.response": {}}
"""The extension by which a server shows a refusal to whoever asked for a WebSocket."""


def of_django(engine: Any, settings: dict[str, Any]) -> Any:
    """Return a Django project on WSGI, guarded with these settings."""
    site = configured()
    from django.core.wsgi import get_wsgi_application

    site.POLICY_ENGINE = {"engine": Local(engine), "subject": by_proxy(), "serving_region": "US", **settings}
    return get_wsgi_application()


def of_fastapi(engine: Any, settings: dict[str, Any]) -> FastAPI:
    """Return an application with one guarded route that takes every path and method."""
    app = FastAPI(
        dependencies=[Depends(require(engine=Local(engine), subject=by_proxy(), serving_region="US", **settings))]
    )
    answer_refusals(app)
    app.api_route("/{path:path}", methods=["GET", "POST", "OPTIONS"])(lambda path: "served")
    return app


def statuses(engine: Any, path: str, query: str = "model=open-1", body: bytes = OPEN, **settings: Any) -> set[Any]:
    """Return what each door answers to a decoded path; 200 says that the application was reached."""
    app, sent, in_wsgi = App(), query.encode(), path.encode().decode("latin-1")
    found = [
        ask(guarded(engine, app, **settings), body, path=path, query=sent),
        call(door(engine, echo, **settings), body, path=in_wsgi, QUERY_STRING=query),
        call(of_django(engine, settings), body, path=in_wsgi, QUERY_STRING=query),
        ask(of_fastapi(engine, settings), body, path=path, query=sent),
    ]
    told = asyncio.run(
        socket(guarded(engine, app, **settings), path=path, query_string=sent, extensions=SHOWN, method="GET")
    )
    assert bool(app.calls) == (200 in {found[0].status, told[0]["status"]})
    return {each.status for each in found} | {told[0]["status"]}


BOTH = from_body() & from_query()

ENDED = [
    f"{CHAT}?model=mythos-5&y=",
    f"{CHAT}?x",
    f"{CHAT}#x",
    f"{CHAT}%3Fmodel=mythos-5",
    f"{CHAT}%253fmodel=mythos-5",
    f"{CHAT}%23",
    f"{CHAT}\n",
    f"{CHAT}\x7f",
]
"""What ends in an address that is made of it, at once or decoded once or twice more."""


@pytest.mark.parametrize("path", ENDED)
def test_a_path_that_ends_early_is_refused_whatever_names_the_model(engine: Any, path: str) -> None:
    """An application that makes an address of it would send another path on, and a query that nobody looked at.

    Control: policy_engine/middleware/head.py:
    `if _CUT_PATH.search(self.path) is not None or self.path[:1] not in ("", "/"):`
    """
    assert statuses(engine, path, model=BOTH) == {400}
    assert ask(guarded(engine, App()), OPEN, path=path).status == 400


def test_what_is_no_path_is_refused(engine: Any) -> None:
    """A target with a host, as some servers hand it over, is another address to whoever adds it to their own."""
    for path in (f"http://localhost{CHAT}", "*", "v1/models"):
        assert ask(guarded(engine, App()), OPEN, path=path).status == 400
        assert call(door(engine, echo), OPEN, path=path).status == 400


def test_a_plain_path_passes_in_every_door(engine: Any) -> None:
    """Where nothing can be read otherwise nothing is refused, also where the path, the query and the action matter."""
    assert statuses(engine, CHAT, model=BOTH) == {200}
    actions = {CHAT: "infer", "/v1/weights": "download_weights"}
    assert statuses(engine, CHAT, model=BOTH & from_path("/deployments/{model}/*"), action=actions) == {200}
    for path in ("/deployments/open-1/chat", "/deployments/open-1/v1/chat/", "/deployments/open-1/a.b:c@d"):
        assert ask(guarded(engine, App(), model=from_path("/deployments/{model}/*")), path=path).status == 200


@pytest.mark.parametrize(
    "path", [f"{CHAT} ", f"{CHAT}\u00a0", "/v1 /chat", f"{CHAT}\ufffd", f"{CHAT};x", f"/x/..{CHAT}", f"/{CHAT}"]
)
def test_the_path_is_plain_where_the_query_names_the_model(engine: Any, path: str) -> None:
    """Whatever an upstream makes of it, it reads the query that was looked at."""
    assert statuses(engine, path, model=BOTH) == {400}


def test_a_query_that_ends_early_names_no_model(engine: Any) -> None:
    """A number sign ends a query in every address that is made of it, so what is named behind it is not read."""
    for query in ("#&model=open-1", "model=open-1#", "model=open-1&x=#"):
        assert statuses(engine, CHAT, query, model=BOTH) == {400}


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        *(("/deployments/{model}/*", path) for path in ("/deployments/mythos-5", "/Deployments/mythos-5/chat")),
        *(("/deployments/{model}/*", path) for path in ("/deployments /mythos-5/chat", "/deployments/mythos-5;v=1/x")),
        *(("/deployments/{model}", path) for path in ("/deployments/mythos-5/", "/Deployments/mythos-5")),
        *(("/deployments/{model}", path) for path in ("/deployments/mythos-5?x", "/deployments/mythos-5;v=1/chat")),
        ("/deployments/{model}/chat", "/deployments/mythos-5/Chat/"),
        ("/Deployments/{model}/", "/deployments/mythos-5"),
        ("/*/{model}/chat", "/a/mythos-5/CHAT"),
    ],
)
def test_a_path_that_names_a_model_to_a_less_strict_reader_is_refused(engine: Any, pattern: str, path: str) -> None:
    """It is not passed over, so that the model which the body names is decided on, and another one serves.

    Control: policy_engine/middleware/models.py:
    `if matched is None and self._is_like(head.path):`
    """
    assert statuses(engine, path, "", model=from_body() & from_path(pattern)) == {400}


def test_other_routes_than_the_one_with_the_model_pass(engine: Any) -> None:
    """A path that is none of the pattern's, however it is read, names no model, and the body does."""
    for path in ("/deployments", "/deployments/open-1/x/chat", "/other/mythos-5/chat", "/deployments/open-1/chats"):
        door = guarded(engine, App(), model=from_body() & from_path("/deployments/{model}/chat"))
        assert ask(door, OPEN, path=path).status == 200


@pytest.mark.parametrize(
    "raw",
    [
        b"/deployments/open-1%2Fmythos-5/chat",
        b"/deployments/open-1%2fmythos-5/chat?x",
        b"http://localhost/deployments/open-1%5cmythos-5/chat",
        b"/deployments/mythos-5%2Fchat",
    ],
)
def test_a_slash_within_a_segment_is_none_between_two(engine: Any, raw: bytes) -> None:
    """Whoever splits a path before decoding it finds another model in it, where the server shows how it was sent."""
    source = from_body() & from_path("/deployments/{model}/*")
    path = "/deployments/mythos-5/chat" if raw.endswith(b"5%2Fchat") else "/deployments/open-1/mythos-5/chat"
    body = b"" if raw.endswith(b"5%2Fchat") else OPEN
    settings = {"model": source, "resolve": {"mythos-5": "open-1"}}
    app = App()
    assert ask(guarded(engine, app, **settings), body, path=path, raw=raw).status == 400 and app.calls == []
    for name in ("RAW_URI", "REQUEST_URI"):
        for each in (door(engine, echo, **settings), of_django(engine, settings)):
            assert call(each, body, path=path, **{name: raw.decode()}).status == 400
    of_django(engine, settings)
    from django.core.asgi import get_asgi_application

    assert ask(get_asgi_application(), body, path=path, raw=raw).status == 400
    other = b"/v1/files/a%2Fb"
    assert ask(guarded(engine, App(), **settings), OPEN, path="/v1/files/a/b", raw=other).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/v1/weights?x",
        "/v1/weights#x",
        "/v1/weights;x",
        "/v1/weights ",
        "/v1/ weights",
        "/v1/weights%20",
        "/V1/weights/",
    ],
)
def test_a_path_like_one_with_an_action_of_its_own_has_no_other(engine: Any, path: str) -> None:
    """The action of all other routes is not for a path that any upstream takes for the one named."""
    actions = {"/v1/weights": "download_weights", "*": "infer"}
    assert statuses(engine, path, model=BOTH, action=actions) == {400}
    assert ask(guarded(engine, App(), action=actions), OPEN, path=path).status == 400


def test_a_pattern_that_could_name_no_model_is_refused_when_it_is_set(engine: Any) -> None:
    """What no path that is let through could match would guard nothing."""
    for pattern in ("/a b/{model}", "/a//{model}", "/a/../{model}", "/a?/{model}", "/%61/{model}", "/{model};x"):
        with pytest.raises(InputRefused):
            from_path(pattern)


def test_only_the_exact_path_is_exempt_whatever_it_holds(engine: Any) -> None:
    """A file's name may have a space or a question mark in it; one that is like it is guarded."""
    settings = {"model": BOTH, "exempt": ["/files/my report?.txt"]}
    assert statuses(engine, "/files/my report?.txt", "", b"", exempt=["/files/my report?.txt"], model=BOTH) >= {200}
    for path in ("/files/my report?.TXT", "/files/my report?", "/files/my report?.txt/", "/files/my  report?.txt"):
        assert statuses(engine, path, **settings) == {400}


def test_a_head_reads_what_was_sent_once() -> None:
    """The path as it was sent is told from the decoded one only where a slash stands in a segment."""

    def joined(sent: bytes) -> str | None:
        return Head("GET", "/", "", [], None, sent_path=sent).joined_path

    assert [joined(sent) for sent in (b"", b"/a/b", b"/a%20b", b"/a?b=%2F")] == [None] * 4
    assert joined(b"/a%2Fb%20c?x=%2F") == "/a-b c"
    assert joined(b"https://host:1/a%5Cb") == "/a-b"
