"""One service, asked and changed with planted facts in every place that takes words: none of them gets out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest

from tests.api.served import Served, request, serving
from tests.house import outputs
from tests.house.outputs import PLANTED

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
def served(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[Served]:
    """Serve the sample world, and keep what it lets out in a folder of its own."""
    patch = pytest.MonkeyPatch()
    patch.setenv(outputs.FOLDER_VARIABLE, str(folder))
    with serving(tmp_path_factory.mktemp("service")) as service:
        yield service
    patch.undo()


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


def test_the_public_log_holds_no_planted_fact(served: Served) -> None:
    """The public parts of the entries that these requests made name no person, place or free text of theirs."""
    served.decide(request(PLANTED.person, PLANTED.tenant, PLANTED.location, PLANTED.reference, PLANTED.nationality))
    public = b"".join(public for _, _, public in served.engine.store.entries())
    assert len(public) > 0
    assert [fact for fact in astuple(PLANTED) if fact.encode() in public] == []
