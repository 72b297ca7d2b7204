"""Previews over HTTP: the same answer as the service's, nothing changed, and strict bodies."""

from __future__ import annotations

from typing import Any

import pytest

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
