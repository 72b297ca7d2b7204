"""A plain Casbin folder under governance, over HTTP: keys, kill switches, a new policy by two persons, the log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from policy_engine.rules.folder import read_folder
from tests.api.served import Served, serving

FOLDER = Path(__file__).parent / "folders" / "gateway"
RICK = "CiRmZDA2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Served]:
    """Offer a service on the gateway folder and a database of its own."""
    with serving(tmp_path, FOLDER) as found:
        yield found


def body(action: str = "DELETE", subject: str = RICK, roles: list[str] | None = None) -> dict[str, Any]:
    """Return a question of the gateway: may somebody call a route?"""
    entity: dict[str, Any] = {"type": "identity", "id": subject}
    if roles is not None:
        entity["properties"] = {"roles": roles}
    return {"subject": entity, "action": {"name": action}, "resource": {"type": "route", "id": "/todos/{todoId}"}}


def codes(answer: Any) -> list[str]:
    """Return the codes of an answer's reasons."""
    return [reason["code"] for reason in answer["context"]["reasons"]]


def test_a_single_answer_explains_itself(service: Served) -> None:
    """The answer names the row, release and epoch, and nothing of the row's text or of the request."""
    answer = service.decide(body())
    assert (answer["decision"], codes(answer)) == (True, ["policy.allow"])
    assert answer["context"]["reasons"][0]["rule"] == "policy.csv:7"
    assert answer["context"]["release"] == service.engine.store.state().release
    assert "admin" not in str(answer) and RICK not in str(answer)


def test_only_a_trusted_key_tells_roles(service: Served) -> None:
    """A stranger's roles count when a key with `*` says them; a bounded key knows whom entities.jsonl knows."""
    stranger = body(subject="stranger", roles=["admin"])
    assert service.decide(stranger)["decision"] is True
    answer = service.post("/access/v1/evaluation", stranger, key="bounded").json()
    assert (answer["decision"], codes(answer)) == (False, ["token.unknown"])
    assert answer["context"]["missing"] == ["subject.properties.roles"]
    assert service.post("/access/v1/evaluation", body(), key="bounded").json()["decision"] is True


def test_a_switch_withdraws_a_route_at_once(service: Served) -> None:
    """One person engages a switch on a resource id or an action; the next answer denies and names the switch."""
    for id, scope in (("route", {"models": ["/todos/{todoId}"]}), ("verb", {"actions": ["GET"]})):
        engaged = service.post("/v1/switches", {"id": id, "scope": scope, "reason": "test"}, key="operator")
        assert engaged.status_code == 201, engaged.text
    for action, id in (("DELETE", "route"), ("GET", "verb")):
        answer = service.decide(body(action))
        assert (answer["decision"], codes(answer)) == (False, ["switch.engaged"])
        assert id in answer["context"]["reasons"][0]["orders"]


def approved(service: Served, answer: Any) -> None:
    """Have a second person approve what an answer proposes."""
    assert answer.status_code == 202, answer.text
    done = service.post(
        f"/v1/approvals/{answer.json()['proposal']}/approve", {"hash": answer.json()["hash"]}, key="approver"
    )
    assert done.status_code == 200, done.text


def test_two_persons_change_the_policy(service: Served) -> None:
    """A changed folder is published and activated over HTTP; the next answer is the new policy's, under a new epoch."""
    before = service.decide(body("PATCH"))
    assert before["decision"] is False
    files = {name: content.decode() for name, content in read_folder(FOLDER).items()}
    files["policy.csv"] += "p, admin, PATCH, /todos/{todoId}\n"
    published = service.post("/v1/releases", {"files": files, "note": "PATCH"}, key="operator")
    approved(service, published)
    hash = published.json()["id"]
    assert service.decide(body("PATCH"))["decision"] is False
    approved(service, service.post(f"/v1/releases/{hash}/activate", {}, key="operator"))
    after = service.decide(body("PATCH"))
    assert (after["decision"], after["context"]["release"]) == (True, hash)
    assert after["context"]["reasons"][0]["rule"] == "policy.csv:9"
    assert after["context"]["epoch"] > before["context"]["epoch"]
    assert service.engine.evidence.verify().findings == ()


def test_a_bad_policy_is_refused_with_its_line(service: Served) -> None:
    """A release that does not load is a 422 with file and line; the last good one keeps serving."""
    files = {name: content.decode() for name, content in read_folder(FOLDER).items()}
    files["policy.csv"] += "p, admin, PATCH\n"
    refused = service.post("/v1/releases", {"files": files}, key="operator")
    assert refused.status_code == 422
    assert refused.json()["where"] == "policy.csv:9"
    assert service.decide(body())["decision"] is True


def test_models_are_an_empty_catalogue(service: Served) -> None:
    """A folder without models.toml has no catalogue to list."""
    listed = service.get("/v1/models", key="operator")
    assert (listed.status_code, listed.json()["models"]) == (200, [])
