"""The management routes under `/v1/`, one module a noun."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from policy_engine.api.routes import (
    approvals,
    cells,
    decisions,
    erasure,
    facts,
    models,
    orders,
    previews,
    releases,
    revocations,
    switches,
    tree,
)

ROUTERS: Final = (
    models.router,
    facts.subjects,
    facts.tenants,
    releases.router,
    switches.router,
    orders.router,
    previews.router,
    approvals.router,
    decisions.router,
    tree.router,
    erasure.router,
    revocations.router,
    cells.router,
)
"""Every router of the management API, in the order of the OpenAPI document."""

READING_POSTS: Final = frozenset(
    {"/v1/subjects/show", "/v1/tenants/show", "/v1/decisions/query", "/v1/switches/preview", "/v1/orders/preview"}
)
"""Routes that read although they take a body, because what they ask for is personal or long."""


def only_reading(router: APIRouter) -> APIRouter:
    """Return a router without the routes that change something, for a process that has no login for it."""
    kept: list[BaseRoute] = [
        route
        for route in router.routes
        if isinstance(route, APIRoute) and ((route.methods or set()) <= {"GET"} or route.path in READING_POSTS)
    ]
    return APIRouter(routes=kept)
