"""Denies in the words of each client: bodies, statuses, headers, the six sentences, and what they never say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.core.decision import Decision, Reason, Request
from policy_engine.core.dialects import (
    Detail,
    Dialect,
    Refusal,
    Wording,
    dialect_of,
    malformed,
    message,
    refusal,
    stream_end,
    unauthenticated,
    unavailable,
)
from policy_engine.core.facts import Location
from policy_engine.core.reasonclasses import CLASSES, Why

CODES = st.sampled_from(sorted(CLASSES))
DIALECTS = st.sampled_from(list(Dialect))
WORDINGS = st.builds(
    Wording,
    statuses=st.lists(st.tuples(CODES.map(lambda code: code.split(".")[0]), st.sampled_from((403, 404, 451)))).map(
        tuple
    ),
    blocked_by=st.sampled_from((None, "https://law.example/order")),
    docs_url=st.sampled_from((None, "https://help.example/models")),
    detail=st.sampled_from(list(Detail)),
)


def deny(*codes: str, alternatives: tuple[str, ...] = ("opus-4-8",), id: str = "01jdecision") -> Decision:
    """Return a deny for reasons, as an engine gives it."""
    reasons = tuple(Reason(code, "P7", "A sentence of the pack.", "15 CFR 744") for code in codes)
    asked = Request("mina-secret", "infer", "asked-model", "tenant-secret", Location("IR"))
    return Decision(False, id, reasons, (), alternatives, "sha256:0", 7, 0, "A sentence of the pack.", asked=asked)


def body(refused: Refusal) -> Any:
    """Return what a refusal says."""
    return json.loads(refused.body)


def test_openai_denies_as_its_clients_expect() -> None:
    """403, the provider's own members, and ours beside them, which its library keeps."""
    refused = refusal(deny("nationality.restricted"), Dialect.OPENAI, Wording(docs_url="https://help.example/m"))
    error = body(refused)["error"]
    assert refused.status == 403
    assert (error["type"], error["param"], error["code"]) == ("request_forbidden", "model", "model_access_denied")
    assert (error["decision_id"], error["alternatives"]) == ("01jdecision", ["opus-4-8"])
    assert error["docs_url"] == "https://help.example/m"


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        (["destination.restricted"], "unsupported_country_region_territory"),
        (["switch.engaged"], "model_suspended"),
        (["evidence.expired"], "facts_missing"),
        (["tenant.denied"], "model_access_denied"),
        (["evidence.expired", "switch.engaged"], "model_suspended"),
        (["evidence.expired", "tenant.denied"], "model_access_denied"),
        (["acme.own-rule"], "model_access_denied"),
    ],
)
def test_the_code_is_that_of_the_class(codes: list[str], code: str) -> None:
    """Geography has the provider's own code; of several reasons the one that leads is told, whatever their order."""
    for order in (codes, codes[::-1]):
        assert body(refusal(deny(*order), Dialect.OPENAI))["error"]["code"] == code


def test_anthropic_tells_a_withdrawn_model_from_a_denied_account() -> None:
    """404 makes its clients offer another model; a deny of the account is 403 and no reason to log in again."""
    gone = refusal(deny("switch.engaged"), Dialect.ANTHROPIC)
    denied = refusal(deny("seat.restricted"), Dialect.ANTHROPIC)
    assert (gone.status, body(gone)["error"]["type"]) == (404, "not_found_error")
    assert (denied.status, body(denied)["error"]["type"]) == (403, "permission_error")
    assert body(denied)["type"] == "error"
    assert body(denied)["request_id"] == "01jdecision"
    assert body(denied)["error"]["message"].startswith("Policy, not login")


def test_a_problem_document_has_the_id_and_the_reasons() -> None:
    """RFC 9457 members, ours beside them; a code that would tell a fact is shown by its class."""
    refused = refusal(deny("nationality.restricted", "destination.restricted"), Dialect.PROBLEM)
    document = body(refused)
    assert ("content-type", "application/problem+json") in refused.headers
    assert (document["status"], document["decision_id"]) == (403, "01jdecision")
    assert {"type", "title", "detail"} <= set(document)
    assert document["reasons"] == [{"class": "access"}, {"class": "place", "code": "destination.restricted"}]


def test_an_mcp_call_is_answered_by_a_tool_error_and_never_asks_for_wider_consent() -> None:
    """With the id of the call the answer is a tool error; without it, HTTP refuses. Neither says insufficient_scope."""
    answered = refusal(deny("tenant.denied"), Dialect.MCP, rpc_id=7)
    result = body(answered)
    assert (answered.status, result["id"], result["result"]["isError"]) == (200, 7, True)
    assert result["result"]["structuredContent"]["decision_id"] == "01jdecision"
    refused = refusal(deny("tenant.denied"), Dialect.MCP)
    assert (refused.status, body(refused)["error"]["data"]["code"]) == (403, "model_access_denied")
    for each in (answered, refused):
        assert b"insufficient_scope" not in each.body
        assert "www-authenticate" not in dict(each.headers)


def test_451_is_chosen_per_reason_and_says_who_demands_it() -> None:
    """Only the reasons that lead choose, by the longest line; other denies stay as they are."""
    wording = Wording((("directive", 451), ("directive.destination", 404)), blocked_by="https://law.example/order")
    legal = refusal(deny("directive.everyone", "nationality.restricted"), Dialect.OPENAI, wording)
    assert legal.status == 451
    assert dict(legal.headers)["link"] == '<https://law.example/order>; rel="blocked-by"'
    place = refusal(deny("directive.destination"), Dialect.OPENAI, wording)
    assert (place.status, "link" in dict(place.headers)) == (404, False)
    assert refusal(deny("switch.engaged"), Dialect.OPENAI, wording).status == 403
    assert refusal(deny("directives.other"), Dialect.OPENAI, wording).status == 403


@pytest.mark.parametrize("status", [200, 302, 401, 409, 429, 500, 503])
def test_no_other_status_can_be_chosen(status: int) -> None:
    """A deny that a proxy lets pass, or a client repeats, cannot be configured."""
    with pytest.raises(ValueError, match="403, 404 or 451"):
        Wording((("directive", status),))


@pytest.mark.parametrize("address", ["javascript:x", "https://a/\r\nset-cookie: x", "https://a/<b>", 'https://a/"', ""])
def test_an_address_that_could_break_a_header_is_refused(address: str) -> None:
    """What stands in `Link` comes from configuration, and is still looked at."""
    for name in ("blocked_by", "docs_url"):
        with pytest.raises(ValueError, match=name):
            Wording(**{name: address})  # type: ignore[arg-type]  # one of the two texts


@given(st.lists(CODES, min_size=1, max_size=5), DIALECTS, WORDINGS)
def test_a_deny_is_never_let_through_and_never_repeated(codes: list[str], dialect: Dialect, wording: Wording) -> None:
    """Whatever the reasons, dialect and wording: no 2xx, no status that is retried, no cache, one JSON object."""
    refused = refusal(deny(*codes), dialect, wording)
    headers = dict(refused.headers)
    outage = all(CLASSES[code] is Why.OUTAGE for code in codes)
    assert refused.status in ((503,) if outage else (403, 404, 451))
    assert headers["cache-control"] == "no-store"
    assert headers.get("x-should-retry") == (None if outage else "false")
    assert ("retry-after" in headers) is outage
    assert isinstance(body(refused), dict)
    assert len(headers) == len(refused.headers)


@given(st.lists(CODES, min_size=1, max_size=5), DIALECTS, WORDINGS)
def test_nothing_personal_is_ever_said(codes: list[str], dialect: Dialect, wording: Wording) -> None:
    """Neither what was asked nor the pack's sentence leaves, nor, short of `CODES`, a code that tells a fact."""
    decision = deny(*codes)
    said = refusal(decision, dialect, wording).body + stream_end(decision, dialect, wording)
    said += json.dumps(refusal(decision, dialect, wording).headers).encode()
    for secret in (b"secret", b"asked-model", b"IR", b"sentence of the pack", b"ationality ", b"citizen"):
        assert secret not in said
    if wording.detail is not Detail.CODES:
        for code in codes:
            if CLASSES[code] in (Why.ACCESS, Why.FACTS, Why.MEMBERSHIP):
                assert code.encode() not in said


@given(st.lists(CODES, min_size=1, max_size=5), WORDINGS)
def test_the_message_has_its_six_parts(codes: list[str], wording: Wording) -> None:
    """What, scope, why, alternative, reference, where to look: one sentence each, the reference always."""
    text = message(deny(*codes), wording)
    sentences = text.count(". ") + 1
    assert "01jdecision" in text
    assert ("https://help.example/models" in text) is (wording.docs_url is not None)
    assert sentences == {Detail.REFERENCE: 3, Detail.CLASS: 6, Detail.CODES: 7}[wording.detail]
    assert ("opus-4-8" in text) is (wording.detail is not Detail.REFERENCE)


def test_a_caller_who_should_learn_nothing_learns_the_reference() -> None:
    """At `REFERENCE` two denies for different reasons differ in nothing, whatever statuses are chosen."""
    wording = Wording((("switch", 404),), detail=Detail.REFERENCE)
    for dialect in Dialect:
        answers = {refusal(deny(code), dialect, wording).body for code in ("switch.engaged", "nationality.restricted")}
        assert len(answers) == 1
    assert refusal(deny("switch.engaged"), Dialect.OPENAI, wording).status == 403


def test_administrators_may_see_every_code() -> None:
    """At `CODES` the reasons stand with code, rule and citation."""
    document = body(refusal(deny("nationality.restricted"), Dialect.PROBLEM, Wording(detail=Detail.CODES)))
    assert document["reasons"] == [
        {"class": "access", "code": "nationality.restricted", "rule": "P7", "authority": "15 CFR 744"}
    ]
    assert "nationality.restricted" in document["detail"]


def test_a_deny_that_nobody_decided_is_an_outage() -> None:
    """The client is told to come again, not that a policy denies it; a decided reason beside it makes it a deny."""
    away = deny("log.unavailable", alternatives=(), id="")
    assert refusal(away, Dialect.OPENAI) == unavailable(Dialect.OPENAI)
    assert refusal(deny("log.unavailable", "tenant.denied"), Dialect.OPENAI).status == 403
    assert b"engine_unavailable" in stream_end(away, Dialect.OPENAI)


@pytest.mark.parametrize("dialect", list(Dialect))
def test_refusals_without_a_decision(dialect: Dialect) -> None:
    """Not authenticated is 401 with its challenge, malformed 400, away 503 with `Retry-After`; each a JSON object."""
    missing, wrong, away = unauthenticated(dialect, "No token."), malformed(dialect, "No model."), unavailable(dialect)
    assert [each.status for each in (missing, wrong, away)] == [401, 400, 503]
    assert dict(missing.headers)["www-authenticate"] == "Bearer"
    assert dict(away.headers)["retry-after"] == "1"
    assert b"No token." in missing.body
    assert b"No model." in wrong.body
    assert all(isinstance(body(each), dict) for each in (missing, wrong, away))


def test_an_allow_is_no_refusal() -> None:
    """Turning an allow into a refusal, or ending its stream, is a mistake of the caller's."""
    allowed = Decision(True, "x", (), (), (), "", 0, 0)
    with pytest.raises(ValueError, match="no refusal"):
        refusal(allowed, Dialect.OPENAI)
    with pytest.raises(ValueError, match="ends no stream"):
        stream_end(allowed, Dialect.OPENAI)


@pytest.mark.parametrize("id", ["a\r\nset-cookie: x", "é", "\x00"])
def test_an_id_that_could_break_a_header_stays_out_of_them(id: str) -> None:
    """A remote engine chooses the id; it cannot add headers."""
    headers = dict(refusal(deny("tenant.denied", id=id), Dialect.ANTHROPIC).headers)
    assert "policy-engine-decision-id" not in headers
    assert "request-id" not in headers


@pytest.mark.parametrize(
    ("path", "headers", "dialect"),
    [
        ("/v1/chat/completions", {}, Dialect.OPENAI),
        ("/openai/deployments/x/chat/completions?api-version=1", {}, Dialect.OPENAI),
        ("/v1/responses/", {}, Dialect.OPENAI),
        ("/v1/models/fable-5", {}, Dialect.OPENAI),
        ("/v1/audio/speech", {}, Dialect.OPENAI),
        ("/v1/messages", {}, Dialect.ANTHROPIC),
        ("/v1/messages/count_tokens", {}, Dialect.ANTHROPIC),
        ("/v1/models", {"Anthropic-Version": "2023-06-01"}, Dialect.ANTHROPIC),
        ("/mcp", {}, Dialect.MCP),
        ("/tools", {"MCP-Protocol-Version": "2025-11-25"}, Dialect.MCP),
        ("/v1/chat/completions", {"accept": "application/problem+json"}, Dialect.PROBLEM),
        ("/invocations", {}, Dialect.PROBLEM),
    ],
)
def test_the_dialect_is_found_by_headers_and_path(path: str, headers: dict[str, str], dialect: Dialect) -> None:
    """What the client says of itself comes before the path; what nobody knows gets a problem document."""
    assert dialect_of(path, headers) is dialect
