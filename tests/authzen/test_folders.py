"""The AuthZEN fixtures as plain Casbin folders, served by the real engine over HTTP: every evaluation comes out so.

The cases are others' (`cases/README.md`, `tests/api/data`); models and policies are ours. The folders are fit for the
search cases too, which belong to the search endpoints.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.api.served import Served, serving

HERE = Path(__file__).parent
SUITE = HERE.parent / "api" / "data"
FOLDERS = ("certification", "todo", "gateway")
DIFFERS_FROM_THE_SCENARIO = {"authzen-pdp-evaluations-batch-with-default-value-merging"}
"""The suite merges members of entities here; the scenario text and the specification replace whole entities."""
EVALUATION = "/access/v1/evaluation"
EVALUATIONS = "/access/v1/evaluations"


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Served]]:
    """Offer a service for each folder."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(serving(tmp_path_factory.mktemp(name), HERE / "folders" / name))
            for name in FOLDERS
        }


def suite_cases(file: str) -> list[Any]:
    """Return the cases of the certification scenario or of the conformance suite."""
    found = json.loads((SUITE / file).read_text(encoding="utf-8"))["cases"]
    return [
        pytest.param(case, id=f"{file.split('_')[1]} {case.get('name') or case['section'] + ' ' + case['case']}")
        for case in found
    ]


def interop_cases(folder: str, file: str) -> list[Any]:
    """Return `(folder, path, body, expected)` of an interop scenario."""
    found = json.loads((HERE / "cases" / file).read_text(encoding="utf-8"))
    return [
        pytest.param(folder, f"/access/v1/{kind}", case["request"], case["expected"], id=f"{file} {kind} {number}")
        for kind in ("evaluation", "evaluations")
        for number, case in enumerate(found.get(kind, ()))
    ]


def send(service: Served, case: dict[str, Any]) -> Any:
    """Send a case as it stands: with its method, its content type, its key or none."""
    body = case["raw_body"].encode() if "raw_body" in case else json.dumps(case["request"]).encode()
    headers = {"Content-Type": case.get("content_type", "application/json")}
    key = {"missing": None, "invalid": "pe_" + "x" * 43}.get(case.get("auth", ""), service.keys["gateway"])
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    return service.client.request(case.get("method", "POST"), case["endpoint"], content=body, headers=headers)


def decisions(document: Any) -> Any:
    """Return the document with nothing but its decisions."""
    if "evaluations" in document:
        return {"evaluations": [{"decision": item["decision"]} for item in document["evaluations"]]}
    return {"decision": document["decision"]}


@pytest.mark.parametrize(
    "case",
    [*suite_cases("authzen_certification_scenario.json"), *suite_cases("authzen_conformance_suite.json")],
)
def test_certification_and_conformance(services: dict[str, Served], case: dict[str, Any]) -> None:
    """Each evaluation case of the scenario and of the suite has its status and decisions under the plain folder."""
    answer = send(services["certification"], case)
    expected = case["expected_status"]
    assert answer.status_code in (expected if isinstance(expected, list) else [expected]), answer.text
    if case.get("name") in DIFFERS_FROM_THE_SCENARIO:
        assert decisions(answer.json()) == {"evaluations": [{"decision": False}, {"decision": False}]}
    elif "shape only" in case.get("compare", ""):
        assert [type(item["decision"]) for item in answer.json()["evaluations"]] == [bool, bool]
    elif "expected" in case:
        assert decisions(answer.json()) == decisions(case["expected"])


@pytest.mark.parametrize(
    ("folder", "path", "body", "expected"),
    [
        *interop_cases("todo", "todo-decisions-1_0-00.json"),
        *interop_cases("todo", "todo-decisions-1_0-01.json"),
        *interop_cases("todo", "todo-decisions-1_0-02.json"),
        *interop_cases("gateway", "gateway-decisions.json"),
    ],
)
def test_interop(services: dict[str, Served], folder: str, path: str, body: Any, expected: Any) -> None:
    """Each decision of the interop scenarios is the expected one; a batch has exactly the expected items."""
    answer = services[folder].post(path, body)
    assert answer.status_code == 200, answer.text
    if path == EVALUATIONS:
        assert answer.json()["evaluations"] == expected
    else:
        assert answer.json()["decision"] is expected


def test_the_cases_are_all_here() -> None:
    """No case file has lost a case: 29 and 60 of the suites, 40, 40 and 43 of the todo scenario, 25 of the gateway."""
    counts = [len(suite_cases(f"authzen_{name}.json")) for name in ("certification_scenario", "conformance_suite")]
    todo = [len(interop_cases("todo", f"todo-decisions-1_0-{version}.json")) for version in ("00", "01", "02")]
    assert [*counts, *todo, len(interop_cases("gateway", "gateway-decisions.json"))] == [29, 60, 40, 40, 43, 25]


def test_attributes_of_the_folder_win_over_the_request(services: dict[str, Served]) -> None:
    """Alice does not become an admin by saying so, because entities.jsonl knows her."""
    body = {
        "subject": {"type": "user", "id": "alice", "properties": {"role": "admin"}},
        "action": {"name": "write"},
        "resource": {"type": "record", "id": "record-2", "properties": {"status": "archived"}},
    }
    assert services["certification"].decide(body)["decision"] is False
    assert services["certification"].decide({**body, "subject": {"type": "user", "id": "bob"}})["decision"] is True
