"""The ASGI door: what is allowed passes unchanged; what is not is answered here, and the application never knows."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from policy_engine.core.dialects import Dialect
from policy_engine.errors import InputRefused
from policy_engine.limits import LIMITS
from policy_engine.middleware.asgi import PolicyEngineMiddleware
from policy_engine.middleware.models import constant, from_body, from_model_header, from_path, from_query
from policy_engine.middleware.subjects import ProxyHeader, Subject, from_header
from tests.laws.sample import decisions
from tests.middleware.doors import CHAT, PROXY, App, Local, ask, by_proxy, exchange, guarded, headers, say


def test_what_is_allowed_reaches_the_application_unchanged(engine: Any) -> None:
    """The body comes whole and once, in any pieces, the answer passes, and the allow is in the scope and in the log."""
    app = App()
    body = b'{"messages":[{"role":"user","content":"hello"}],"model":"fable-5","n":1}'
    for pieces in (body, [body[:10], body[10:60], body[60:]], [body[:-1], b"}"], [b"", body, b""]):
        answered = ask(guarded(engine, app), pieces)
        assert (answered.status, answered.json(), answered.complete) == (200, {"served": True}, True)
    assert app.bodies == [body] * 4
    assert {scope["policy_engine"].decision.allowed for scope in app.scopes} == {True}
    assert [each.public["outcome"] for each in decisions(engine)] == ["allow"] * 4
    assert engine.uses.count == 0


@pytest.mark.parametrize("kind", [memoryview, bytearray])
def test_pieces_may_be_views_of_other_memory(engine: Any, kind: Any) -> None:
    """What stands before the door may hand on views: it was 503, and behind the model a fault in the application."""
    body = b'{"model":"fable-5","n":1}'
    for pieces in ([kind(body)], [kind(body[:9]), kind(body[9:])], [kind(body[:20]), kind(body[20:])]):
        app = App()
        assert ask(guarded(engine, app), pieces).status == 200
    second = [kind(body[:20]), kind(b',"model":"mythos-5"}')]
    assert ask(guarded(engine, App()), second).status == 400


def test_a_deny_never_reaches_the_application(engine: Any) -> None:
    """A denied caller gets the refusal in the words of its client, with the decision's id, and nothing is stored."""
    app = App()
    answered = ask(guarded(engine, app), sent=headers(user="eve"))
    error = answered.json()["error"]
    assert (answered.status, app.calls) == (403, [])
    assert answered.headers["cache-control"] == "no-store" and answered.headers["x-should-retry"] == "false"
    assert error["decision_id"]
    anthropic = ask(guarded(engine, app), path="/v1/messages", sent=headers(user="eve"))
    assert anthropic.json()["type"] == "error"
    assert ask(guarded(engine, app, dialect=Dialect.PROBLEM), sent=headers(user="eve")).json()["status"] == 403


def test_the_clients_words_are_told_by_its_headers_whoever_reads_them(engine: Any) -> None:
    """Also where an application says who asks, and no step before the refusal looked at a header."""

    class Everybody:
        def identify(self, head: Any) -> Subject:
            return Subject("eve", tenant="acme", location="US")

        async def identify_async(self, head: Any) -> Subject:
            return self.identify(head)

    door = guarded(engine, App(), subject=Everybody(), model=constant("fable-5"))
    answered = ask(door, b"", path="/x", method="GET", sent=[(b"anthropic-version", b"2023-06-01")])
    assert (answered.status, answered.json()["error"]["type"]) == (403, "permission_error")


@pytest.mark.parametrize("path", ["/invocations", "/v1/responses", "/v1/messages", "/", "/anything", "/healthz/"])
@pytest.mark.parametrize("method", ["POST", "OPTIONS", "GET", "HEAD", "PATCH", "BREW"])
def test_every_route_and_method_is_guarded(engine: Any, path: str, method: str) -> None:
    """No path but one exempted exactly, and no method, reaches the application without a decision."""
    app = App()
    door = guarded(engine, app, exempt=["/healthz"])
    assert ask(door, b"", path=path, method=method).status == 400
    assert ask(door, path=path, method=method, sent=headers(user="eve")).status in (403, 404)
    assert ask(door, path=path, method=method, sent=[]).status == 401
    assert app.calls == []


def test_an_exempted_path_and_the_lifespan_pass(engine: Any) -> None:
    """An exact path that needs no decision is handed on, by any caller; so is the server's own lifespan."""
    app = App()
    door = guarded(engine, app, exempt=["/healthz"])
    assert ask(door, b"", path="/healthz", method="GET", sent=[]).status == 200
    asyncio.run(door({"type": "lifespan", "path": ""}, None, lambda message: say_nothing()))
    assert app.calls[0] == "/healthz"
    with pytest.raises(ValueError, match="only lifespan"):
        asyncio.run(door({"type": "rpc", "path": "/"}, None, None))


async def say_nothing() -> None:
    """Take a message."""


@pytest.mark.parametrize(
    ("named", "body", "expected"),
    [
        ({"x-model": "fable-5"}, b'{"model":"fable-5"}', 200),
        ({"x-model": "open-1"}, b'{"model":"fable-5"}', 400),
        ({"x-model": "fable-5"}, b'{"model":"open-1"}', 400),
        ({}, b'{"model":"fable-5"}', 200),
        ({"x-model": "fable-5"}, b"", 200),
        ({"x-model": "fable-5"}, b'{"input":"x"}', 400),
        ({"x-model": ""}, b'{"model":"fable-5"}', 400),
    ],
)
def test_header_and_body_must_agree(engine: Any, named: dict[str, str], body: bytes, expected: int) -> None:
    """A header that names another model than the body is refused, whichever of the two could be used."""
    app = App()
    door = guarded(engine, app, model=from_body() & from_model_header("x-model"))
    assert ask(door, body, sent=headers(**{k.replace("-", "_"): v for k, v in named.items()})).status == expected
    assert len(app.calls) == (expected == 200)


def test_the_model_may_be_named_in_the_path_the_query_or_nowhere(engine: Any) -> None:
    """Each source names the model that is decided on; two that look in the same kind of place cannot be combined."""
    asked = Local(engine)
    by_path = guarded(asked, App(), model=from_path("/openai/deployments/{model}/*"))
    assert ask(by_path, path="/openai/deployments/fable-5/chat/completions").status == 200
    assert ask(by_path, path="/openai/deployments/chat").status == 400
    assert ask(guarded(asked, App(), model=from_query()), query=b"model=opus-4-8").status == 200
    assert ask(guarded(asked, App(), model=from_query()), query=b"model=opus-4-8&model=fable-5").status == 400
    assert ask(guarded(asked, App(), model=constant("open-1")), b"whatever").status == 200
    assert [request.model for request in asked.asked] == ["fable-5", "opus-4-8", "open-1"]
    with pytest.raises(InputRefused, match="two sources"):
        from_body() & from_body("id")
    for path in ("/no-model", "{model}", "/*/{model}/*", "/{model}/{model}"):
        with pytest.raises(InputRefused, match="the path of the model"):
            from_path(path)
    for source in (constant, from_query, from_body):
        for name in ("", None, 7, "m" * 1_000):
            with pytest.raises(InputRefused, match="must be a text"):
                source(name)  # type: ignore[arg-type]  # no names


@pytest.mark.parametrize(
    "path",
    [
        "/deployments/open-1/../mythos-5/chat",
        "/deployments/open-1/./chat",
        "/deployments/open-1/..;/mythos-5/chat",
        "/deployments/open-1/..",
        "/deployments//mythos-5/chat",
        "//deployments/mythos-5/chat",
        "/deployments/open-1\\..\\mythos-5/chat",
        "/deployments/open-1/%2e%2E/mythos-5/chat",
        "/deployments/open-1/%2F../chat",
        "/deployments/open-1/\0/chat",
    ],
)
def test_a_path_that_upstreams_could_write_otherwise_names_no_model(engine: Any, path: str) -> None:
    """What joins slashes, climbs dots or decodes twice behind the door would reach another model than was decided on.

    Paths are given here as servers hand them over, decoded once.
    Control: policy_engine/middleware/head.py:
    `if not is_plain(self.path):`
    """
    app = App()
    door = guarded(engine, app, model=from_body() & from_path("/deployments/{model}/*"))
    assert ask(door, b'{"model":"open-1"}', path=path).status == 400
    assert app.calls == []


@pytest.mark.parametrize(
    "query",
    [b"a=1;model=mythos-5", b"model[]=mythos-5", b"+model=mythos-5", b"model%00=mythos-5", b"model[0]=mythos-5"],
)
def test_a_query_that_upstreams_could_read_otherwise_names_no_model(engine: Any, query: bytes) -> None:
    """Some readers split at semicolons, take lists, or cut names at what is no character.

    Control: policy_engine/core/querymodel.py:
    `if len(found) < sum(_NO_NAME.sub("", key).casefold() == wanted for key, _ in split):`
    """
    app = App()
    door = guarded(engine, app, model=from_body() & from_query())
    assert ask(door, b'{"model":"open-1"}', query=query).status == 400
    assert ask(door, b'{"model":"open-1"}', query=query + b"&model=open-1").status == 400
    assert app.calls == []
    assert ask(door, b'{"model":"open-1"}', query=b"modelling=a;b&model=open-1").status == 200


def test_the_decision_is_on_the_model_that_serves(engine: Any) -> None:
    """An alias of the deployment is resolved before the decision, one of the catalogue by the engine."""
    asked = Local(engine)
    door = guarded(asked, App(), resolve={"house-model": "fable-5"})
    assert ask(door, b'{"model":"house-model"}', sent=headers(user="eve")).status == 403
    assert ask(door, b'{"model":"fable-latest"}', sent=headers(user="eve")).status == 403
    assert ask(guarded(asked, App(), resolve=str.lower), b'{"model":"FABLE-5"}').status == 200
    assert [request.model for request in asked.asked] == ["fable-5", "fable-latest", "fable-5"]


def test_a_fallback_is_asked_for_by_the_application(engine: Any) -> None:
    """The application asks about another model for the same caller, with an entry of its own."""

    async def fall_back(scope: Any, receive: Any, send: Any) -> None:
        found = await scope["policy_engine"].ask("mythos-5")
        other = await scope["policy_engine"].ask("opus-4-8")
        await say(send, json.dumps([found.allowed, other.allowed]).encode())

    answered = ask(guarded(engine, App(fall_back)))
    assert answered.json() == [False, True]
    assert len(decisions(engine)) == 3


def test_the_action_is_that_of_the_route(engine: Any) -> None:
    """A mapping names the action by exact path; a path without one is refused."""
    asked = Local(engine)
    door = guarded(asked, App(), action={CHAT: "infer", "/v1/fine_tuning/jobs": "fine_tune"})
    ask(door)
    ask(door, path="/v1/fine_tuning/jobs")
    assert [request.action for request in asked.asked] == ["infer", "fine_tune"]
    assert ask(door, path="/v1/other").status == 400


@pytest.mark.parametrize(
    "path",
    [
        "/v1/fine_tuning/jobs/",
        "/v1/Fine_Tuning/jobs",
        "//v1/fine_tuning/jobs",
        "/v1/./fine_tuning/jobs",
        "/v1/x/../fine_tuning/jobs",
        "/v1/fine_tuning%2fjobs",
    ],
)
def test_a_path_like_one_with_an_action_of_its_own_is_no_other_route(engine: Any, path: str) -> None:
    """The action of all other routes is not for a path that an upstream takes for the one named.

    Control: policy_engine/middleware/guard.py:
    `if loosely(head.plain_path) in self._routes:`
    """
    app = App()
    door = guarded(engine, app, action={"/v1/fine_tuning/jobs": "fine_tune", "*": "infer"})
    assert ask(door, path=path).status == 400 and app.calls == []
    assert ask(door, path="/v1/fine_tuning/job").status == 200


def test_the_place_comes_from_the_proxy_alone(engine: Any) -> None:
    """A country that somebody else than the proxy states is refused, not passed over."""
    location = ProxyHeader("x-country", PROXY)
    subject = from_header("x-user", proxy=PROXY, tenant="x-tenant")
    asked = Local(engine)
    door = guarded(asked, App(), subject=subject, location=location)
    assert ask(door).status == 200
    assert asked.asked[0].location is not None and asked.asked[0].location.country == "US"
    with pytest.raises(Exception, match="proxy"):
        location(type("Head", (), {"header": lambda self, name: "US" if name == "x-country" else None})())


def test_a_fault_of_ours_refuses_without_detail(engine: Any, caplog: pytest.LogCaptureFixture) -> None:
    """An engine or a setting that raises what nobody expected gives 503, and no traceback and no value is logged."""

    class Broken(Local):
        async def decide_async(self, **question: Any) -> Any:
            raise RuntimeError("secret detail")

    app = App()
    answered = ask(guarded(Broken(engine), app))
    assert (answered.status, app.calls) == (503, [])
    assert b"secret" not in answered.body
    assert "secret" not in caplog.text and "Traceback" not in caplog.text


def test_the_engine_away_is_503(engine: Any) -> None:
    """A log that cannot be written denies; the client is told to try again, for nobody decided against it."""
    engine.recorder.close()
    answered = ask(guarded(engine, App()))
    assert (answered.status, answered.headers.get("retry-after")) == (503, "1")


def test_settings_that_guard_nothing_are_refused(engine: Any) -> None:
    """A path given as one string, or without a slash, is a mistake that would exempt what nobody meant."""
    for exempt in ("/healthz", ["healthz"]):
        with pytest.raises(InputRefused):
            guarded(engine, App(), exempt=exempt)


@pytest.mark.parametrize(
    "wrong",
    [
        {"subject": "alice"},
        {"subject": lambda head: Subject("alice")},
        {"model": "fable-5"},
        {"action": None},
        {"resolve": [("a", "b")]},
        {"location": {"zip": 1}},
        {"tenant": 5},
        {"tenant": ""},
        {"serving_region": ("eu-west-1",)},
        {"action": ""},
        {"action": {"/v1/embeddings": 7, "*": "infer"}},
        {"dialect": "gemini"},
        {"wording": {}},
    ],
)
def test_a_setting_of_another_kind_is_refused_when_it_is_set(engine: Any, wrong: dict[str, Any]) -> None:
    """Whoever deploys is told then; each request would be told no more than that it cannot be decided."""
    with pytest.raises(InputRefused):
        guarded(engine, App(), **wrong)
    with pytest.raises(InputRefused, match="engine"):
        PolicyEngineMiddleware(App(), engine="https://pdp.example", subject=by_proxy())  # type: ignore[arg-type]  # wrong


def test_a_client_that_hangs_up_gets_nothing(engine: Any) -> None:
    """A caller that goes before its model is known leaves no answer and no decision."""

    async def main() -> tuple[list[Any], list[Any]]:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": CHAT, "headers": headers(), "query_string": b""}
        await guarded(engine, App())(scope, receive, send)
        return sent, decisions(engine)

    assert asyncio.run(main()) == ([], [])


def test_concurrent_requests_do_not_mix(engine: Any) -> None:
    """Fifty requests at once each get their own answer."""
    app = App()
    door = guarded(engine, app)

    async def main() -> list[int | None]:
        users = ["alice", "eve"] * 25
        return [each.status for each in await asyncio.gather(*(exchange(door, sent=headers(user=u)) for u in users))]

    assert asyncio.run(main()) == [200, 403] * 25
    assert LIMITS.guarded_prefix_bytes > 1_000_000


def test_a_form_is_read_where_forms_are_wanted(engine: Any) -> None:
    """Audio comes as a form: its field is the model, in any pieces; without being asked for, forms are refused."""
    body = (
        b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n'
        b'\x00\xff\r\n--xyz\r\nContent-Disposition: form-data; name="model"\r\n\r\nfable-5\r\n--xyz--\r\n'
    )
    sent = headers(content_type="multipart/form-data; boundary=xyz")
    app = App()
    door = guarded(engine, app, model=from_body(forms=True), limits=replace(LIMITS, guarded_prefix_bytes=1_000))
    for pieces in (body, [body[:50], body[50:120], body[120:]]):
        assert ask(door, pieces, path="/v1/audio/transcriptions", sent=sent).status == 200
    assert app.bodies == [body] * 2
    assert ask(door, [body, b"x" * 1_000, b"x"], sent=sent).status == 400
    assert ask(door, [body[:-5], b"more", b""], sent=sent).status == 400
    assert ask(guarded(engine, app), body, sent=sent).status == 400
    assert len(app.bodies) == 2


@pytest.mark.parametrize("kind", ["coroutine", "waiting coroutine", "future", "raising"])
def test_a_server_may_hand_over_the_body_in_its_own_way(engine: Any, kind: str) -> None:
    """`receive` may return at once, wait, be no coroutine, or fail; what it raises refuses."""
    app, sent = App(), list[Any]()
    message = {"type": "http.request", "body": b'{"model":"fable-5"}', "more_body": False}

    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def at_once() -> Any:
            return message

        async def waiting() -> Any:
            await asyncio.sleep(0.01)
            await asyncio.sleep(0.01)
            return message

        async def raising() -> Any:
            await asyncio.sleep(0.01)
            raise AttributeError("the server's own")

        def future() -> Any:
            found = loop.create_future()
            loop.call_later(0.01, found.set_result, message)
            return found

        async def send(given: Any) -> None:
            sent.append(given)

        receive = {"coroutine": at_once, "waiting coroutine": waiting, "future": future, "raising": raising}[kind]
        scope = {"type": "http", "method": "POST", "path": CHAT, "headers": headers(), "query_string": b""}
        await guarded(engine, app)(scope, receive, send)

    asyncio.run(main())
    assert sent[0]["status"] == (503 if kind == "raising" else 200)
    assert app.bodies == ([] if kind == "raising" else [message["body"]])


def test_a_request_that_is_cancelled_while_its_body_is_awaited_is_cancelled(engine: Any) -> None:
    """A server that gives up on a request while its body is awaited is obeyed."""

    async def main() -> bool:
        async def receive() -> Any:
            await asyncio.sleep(60)

        async def send(given: Any) -> None:
            raise AssertionError("nothing is sent")

        scope = {"type": "http", "method": "POST", "path": CHAT, "headers": headers(), "query_string": b""}
        task = asyncio.create_task(guarded(engine, App())(scope, receive, send))
        await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.wait({task})
        return task.cancelled()

    assert asyncio.run(main())
