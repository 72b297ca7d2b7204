"""Who may reach which route: a table of all of them, compared with the application and then tried, scope by scope.

A new route fails here until it has its line. A line without scopes is open to any living key, and is so on purpose; the
few paths outside of `/v1/` and `/access/` are open to strangers and answer nothing about anybody.
"""

from __future__ import annotations

from typing import Any

import pytest
from starlette.routing import Route

from policy_engine.api.app import Door
from policy_engine.api.routes import ROUTERS
from policy_engine.services.permissions import SCOPES, SERVICE_SCOPES
from tests.api.served import ALICE, Served

HASH = "sha256:" + "0" * 64
READERS = ("orders:write", "approve", "audit:read")
SWITCH_SCOPES = ("switch:engage", "switch:release", "approve", "audit:read")

OPEN = {"/.well-known/authzen-configuration", "/healthz", "/readyz", "/metrics"}
"""Routes without a key. `/openapi.json` is the framework's own and is tried with them."""

ROUTES: dict[tuple[str, str], tuple[tuple[str, ...], Any]] = {
    ("POST", "/access/v1/evaluation"): (("decide",), ALICE),
    ("POST", "/access/v1/evaluations"): (("decide",), {**ALICE, "evaluations": [{}]}),
    ("POST", "/access/v1/search/subject"): (("decide",), ALICE),
    ("POST", "/access/v1/search/resource"): (("decide",), ALICE),
    ("POST", "/access/v1/search/action"): (("decide",), ALICE),
    ("POST", "/v1/data/{path}"): (("decide",), {"input": ALICE}),
    ("GET", "/v1/models"): ((), None),
    ("GET", "/v1/models/{id}"): ((), None),
    ("POST", "/v1/subjects"): (("facts:write",), {"id": "nobody-yet", "facts": {"lab_employee": False}}),
    ("POST", "/v1/subjects/show"): (("facts:write", "audit:unseal"), {"id": "nobody"}),
    ("GET", "/v1/subjects/expiring"): (("facts:write", "audit:unseal"), None),
    ("POST", "/v1/tenants"): (("facts:write",), {"id": "nothing-yet", "facts": {"type": "academic"}}),
    ("POST", "/v1/tenants/show"): (("facts:write", "audit:unseal", "audit:read"), {"id": "nobody"}),
    ("GET", "/v1/releases"): ((), None),
    ("GET", "/v1/releases/{hash}"): ((), None),
    ("POST", "/v1/releases"): (("policy:write",), {"files": {"model.conf": ""}}),
    ("POST", "/v1/releases/{hash}/activate"): (("policy:write",), {}),
    ("GET", "/v1/switches"): ((), None),
    ("GET", "/v1/switches/{id}"): ((), None),
    ("POST", "/v1/switches"): (("switch:engage",), {"id": "S", "scope": {"models": ["no-such"]}, "reason": "r"}),
    ("POST", "/v1/switches/preview"): (SWITCH_SCOPES, {"scope": {"models": ["no-such"]}, "days": 0}),
    ("POST", "/v1/switches/{id}/release"): (("switch:release",), {"reason": "r"}),
    ("GET", "/v1/orders"): (READERS, None),
    ("GET", "/v1/orders/{id}"): (READERS, None),
    ("POST", "/v1/orders"): (("orders:write",), {"kind": "grant", "document": {}}),
    ("POST", "/v1/orders/preview"): (READERS, {"kind": "grant", "document": {}, "days": 0}),
    ("POST", "/v1/orders/{id}/amend"): (("orders:write",), {"document": {}}),
    ("POST", "/v1/orders/{id}/end"): (("orders:write",), {"reason": "r"}),
    ("GET", "/v1/cells/orders"): (READERS, None),
    ("GET", "/v1/approvals"): ((), None),
    ("GET", "/v1/approvals/{id}"): ((), None),
    ("POST", "/v1/approvals/{id}/approve"): (("approve",), {"hash": "0" * 64}),
    ("POST", "/v1/approvals/{id}/refuse"): ((), {"reason": "r"}),
    ("GET", "/v1/decisions"): (("audit:read",), None),
    ("GET", "/v1/decisions/{id}"): (("audit:read",), None),
    ("POST", "/v1/log/erase"): (("facts:write",), {"id": "nobody-at-all", "reason": "r"}),
    ("POST", "/v1/log/prune"): (("policy:write",), {"before": "2001-01-01T00:00:00Z", "reason": "r"}),
    ("GET", "/v1/log/holds"): (READERS, None),
    ("POST", "/v1/log/holds"): (("orders:write",), {"id": "h", "reason": "r"}),
    ("POST", "/v1/log/holds/{id}/release"): (("orders:write",), {"reason": "r"}),
    ("POST", "/v1/decisions/query"): (("audit:read",), {"tenant": "acme"}),
    ("GET", "/v1/revocations"): (("decide",), None),
    ("GET", "/v1/log/checkpoint"): (("audit:read",), None),
    ("GET", "/v1/log/key"): (("audit:read",), None),
    ("GET", "/v1/log/tile/entries/{place}"): (("audit:read",), None),
    ("GET", "/v1/log/tile/{level}/{place}"): (("audit:read",), None),
}
CHECKS = {"/check/ext-authz/{path}", "/check/auth-request", "/check/forward-auth"}
"""The doors for proxies have answers and a key header of their own, and are tried in `tests/proxies`."""

RAW = ("/access/", "/check/", "/v1/data/")
"""Paths that no framework routes."""

ENDLESS = "/v1/revocations"
"""The one answer that has no end: its head is read and no more, unless it refuses."""

PROTECTED = sorted(ROUTES)
SCOPED = [(verb, path, scope) for (verb, path), (scopes, _) in sorted(ROUTES.items()) for scope in scopes]


def filled(path: str) -> str:
    """Return the path of a route with something in each of its places."""
    return path.replace("{id}", "no-such").replace("{hash}", HASH).replace("{path}", "a/policy")


def call(served: Served, verb: str, path: str, key: str | None) -> Any:
    """Send the sample request of a route as a principal."""
    there = filled(path)
    if path == ENDLESS:
        headers = {} if key is None else {"Authorization": f"Bearer {served.keys.get(key, key)}"}
        with served.client.stream("GET", there, headers=headers) as answer:
            if answer.status_code != 200:
                answer.read()
        return answer
    return served.get(there, key=key) if verb == "GET" else served.post(there, ROUTES[verb, path][1], key=key)


@pytest.fixture(scope="module")
def holders(served: Served) -> dict[str, str]:
    """Offer a key for each scope that holds this scope alone, and one of a service."""
    return {scope: served.grant(scope) for scope in SCOPES}


def test_every_route_has_a_line_and_every_line_a_route(served: Served) -> None:
    """The table, the OpenAPI document and the application name the same routes with the same scopes."""
    document = served.get("/openapi.json").json()
    described = {
        (verb.upper(), path): tuple(operation["x-policy-engine-scopes"])
        for path, operations in document["paths"].items()
        for verb, operation in operations.items()
        if path not in OPEN | CHECKS
    }
    assert described == {route: scopes for route, (scopes, _) in ROUTES.items()}
    assert document["paths"].keys() >= OPEN | CHECKS
    assert {document["paths"][path]["get"]["x-policy-engine-scopes"][0] for path in CHECKS} == {"decide"}


def test_the_application_has_no_other_route(served: Served) -> None:
    """Every route of every router is described, and the framework adds the document itself and nothing else."""
    management = Door(served.engine).management
    plain = [route.path for route in management.routes if isinstance(route, Route)]
    routed = {
        route.path.replace(":path}", "}") for router in ROUTERS for route in router.routes if isinstance(route, Route)
    }
    described = set(served.get("/openapi.json").json()["paths"]) - OPEN
    assert plain == ["/openapi.json"]
    assert len(management.routes) == len(plain) + len(ROUTERS) + 1  # one router more: discovery
    assert routed == {path for path in described if not path.startswith(RAW)}


@pytest.mark.parametrize(("verb", "path"), PROTECTED)
@pytest.mark.parametrize("key", [None, "pe_" + "x" * 43, "not-a-key"])
def test_no_route_answers_a_stranger(served: Served, verb: str, path: str, key: str | None) -> None:
    """Without a living key every route is a 401 that says how to authenticate."""
    answer = call(served, verb, path, key)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="policy_engine"')


@pytest.mark.parametrize(("verb", "path"), [route for route in PROTECTED if ROUTES[route][0]])
def test_the_other_scopes_together_do_not_open_a_route(
    served: Served, holders: dict[str, str], verb: str, path: str
) -> None:
    """A route that names scopes refuses a key with every single other one."""
    for scope in set(SCOPES) - set(ROUTES[verb, path][0]):
        answer = call(served, verb, path, holders[scope])
        assert (scope, answer.status_code, answer.json()["code"]) == (scope, 403, "caller.not-permitted")


@pytest.mark.parametrize(("verb", "path", "scope"), SCOPED)
def test_each_scope_named_opens_its_route(
    served: Served, holders: dict[str, str], verb: str, path: str, scope: str
) -> None:
    """One of the scopes named is enough: the door and the service agree on it."""
    answer = call(served, verb, path, holders[scope])
    assert answer.status_code not in (401, 403) and answer.status_code < 500, answer


@pytest.mark.parametrize(("verb", "path"), [route for route in PROTECTED if not ROUTES[route][0]])
def test_a_route_without_scopes_is_open_to_any_person_with_a_key(
    served: Served, holders: dict[str, str], verb: str, path: str
) -> None:
    """Any living key is enough where the table says so; there the service decides what it shows."""
    answer = call(served, verb, path, holders["audit:unseal"])
    assert answer.status_code not in (401, 403) and answer.status_code < 500, answer.text


@pytest.mark.parametrize(("verb", "path"), [route for route in PROTECTED if route[0] == "POST"])
def test_the_enforcement_point_changes_nothing(served: Served, verb: str, path: str) -> None:
    """A service's key decides; every changing route refuses it, the first-named and the unscoped alike."""
    if "decide" in ROUTES[verb, path][0]:
        return
    answer = call(served, verb, path, "gateway")
    assert answer.status_code in (403, 404), answer.text


@pytest.mark.parametrize("path", sorted({path for _, path in PROTECTED}))
def test_another_verb_is_told_every_verb_of_the_path(served: Served, path: str) -> None:
    """RFC 9110, 15.5.6: `Allow` names all that there are, also where two routes share the path, and no other."""
    there = filled(path)
    key = {"Authorization": f"Bearer {served.keys['operator']}", "Content-Type": "application/json"}
    answer = served.client.request("PATCH", there, content=b"{}", headers=key)
    named = set(answer.headers["allow"].split(", "))
    assert answer.status_code == 405 and named >= {verb for verb, other in PROTECTED if other == path}
    for verb in named:
        with served.client.stream(verb, there, content=b"{}", headers=key) as asked:  # one of them does not end
            assert asked.status_code != 405, verb


def test_services_hold_reading_scopes_alone() -> None:
    """The table above leans on it: no service key opens a route that changes anything."""
    changing = {scope for (verb, path), (scopes, _) in ROUTES.items() if verb == "POST" for scope in scopes}
    assert SERVICE_SCOPES & changing == {"decide", "audit:read"}


@pytest.mark.parametrize("path", sorted(OPEN | {"/openapi.json"}))
def test_what_is_open_is_open_and_takes_no_other_verb(served: Served, path: str) -> None:
    """Strangers may read these, and no more than read."""
    assert served.get(path).status_code == 200
    assert served.post(path, {}, key=None).status_code == 405


@pytest.mark.parametrize(
    "path", ["/docs", "/redoc", "/v1", "/v1/", "/v1/keys", "/v1/log/", "/access/v1/search", "/access/v1/search/tenant"]
)
def test_what_is_not_there_is_not_there(served: Served, path: str) -> None:
    """Routes of later issues are absent, not stubbed, and interactive documentation is off."""
    assert served.get(path, key="operator").status_code == 404
