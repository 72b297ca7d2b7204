"""What is said behind a handshake: who speaks first, who answers, and what a repeated name proves."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from policy_engine.probe import Outcome, Report
from tests.probe.gateway import ALLOWED, FORBIDDEN, refused
from tests.probe.test_holes import told
from tests.probe.test_suite import outcome_of, probed, scripted
from tests.probe.upstream import completion, whole

SESSION = {"type": "session.created", "session": {"object": "realtime.session", "model": ALLOWED}}


def answering(said: Callable[[str], list[Any]]) -> Any:
    """Return a gateway that opens WebSockets for the allowed model at one path, and says this after a message."""

    async def asked(document: dict[str, Any], send: Any) -> None:
        allowed = document.get("model") == ALLOWED
        await (whole(send, 200, completion("/v1/chat/completions", ALLOWED)) if allowed else refused(send, 403))

    http = scripted(asked)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            await http(scope, receive, send)
            return
        await receive()
        if scope["path"] != "/v1/realtime" or scope["query_string"] != b"model=open-1":
            await send({"type": "websocket.close", "code": 1008})
            return
        await send({"type": "websocket.accept"})
        for each in said(json.loads((await receive())["text"])["model"]):
            closing = {"type": "websocket.close", "code": each}
            await send(closing if isinstance(each, int) else {"type": "websocket.send", "text": json.dumps(each)})
        while (await receive())["type"] != "websocket.disconnect":
            pass

    return app


def looked(said: Callable[[str], list[Any]]) -> Report:
    """Return the report of the one check."""
    return probed(answering(said), only=frozenset({"websocket"}))


def response(model: str) -> dict[str, Any]:
    """Return what a model says live."""
    return {"type": "response.done", "response": {"object": "response", "model": model, "output": []}}


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        (lambda model: [SESSION, response(model if model == FORBIDDEN else ALLOWED)], Outcome.HOLE),
        (lambda model: [SESSION, response(model)], Outcome.UNCLEAR),
        (lambda model: [SESSION, response("opus-4-8")], Outcome.UNCLEAR),
        (lambda model: [SESSION, response(ALLOWED)], Outcome.PASSED),
        (lambda model: [SESSION, {"type": "error", "error": {"code": "model_access_denied"}}], Outcome.PASSED),
        (lambda model: [SESSION, 1008], Outcome.PASSED),
        (lambda model: [SESSION], Outcome.PASSED),
        (lambda model: [], Outcome.UNCLEAR),
    ],
)
def test_whoever_answers_the_first_message_counts(said: Callable[[str], list[Any]], outcome: Outcome) -> None:
    """A session for the allowed model proves nothing about the message behind it; a name that comes back whatever it
    is proves nothing either; silence behind a session does no harm, silence alone says nothing."""
    report = looked(said)
    assert outcome_of(report, "websocket") is outcome, told(report, Outcome.HOLE, Outcome.UNCLEAR, Outcome.PASSED)
