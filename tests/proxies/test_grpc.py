"""Envoy's check over gRPC: what it tells and what it is answered, with gRPC's own client against the served door."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc as grpcio
import pytest
import structlog
from envoy.service.auth.v3 import external_auth_pb2 as auth
from google.protobuf.wrappers_pb2 import StringValue

from policy_engine.api.app import Door
from policy_engine.api.checks.envoy import Checks
from policy_engine.api.checks.frames import Call, CallRefused, Metadata, Status
from policy_engine.api.checks.health import Health
from policy_engine.api.checks.listening import Listening, require_possible
from policy_engine.api.checks.table import REMOVED
from policy_engine.api.condition import Condition
from policy_engine.core.dialects import Wording
from policy_engine.errors import StartRefused, StoreUnavailable
from policy_engine.settings import Settings
from tests.api.doors import KEY, WATCHER, TwoKeys
from tests.api.served import Served
from tests.proxies.standins import BODY, FACTS, check_request, checker, grpc, only_alice, passes

WITHOUT_SUBJECT = {name: value for name, value in FACTS.items() if "subject" not in name}


def answered(response: auth.CheckResponse | CallRefused) -> auth.CheckResponse:
    """Return the response of a call that was not refused."""
    assert isinstance(response, auth.CheckResponse), response
    return response


def test_a_permit_names_the_decision_and_takes_out_what_is_ours() -> None:
    """Code 0 beside headers that replace a client's own, and the list of those to remove."""
    response = answered(grpc(checker()))
    assert passes(response) and response.WhichOneof("http_response") == "ok_response"
    headers = {each.header.key: each for each in response.ok_response.headers}
    assert len(headers["policy-engine-decision-id"].header.value) == 32
    assert headers["policy-engine-epoch"].header.value == "7"
    assert {each.append_action for each in headers.values()} == {2}  # OVERWRITE_IF_EXISTS_OR_ADD
    assert tuple(response.ok_response.headers_to_remove) == REMOVED


def test_denies_and_failures_have_the_codes_of_the_table() -> None:
    """7 with the client's status, 451 included; 14 with 503 for what is our own."""

    class Away:
        async def decide_async(self, request: Any, principal: Any) -> Any:
            raise StoreUnavailable("away", where="log")

    eve = check_request({**FACTS, "x-policy-engine-subject": "eve"})
    denied = answered(grpc(checker(), eve))
    legally = answered(grpc(checker(wording=Wording(statuses=(("fixture", 451),))), eve))
    lost = answered(grpc(checker(Away())))
    assert (denied.status.code, denied.denied_response.status.code) == (7, 403)
    assert (legally.status.code, legally.denied_response.status.code) == (7, 451)
    assert (lost.status.code, lost.error_response.status.code) == (14, 503)
    assert "Policy, not login" in denied.denied_response.body


def test_facts_come_from_the_route_and_from_a_verified_token_too() -> None:
    """Where they say the same as a header they agree; where they differ the check is refused."""
    own = {"policy-engine-model": "fable-5", "policy-engine-location": "US", "virtual-host": "models"}
    claims = {"sub": "alice", "tenant": "acme", "name": "Alice"}
    decider = only_alice()
    assert passes(grpc(checker(decider), check_request({}, extensions=own, claims=claims)))
    assert passes(grpc(checker(decider), check_request(FACTS, extensions=own, claims=claims)))
    assert decider.asked[0].tenant == "acme" and decider.asked[0].location is not None
    for spoilt in (
        check_request(FACTS, claims={"sub": "eve"}),
        check_request(FACTS, extensions={"policy-engine-model": "mythos-5"}),
        check_request(FACTS, extensions={"policy-engine-modell": "fable-5"}),
        check_request(WITHOUT_SUBJECT, claims={"sub": 5}),
        check_request(WITHOUT_SUBJECT, claims={"sub": ["alice"]}),
        check_request(WITHOUT_SUBJECT, claims={"sub": ""}),
        check_request(WITHOUT_SUBJECT, claims={"subject": "alice"}),
        check_request(FACTS, body=b'{"model":"mythos-5"}'),
        check_request({**FACTS, "x-envoy-auth-partial-body": "true"}, body=BODY),
    ):
        response = answered(grpc(checker(), spoilt))
        assert (response.status.code, response.denied_response.status.code) == (7, 400)


def test_a_fact_is_not_passed_over_for_the_case_or_the_beginning_of_its_name() -> None:
    """A capital letter, or an extension called as the header is: two readings are refused, and so is what is no fact.

    An anonymiser or an action that nobody read would let pass what the proxy says must be denied.
    """
    raw = check_request()
    raw.attributes.request.http.header_map.headers.add(key="X-Policy-Engine-Anonymiser", value="yes")
    for spoilt in (
        check_request({**FACTS, "X-Policy-Engine-Subject": "eve"}),
        check_request({**FACTS, "X-Policy-Engine-Acton": "fine_tune"}),
        check_request(extensions={"Policy-Engine-Anonymiser": "yes"}),
        check_request(extensions={"policy-engine-action": "infer", "Policy-Engine-Action": "fine_tune"}),
        check_request(extensions={"x-policy-engine-action": "fine_tune"}),
        raw,
    ):
        response = answered(grpc(checker(), spoilt))
        assert (response.status.code, response.denied_response.status.code) == (7, 400)
    decider = only_alice()
    capital = check_request({}, extensions={f"Policy-Engine{name[15:].title()}": fact for name, fact in FACTS.items()})
    assert passes(grpc(checker(decider), capital)) and decider.asked[0].subject_id == "alice"
    twice = grpc(checker(), check_request(extensions={"policy-engine-key": KEY, "Policy-Engine-Key": KEY}), None)
    assert isinstance(twice, CallRefused) and twice.status == Status.UNAUTHENTICATED


def test_raw_headers_are_read_as_well() -> None:
    """Envoy can be told to send header bytes as they came, each by itself."""

    def raw(*pairs: tuple[str, bytes]) -> auth.CheckRequest:
        request = check_request({})
        for name, value in pairs:
            request.attributes.request.http.header_map.headers.add(key=name, raw_value=value)
        return request

    good = [(name, value.encode()) for name, value in FACTS.items()]
    assert passes(grpc(checker(), raw(*good, ("cookie", b"\xff"))))
    for bad in (good[0], ("x-policy-engine-location", b"\xff")):
        assert answered(grpc(checker(), raw(*good, bad))).denied_response.status.code == 400


def test_the_key_comes_from_where_no_client_reaches() -> None:
    """Metadata of the call or an extension of the route, one of them; a client's header of that name is not read."""
    extended = check_request(extensions={"policy-engine-key": KEY})
    assert passes(grpc(checker(), extended, key=None))
    for request, key in (
        (check_request(), None),
        (check_request({**FACTS, "policy-engine-key": KEY, "authorization": f"Bearer {KEY}"}), None),
        (check_request(), "pe_" + "x" * 43),
        (extended, KEY),
        (b"\xff\xff", None),
    ):
        refused = grpc(checker(), request, key)
        assert isinstance(refused, CallRefused) and refused.status == Status.UNAUTHENTICATED
    watcher = grpc(checker(), key=WATCHER)
    assert isinstance(watcher, CallRefused) and watcher.status == Status.PERMISSION_DENIED
    revoked = TwoKeys(epoch=6)
    revoked.revoked = True
    assert not passes(grpc(checker(keys=revoked)))


@pytest.mark.parametrize("message", [b"\xff\xff", b""])
def test_what_is_no_check_request_is_denied_as_malformed(message: bytes) -> None:
    """Once the proxy is known: a deny, which no `failure_mode_allow` lets pass, and no fault of ours in the log."""
    with structlog.testing.capture_logs() as logged:
        response = answered(grpc(checker(), message))
    assert (response.status.code, response.denied_response.status.code) == (7, 400)
    assert logged == []


def test_gRPC_s_own_client_is_answered_by_the_served_door(guarded: Served) -> None:
    """One connection, many calls together, a message of a megabyte, a wrong method, and a wrong key."""
    with grpcio.insecure_channel(f"127.0.0.1:{guarded.server.beside.port}") as channel:
        check = channel.unary_unary(
            "/envoy.service.auth.v3.Authorization/Check",
            request_serializer=auth.CheckRequest.SerializeToString,
            response_deserializer=auth.CheckResponse.FromString,
        )
        key = (("policy-engine-key", guarded.keys["gateway"]),)
        facts = {**FACTS, "x-policy-engine-location": "US", "x-policy-engine-serving-region": "US"}
        calls = [check.future(check_request(facts), metadata=key) for _ in range(200)]
        assert {call.result(timeout=10).status.code for call in calls} == {0}
        large = check_request(facts, body=b'{"model":"fable-5","input":"%s"}' % (b"x" * 1_000_000))
        assert check(large, metadata=key).status.code == 0
        assert check(check_request({**facts, "x-policy-engine-subject": "eve"}), metadata=key).status.code == 7
        too_large = check_request(facts, body=b"x" * 3_000_000)
        other = channel.unary_unary("/envoy.service.auth.v3.Authorization/Other")
        for call, request, metadata, code in (
            (check, too_large, key, grpcio.StatusCode.RESOURCE_EXHAUSTED),
            (check, large, None, grpcio.StatusCode.RESOURCE_EXHAUSTED),
            (check, check_request(facts), None, grpcio.StatusCode.UNAUTHENTICATED),
            (other, b"", key, grpcio.StatusCode.UNIMPLEMENTED),
        ):
            with pytest.raises(grpcio.RpcError) as refused:
                call(request, metadata=metadata, timeout=10)
            assert refused.value.code() == code  # type: ignore[attr-defined]  # of a call it is one
        assert check(check_request(facts), metadata=key).status.code == 0


def test_health_is_told_to_anyone_as_readiness_is(guarded: Served) -> None:
    """For the server and the service that there is, to gRPC's own client, without a key; nothing else is told."""
    with grpcio.insecure_channel(f"127.0.0.1:{guarded.server.beside.port}") as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check", request_serializer=StringValue.SerializeToString)
        raw = channel.unary_unary("/grpc.health.v1.Health/Check")
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch")
        for service in ("", "envoy.service.auth.v3.Authorization"):
            assert check(StringValue(value=service), timeout=10) == b"\x08\x01"
        for call, request, code in (
            (check, StringValue(value="another.Service"), grpcio.StatusCode.NOT_FOUND),
            (raw, b"\x0a\x02\xff\xff", grpcio.StatusCode.INVALID_ARGUMENT),
            (lambda request, timeout: next(watch(request, timeout=timeout)), b"", grpcio.StatusCode.UNIMPLEMENTED),
        ):
            with pytest.raises(grpcio.RpcError) as refused:
                call(request, timeout=10)
            assert refused.value.code() == code  # type: ignore[attr-defined]  # of a call it is one


def test_an_engine_that_cannot_decide_is_not_serving() -> None:
    """Each call that came together has its own answer; the state is read once for all of them."""
    read: list[int] = []

    def away() -> Condition:
        read.append(1)
        return Condition(reasons=(("log.unavailable", "The log is away."),))

    health = Health(away, ("a.Service",))
    calls: list[Call] = [(b"", ()), (b"\x0a\x09a.Service", ()), (b"\x0a\x01x", ())]
    first, second, third = asyncio.run(health.answer(calls))
    assert (first, second, len(read)) == (b"\x08\x02", b"\x08\x02", 1)
    assert isinstance(third, CallRefused) and third.status is Status.NOT_FOUND


def test_plaintext_beyond_loopback_is_refused_unless_the_network_is_said_to_be_private() -> None:
    """The key would be heard by whoever listens."""
    for host in ("0.0.0.0", "192.0.2.1", "engine.example", "::"):
        with pytest.raises(StartRefused, match="without TLS"):
            require_possible(Settings(grpc_port=9191, grpc_host=host))
    require_possible(Settings(grpc_port=9191, grpc_host="0.0.0.0", grpc_plaintext="yes"))
    require_possible(Settings(grpc_host="0.0.0.0"))
    for host in ("127.0.0.1", "::1", "localhost"):
        require_possible(Settings(grpc_port=9191, grpc_host=host))


def test_a_missing_extra_is_said_clearly(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence names what is missing and how to get it."""
    monkeypatch.setitem(__import__("sys").modules, "hpack", None)
    with pytest.raises(StartRefused, match=r"pip install 'policy-engine\[envoy\]'"):
        require_possible(Settings(grpc_port=9191))
    require_possible(Settings())


def test_an_address_that_is_taken_is_refused_and_can_be_shared_on_purpose() -> None:
    """One process has the port, unless it is told to share it with its own kind."""

    async def both(shared: bool) -> tuple[int, int]:
        first = Listening(checker(), Condition, "127.0.0.1", 0, shared=shared)
        await first.begin()
        second = Listening(checker(), Condition, "127.0.0.1", first.port, shared=shared)
        try:
            await second.begin()
            return first.port, second.port
        finally:
            await second.end()
            await first.end()

    with pytest.raises(StartRefused, match="cannot listen"):
        asyncio.run(both(shared=False))
    one, other = asyncio.run(both(shared=True))
    assert one == other


def test_an_answer_is_under_way_until_it_was_handed_on(guarded: Served) -> None:
    """`drained` may not be said while an allow is on its way to Envoy; the served doors hold what says so."""
    seen: list[str] = []

    @contextmanager
    def answering() -> Iterator[None]:
        seen.append("begun")
        yield
        seen.append("ended")

    given = Checks(checker(answering=answering))
    with given.under_way():
        seen.append("handed on")
    assert seen == ["begun", "handed on", "ended"]
    assert Door(guarded.engine).checker.answering == guarded.engine.decider.answering


def test_checks_that_come_together_get_each_their_own_answer() -> None:
    """Good, denied, refused and unauthenticated ones in one piece: as if each had come alone."""
    good, eve = check_request(), check_request({**FACTS, "x-policy-engine-subject": "eve"})
    key: Metadata = (("policy-engine-key", KEY.encode()),)
    calls: list[Call] = [(each.SerializeToString(), key) for each in (good, eve, check_request(WITHOUT_SUBJECT), good)]
    calls[2:2] = [(b"\xff", key), (good.SerializeToString(), ())]
    decider = only_alice()
    answers = asyncio.run(Checks(checker(decider)).answer(calls))
    codes = [each.status if isinstance(each, CallRefused) else read(each).status.code for each in answers]
    assert codes == [0, 7, 7, Status.UNAUTHENTICATED, 7, 0]
    assert [request.subject_id for request in decider.asked] == ["alice", "eve", "alice"]
    assert len({read(answers[place]).ok_response.headers[0].header.value for place in (0, 5)}) == 2


def read(answer: bytes | CallRefused) -> auth.CheckResponse:
    """Return a response that was not refused."""
    assert isinstance(answer, bytes)
    return auth.CheckResponse.FromString(answer)
