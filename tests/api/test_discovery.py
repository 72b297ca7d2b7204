"""The AuthZEN metadata: which endpoints there are, and under which identifier."""

from __future__ import annotations

import pytest

from policy_engine.api.decisions import PATHS
from policy_engine.api.discovery import WELL_KNOWN, metadata
from tests.api.served import ALICE, Served


@pytest.mark.parametrize("identifier", ["https://pdp.example", "https://pdp.example:8443/tenant1", "https://[::1]/"])
def test_the_metadata_name_the_identifier_and_the_endpoints_under_it(identifier: str) -> None:
    """The identifier is repeated exactly; endpoints are absolute https URLs with `v1` in them; nothing is null."""
    found = metadata(identifier)
    base = identifier.rstrip("/")
    assert found == {
        "policy_decision_point": identifier,
        "access_evaluation_endpoint": base + PATHS[0],
        "access_evaluations_endpoint": base + PATHS[1],
        "search_subject_endpoint": base + "/access/v1/search/subject",
        "search_resource_endpoint": base + "/access/v1/search/resource",
        "search_action_endpoint": base + "/access/v1/search/action",
    }


def test_the_metadata_name_exactly_the_endpoints_that_answer(served: Served) -> None:
    """Each endpoint named answers a POST, and every path under `/access/` of the OpenAPI document is named."""
    found = served.get(WELL_KNOWN).json()
    base = found.pop("policy_decision_point").rstrip("/")
    paths = {url.removeprefix(base) for url in found.values()}
    assert {served.post(path, ALICE).status_code for path in paths} == {200}
    described = served.get("/openapi.json").json()["paths"]
    assert paths == {path for path in described if path.startswith("/access/")}


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", WELL_KNOWN, "/openapi.json"])
def test_a_probe_may_ask_for_the_head_alone(served: Served, path: str) -> None:
    """`wget --spider` and many monitors send HEAD: what GET answers, without a body."""
    whole, head = served.get(path), served.client.head(path)
    assert (head.status_code, head.content) == (200, b"") and whole.status_code == 200
    assert head.headers["content-type"] == whole.headers["content-type"]
    assert served.client.head("/v1/models").status_code == 401
    refused = served.client.delete(path)
    assert refused.status_code == 405 and set(refused.headers["allow"].split(", ")) == {"GET", "HEAD"}
