"""What a stranger may ask: the AuthZEN metadata, whether the service lives and is ready, its metrics.

Rules of the room:
- The metadata name the endpoints that exist and no other, under the https identifier from the settings, and are served
  where the standard looks for them: the identifier's path stands behind the well-known one.
- `/healthz` says that the process answers. `/readyz` says that it can decide: state readable, log writable, a release
  active; otherwise 503 with a code for each reason. A sample database says so.
- Nothing here names a person, a tenant or a caller.
Left to others: counting (`metrics`), what is ready (`condition`), how a probe is answered (`probes`), the OpenAPI
document (`openapi`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

import orjson
from fastapi import APIRouter, Response

from policy_engine.api.access import PlaceOfError, problem_responses
from policy_engine.api.condition import Condition
from policy_engine.api.decisions import EVALUATION, EVALUATIONS
from policy_engine.api.documents import Shown
from policy_engine.api.metrics import Metrics
from policy_engine.api.probes import HEALTH, HEALTHY, READINESS, readiness
from policy_engine.api.searches import PATHS

WELL_KNOWN: Final = "/.well-known/authzen-configuration"
METADATA_SECONDS: Final = 3_600
METRICS_MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_NO_STORE: Final = {"Cache-Control": "no-store"}


class Metadata(Shown):
    """AuthZEN metadata of this decision point; an endpoint that is not named does not exist."""

    policy_decision_point: str
    access_evaluation_endpoint: str
    access_evaluations_endpoint: str
    search_subject_endpoint: str
    search_resource_endpoint: str
    search_action_endpoint: str


class Health(Shown):
    """The process answers."""

    status: str = "ok"


class Ready(Shown):
    """The engine can decide. `sample` is true on a database that was filled with the sample world.

    `warnings` are alarms that stop nothing, such as suspensions whose re-confirmation is overdue; how many, not which.
    """

    status: str = "ready"
    release: str
    epoch: int
    sample: bool
    warnings: list[PlaceOfError] | None = None


def metadata(public_url: str) -> dict[str, str]:
    """Return the metadata of the decision point with this identifier, as the settings took it."""
    base = public_url.rstrip("/")
    return {
        "policy_decision_point": public_url,
        "access_evaluation_endpoint": base + EVALUATION,
        "access_evaluations_endpoint": base + EVALUATIONS,
        **{f"search_{sought}_endpoint": base + path for path, sought in PATHS.items()},
    }


def discovery_router(public_url: str, metrics: Metrics, condition: Callable[[], Condition]) -> APIRouter:
    """Return the routes. `condition` reads the engine's state each time."""
    router = APIRouter(tags=["discovery"])
    document = orjson.dumps(metadata(public_url))

    @router.get(WELL_KNOWN + urlsplit(public_url).path.rstrip("/"), response_model=Metadata)
    def authzen_configuration() -> Response:
        """AuthZEN metadata."""
        headers = {"Cache-Control": f"public, max-age={METADATA_SECONDS}"}
        return Response(document, media_type="application/json", headers=headers)

    @router.get(HEALTH, response_model=Health)
    async def healthz() -> Response:
        """Say that the process answers; nothing is read."""
        return Response(HEALTHY, media_type="application/json", headers=_NO_STORE)

    @router.get(READINESS, response_model=Ready, responses=problem_responses(503))
    def readyz() -> Response:
        """Say whether decisions can be made and recorded."""
        status, body, headers = readiness(condition())
        return Response(body, status, {name.decode("ascii"): value.decode("ascii") for name, value in headers})

    @router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    def scrape() -> Response:
        """Metrics in the Prometheus text format."""
        return Response(metrics.text(), media_type=METRICS_MEDIA_TYPE, headers=_NO_STORE)

    return router
