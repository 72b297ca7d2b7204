"""One service, asked and changed with planted facts in every place that takes words: none of them gets out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest

from tests.api.served import Served, request
from tests.house import outputs
from tests.house.outputs import PLANTED
from tests.middleware.tokens import claims, token
from tests.tokens.parties import Trusting, trusting

FACTS = {
    "citizenships": {
        "value": [{"country": "FR", "acquired": "birth", "current": True}],
        "reference": PLANTED.reference,
    },
    "tenants": {"value": ["acme"]},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Offer a folder for what this module's service lets out, apart from the session's."""
    return tmp_path_factory.mktemp("planted")


@pytest.fixture(scope="module")
def party(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[Trusting]:
    """Serve the sample world to keys and tokens, and keep what it lets out in a folder of its own."""
    patch = pytest.MonkeyPatch()
    patch.setenv(outputs.FOLDER_VARIABLE, str(folder))
    with trusting(tmp_path_factory.mktemp("service")) as running:
        yield running
    patch.undo()


@pytest.fixture(scope="module")
def served(party: Trusting) -> Served:
    """Offer the service."""
    return party.service


def hostile_bodies() -> list[Any]:
    """Return bodies with a planted fact in each member that takes one, well-formed and not."""
    good = request(PLANTED.person, PLANTED.tenant, PLANTED.location, PLANTED.reference, PLANTED.nationality)
    broken = [{**good, name: PLANTED.reference} for name in ("subject", "action", "resource", "context")]
    wrong_types = [{**good, "context": {**good["context"], name: [PLANTED.person]}} for name in good["context"]]
    text = f'{{"subject": {{"id": "{PLANTED.person}"'
    doubled = f'{{"{PLANTED.reference}": 1, "{PLANTED.reference}": 2}}'
    return [good, *broken, *wrong_types, text.encode(), doubled.encode(), b"\\xff" + PLANTED.person.encode()]


def test_the_service_lets_no_planted_fact_out(served: Served, folder: Path) -> None:
    """Requests, refusals, changes of facts, unknown paths and keys: logs, metrics and error bodies stay impersonal."""
    for body in hostile_bodies():
        for path in ("/access/v1/evaluation", "/access/v1/evaluations", "/v1/subjects", "/v1/switches", "/v1/orders"):
            served.post(path, body, key="operator")
    done = served.post("/v1/subjects", {"id": PLANTED.person, "facts": FACTS, "tenants": ["acme"]}, key="operator")
    served.post("/v1/subjects/show", {"id": PLANTED.person}, key="operator")
    served.post("/v1/subjects/show", {"id": PLANTED.reference}, key="operator")
    served.post("/access/v1/evaluation", request(PLANTED.person, "acme", "US", "fable-5"), key=PLANTED.key)
    served.decide(request(PLANTED.person, "acme", "US", "fable-5"))
    served.get(f"/{PLANTED.person}")
    assert served.get("/metrics").status_code == 200
    assert done.status_code < 500
    assert outputs.leaks(folder) == []
    assert all(outputs.counted(folder)[kind] > 0 for kind in ("errors", "metrics")), outputs.counted(folder)


def hostile_tokens() -> list[str]:
    """Return tokens with planted facts in subject, header and signature: good, of nobody here, late, and forged."""
    own = claims(sub=PLANTED.subject)
    return [
        token(own),
        token({**own, "sub": PLANTED.person}),
        token({**own, "exp": 1}),
        token({**own, "aud": PLANTED.reference}),
        token({**own, "iss": PLANTED.reference}),
        token(own, header={"kid": PLANTED.reference}),
        token(own, header={"jku": f"https://{PLANTED.reference}.example/"}),
        f"{token(own).rpartition('.')[0]}.{PLANTED.token}",
        f"{PLANTED.token}.{PLANTED.token}.{PLANTED.token}",
    ]


def test_the_service_lets_nothing_of_a_token_out(party: Trusting, folder: Path) -> None:
    """Good and bad tokens at every door, in a URL as well: no part of one, and no subject, is logged or said back."""
    served = party.service
    id = party.register(PLANTED.subject, name="planted-edge")
    sent = hostile_tokens()
    for bearer in sent:
        served.post("/access/v1/evaluation", request(PLANTED.person, "acme", "US", "fable-5"), key=bearer)
        served.post("/v1/switches", {"id": PLANTED.reference}, key=bearer)
        served.get("/v1/decisions", key=bearer)
        served.get("/check/forward-auth", headers={"Policy-Engine-Key": bearer, "X-Forwarded-Uri": f"/?token={bearer}"})
        served.post("/v1/data/gate/allow", {"input": {"request": {"headers": {"policy-engine-key": bearer}}}}, key=None)
        served.get(f"/v1/decisions/{bearer}?access_token={bearer}", key=bearer)
    served.engine.keys.revoke(party.person("operator"), id)
    served.post("/access/v1/evaluation", request(PLANTED.person, "acme", "US", "fable-5"), key=sent[0])
    assert served.get("/metrics").status_code == 200
    assert outputs.leaks(folder) == []
    parts = {piece for bearer in sent for piece in bearer.split(".")}
    let_out = [line for kind in outputs.SEARCHED for line in outputs.kept(folder, kind)]
    assert let_out and not [line for line in let_out if any(piece in line for piece in parts)]


def test_the_public_log_holds_no_planted_fact(served: Served) -> None:
    """The public parts of the entries that these requests made name no person, place or free text of theirs."""
    served.decide(request(PLANTED.person, PLANTED.tenant, PLANTED.location, PLANTED.reference, PLANTED.nationality))
    public = b"".join(public for _, _, public in served.engine.store.entries())
    assert len(public) > 0
    assert [fact for fact in astuple(PLANTED) if fact.encode() in public] == []
