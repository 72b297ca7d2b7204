"""The OpenAPI document says what the routes answer: each real answer is compared with the response it declares."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from policy_engine.api.access import SCOPES_MEMBER
from policy_engine.limits import LIMITS
from tests.api.served import ALICE, EVE, Served
from tests.contracts.schemas import problems_of

JSON = "application/json"
PROBLEM = "application/problem+json"

FOR_ALICE = {name: ALICE[name] for name in ("subject", "resource", "context")}

EXCHANGES: list[tuple[str, str, str, Any, str | None, int]] = [
    ("POST", "/access/v1/evaluation", "", ALICE, "gateway", 200),
    ("POST", "/access/v1/evaluation", "", EVE, "gateway", 200),
    ("POST", "/access/v1/evaluation", "", {}, "gateway", 400),
    ("POST", "/access/v1/evaluation", "", ALICE, None, 401),
    ("POST", "/access/v1/evaluation", "", ALICE, "auditor", 403),
    ("POST", "/access/v1/evaluations", "", {**ALICE, "evaluations": [{}, {"subject": 1}]}, "gateway", 200),
    (
        "POST",
        "/access/v1/evaluations",
        "",
        {**ALICE, "evaluations": [{}], "options": {"explain": True}},
        "gateway",
        200,
    ),
    ("POST", "/access/v1/evaluations", "", ALICE, "gateway", 200),
    ("POST", "/access/v1/evaluations", "", b"[]", "gateway", 400),
    ("POST", "/access/v1/evaluations", "", b" " * 100_000, "gateway", 413),
    ("POST", "/access/v1/search/subject", "", {**ALICE, "page": {"limit": 1}}, "gateway", 200),
    ("POST", "/access/v1/search/subject", "", {**ALICE, "page": {"token": "x"}}, "gateway", 400),
    ("POST", "/access/v1/search/resource", "", {**ALICE, "page": {"limit": 0}}, "gateway", 200),
    ("POST", "/access/v1/search/resource", "", ALICE, None, 401),
    ("POST", "/access/v1/search/action", "", FOR_ALICE, "gateway", 200),
    ("POST", "/access/v1/search/action", "", FOR_ALICE, "auditor", 403),
    ("POST", "/access/v1/search/action", "", b" " * 100_000, "gateway", 413),
    ("POST", "/v1/data/{path}", "gate/allow", {"input": ALICE}, "gateway", 200),
    ("POST", "/v1/data/{path}", "gate", {"input": ALICE}, "gateway", 200),
    ("POST", "/v1/data/{path}", "gate", {"input": EVE}, "gateway", 200),
    ("POST", "/v1/data/{path}", "gate", {}, "gateway", 400),
    ("POST", "/v1/data/{path}", "gate", {"input": ALICE}, None, 401),
    ("POST", "/v1/data/{path}", "gate", {"input": ALICE}, "auditor", 403),
    ("GET", "/.well-known/authzen-configuration", "", None, None, 200),
    ("GET", "/healthz", "", None, None, 200),
    ("GET", "/readyz", "", None, None, 200),
    ("GET", "/v1/models", "?tier=4", None, "gateway", 200),
    ("GET", "/v1/models", "?tier=9", None, "gateway", 422),
    ("GET", "/v1/models/{id}", "fable-latest", None, "gateway", 200),
    ("GET", "/v1/models/{id}", "no-such", None, "gateway", 404),
    ("POST", "/v1/subjects", "", {"id": "o-1", "facts": {"lab_employee": False}}, "operator", 200),
    ("POST", "/v1/subjects", "", {"id": "o-1", "facts": {"lab_employee": "no"}}, "operator", 400),
    ("POST", "/v1/subjects", "", {"id": "o-1"}, "operator", 422),
    ("POST", "/v1/subjects", "", {"id": "operator", "facts": {"lab_employee": True}}, "operator", 403),
    ("POST", "/v1/subjects/show", "", {"id": "alice"}, "operator", 200),
    ("POST", "/v1/subjects/show", "", {"id": "no-such"}, "operator", 404),
    ("GET", "/v1/subjects/expiring", "?days=400", None, "operator", 200),
    ("POST", "/v1/tenants", "", {"id": "o-t", "facts": {"type": "academic"}}, "operator", 200),
    ("POST", "/v1/tenants/show", "", {"id": "acme"}, "operator", 200),
    ("GET", "/v1/releases", "", None, "gateway", 200),
    ("GET", "/v1/releases/{hash}", "sha256:0", None, "gateway", 404),
    ("POST", "/v1/releases", "", {"files": {"model.conf": "[x]"}}, "operator", 422),
    ("POST", "/v1/releases/{hash}/activate", "sha256:0", {}, "operator", 404),
    ("POST", "/v1/switches", "", {"id": "o-s", "scope": {"models": ["open-1"]}, "reason": "r"}, "operator", 201),
    ("POST", "/v1/switches", "", {"id": "o-s", "scope": {"models": ["open-1"]}, "reason": "r"}, "operator", 409),
    ("POST", "/v1/switches", "", {"id": "o-s2", "scope": {}, "reason": "r"}, "operator", 400),
    ("POST", "/v1/switches", "", {"id": "o-s2", "scope": {"tiers": "4"}, "reason": "r"}, "operator", 422),
    ("GET", "/v1/switches", "?status=engaged", None, "gateway", 200),
    ("GET", "/v1/switches/{id}", "o-s", None, "gateway", 200),
    ("POST", "/v1/switches/preview", "", {"scope": {"models": ["open-1"]}, "days": 1}, "operator", 200),
    ("POST", "/v1/switches/preview", "", {"release": "o-s", "stage": "at_once", "days": 0}, "operator", 200),
    ("POST", "/v1/switches/preview", "", {"release": "no-such"}, "operator", 404),
    ("POST", "/v1/switches/preview", "", {"days": 0}, "operator", 400),
    ("POST", "/v1/switches/preview", "", {"scope": {"models": ["open-1"]}, "days": 9_999}, "operator", 422),
    ("POST", "/v1/orders/preview", "", {"end": "no-such", "days": 0}, "operator", 404),
    ("POST", "/v1/orders/preview", "", {"end": "no-such", "amend": "no-such"}, "operator", 400),
    ("POST", "/v1/switches/{id}/release", "o-s", {"reason": "r"}, "operator", 202),
    ("POST", "/v1/switches/{id}/release", "no-such", {"reason": "r"}, "operator", 404),
    (
        "POST",
        "/v1/orders",
        "",
        {"kind": "directive", "document": {"id": "o-d", "models": ["open-1"], "blocks": ["foreign_person"]}},
        "operator",
        201,
    ),
    (
        "POST",
        "/v1/orders",
        "",
        {
            "kind": "licence",
            "document": {
                "id": "o-l",
                "from": "2026-01-01T00:00:00Z",
                "tenant_id": "acme",
                "models": ["open-1"],
                "actions": ["infer"],
                "nationalities": ["IN"],
                "destinations": ["US"],
                "lifts": ["nat"],
            },
        },
        "operator",
        202,
    ),
    ("POST", "/v1/orders", "", {"kind": "directive", "document": {"id": "o-x"}}, "operator", 400),
    ("POST", "/v1/orders", "", {"kind": "law", "document": {}}, "operator", 422),
    ("GET", "/v1/orders", "?kind=directive&status=in_force", None, "operator", 200),
    ("GET", "/v1/orders", "", None, "gateway", 403),
    ("GET", "/v1/cells/orders", "", None, "auditor", 200),
    ("GET", "/v1/cells/orders", f"?known={'0' * 64}", None, "operator", 200),
    ("GET", "/v1/cells/orders", "?known=x", None, "operator", 422),
    ("GET", "/v1/cells/orders", "", None, "gateway", 403),
    ("GET", "/v1/orders/{id}", "o-d", None, "operator", 200),
    ("POST", "/v1/orders/{id}/end", "o-d", {"reason": "r"}, "operator", 202),
    ("POST", "/v1/orders/{id}/end", "no-such", {"reason": "r"}, "operator", 404),
    ("GET", "/v1/approvals", "?status=waiting", None, "approver", 200),
    ("GET", "/v1/approvals/{id}", "no-such", None, "approver", 404),
    ("POST", "/v1/approvals/{id}/approve", "no-such", {"hash": "0" * 64}, "approver", 404),
    ("POST", "/v1/approvals/{id}/approve", "no-such", {}, "approver", 422),
    ("POST", "/v1/approvals/{id}/refuse", "no-such", {"reason": "r"}, "approver", 404),
    ("GET", "/v1/decisions", "?outcome=deny&limit=5", None, "auditor", 200),
    ("GET", "/v1/decisions", "?limit=0", None, "auditor", 422),
    ("POST", "/v1/decisions/query", "", {"tenant": "acme", "subject": "alice"}, "auditor", 200),
    ("GET", "/v1/decisions", "?after=no-such", None, "auditor", 400),
    ("GET", "/v1/decisions", "?subject=alice", None, "auditor", 422),
    ("GET", "/v1/decisions/{id}", "0", None, "auditor", 200),
    ("GET", "/v1/decisions/{id}", "a" * 32, None, "auditor", 404),
    ("GET", "/v1/decisions/{id}", "no-such", None, "auditor", 400),
    ("GET", "/v1/decisions/{id}", "0", None, "gateway", 403),
    ("POST", "/v1/decisions/query", "", {"tenant": 5}, "auditor", 422),
    ("POST", "/v1/decisions/query", "", {"q": "deny tier>=4 since 7d"}, "auditor", 200),
    ("POST", "/v1/decisions/query", "", {"q": "deny tier>=four"}, "auditor", 400),
    ("POST", "/v1/decisions/query", "", {"q": "subject:alice"}, "gateway", 403),
    ("GET", "/v1/log/holds", "", None, "auditor", 200),
    ("POST", "/v1/log/holds", "", {"id": "o-h", "subject": "mina", "reason": "r"}, "operator", 201),
    ("POST", "/v1/log/holds", "", {"id": "o-h", "subject": "mina", "reason": "r"}, "operator", 409),
    ("POST", "/v1/log/holds", "", {"id": "o-h2", "reason": "r"}, "operator", 400),
    ("POST", "/v1/log/holds", "", {"id": "o-h2", "since": "soon", "reason": "r"}, "operator", 422),
    ("GET", "/v1/log/holds", "", None, "gateway", 403),
    ("POST", "/v1/log/erase", "", {"id": "mina", "reason": "r"}, "operator", 409),
    ("POST", "/v1/log/holds/{id}/release", "o-h", {"reason": "r"}, "operator", 202),
    ("POST", "/v1/log/holds/{id}/release", "no-such", {"reason": "r"}, "operator", 404),
    ("POST", "/v1/log/erase", "", {"id": "bruno", "reason": "case 7"}, "operator", 202),
    ("POST", "/v1/log/erase", "", {"id": "bruno", "reason": "for bruno"}, "operator", 400),
    ("POST", "/v1/log/erase", "", {"id": "nobody-at-all", "reason": "r"}, "operator", 404),
    ("POST", "/v1/log/erase", "", {"id": "operator", "reason": "r"}, "operator", 403),
    ("POST", "/v1/log/prune", "", {"before": "2001-01-01T00:00:00Z", "reason": "r"}, "operator", 404),
    ("POST", "/v1/log/prune", "", {"before": "2126-01-01T00:00:00Z", "reason": "r"}, "operator", 400),
]


@pytest.fixture(scope="module")
def document(served: Served) -> Any:
    """Offer the OpenAPI document as it is served."""
    return served.get("/openapi.json").json()


def test_each_answer_is_what_the_document_declares(served: Served, document: Any) -> None:
    """The status is declared for the route, under the media type that came, and the body fits its schema.

    One test, for the exchanges are one story: what one of them makes the next ones show, change and end.
    """
    wrong = []
    for verb, path, rest, body, key, status in EXCHANGES:
        there = re.sub(r"\{(?:id|hash|path)\}", rest, path) if "{" in path else path + rest
        answer = served.get(there, key=key) if verb == "GET" else served.post(there, body, key=key)
        if answer.status_code != status:
            wrong.append((verb, there, status, answer.status_code, answer.text))
            continue
        declared = document["paths"][path][verb.lower()]["responses"][str(status)]["content"]
        media = answer.headers["content-type"]
        problems = problems_of(answer.json(), declared[media]["schema"], document) if media in declared else [media]
        wrong += [(verb, there, status, problem) for problem in problems]
    assert wrong == []


NOT_JSON = {
    "/metrics",
    "/v1/log/checkpoint",
    "/v1/log/key",
    "/v1/log/tile/entries/{place}",
    "/v1/log/tile/{level}/{place}",
    "/v1/revocations",
}
"""Text and bytes; `tests/api/test_tree.py` tries those of the tree, `tests/api/test_revocations.py` the stream."""

CHECKS = {"/check/ext-authz/{path}", "/check/auth-request", "/check/forward-auth"}
"""Doors that answer in the words of the client behind a proxy; `tests/proxies` tries them."""


def test_each_route_is_tried_at_least_once(document: Any) -> None:
    """A new route needs an exchange here, or a reason."""
    tried = {(verb.lower(), path) for verb, path, *_ in EXCHANGES}
    routes = {(verb, path) for path, operations in document["paths"].items() for verb in operations}
    not_json = {("get", path) for path in NOT_JSON}
    amended_elsewhere = {("post", "/v1/orders/{id}/amend")}
    assert routes - tried == not_json | amended_elsewhere | {("get", path) for path in CHECKS}


def test_what_any_exchange_may_meet_is_declared_everywhere(served: Served, document: Any) -> None:
    """A request id that may not come back is 400 on each route, and a body beyond every limit 413 where one is read."""
    bad = {"X-Request-ID": "x" * 300}
    for path, operations in document["paths"].items():
        there = re.sub(r"\{[a-z]+\}", "0", path)
        if path in CHECKS:
            continue
        for verb, operation in operations.items():
            answers = [served.get(there, key="operator", headers=bad)]
            if verb == "post":
                large = b" " * (LIMITS.table_bytes + 1 if path == "/v1/releases" else LIMITS.document_bytes + 1)
                key = "gateway" if operation[SCOPES_MEMBER] == ["decide"] else "operator"
                answers = [served.post(there, {}, headers=bad), served.post(there, large, key=key)]
            assert [each.status_code for each in answers] == [400, 413][: len(answers)], (verb, path)
            assert {str(each.status_code) for each in answers} | {"503"} <= operation["responses"].keys(), (verb, path)


def made_of(schema: Any, document: Any, whole: bool = True) -> Iterator[Any]:
    """Yield bodies that a schema allows: one with every member, and each of them as far as the schema lets it go.

    A page is left out: its token is a text to a schema, and one that nobody gave is refused.
    """
    if "$ref" in schema:
        yield from made_of(document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], document, whole)
    elif "anyOf" in schema:
        for each in schema["anyOf"] if whole else schema["anyOf"][:1]:
            yield from made_of(each, document, whole)
    elif "enum" in schema:
        yield from schema["enum"]
    elif schema["type"] == "object":
        members = {name: rule for name, rule in schema.get("properties", {}).items() if name != "page"}
        first = {name: next(made_of(rule, document, False)) for name, rule in members.items()}
        yield first
        yield {name: first[name] for name in schema.get("required", ())}
        for name, rule in members.items() if whole else ():
            yield from ({**first, name: value} for value in made_of(rule, document))
    elif schema["type"] == "array":
        yield []
        yield from ([value] for value in made_of(schema["items"], document, whole))
    elif schema["type"] == "string":
        yield "x" * schema.get("minLength", 0)
        yield "é" * schema.get("maxLength", 300)
    else:
        yield from {"boolean": (True, False), "null": (None,), "integer": (0, 2**40)}[schema["type"]]


@pytest.mark.parametrize("path", sorted({path for _, path, *_ in EXCHANGES if path.startswith("/access/")}))
def test_what_the_document_lets_a_caller_send_is_answered(served: Served, document: Any, path: str) -> None:
    """A body made of its schema is no malformed one: what is optional may be left out, and null where it says so."""
    schema = document["paths"][path]["post"]["requestBody"]["content"][JSON]["schema"]
    defaults = {name: ALICE[name] for name in ("subject", "action", "resource")} if path.endswith("evaluations") else {}
    for body in made_of(schema, document):
        answer = served.post(path, {**defaults, **body})
        assert answer.status_code == 200, (body, answer.text)
        assert "error" not in answer.text, (body, answer.text)


def test_every_error_declared_is_a_problem_document(document: Any) -> None:
    """Below 400 answers are JSON, from 400 on problem documents, on every route."""
    for path, operations in document["paths"].items():
        for operation in operations.values() if path not in CHECKS else ():
            for status, response in operation["responses"].items():
                wanted = {PROBLEM} if int(status) >= 400 else {JSON}
                assert (path in NOT_JSON and int(status) < 400) or response["content"].keys() == wanted, (path, status)


def test_every_reference_of_the_document_leads_somewhere(document: Any) -> None:
    """No schema is named that is not there, and none is there that nobody names."""
    named: set[str] = set()

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if "$ref" in node:
                named.add(node["$ref"].removeprefix("#/components/schemas/"))
            for child in node.values():
                walk(child)
        elif isinstance(node, list):
            for child in node:
                walk(child)

    walk(document)
    assert named == set(document["components"]["schemas"])


def test_no_parameter_of_a_url_is_personal(document: Any) -> None:
    """Persons and tenants are named in bodies; URLs, which every proxy logs, hold neither."""
    personal = {"subject", "subject_id", "person", "person_id", "tenant", "tenant_id", "location", "nationality"}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            names = {each["name"] for each in operation.get("parameters", []) if each["in"] in ("path", "query")}
            assert not names & personal
            assert not (path.startswith(("/v1/subjects", "/v1/tenants")) and "{" in path)
