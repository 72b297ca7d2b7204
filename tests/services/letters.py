"""Orders as documents, for the tests of orders, and what the register keeps of them."""

from __future__ import annotations

from typing import Any

from tests.services.governed import House

EXEMPT = {
    "id": "letter-26",
    "from": None,
    "until": None,
    "models": ["mythos-5"],
    "who": "annex_a_entities_and_their_employees",
    "annex_a": ["annexco"],
}
DIRECTIVE: dict[str, Any] = {
    "id": "letter-12",
    "from": "2026-06-12T21:21:00Z",
    "until": None,
    "models": ["fable-5", "mythos-5"],
    "blocks": ["foreign_person", "destination_outside_us"],
    "exempts": [],
}
LICENCE: dict[str, Any] = {
    "id": "lic-1",
    "from": "2026-01-01T00:00:00Z",
    "until": "2026-12-31T00:00:00Z",
    "revoked_at": None,
    "person_id": "ines",
    "tenant_id": None,
    "models": ["fable-5", "summit-4"],
    "actions": ["infer", "fine_tune"],
    "nationalities": ["IN", "GB"],
    "destinations": ["US", "US-CA"],
    "lifts": ["nat", "dest"],
    "conditions": ["no re-export"],
}
GRANT: dict[str, Any] = {"id": "g1", "person_id": "ines", "models": ["fable-5"], "actions": ["infer"], "by": "sales"}
OVERRIDE: dict[str, Any] = {"id": "o1", "by": "ada", "approved_by": "ben", "reason": "drill"}


def body(house: House, id: str) -> dict[str, Any]:
    """Return the body of an order as the register holds it."""
    return dict(house.store.row("orders", id).document["body"])
