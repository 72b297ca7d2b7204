"""No adapter has a way to a permit but a decided allow: tried with everything else, adapter by adapter.

That an empty answer opens Envoy is not taken from a page: the real one is asked (`test_what_opens_envoy`).
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import grpc
import pytest
from envoy.service.auth.v3 import external_auth_pb2 as auth
from hypothesis import given
from hypothesis import strategies as st

import policy_engine.api.checks as room
from policy_engine.api.checks import envoy as door
from policy_engine.api.checks import table
from policy_engine.api.checks.checking import NoPermit, Permit
from policy_engine.core.decision import Decision, Reason
from policy_engine.core.dialects import Refusal
from policy_engine.errors import Conflict, InputRefused, NotAuthenticated, NotPermitted, StoreUnavailable
from tests.api.doors import RELEASE, TwoKeys
from tests.proxies import programs, wire
from tests.proxies.gateways import JWKS, envoy_command
from tests.proxies.standins import ADAPTERS, checker, passes
from tests.proxies.standins import grpc as grpc_of
from tests.proxies.upstream import Upstream

ALLOW = Decision(True, "a" * 32, (), (), (), RELEASE, 7, 2_000)
DENY = replace(ALLOW, allowed=False, reasons=(Reason("no-rule-allows"),))


class Answers:
    """A decider that answers one thing, or raises it."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def decide_async(self, request: Any, principal: Any) -> Any:
        """Answer."""
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    async def decide_many_async(self, requests: Any, principal: Any) -> Any:
        """Answer as often."""
        return [await self.decide_async(request, principal) for request in requests]


class Subclass(Decision):
    """Not what the decider returns."""


NO_ALLOWS: dict[str, Any] = {
    "a deny": DENY,
    "an outage": replace(DENY, id="", reasons=(Reason("log.unavailable"),)),
    "an allow without an entry": replace(ALLOW, id=""),
    "an allow that is only truthy": replace(ALLOW, allowed=1),  # type: ignore[arg-type]  # on purpose
    "an allow that is a word": replace(ALLOW, allowed="allow"),  # type: ignore[arg-type]  # on purpose
    "another class": Subclass(*(getattr(ALLOW, name) for name in list(Decision.__slots__)[:8])),
    "nothing": None,
    "a mock": MagicMock(allowed=True, id="a" * 32),
    "true": True,
    "the store is away": StoreUnavailable("away", where="log"),
    "a conflict": Conflict("moved"),
    "refused": InputRefused("no"),
    "no key": NotAuthenticated("no"),
    "not permitted": NotPermitted("no"),
    "a fault": RuntimeError("fault"),
    "a group": ExceptionGroup("faults", [ValueError("fault")]),
    "out of memory": MemoryError(),
    "too deep": RecursionError(),
}


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_decided_allow_is_a_permit(adapter: str) -> None:
    """The one way there is works, or the other tests would show nothing."""
    assert ADAPTERS[adapter](checker(Answers(ALLOW)))


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("kind", NO_ALLOWS)
def test_nothing_else_is(adapter: str, kind: str) -> None:
    """Whatever a decider returns or raises that is no recorded allow, the proxy does not let the request pass."""
    assert not ADAPTERS[adapter](checker(Answers(NO_ALLOWS[kind])))


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_an_allow_that_cannot_be_counted_or_whose_key_has_ended_is_none(adapter: str) -> None:
    """A fault after the decision, and a key that was revoked before it, leave no permit."""
    metrics = MagicMock()
    metrics.decided.side_effect = RuntimeError("fault")
    assert not ADAPTERS[adapter](checker(Answers(ALLOW), metrics=metrics))
    keys = TwoKeys(epoch=6)

    class Revoking(Answers):
        async def decide_async(self, request: Any, principal: Any) -> Any:
            keys.authenticate = MagicMock(side_effect=NotAuthenticated("the key is revoked"))  # type: ignore[method-assign]  # meanwhile
            return self.answer

    assert not ADAPTERS[adapter](checker(Revoking(ALLOW), keys))


@pytest.mark.parametrize("answers", [[], [ALLOW], [ALLOW] * 4, [ALLOW, DENY, ALLOW, ALLOW], None, [None] * 3])
def test_decisions_that_do_not_fit_their_checks_are_none(answers: Any) -> None:
    """Too few, too many, or nothing for three checks that came together: no check gets the decision of another."""

    class Odd(Answers):
        async def decide_many_async(self, requests: Any, principal: Any) -> Any:
            return answers

    assert not passes(grpc_of(checker(Odd(ALLOW)), together=3))


@given(
    st.sampled_from(list(table.Proxy)), st.integers(-1, 1_000), st.binary(max_size=40).map(lambda b: b.hex().encode())
)
def test_no_refusal_is_built_as_a_permit(proxy: table.Proxy, status: int, body: bytes) -> None:
    """A refusal that says 200 (as MCP has it) or anything else below 400 is answered as our own failure.

    Control: policy_engine/api/checks/table.py
    return refusal if 400 <= refusal.status <= 599 else unavailable(Dialect.PROBLEM)
    """
    refusal = Refusal(status, (("content-type", "application/json"),), body)
    assert 400 <= table.refused(proxy, refusal).status <= 599
    assert table.opa(refusal)["allow"] is False and 400 <= table.opa(refusal)["status_code"] <= 599
    response = auth.CheckResponse.FromString(door.denied(refusal))
    assert response.status.code in (7, 14) and response.WhichOneof("http_response") in (
        "denied_response",
        "error_response",
    )


def test_a_permit_is_made_of_a_recorded_allow_alone() -> None:
    """The class itself refuses, whoever tries.

    Control: policy_engine/api/checks/checking.py
    if type(decision) is not Decision or decision.allowed is not True or not decision.id:
    """
    assert Permit(ALLOW).decision is ALLOW
    for kind, answer in NO_ALLOWS.items():
        if not isinstance(answer, BaseException):
            with pytest.raises(NoPermit):
                Permit(answer)
                pytest.fail(kind)


def test_a_response_without_a_permit_does_not_leave() -> None:
    """The last look at a response refuses an empty one, a code 0, and an OK without a permit.

    Control: policy_engine/api/checks/envoy.py
    if lets_pass and not (isinstance(permit, Permit) and kind == "ok_response" and response.status.code == OK):
    """
    empty = auth.CheckResponse()
    beside = auth.CheckResponse()
    beside.denied_response.body = "denied"
    allowed = auth.CheckResponse()
    allowed.ok_response.SetInParent()
    for response, permit in (
        (empty, None),
        (empty, Permit(ALLOW)),
        (beside, Permit(ALLOW)),
        (beside, None),
        (allowed, None),
    ):
        with pytest.raises(NoPermit):
            door._wire(response, permit)


def _calls(name: str) -> Iterator[tuple[str, str]]:
    """Yield the file and the function around each call of a name in the room."""
    for file in sorted(Path(room.__path__[0]).glob("*.py")):
        for function in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for node in ast.walk(function):
                    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
                        yield file.stem, function.name


def test_permits_are_made_and_built_in_one_place_each() -> None:
    """The code itself: one call of `Permit`, and one place for each adapter that builds what lets a request pass."""
    assert list(_calls("Permit")) == [("checking", "_outcome")]
    assert set(_calls("permitted")) == {("doors", "_answer"), ("envoy", "answer")}
    assert set(_calls("Answer")) == {("table", "permitted"), ("table", "refused")}


Answer = Callable[[], auth.CheckResponse]


def _denied_with_code_0() -> auth.CheckResponse:
    response = auth.CheckResponse()
    response.denied_response.status.code = 403
    return response


def _code_7_alone() -> auth.CheckResponse:
    response = auth.CheckResponse()
    response.status.code = 7
    return response


OPENS = ((auth.CheckResponse, 200), (_denied_with_code_0, 200), (_code_7_alone, 403))


def test_what_opens_envoy(behind: Upstream, tmp_path: Path) -> None:
    """The real Envoy lets a request pass for an empty response, and for code 0 beside a denied response: these are what
    no adapter of ours may ever send."""
    answers = [answer for answer, _ in OPENS]

    def check(request: Any, context: Any) -> auth.CheckResponse:
        return answers.pop(0)()

    server = grpc.server(ThreadPoolExecutor(1))
    handler = grpc.unary_unary_rpc_method_handler(
        check,
        request_deserializer=auth.CheckRequest.FromString,
        response_serializer=auth.CheckResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(door.SERVICE, {door.METHOD: handler}),))
    port, at = programs.free_port(), server.add_insecure_port("127.0.0.1:0")
    server.start()
    jwks, place = tmp_path / "jwks.json", tmp_path / "envoy.yaml"
    jwks.write_text(JWKS)
    changes = {
        "port_value: 8080": f"port_value: {port}",
        "port_value: 9191": f"port_value: {at}",
        "port_value: 8000": f"port_value: {behind.port}",
        "requires: {provider_name: people}": "requires: {allow_missing: {}}",
        "/etc/envoy/jwks.json": str(jwks),
    }
    place.write_text(programs.configured("envoy", changes))
    try:
        with programs.running(envoy_command(programs.envoy(), place), port, tmp_path):
            found = [wire.send(port, wire.head("GET", "/", [])).status for _ in OPENS]
    finally:
        server.stop(None).wait()
    assert found == [status for _, status in OPENS]
