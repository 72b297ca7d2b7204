"""The AuthZEN fixtures as plain Casbin folders, served by the real engine over HTTP: every case comes out as it should.

The cases are others' (`cases/README.md`); models, policies and attributes in `folders` are ours. 50 cases of the
certification scenario, 127 of the conformance suite (one of which contradicts the scenario), 352 of the interop events.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.api.served import Served, serving
from tests.authzen.casefiles import CERTIFICATION, SUITE, Case, document, interop_cases, suite_cases

FOLDERS = Path(__file__).parent / "folders"
DIFFERS_FROM_THE_SCENARIO = "authzen-pdp-evaluations-batch-with-default-value-merging"
"""The suite merges members of entities here; the scenario text and the specification replace whole entities."""
EVALUATION = "/access/v1/evaluation"
EVALUATIONS = "/access/v1/evaluations"
DECISIONS = {"evaluation": EVALUATION, "evaluations": EVALUATIONS}
SEARCH = {sought: f"/access/v1/search/{sought}" for sought in ("subject", "resource", "action")}
PAGES_MAX = 10
REQUEST_ID = {"X-Request-ID": "run 7/#1"}
INTEROP = [
    *interop_cases("todo", "todo-decisions-1_0-00.json", DECISIONS),
    *interop_cases("todo", "todo-decisions-1_0-01.json", DECISIONS),
    *interop_cases("todo", "todo-decisions-1_0-02.json", DECISIONS),
    *interop_cases("gateway", "gateway-decisions.json", DECISIONS),
]
INTEROP_SEARCHES = [
    *(
        case
        for sought, path in SEARCH.items()
        for case in interop_cases("search", f"search-{sought}.json", {"evaluation": path})
    ),
    *interop_cases("idp", "idp-resource-search.json", {"search": SEARCH["resource"]}),
]


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Served]]:
    """Offer a service for each folder: uvicorn on loopback, started as `policy-engine serve` starts it."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(serving(tmp_path_factory.mktemp(name), FOLDERS / name))
            for name in ("certification", "todo", "gateway", "search", "idp")
        }


def send(service: Served, case: Case, **page: Any) -> Any:
    """Send a case as it stands: with its method, its content type, its key or none; `page` replaces the one it has."""
    request = {**case["request"], "page": {**case["request"].get("page", {}), **page}} if page else case.get("request")
    body = case["raw_body"].encode() if "raw_body" in case else json.dumps(request).encode()
    headers = {"Content-Type": case.get("content_type", "application/json"), **REQUEST_ID}
    key = {"missing": None, "invalid": "pe_" + "x" * 43}.get(case.get("auth", ""), service.keys["gateway"])
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    return service.client.request(case["method"], case["endpoint"], content=body, headers=headers)


def decisions(document: Any) -> Any:
    """Return the document with nothing but its decisions."""
    if "evaluations" in document:
        return {"evaluations": [{"decision": item["decision"]} for item in document["evaluations"]]}
    return {"decision": document["decision"]}


def in_order(results: list[dict[str, str]]) -> list[tuple[tuple[str, str], ...]]:
    """Return results as a sorted list, as the interop runners compare them."""
    return sorted(tuple(sorted(result.items())) for result in results)


def all_pages(service: Served, case: Case, first: Any) -> list[dict[str, str]]:
    """Return the results of an answer and of the pages behind it, as the suite follows them."""
    page, results = first, [*first["results"]]
    for _ in range(PAGES_MAX):
        if not page.get("page", {}).get("next_token"):
            return results
        page = send(service, case, token=page["page"]["next_token"]).json()
        results += page["results"]
    raise AssertionError("the pages have no end")


@pytest.mark.parametrize("case", [*suite_cases(CERTIFICATION), *suite_cases(SUITE)])
def test_certification_and_conformance(services: dict[str, Served], case: Case) -> None:
    """Each case of the scenario and of the suite has its status and its answer; the request id comes back on it."""
    service = services["certification"]
    if "<next_token" in json.dumps(case.get("request", {})):
        request = {**case["request"], "page": {"limit": 1}}
        first = send(service, {**case, "request": request}).json()
        assert first["page"]["next_token"]
        case = {**case, "request": {**request, "page": {"token": first["page"]["next_token"]}}}
    answer = send(service, case)
    assert answer.status_code in case["expected_status"], answer.text
    assert answer.headers["X-Request-ID"] == REQUEST_ID["X-Request-ID"]
    if answer.status_code != 200:
        assert answer.headers["content-type"] == "application/problem+json" and answer.json()["detail"]
    elif "/search/" in case["endpoint"]:
        assert_search(service, case, answer)
    elif case.get("name") == DIFFERS_FROM_THE_SCENARIO:
        assert decisions(case["expected"]) == {"evaluations": [{"decision": True}, {"decision": False}]}
        assert decisions(answer.json()) == {"evaluations": [{"decision": False}, {"decision": False}]}
    elif "shape only" in case.get("compare", ""):
        assert [type(item["decision"]) for item in answer.json()["evaluations"]] == [bool, bool]
    elif "expected" in case:
        assert decisions(answer.json()) == decisions(case["expected"])


def assert_search(service: Served, case: Case, answer: Any) -> None:
    """Compare the results as the case asks to, and each of them with a decision: it is allowed, and repeats itself."""
    results = all_pages(service, case, answer.json())
    if "expected" in case:
        expected = case["expected"]["results"]
        assert {*in_order(expected)} <= {*in_order(results)}
        assert expected or results == []
    assert send(service, case).content == answer.content
    sought = case["endpoint"].rpartition("/")[2]
    for result in results:
        assert service.decide({**case["request"], sought: result})["decision"] is True


@pytest.mark.parametrize(("folder", "path", "body", "expected"), INTEROP)
def test_interop(services: dict[str, Served], folder: str, path: str, body: Any, expected: Any) -> None:
    """Each decision of the interop scenarios is the expected one; a batch has exactly the expected items."""
    answer = services[folder].post(path, body)
    assert answer.status_code == 200, answer.text
    if path == EVALUATIONS:
        assert answer.json()["evaluations"] == expected
    else:
        assert answer.json()["decision"] is expected


@pytest.mark.parametrize(("folder", "path", "body", "expected"), INTEROP_SEARCHES)
def test_interop_searches(services: dict[str, Served], folder: str, path: str, body: Any, expected: Any) -> None:
    """Each search finds exactly what is expected, in one page that holds nothing else, and says so again."""
    answer = services[folder].post(path, body)
    assert answer.status_code == 200, answer.text
    assert answer.json().keys() == {"results"}
    assert in_order(answer.json()["results"]) == in_order(expected["results"])
    assert services[folder].post(path, body).content == answer.content


def test_the_cases_are_all_here() -> None:
    """No case file has lost a case: 50 of the scenario, 127 of the suite, 148 decisions and 204 searches."""
    assert [len(document(file)["cases"]) for file in (CERTIFICATION, SUITE)] == [50, 127]
    assert (len(INTEROP), len(INTEROP_SEARCHES)) == (148, 204)
    assert [case.values[0]["name"] for case in suite_cases(SUITE)].count(DIFFERS_FROM_THE_SCENARIO) == 1


def test_the_attributes_are_those_of_the_scenario() -> None:
    """Users and records of both search folders are those of the case files, attribute by attribute."""
    lines = [
        {"type": kind, "id": str(entity["id"]), "properties": {k: v for k, v in entity.items() if k != "id"}}
        for kind, file in (("user", "search-users.json"), ("record", "search-records.json"))
        for entity in document(file)
    ]
    for folder in ("search", "idp"):
        text = (FOLDERS / folder / "entities.jsonl").read_text(encoding="utf-8")
        assert [json.loads(line) for line in text.splitlines()] == lines


def test_attributes_of_the_folder_win_over_the_request(services: dict[str, Served]) -> None:
    """Alice does not become an admin by saying so, because entities.jsonl knows her: in decisions and in searches."""
    body = {
        "subject": {"type": "user", "id": "alice", "properties": {"role": "admin"}},
        "action": {"name": "write"},
        "resource": {"type": "record", "id": "record-2", "properties": {"status": "archived"}},
    }
    service = services["certification"]
    assert service.decide(body)["decision"] is False
    assert service.decide({**body, "subject": {"type": "user", "id": "bob"}})["decision"] is True
    assert service.post(SEARCH["action"], body).json()["results"] == [{"name": "read"}]
    assert service.post(SEARCH["subject"], body).json()["results"] == [{"type": "user", "id": "bob"}]
