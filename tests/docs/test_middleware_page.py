"""The page about doors in front of applications, executed: each example guards one, as a reader pastes it."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from policy_engine.bootstrap import copy_template
from policy_engine.middleware.vllm import NAMES
from tests.docs import pages
from tests.middleware.djangosite import configured
from tests.middleware.doors import CHAT, App, ask, exchange
from tests.middleware.test_cut import socket, talk
from tests.middleware.test_other_doors import load
from tests.middleware.test_wsgi import call
from tests.middleware.tokens import claims, key, key_set, token

PAGE = pages.ROOT / "docs" / "middleware.md"
HEADINGS = ("ASGI", "WebSocket", "FastAPI, one route", "Flask", "Django", "vLLM")


def block(heading: str) -> str:
    """Return the first block under a heading."""
    found = pages.FENCE.search(pages.section(PAGE, heading))
    assert found is not None
    return found.group(2)


@pytest.fixture
def folder(tmp_path: Path, sample_database: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Offer the folder of a reader: the policies, a database, the issuer's keys."""
    (tmp_path / "policies").symlink_to(pages.ROOT / "policies")
    copy_template(sample_database.place, tmp_path / "engine.db")
    (tmp_path / "jwks.json").write_text(json.dumps(key_set(key("one"))))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def pasted(folder: Path) -> Iterator[Any]:
    """Offer a way to run a block, and close its engine afterwards."""
    opened: list[Any] = []

    def paste(heading: str, **names: Any) -> dict[str, Any]:
        run: dict[str, Any] = {"__name__": "example", **names}
        exec(compile(block(heading), str(PAGE), "exec"), run)  # noqa: S102  it is what the page shows
        opened.append(run["engine"])
        return run

    yield paste
    for engine in opened:
        engine.close()


def bearer(user: str) -> list[tuple[bytes, bytes]]:
    """Return the headers of a caller with a token."""
    signed = token(claims(sub=user)).encode()
    return [(b"authorization", b"Bearer " + signed), (b"content-type", b"application/json")]


def test_asgi(pasted: Any) -> None:
    """The application is guarded, and its health check is not."""
    app = pasted("ASGI", app=App())["app"]
    assert [ask(app, sent=bearer(user)).status for user in ("alice", "eve")] == [200, 403]
    assert ask(app, b"", path="/healthz", sent=[]).status == 200


def test_websocket(pasted: Any) -> None:
    """A WebSocket is guarded before it is accepted."""
    app = pasted("WebSocket", app=App(talk))["app"]
    denied = asyncio.run(socket(app, headers=bearer("eve")))
    assert denied == [{"type": "websocket.close", "code": 1008, "reason": "policy"}]

    async def accepted() -> list[Any]:
        try:
            return list(await socket(app, 0.5, headers=bearer("alice"), seen=[]))
        except TimeoutError:
            return ["still open"]

    assert asyncio.run(accepted()) == ["still open"]


def test_fastapi(pasted: Any) -> None:
    """The route runs with its decision, or not at all."""
    app = pasted("FastAPI, one route")["app"]
    assert ask(app, sent=bearer("alice")).json()["decision"]
    assert ask(app, sent=bearer("eve")).status == 403


def test_flask(pasted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flask's application is guarded; the address of the connection is the proxy's proof."""
    monkeypatch.setenv("POLICY_ENGINE_SERVING_REGION", "US")
    app = pasted("Flask")["app"]
    app.add_url_rule(CHAT, view_func=lambda: {"served": True}, methods=["POST"])
    named = {"x-tenant": "acme", "x-country": "US"}
    assert [call(app, sent={**named, "x-user": user}).status for user in ("alice", "eve")] == [200, 403]
    assert call(app, sent={**named, "x-user": "alice"}, REMOTE_ADDR="192.0.2.1").status == 401


def test_django(pasted: Any) -> None:
    """The settings of the page make the middleware guard a project."""
    settings = configured()
    from django.http import JsonResponse
    from django.test import RequestFactory
    from django.utils.module_loading import import_string

    run = pasted("Django")
    settings.POLICY_ENGINE = run["POLICY_ENGINE"]
    middleware = import_string(run["MIDDLEWARE"][0])(lambda request: JsonResponse({"served": True}))

    def status(user: str) -> int:
        sent = {"authorization": dict(bearer(user))[b"authorization"].decode()}
        request = RequestFactory().post(CHAT, {"model": "fable-5"}, content_type="application/json", headers=sent)
        found: int = middleware(request).status_code
        return found

    assert [status(user) for user in ("alice", "eve")] == [200, 403]


def test_vllm(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables of the page, and the class that its command names, guard a server that loads it as vLLM does."""
    *exports, command = pages.commands(pages.Block("sh", block("vLLM"), 1))
    for line in exports:
        word, *pairs = shlex.split(line)
        assert word == "export"
        for name, _, value in (pair.partition("=") for pair in pairs):
            monkeypatch.setenv(name, value)
    words = shlex.split(command)
    app = load(words[words.index("--middleware") + 1])
    body = b'{"model":"my-served-name"}'

    async def statuses() -> list[int | None]:
        return [(await exchange(app, body, path="/invocations", sent=bearer(user))).status for user in ("alice", "eve")]

    try:
        assert asyncio.run(statuses()) == [200, 403]
    finally:
        layer: Any = app.middleware_stack
        while not hasattr(layer, "_engine"):
            layer = layer.app
        layer._engine.close()


def test_the_page_names_every_variable_of_the_guard() -> None:
    """The table lists each setting of the class that servers load, and no other."""
    table = pages.section(PAGE, "vLLM").partition("| --- |")[2]
    named = {word.strip("`") for row in table.splitlines() for word in row.split("|")[1:2] for word in word.split(", ")}
    assert {name.strip().strip("`") for name in named if name.strip()} - {"---"} == set(NAMES)


def test_the_page_has_an_example_for_each_door() -> None:
    """None of the six doors is without its block."""
    assert all(block(heading) for heading in HEADINGS)
