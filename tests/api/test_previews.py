"""Previews over HTTP: the same answer as the service's, nothing changed, and strict bodies."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from policy_engine.limits import LIMITS
from policy_engine.services.preview.service import Previews
from tests.api.served import ALICE, Served

LETTER = {"id": "preview-letter", "models": ["fable-5"], "blocks": ["foreign_person"]}


def test_an_order_is_previewed_and_nothing_is_received(served: Served) -> None:
    """Whoever may read the audit sees persons; the order is not there afterwards, and alice is allowed still."""
    body = {"kind": "directive", "document": LETTER, "days": 1}
    seen = served.post("/v1/orders/preview", body, key="operator")
    assert seen.status_code == 200 and seen.json()["what"] == "order.received"
    found = seen.json()["registers"]
    assert {line["effect"] for line in found["lines"]} == {"loses"}
    assert "eve" in {one["subject"] for one in found["undetermined"]}
    assert served.get("/v1/orders/preview-letter", key="operator").status_code == 404
    assert served.decide(ALICE)["decision"] is True


def test_an_annex_of_10_000_names_is_previewed(served: Served) -> None:
    """The largest annex comes through the door whole; one name more is refused with the place of the annex."""
    names = [f"company-{number}" for number in range(10_001)]
    answers = []
    for count in (10_000, 10_001):
        exempt = {"models": ["fable-5"], "who": "annex_a_entities_and_their_employees", "annex_a": names[:count]}
        document = {**LETTER, "exempts": [exempt]}
        body = {"kind": "directive", "document": document, "days": 0}
        answers.append(served.post("/v1/orders/preview", body, key="operator"))
    assert [answer.status_code for answer in answers] == [200, 413]
    assert answers[1].json()["where"] == "directive.exempts[0].annex_a"


def test_a_key_without_audit_read_gets_no_name(served: Served) -> None:
    """Lists of persons are not there, and no person's id is anywhere in the answer."""
    key = served.grant("switch:engage")
    answer = served.post("/v1/switches/preview", {"scope": {"families": ["fable"]}, "days": 1}, key=key)
    assert answer.status_code == 200 and answer.json()["sees_persons"] is False
    found = answer.json()["registers"]
    assert found["counts"]["loses"] > 0 and "lines" not in found and "undetermined" not in found
    assert not any(f'"{name}"' in answer.text for name in ("alice", "mina", "eve", "sofia", "US"))


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/switches/preview", {"scope": {"models": ["open-1"]}, "release": "x"}, 400),
        ("/v1/switches/preview", {"scope": {"models": ["open-1"], "drill": True}}, 422),
        ("/v1/switches/preview", {"scope": {"models": ["no-such"]}}, 400),
        ("/v1/switches/preview", {"scope": {"models": ["open-1"]}, "stage": "soon"}, 422),
        ("/v1/switches/preview", {"scope": {"models": ["open-1"]}, "location": "Germany"}, 400),
        ("/v1/orders/preview", {"document": LETTER}, 400),
        ("/v1/orders/preview", {"kind": "memo", "document": LETTER}, 422),
        ("/v1/orders/preview", {"kind": "directive", "document": {**LETTER, "until": "2026-13-01"}}, 400),
        ("/v1/orders/preview", {"amend": "no-such", "document": LETTER}, 404),
    ],
)
def test_what_cannot_be_meant_is_refused(served: Served, path: str, body: dict[str, Any], status: int) -> None:
    """One problem each, of the right kind."""
    answer = served.post(path, body, key="operator")
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


def test_costly_requests_leave_room_for_a_switch_and_its_news(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a few the answer is 503 at once: eight previews had kept the revocations silent until they ended, and of
    forty a switch had waited for the last."""
    begun, go_on = threading.Semaphore(0), threading.Event()
    engage = Previews.engage

    def slow(own: Previews, *args: Any, **more: Any) -> Any:
        begun.release()
        assert go_on.wait(60)
        return engage(own, *args, **more)

    monkeypatch.setattr(Previews, "engage", slow)
    body, statuses = {"scope": {"models": ["open-1"]}, "days": 0}, []

    def preview() -> None:
        statuses.append(served.post("/v1/switches/preview", body, key="operator").status_code)

    threads = [threading.Thread(target=preview) for _ in range(LIMITS.costly_requests_count)]
    try:
        for each in threads:
            each.start()
        assert all(begun.acquire(timeout=60) for _ in threads)
        order = {"kind": "directive", "document": LETTER}
        beyond = [
            served.post("/v1/switches/preview", body, key="operator"),
            served.post("/v1/orders/preview", order, key="operator"),
            served.get("/v1/decisions", key="auditor"),
            served.post("/v1/decisions/query", {"q": "outcome:deny"}, key="auditor"),
            served.post("/v1/releases", {"files": {"model.conf": ""}}, key="operator"),
        ]
        assert [(answer.status_code, answer.json()["code"]) for answer in beyond] == [(503, "busy")] * 5
        assert all(answer.headers["retry-after"] for answer in beyond)
        switch = {"id": "beside-previews", "scope": {"models": ["open-1"], "tenants": ["shellco"]}, "reason": "why"}
        assert served.post("/v1/switches", switch, key="operator").status_code == 201
    finally:
        go_on.set()
        for each in threads:
            each.join()
    assert statuses == [200] * len(threads)
    assert served.get("/v1/decisions", key="auditor").status_code == 200
