"""The decision endpoints as an exchange: who may ask, what comes back, in which order refusals come."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine import logs
from policy_engine.api.decisions import EVALUATION, EVALUATIONS, PATHS
from policy_engine.core.decision import Decision, Principal, Reason, Request
from policy_engine.errors import NotPermitted, StoreUnavailable
from policy_engine.limits import LIMITS
from tests.api import doors

ASKED = {
    "subject": {"type": "user", "id": "alice"},
    "action": {"name": "read"},
    "resource": {"type": "record", "id": "record-1"},
}
ITEMS = [{"action": {"name": name}} for name in ("read", "delete", "read")]


def test_a_single_answer_explains_itself() -> None:
    """Decision and context come as promised; no cache keeps them."""
    reply = doors.ask(doors.door(), ASKED)
    assert (reply.status, reply.header("content-type"), reply.header("cache-control")) == (
        200,
        "application/json",
        "no-store",
    )
    assert reply.header("content-length") == str(len(reply.body))
    assert reply.json() == {
        "decision": True,
        "context": {
            "id": f"{1:032x}",
            "reasons": [{"code": "fixture", "rule": "F1", "message": "As the scenario says."}],
            "missing": [],
            "alternatives": [],
            "release": doors.RELEASE,
            "epoch": 7,
            "valid_for_ms": 2000,
            "message": "As it is.",
        },
    }


class OneDecision(doors.FixtureDecider):
    """Answers everything with one decision, or raises."""

    def __init__(self, result: Any) -> None:
        super().__init__()
        self.result = result

    async def decide_async(self, request: Request, principal: Principal) -> Decision:
        """Return or raise the result."""
        if isinstance(self.result, Exception):
            raise self.result
        return self.result  # type: ignore[no-any-return]  # whatever a test gave


def test_reasons_name_what_they_have_and_nothing_empty() -> None:
    """Authority and orders stand where there are some; null members are left out."""
    reasons = (
        Reason("directive.block", "P12", "Blocked.", "Order of June 2026", "r1", ("D-1", "D-2")),
        Reason("tenant.unknown"),
    )
    decision = Decision(False, "d1", reasons, ("context.tenant",), ("opus-4-8",), "sha256:1", 3, 0)
    assert doors.ask(doors.door(OneDecision(decision)), ASKED).json() == {
        "decision": False,
        "context": {
            "id": "d1",
            "reasons": [
                {
                    "code": "directive.block",
                    "rule": "P12",
                    "rule_id": "r1",
                    "message": "Blocked.",
                    "authority": "Order of June 2026",
                    "orders": ["D-1", "D-2"],
                },
                {"code": "tenant.unknown"},
            ],
            "missing": ["context.tenant"],
            "alternatives": ["opus-4-8"],
            "release": "sha256:1",
            "epoch": 3,
            "valid_for_ms": 0,
        },
    }


@pytest.mark.parametrize("allowed", [1, "true", object(), None, 0])
def test_only_a_decision_that_is_exactly_allowed_is_answered_true(allowed: Any) -> None:
    """Something truthy is not a yes."""
    decision = Decision(allowed, "d1", (), (), (), "sha256:1", 3, 0)
    app = doors.door(OneDecision(decision))
    assert doors.ask(app, ASKED).json()["decision"] is False
    assert doors.ask(app, {**ASKED, "evaluations": [{}]}, path=EVALUATIONS).json() == {
        "evaluations": [{"decision": False}]
    }


def test_a_log_that_is_away_denies_with_its_reason() -> None:
    """Without a place for the entry the answer is a deny, not an error and not an allow."""
    app = doors.door(OneDecision(StoreUnavailable("the database file is gone")))
    reply = doors.ask(app, ASKED)
    assert (reply.status, reply.json()["decision"]) == (200, False)
    assert reply.json()["context"]["reasons"][0]["code"] == "log.unavailable"
    assert reply.json()["context"]["valid_for_ms"] == 0
    assert not {"id", "release", "epoch"} & reply.json()["context"].keys()
    many = doors.ask(app, {**ASKED, "evaluations": [{}, {"subject": 1}, {}]}, path=EVALUATIONS)
    assert [item["decision"] for item in many.json()["evaluations"]] == [False, False, False]
    assert many.header("Policy-Engine-Decision-Ids") == "-,-,-"
    assert many.header("Policy-Engine-Epoch") is None


def test_a_fault_of_ours_is_a_500_that_says_nothing(planted_facts: Any) -> None:
    """An unexpected error reaches neither the caller nor the log with what it was about."""
    out = io.StringIO()
    logs.configure(level="info", stream=out)
    fault = RuntimeError(f"no such person {planted_facts.person}")
    reply = doors.ask(doors.door(OneDecision(fault)), ASKED, headers=((b"x-request-id", b"r1"),))
    assert (reply.status, reply.header("content-type"), reply.header("x-request-id")) == (
        500,
        "application/problem+json",
        "r1",
    )
    assert planted_facts.person not in reply.body.decode()
    (line,) = [json.loads(line) for line in out.getvalue().splitlines()]
    assert (line["event"], line["error"]) == ("decision.failed", "RuntimeError")


def test_what_a_key_may_not_ask_is_a_403() -> None:
    """A refusal by the decider for the caller's sake is about the caller."""
    reply = doors.ask(doors.door(OneDecision(NotPermitted("the key is bounded to other tenants"))), ASKED)
    assert (reply.status, reply.json()["code"]) == (403, "caller.not-permitted")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "post"])
def test_other_verbs_are_refused_with_the_one_that_works(path: str, method: str) -> None:
    """Decisions are asked with POST alone."""
    reply = doors.ask(doors.door(), ASKED, path=path, method=method)
    assert (reply.status, reply.header("allow")) == (405, "POST")


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        b"",
        b"Bearer",
        b"Bearer ",
        b"Basic " + doors.KEY.encode(),
        doors.KEY.encode(),
        b"Bearer " + doors.KEY.encode() + b" x",
        b"Bearer " + doors.KEY.encode()[:-1],
        b"Bearer \xff\xfe",
        b"Bearer pe_" + b"k" * 10_000,
    ],
)
def test_who_is_not_authenticated_is_told_how_and_no_more(authorization: bytes | None) -> None:
    """Every failure is the same 401 with `WWW-Authenticate`; the token is not echoed."""
    headers = () if authorization is None else ((b"authorization", authorization),)
    reply = doors.ask(doors.door(), ASKED, key=None, headers=headers)
    assert (reply.status, reply.header("www-authenticate")) == (401, 'Bearer realm="policy_engine"')
    assert b"pe_" not in reply.body


@pytest.mark.parametrize("scheme", [b"Bearer ", b"bearer ", b"BEARER ", b"Bearer   "])
def test_the_scheme_has_no_case(scheme: bytes) -> None:
    """RFC 9110: schemes are compared without case."""
    headers = ((b"authorization", scheme + doors.KEY.encode()),)
    assert doors.ask(doors.door(), ASKED, key=None, headers=headers).status == 200


def test_a_key_without_the_scope_may_not_ask() -> None:
    """Authenticated is not permitted."""
    reply = doors.ask(doors.door(), ASKED, key=doors.WATCHER)
    assert (reply.status, reply.json()["code"]) == (403, "caller.not-permitted")


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("application/json;charset=UTF-8", 200),
        ("Application/JSON ; q=1", 200),
        ("application/jsonx", 400),
        ("application/json+x", 400),
        ("application/x-www-form-urlencoded", 400),
        ("text/plain", 400),
        ("text/plain; application/json", 400),
        ("", 400),
        (None, 400),
    ],
)
def test_bodies_are_json_with_or_without_parameters(content_type: str | None, status: int) -> None:
    """Any other media type is a 400, the status that both readings of the standard accept."""
    assert doors.ask(doors.door(), ASKED, content_type=content_type).status == status


@pytest.mark.parametrize(("coding", "status"), [(b"gzip", 400), (b"identity, br", 400), (b"Identity", 200)])
def test_a_compressed_body_is_refused_as_one(coding: bytes, status: int) -> None:
    """The sentence says what to do; what is compressed would else be no UTF-8, or no JSON."""
    reply = doors.ask(doors.door(), ASKED, headers=((b"content-encoding", coding),))
    assert reply.status == status and (status == 200 or reply.json()["where"] == "Content-Encoding")


@pytest.mark.parametrize("name", [b"authorization", b"content-type"])
def test_a_header_sent_twice_is_refused(name: bytes) -> None:
    """Two values are two readings; the first of them is as good as the last for whoever smuggles."""
    value = b"Bearer " + doors.KEY.encode() if name == b"authorization" else b"application/json"
    assert doors.ask(doors.door(), ASKED, headers=((name, value),)).status == 400


@pytest.mark.parametrize("id", [b"", b"7", b"a b/c?d=e", b"x" * LIMITS.request_id_characters, b"\xc3\xa9"])
def test_any_harmless_request_id_comes_back(id: bytes) -> None:
    """The id is opaque: whatever it says, it is repeated byte by byte."""
    reply = doors.ask(doors.door(), ASKED, headers=((b"x-request-id", id),))
    assert reply.status == 200 and (b"x-request-id", id) in reply.headers


@pytest.mark.parametrize("id", [b"a\r\nSet-Cookie: x=1", b"a\nb", b"a\x00b", b"\t", b"\x7f", b"x" * 257])
def test_a_request_id_that_could_forge_a_header_is_refused_and_not_repeated(id: bytes) -> None:
    """Controls and over-long ids come back nowhere."""
    reply = doors.ask(doors.door(), ASKED, headers=((b"x-request-id", id),))
    assert reply.status == 400 and reply.header("x-request-id") is None
    assert id not in reply.body


def test_two_request_ids_are_refused() -> None:
    """There would be no telling which one is right."""
    reply = doors.ask(doors.door(), ASKED, headers=((b"x-request-id", b"1"), (b"x-request-id", b"2")))
    assert reply.status == 400 and reply.header("x-request-id") is None


def test_no_request_id_is_no_fault_and_none_is_made_up() -> None:
    """Without one the answer carries none."""
    assert doors.ask(doors.door(), ASKED).header("x-request-id") is None


def test_a_body_may_arrive_in_pieces() -> None:
    """Pieces are put together, empty ones included."""
    whole = b'{"subject":{"type":"user","id":"alice"},"action":{"name":"read"},"resource":{"type":"record","id":"1"}}'
    pieces = [whole[:5], b"", whole[5:60], whole[60:]]
    assert doors.ask(doors.door(), chunks=pieces).status == 200


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_over_the_limit_is_refused_before_it_is_kept(declared: bool) -> None:
    """A length that is announced is refused at once, one that is not when the limit is passed."""
    piece = b" " * 10_000
    headers = ((b"content-length", b"1000000"),) if declared else ()
    pieces = [piece] * 100
    reply = doors.ask(doors.door(), chunks=pieces, headers=headers)
    assert (reply.status, reply.json()["code"]) == (413, "input.too-large")


def test_whoever_hangs_up_gets_no_answer_and_no_decision() -> None:
    """A body that never ends is not decided on."""
    decider = doors.FixtureDecider()
    assert doors.knock(doors.door(decider), ASKED, hang_up=True) is None
    assert doors.knock(doors.door(decider), chunks=[]) is None
    assert decider.asked == []


def test_a_body_that_dawdles_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection cannot be held open by sending nothing."""
    import asyncio

    from policy_engine.api import exchange

    monkeypatch.setattr(exchange, "BODY_SECONDS", 0.01)
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        if sent == []:
            sent.append("head")
            return {"type": "http.request", "body": b"{", "more_body": True}
        await asyncio.sleep(60)
        raise AssertionError("the door waited too long")

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"authorization", b"Bearer " + doors.KEY.encode()), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": EVALUATION, "headers": headers}
    asyncio.run(doors.door()(scope, receive, send))
    assert sent[1]["status"] == 400


def test_refusals_come_in_order() -> None:
    """Verb before caller, caller before media type, media type before body: a stranger learns nothing of a body."""
    bad: dict[str, Any] = {"content_type": "text/plain"}
    assert doors.ask(doors.door(), b"{", method="GET", key=None, **bad).status == 405
    assert doors.ask(doors.door(), b"{", key=None, **bad).status == 401
    assert doors.ask(doors.door(), b"{", key=doors.WATCHER, **bad).status == 403
    assert doors.ask(doors.door(), b"{", **bad).json()["where"] == "Content-Type"


def test_a_lean_batch_puts_the_rest_into_headers() -> None:
    """Epoch, release, the shortest validity and the ids stand in headers; the body holds decisions alone."""
    reply = doors.ask(doors.door(), {**ASKED, "evaluations": [*ITEMS, {"subject": 5}]}, path=EVALUATIONS)
    error = {"error": {"status": 400, "message": "subject: must be an object"}}
    assert reply.json() == {
        "evaluations": [
            {"decision": True},
            {"decision": False},
            {"decision": True},
            {"decision": False, "context": error},
        ]
    }
    assert reply.header("Policy-Engine-Decision-Ids") == f"{1:032x},{2:032x},{3:032x},-"
    assert reply.header("Policy-Engine-Epoch") == "7"
    assert reply.header("Policy-Engine-Release") == doors.RELEASE
    assert reply.header("Policy-Engine-Valid-For-Ms") == "2000"
    assert reply.header("Cache-Control") == "no-store"


def test_the_head_of_a_batch_that_an_engine_asks_for_passes_a_proxy() -> None:
    """nginx takes 4 KiB of head unless told otherwise: the ids of as many as `connect` puts together fit into it."""
    length = LIMITS.remote_batch_count
    reply = doors.ask(doors.door(), {**ASKED, "evaluations": [{}] * length}, path=EVALUATIONS)
    assert (reply.header("Policy-Engine-Decision-Ids") or "").count(",") == length - 1
    assert sum(len(name) + len(value) + 4 for name, value in reply.headers) < 3_800


def test_a_batch_of_refusals_names_no_epoch() -> None:
    """Nothing was decided, so nothing holds and nothing is named."""
    reply = doors.ask(doors.door(), {"evaluations": [{}]}, path=EVALUATIONS)
    assert reply.header("Policy-Engine-Epoch") is None
    assert reply.header("Policy-Engine-Valid-For-Ms") == "0"


class Waning(doors.FixtureDecider):
    """Each decision is valid for less, under a later epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.count = itertools.count()

    async def decide_async(self, request: Request, principal: Principal) -> Decision:
        """Return one decision."""
        number = next(self.count)
        return Decision(True, str(number), (), (), (), f"sha256:{number}", 7 + number, 900 - number)


def test_a_batch_holds_no_longer_and_is_no_newer_than_its_weakest_item() -> None:
    """The smallest validity and the oldest epoch speak for the batch."""
    reply = doors.ask(doors.door(Waning()), {**ASKED, "evaluations": ITEMS}, path=EVALUATIONS)
    assert reply.header("Policy-Engine-Valid-For-Ms") == "898"
    assert (reply.header("Policy-Engine-Epoch"), reply.header("Policy-Engine-Release")) == ("7", "sha256:0")


def test_explanations_stand_beside_the_decisions_when_asked_for() -> None:
    """`options.explain` gives each item its context; a refused item keeps its error."""
    given_body = {**ASKED, "evaluations": [{}, {"action": {}}], "options": {"explain": True}}
    first, second = doors.ask(doors.door(), given_body, path=EVALUATIONS).json()["evaluations"]
    assert first["context"]["reasons"][0]["code"] == "fixture" and first["context"]["id"] == f"{1:032x}"
    assert second["context"] == {"error": {"status": 400, "message": "action.name: is missing"}}


class Short(doors.FixtureDecider):
    """Gives fewer decisions than it was asked for."""

    async def decide_many_async(
        self, requests: Sequence[Request], principal: Principal, *, semantic: str = "execute_all"
    ) -> list[Decision]:
        """Return all but one."""
        return (await super().decide_many_async(requests, principal))[:-1]


def test_a_missing_decision_is_a_fault_and_never_shifts_the_others() -> None:
    """An answer cannot come to stand at another's place."""
    reply = doors.ask(doors.door(Short()), {**ASKED, "evaluations": ITEMS}, path=EVALUATIONS)
    assert reply.status == 500


kinds = st.sampled_from(["allow", "deny", "refused"])
SEMANTICS = ["execute_all", "deny_on_first_deny", "permit_on_first_permit"]


def expected(items: list[str], semantic: str) -> list[bool]:
    """Return what the standard says of a batch, word by word."""
    answers: list[bool] = []
    for item in items:
        answers.append(item == "allow")
        if semantic == "deny_on_first_deny" and item != "allow":
            break
        if semantic == "permit_on_first_permit" and item == "allow":
            break
    return answers


class Eager(doors.FixtureDecider):
    """Decides every item whatever the semantic says; the door must end the batch itself."""

    async def decide_many_async(
        self, requests: Sequence[Request], principal: Principal, *, semantic: str = "execute_all"
    ) -> list[Decision]:
        """Return all decisions."""
        return await super().decide_many_async(requests, principal)


@given(
    st.lists(kinds, min_size=1, max_size=8), st.sampled_from(SEMANTICS), st.sampled_from([doors.FixtureDecider, Eager])
)
def test_each_semantic_is_what_the_standard_says(
    items: list[str], semantic: str, kind: type[doors.FixtureDecider]
) -> None:
    """Whatever mixture of allows, denies and refused items: same answers, same order, same end; no item is skipped."""
    written = {"allow": {"action": {"name": "read"}}, "deny": {"action": {"name": "delete"}}, "refused": {"action": 5}}
    given_body = {
        **ASKED,
        "evaluations": [written[item] for item in items],
        "options": {"evaluations_semantic": semantic},
    }
    reply = doors.ask(doors.door(kind()), given_body, path=EVALUATIONS)
    assert [item["decision"] for item in reply.json()["evaluations"]] == expected(items, semantic)
    ids = (reply.header("Policy-Engine-Decision-Ids") or "").split(",")
    assert [id == "-" for id in ids] == [item == "refused" for item in items[: len(ids)]]


def test_items_behind_the_end_are_not_decided() -> None:
    """A batch that ends at a refused item asks nothing of what stands behind it."""
    decider = doors.FixtureDecider()
    body = {**ASKED, "evaluations": [{}, {"action": 5}, {}], "options": {"evaluations_semantic": "deny_on_first_deny"}}
    assert len(doors.ask(doors.door(decider), body, path=EVALUATIONS).json()["evaluations"]) == 2
    assert len(decider.asked) == 1


@pytest.mark.parametrize("path", PATHS)
def test_a_key_revoked_while_its_request_was_decided_gets_no_allow(path: str) -> None:
    """A decision of another epoch than its caller's asks for the caller again, and a revoked one is told nothing."""
    keys = doors.TwoKeys(epoch=6)
    body = {**ASKED, "evaluations": [{}]}
    assert doors.ask(doors.door(keys=keys), body, path=path).status == 200
    keys.revoked = True
    assert doors.ask(doors.door(keys=keys), body, path=path).status == 401


def test_within_one_epoch_the_caller_is_looked_up_once() -> None:
    """The second look is for what moved; it costs nothing where nothing did."""
    keys = doors.TwoKeys(epoch=7)
    keys.revoked = True  # seen by a fresh look alone
    assert doors.ask(doors.door(keys=keys), ASKED).status == 200
