"""Issuers that a service trusts, who is registered with it, and tokens of theirs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from policy_engine.core.decision import PrincipalKind
from policy_engine.services.keys import KeyRequest, TokenIdentity
from tests.api.served import ALICE, Served, serving
from tests.middleware.tokens import AUDIENCE, ISSUER, claims, key, key_set, token

OTHER_ISSUER = "https://other.example"
ROTATING = "https://rotating.example"
EDGE = "edge-7f3a"
"""The subject of the registered enforcement point, as the issuer names it."""

SUPPLIES = ("location", "serving_region")

FACTS = {
    "x-policy-engine-subject": "alice",
    "x-policy-engine-tenant": "acme",
    "x-policy-engine-model": "fable-5",
    "x-policy-engine-location": "US",
    "x-policy-engine-serving-region": "US",
}
DOORS = ("evaluation", "search", "management", "forward-auth", "data")


def anchor(jwks: str, issuer: str = ISSUER, **more: Any) -> dict[str, Any]:
    """Return one issuer of the file."""
    return {"issuer": issuer, "audience": AUDIENCE, "jwks": jwks, **more}


@dataclass
class Trusting:
    """A service that takes tokens of issuers, and the folder with the files of their keys."""

    service: Served
    folder: Path

    def register(
        self,
        subject: str,
        *,
        issuer: str = ISSUER,
        name: str = "",
        kind: PrincipalKind = PrincipalKind.SERVICE,
        scopes: Sequence[str] = ("decide",),
        expires_at: int | None = None,
    ) -> str:
        """Register a subject with two persons; return the id of the row."""
        request = KeyRequest(
            name or f"of-{subject}", kind, tuple(scopes), None, SUPPLIES, expires_at, TokenIdentity(issuer, subject)
        )
        engine = self.service.engine
        issued = engine.keys.create(self.person("operator"), request)
        engine.approvals.approve(self.person("approver"), issued.proposal)
        return str(issued.id)

    def person(self, name: str) -> Any:
        """Return one of the sample's persons."""
        engine = self.service.engine
        return engine.keys.authenticate(self.service.keys[name], engine.store.now())


def good(subject: str = EDGE, **more: Any) -> str:
    """Return a token of a subject that is right now, with claims changed as wanted."""
    return token(claims(sub=subject, **more))


def knock(party: Trusting, door: str, bearer: bytes) -> httpx2.Response:
    """Ask at a door with what stands behind `Bearer`."""
    client = party.service.client
    own = {b"Authorization": b"Bearer " + bearer}
    typed = {**own, b"Content-Type": b"application/json"}
    if door == "evaluation":
        return client.post("/access/v1/evaluation", content=json.dumps(ALICE).encode(), headers=typed)
    if door == "search":
        sought = {**ALICE, "resource": {"type": "model"}}
        return client.post("/access/v1/search/resource", content=json.dumps(sought).encode(), headers=typed)
    if door == "management":
        return client.get("/v1/models", headers=own)
    if door == "forward-auth":
        headers = {name.encode(): value.encode() for name, value in FACTS.items()}
        return client.get("/check/forward-auth", headers={b"Policy-Engine-Key": bearer, **headers})
    asked = {"input": {"request": {"headers": FACTS}}}
    return client.post("/v1/data/gate/allow", content=json.dumps(asked).encode(), headers=typed)


@contextmanager
def trusting(folder: Path, **settings: Any) -> Iterator[Trusting]:
    """Serve the sample world to callers with tokens; the enforcement point `EDGE` is registered."""
    (folder / "jwks.json").write_text(json.dumps(key_set(key("one"), key("two", "EC"))))
    (folder / "other.json").write_text(json.dumps(key_set(key("bee"))))
    (folder / "rotating.json").write_text(json.dumps(key_set(key("one"))))
    listed = [anchor("jwks.json", algorithms=["RS256", "ES256"]), anchor("other.json", OTHER_ISSUER)]
    listed.append(anchor("rotating.json", ROTATING))
    (folder / "tokens.json").write_text(json.dumps(listed))
    with serving(folder, replica=True, tokens=folder / "tokens.json", **settings) as service:
        party = Trusting(service, folder)
        party.register(EDGE)
        yield party
