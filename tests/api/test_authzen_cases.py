"""The certification scenario and the conformance suite of AuthZEN 1.0, as far as evaluations go, case by case.

The data are copies (`tests/authzen/cases`); the policy behind the door is the scenario's own fixture.
"""

from __future__ import annotations

from typing import Any

import pytest

from policy_engine.core.decision import Request
from tests.api import doors
from tests.authzen.casefiles import CERTIFICATION, SUITE, is_evaluation, suite_cases

DIFFERS_FROM_THE_SCENARIO = {"authzen-pdp-evaluations-batch-with-default-value-merging"}
"""The suite merges members of entities here; the scenario text and the specification replace whole entities."""


def send(case: dict[str, Any], headers: doors.Handle = ()) -> doors.Reply:
    body = case["raw_body"].encode() if "raw_body" in case else case["request"]
    return doors.ask(
        doors.door(),
        body,
        path=case["endpoint"],
        method=case.get("method", "POST"),
        key={"missing": None, "invalid": "pe_" + "x" * 43}.get(case.get("auth", ""), doors.KEY),
        content_type=case.get("content_type", "application/json"),
        headers=headers,
    )


def decisions(document: Any) -> Any:
    """Return the document with nothing but its decisions."""
    if "evaluations" in document:
        return {"evaluations": [{"decision": item["decision"]} for item in document["evaluations"]]}
    return {"decision": document["decision"]}


@pytest.mark.parametrize("case", suite_cases(CERTIFICATION, is_evaluation))
def test_certification_scenario(case: dict[str, Any]) -> None:
    """Each case of the scenario has the status and the decisions that it names."""
    reply = send(case)
    assert reply.status in case["expected_status"]
    if "shape only" in case.get("compare", ""):
        assert [type(item["decision"]) for item in reply.json()["evaluations"]] == [bool, bool]
    elif "expected" in case:
        assert decisions(reply.json()) == decisions(case["expected"])


@pytest.mark.parametrize("case", suite_cases(SUITE, is_evaluation))
def test_conformance_suite(case: dict[str, Any]) -> None:
    """Each case of the suite has a status and the decisions that it expects; errors carry a message."""
    reply = send(case)
    assert reply.status in case["expected_status"]
    if reply.status != 200:
        assert reply.header("content-type") == "application/problem+json" and reply.json()["detail"]
    elif case["name"] in DIFFERS_FROM_THE_SCENARIO:
        assert decisions(reply.json()) == {"evaluations": [{"decision": False}, {"decision": False}]}
    elif "expected" in case:
        assert decisions(reply.json()) == decisions(case["expected"])
        assert ("evaluations" in reply.json()) == ("evaluations" in case["expected"])


@pytest.mark.parametrize("case", suite_cases(SUITE, is_evaluation))
def test_the_request_id_comes_back_on_every_case(case: dict[str, Any]) -> None:
    """Answers and errors alike carry the request id that was sent, once and unchanged."""
    assert send(case, ((b"x-request-id", b"run 7/\xe9 #1"),)).header("X-Request-ID") == "run 7/é #1"


def test_a_batch_asked_again_has_the_same_bytes() -> None:
    """Bodies of batches hold nothing that changes from one answer to the next."""
    app = doors.door()
    body = {
        "subject": {"type": "user", "id": "alice"},
        "action": {"name": "write"},
        "evaluations": [{"resource": {"type": "record", "id": "record-1"}}, {}, 5],
    }
    first = doors.ask(app, body, path="/access/v1/evaluations")
    second = doors.ask(app, body, path="/access/v1/evaluations")
    assert first.body == second.body
    assert first.header("Policy-Engine-Decision-Ids") != second.header("Policy-Engine-Decision-Ids")


def test_the_fixture_is_not_asked_about_what_was_refused() -> None:
    """A refused body never reaches the decider."""
    asked: list[Request] = []
    decider = doors.FixtureDecider(asked=asked)
    assert doors.ask(doors.door(decider), {"subject": {"type": "user", "id": "alice"}}).status == 400
    assert asked == []
