"""FastAPI's dependency, and the door that a server loads by its import path with all settings from the environment."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import Body, Depends, FastAPI, Request, WebSocket, WebSocketDisconnect
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from policy_engine.core.decision import Decision
from policy_engine.core.dialects import Dialect
from policy_engine.errors import InputRefused, StartRefused
from policy_engine.limits import LIMITS
from policy_engine.middleware.fastapi import answer_refusals, require
from policy_engine.middleware.models import from_query
from policy_engine.middleware.vllm import Guard, settings_of
from tests.conftest import POLICIES
from tests.middleware.doors import CHAT, SECRET, Local, ask, by_proxy, headers
from tests.middleware.tokens import AUDIENCE, ISSUER, key, key_set, token


def application(engine: Any, **more: Any) -> FastAPI:
    """Return an application with one guarded route."""
    app = FastAPI()
    allowed = Depends(require(engine=Local(engine), subject=by_proxy(), serving_region="US", **more))
    whole = Body()

    async def chat(decision: Decision = allowed, body: dict[str, Any] = whole) -> Any:
        return {"id": decision.id, "body": body}

    async def raw(request: Request, decision: Decision = allowed) -> Any:
        return json.loads(await request.body())

    app.post(CHAT)(chat)
    app.post("/v1/messages")(raw)
    return app


def test_a_dependency_guards_its_route(engine: Any) -> None:
    """The route finds the decision and the body; a deny, nobody and a bad body never run it."""
    app = application(engine)
    answer_refusals(app)
    found = ask(app).json()
    assert found["body"] == {"model": "fable-5"} and found["id"]
    assert ask(app, path="/v1/messages").json() == {"model": "fable-5"}
    denied = ask(app, sent=headers(user="eve"))
    assert (denied.status, denied.json()["error"]["type"]) == (403, "request_forbidden")
    assert denied.headers["x-should-retry"] == "false"
    assert ask(app, path="/v1/messages", sent=headers(user="eve")).json()["type"] == "error"
    assert ask(app, sent=[(b"content-type", b"application/json")]).status == 401
    assert ask(app, b'{"model":"open-1","model":"fable-5"}').status == 400
    assert ask(app, sent=headers(content_length="9" * 5_000)).status == 400


def test_a_dependency_guards_a_websocket(engine: Any) -> None:
    """A route for WebSockets finds the decision too; what is denied or names nobody is closed before it is accepted."""
    app = FastAPI()
    settings: dict[str, Any] = {"engine": Local(engine), "subject": by_proxy(), "model": from_query()}
    allowed = Depends(require(**settings, serving_region="US"))

    async def talk(websocket: WebSocket, decision: Decision = allowed) -> None:
        await websocket.accept()
        await websocket.send_text(str(decision.allowed))
        await websocket.close()

    app.websocket("/talk")(talk)
    named, client = {name.decode(): value.decode() for name, value in headers()}, TestClient(app)
    with client.websocket_connect("/talk?model=fable-5", headers=named) as websocket:
        assert websocket.receive_text() == "True"
    for query, sent in (("?model=mythos-5", named), ("", named), ("?model=fable-5", {})):
        with pytest.raises(WebSocketDisconnect) as closed, client.websocket_connect(f"/talk{query}", headers=sent):
            pass
        assert closed.value.code == 1008


def test_a_body_without_end_is_not_taken_to_its_end(engine: Any) -> None:
    """What is too long or too slow for the door is refused when that is known, whatever it says of its length."""
    taken: list[int] = []

    def endless(app: FastAPI) -> Any:
        async def given(scope: Any, receive: Any, send: Any) -> None:
            async def piece() -> Any:
                taken.append(1)
                await asyncio.sleep(0.01)
                return {"type": "http.request", "body": b" " * 1_000, "more_body": len(taken) < 300}

            await app({**scope, "headers": [*scope["headers"], (b"transfer-encoding", b"chunked")]}, piece, send)

        return given

    app = application(engine, limits=replace(LIMITS, guarded_prefix_bytes=5_000))
    answer_refusals(app)
    found = ask(endless(app), path="/v1/messages")
    assert found.status == 400 and "5000 bytes" in found.json()["error"]["message"] and len(taken) == 6
    found = ask(app, path="/v1/messages", sent=headers(content_length="6000"))
    assert found.status == 400 and "5000 bytes" in found.json()["error"]["message"]
    app = application(engine, limits=replace(LIMITS, guarded_body_seconds=0.1))
    answer_refusals(app)
    found = ask(endless(app), path="/v1/messages")
    assert found.status == 400 and "in time" in found.json()["error"]["message"]


def test_a_body_that_was_taken_before_is_refused_with_what_to_do(engine: Any) -> None:
    """FastAPI reads the form of a route before any dependency: what cannot be seen is not decided on."""

    async def take(request: Request) -> None:
        async for _ in request.stream():
            pass

    app = FastAPI(dependencies=[Depends(take)])
    app.post(CHAT, dependencies=[Depends(require(engine=Local(engine), subject=by_proxy()))])(lambda: "served")
    answer_refusals(app)
    found = ask(app)
    assert found.status == 400 and "PolicyEngineMiddleware" in found.json()["error"]["message"]


def test_without_the_handler_a_refusal_is_still_one(engine: Any) -> None:
    """FastAPI answers with the same status and headers, and echoes nothing."""
    denied = ask(application(engine), sent=headers(user="eve"))
    assert (denied.status, denied.json()) == (403, {"detail": "The request is refused."})
    assert denied.headers["cache-control"] == "no-store"


def test_a_fault_of_ours_refuses_the_route(engine: Any) -> None:
    """An engine that raises what nobody expected is 503 without detail."""

    def broken(name: str) -> str:
        raise RuntimeError("secret detail")

    answered = ask(application(engine, resolve=broken, dialect=Dialect.PROBLEM))
    assert answered.status == 503 and b"secret" not in answered.body


ENVIRONMENT = {
    "POLICY_ENGINE_POLICIES": str(POLICIES),
    "POLICY_ENGINE_SERVING_REGION": "US",
    "POLICY_ENGINE_GUARD_ISSUER": ISSUER,
    "POLICY_ENGINE_GUARD_AUDIENCE": AUDIENCE,
    "POLICY_ENGINE_GUARD_TENANT_CLAIM": "tenant",
    "POLICY_ENGINE_GUARD_LOCATION": "US",
    "POLICY_ENGINE_GUARD_MODELS": "served-name=fable-5",
    "POLICY_ENGINE_GUARD_EXEMPT": "/health",
}


async def stub(request: Request) -> JSONResponse:
    """A route of the server."""
    return JSONResponse({"path": request.url.path})


def load(path: str) -> Starlette:
    """Build a server that loads a middleware as vLLM does: by its import path, a class, with the app alone."""
    app = Starlette(routes=[Route("/{path:path}", stub, methods=["GET", "POST"])])
    module, _, name = path.rpartition(".")
    found = getattr(importlib.import_module(module), name)
    assert inspect.isclass(found)
    app.add_middleware(found)  # type: ignore[arg-type]  # what is loaded is known when it runs, as there
    return app


def test_a_server_loads_the_guard_by_its_name(
    tmp_path: Path, sample_database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The class, loaded with no argument but the application, guards `/invocations` too, and closes its engine."""
    from policy_engine.bootstrap import copy_template

    place = tmp_path / "engine.db"
    copy_template(sample_database.place, place)
    (tmp_path / "jwks.json").write_text(json.dumps(key_set(key("one"))))
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("POLICY_ENGINE_DATABASE", f"sqlite:///{place}")
    monkeypatch.setenv("POLICY_ENGINE_GUARD_JWKS", str(tmp_path / "jwks.json"))
    sent = [(b"authorization", b"Bearer " + token().encode()), (b"content-type", b"application/json")]

    async def main() -> list[int | None]:
        from tests.middleware.doors import exchange

        app = load("policy_engine.middleware.vllm.Guard")
        told = [{"type": "lifespan.startup"}]
        over, started = asyncio.Event(), asyncio.Event()

        async def receive() -> Any:
            if told:
                return told.pop()
            await over.wait()
            return {"type": "lifespan.shutdown"}

        async def send(message: Any) -> None:
            started.set()

        life = asyncio.create_task(app({"type": "lifespan", "app": app, "state": {}}, receive, send))  # type: ignore[arg-type]  # as a server calls it
        await started.wait()
        body = b'{"model":"served-name"}'
        found = [
            (await exchange(app, body, path="/invocations", sent=sent)).status,
            (await exchange(app, b'{"model":"mythos-5"}', path="/invocations", sent=sent)).status,
            (await exchange(app, body, path="/invocations", sent=sent[1:])).status,
            (await exchange(app, b"", path="/health", method="GET", sent=[])).status,
        ]
        over.set()
        await life
        return found

    assert asyncio.run(main()) == [200, 403, 401, 200]


BY_SOCKET = {
    "POLICY_ENGINE_GUARD_ISSUER": "",
    "POLICY_ENGINE_GUARD_USER_HEADER": "x-user",
    "POLICY_ENGINE_GUARD_PROXY_ADDRESSES": "127.0.0.1",
    "POLICY_ENGINE_GUARD_PROXY_UNIX_SOCKET": "on",
}
"""A proof that is asked for in another word is not left out."""


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"POLICY_ENGINE_GUARD_EXEMPTED": "/"}, "EXEMPTED"),
        ({"POLICY_ENGINE_GUARD_ISSUER": ""}, "ISSUER"),
        ({"POLICY_ENGINE_GUARD_USER_HEADER": "x-user"}, "ISSUER"),
        ({"POLICY_ENGINE_GUARD_AUDIENCE": ""}, "AUDIENCE"),
        ({"POLICY_ENGINE_GUARD_JWKS": ""}, "JWKS"),
        ({"POLICY_ENGINE_GUARD_MODELS": "served"}, "MODELS"),
        ({"POLICY_ENGINE_GUARD_MODELS": "served= "}, "MODELS"),
        ({"POLICY_ENGINE_GUARD_MODELS": "served=fable-5,served=open-1"}, "MODELS"),
        ({"POLICY_ENGINE_GUARD_PROXY_SECRET_FILE": "secret"}, "PROXY_SECRET_FILE"),
        ({"POLICY_ENGINE_GUARD_LOCATION_HEADER": "x-country"}, "LOCATION_HEADER"),
        ({**BY_SOCKET, "POLICY_ENGINE_GUARD_PROXY_UNIX_SOCKET": ""}, "AUDIENCE"),
        ({"POLICY_ENGINE_GUARD_FORMS": "true"}, "FORMS"),
        (BY_SOCKET, "PROXY_UNIX_SOCKET"),
    ],
)
def test_settings_that_are_missing_or_unknown_stop_the_server(change: dict[str, str], named: str) -> None:
    """The refusal names the variable."""
    environment = {**ENVIRONMENT, "POLICY_ENGINE_GUARD_JWKS": "https://issuer.example/jwks", **change}
    with pytest.raises(StartRefused, match=named):
        settings_of(environment)


@pytest.mark.parametrize("wanted", [True, False])
def test_forms_are_read_where_the_setting_says_so(wanted: bool) -> None:
    """Without it a form is refused, as everywhere."""
    more = {"POLICY_ENGINE_GUARD_FORMS": "yes"} if wanted else {}
    environment = {**ENVIRONMENT, "POLICY_ENGINE_GUARD_JWKS": "https://issuer.example/jwks", **more}
    assert settings_of(environment)["model"].forms is wanted


@pytest.mark.parametrize("written", ["open-1=fable-5,b=c", "open-1 = fable-5 , b= c", " open-1 =fable-5,b =c,"])
def test_spaces_around_a_name_that_is_served_change_nothing(written: str) -> None:
    """Or the served name would be decided as if it were the catalogue's own, while another model answers."""
    environment = {**ENVIRONMENT, "POLICY_ENGINE_GUARD_JWKS": "https://issuer.example/jwks"}
    found = settings_of({**environment, "POLICY_ENGINE_GUARD_MODELS": written})["resolve"]
    assert found == {"open-1": "fable-5", "b": "c"}


def test_a_proxy_may_name_the_caller_of_a_loaded_guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a user header the proxy must prove itself; its secret comes from a file. An engine must be named."""
    (tmp_path / "secret").write_text(SECRET + "\n")
    environment = {
        "POLICY_ENGINE_GUARD_USER_HEADER": "x-user",
        "POLICY_ENGINE_GUARD_PROXY_SECRET_FILE": str(tmp_path / "secret"),
        "POLICY_ENGINE_GUARD_PROXY_ADDRESSES": "127.0.0.1, 10.0.0.0/8",
    }
    found = settings_of(environment)["subject"]
    assert (found.proxy.secret, found.proxy.addresses) == (SECRET, ("127.0.0.1", "10.0.0.0/8"))
    with pytest.raises(StartRefused, match="PROXY_SECRET_FILE"):
        settings_of({**environment, "POLICY_ENGINE_GUARD_PROXY_SECRET_FILE": str(tmp_path / "none")})
    with pytest.raises(InputRefused):
        settings_of({"POLICY_ENGINE_GUARD_USER_HEADER": "x-user"})
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for name in ("POLICY_ENGINE_URL", "POLICY_ENGINE_KEY", "POLICY_ENGINE_POLICIES", "POLICY_ENGINE_DATABASE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(StartRefused, match="POLICY_ENGINE_URL"):
        Guard(stub)  # type: ignore[arg-type]  # it does not come so far
    monkeypatch.setenv("POLICY_ENGINE_URL", "https://pdp.example")
    with pytest.raises(StartRefused, match="POLICY_ENGINE_KEY"):
        Guard(stub)  # type: ignore[arg-type]  # as above
    monkeypatch.setenv("POLICY_ENGINE_KEY", "pe_" + "a" * 43)
    asyncio.run(asyncio.to_thread(lambda: Guard(stub)._engine.close()))  # type: ignore[arg-type]  # nothing is asked
