"""Every door that takes a key takes a token: proxies by every way in, gRPC, searches, management, and streams."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from http.client import HTTPConnection

import grpc as grpcio
import pytest
from envoy.service.auth.v3 import external_auth_pb2 as auth

from policy_engine.core.decision import PrincipalKind
from tests.api.served import ALICE
from tests.api.streams import reading
from tests.proxies.standins import check_request
from tests.tokens.parties import FACTS, Trusting, good, trusting


@pytest.fixture(scope="module")
def party(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trusting]:
    """Offer one service with both doors for proxies open."""
    with trusting(tmp_path_factory.mktemp("doors"), grpc_port=0) as running:
        yield running


@pytest.mark.parametrize("path", ["/check/ext-authz/v1/chat/completions", "/check/auth-request", "/check/forward-auth"])
def test_checks_of_proxies(party: Trusting, path: str) -> None:
    """The proxy's token stands where its key would; the client's own token beside it is not looked at."""
    client = party.service.client
    headers = {"Policy-Engine-Key": good(), "Authorization": f"Bearer {good('nobody-here')}", **FACTS}
    assert client.get(path, headers=headers).status_code == 200
    swapped = {"Policy-Engine-Key": good("nobody-here"), "Authorization": f"Bearer {good()}", **FACTS}
    assert client.get(path, headers=swapped).status_code == 401


def test_the_door_for_plugins_of_opa(party: Trusting) -> None:
    """In any of the three places where a key may stand."""
    asked = {"input": {"request": {"headers": FACTS}}}
    within = {"input": {"request": {"headers": {**FACTS, "policy-engine-key": good()}}}}
    for headers, body in (
        ({"Authorization": f"Bearer {good()}"}, asked),
        ({"Policy-Engine-Key": good()}, asked),
        ({}, within),
    ):
        answer = party.service.client.post("/v1/data/gate/allow", headers=headers, json=body)
        assert answer.json() == {"result": True}, answer.text


def test_envoy_over_grpc(party: Trusting) -> None:
    """In the metadata of the call, a long message included, or in an extension of the route."""
    with grpcio.insecure_channel(f"127.0.0.1:{party.service.server.beside.port}") as channel:
        check = channel.unary_unary(
            "/envoy.service.auth.v3.Authorization/Check",
            request_serializer=auth.CheckRequest.SerializeToString,
            response_deserializer=auth.CheckResponse.FromString,
        )
        metadata = (("policy-engine-key", good()),)
        long = check_request(FACTS, body=b'{"model":"fable-5","input":"%s"}' % (b"x" * 500_000))
        extended = check_request(FACTS, extensions={"policy-engine-key": good()})
        assert check(check_request(FACTS), metadata=metadata).status.code == 0
        assert check(long, metadata=metadata).status.code == 0
        assert check(extended).status.code == 0
        for wrong in (good("nobody-here"), good(exp=1), good()[:-4] + "AAAA"):
            with pytest.raises(grpcio.RpcError) as refused:
                check(check_request(FACTS), metadata=(("policy-engine-key", wrong),), timeout=10)
            assert refused.value.code() == grpcio.StatusCode.UNAUTHENTICATED  # type: ignore[attr-defined]  # a call's


def test_entries_name_the_row(party: Trusting) -> None:
    """Who asked is the id of the row, as for any key; nothing of issuer or subject is public."""
    id = party.register("named-in-entries")
    assert party.service.post("/access/v1/evaluation", ALICE, key=good("named-in-entries")).json()["decision"] is True
    publics = [public for _, _, public in party.service.engine.store.entries()]
    assert json.loads(publics[-1])["by"] == id
    assert not any(b"named-in-entries" in public or b"issuer.example" in public for public in publics)
    assert party.service.engine.evidence.verify().ok


def test_a_person_changes_by_token_what_the_row_covers(party: Trusting) -> None:
    """Management routes act as the person of the row, and the entry names the row."""
    id = party.register("sub-of-wanda", name="wanda", kind=PrincipalKind.PERSON, scopes=("switch:engage",))
    body = {"id": "by-wanda", "scope": {"models": ["open-1"]}, "reason": "why"}
    assert party.service.post("/v1/switches", body, key=good("sub-of-wanda")).status_code == 201
    assert json.loads([public for _, _, public in party.service.engine.store.entries()][-1])["by"] == id


def test_a_stream_ends_with_its_token(party: Trusting) -> None:
    """Within a heartbeat of `exp` it says that it ended; coming back needs a newer token."""
    ends = time.time() + 0.8
    with reading(party.service.port, good(exp=ends)) as reader:
        assert reader.next()[0] == "standing"
        assert reader.until_end() == [("ended", {})]
    assert 0.0 <= time.time() - ends < 2.5
    assert party.service.get("/v1/revocations", key=good(exp=ends)).status_code == 401
    with reading(party.service.port, good()) as reader:
        assert reader.next()[0] == "standing"


def test_a_stream_ends_with_its_row(party: Trusting) -> None:
    """A revoked row ends it as a revoked key does, however long the token lasts."""
    id = party.register("streams")
    with reading(party.service.port, good("streams")) as reader:
        assert reader.next()[0] == "standing"
        party.service.engine.keys.revoke(party.person("operator"), id)
        assert reader.until_end() == [("ended", {})]


def test_keys_are_as_before_beside_tokens(party: Trusting) -> None:
    """A service that takes tokens takes keys, by the same rules."""
    assert party.service.decide(ALICE)["decision"] is True
    assert party.service.post("/access/v1/evaluation", ALICE, key="pe_" + "x" * 43).status_code == 401


@pytest.mark.parametrize(("lasts", "status", "entries"), [(30.0, 200, 1), (0.3, 401, 0)])
def test_a_token_that_ends_before_its_question_is_there(
    party: Trusting, lasts: float, status: int, entries: int
) -> None:
    """A body that takes longer than the token lasts is not decided; one that arrives in time is.

    Control: policy_engine/api/posted.py: `require_time(self._keys, caller)`
    """
    before = party.service.entries()
    body, bearer = json.dumps(ALICE).encode(), good(exp=time.time() + lasts)
    connection = HTTPConnection("127.0.0.1", party.service.port, timeout=10)
    connection.putrequest("POST", "/access/v1/evaluation")
    connection.putheader("Authorization", f"Bearer {bearer}")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body[:10])
    time.sleep(0.4)
    connection.send(body[10:])
    assert connection.getresponse().status == status
    connection.close()
    assert party.service.entries() == before + entries
