"""The OpenAPI document says what the routes answer: each real answer is compared with the response it declares."""

from __future__ import annotations

import re
from typing import Any

import pytest

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
