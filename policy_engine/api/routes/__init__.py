"""The management routes under `/v1/`, one module a noun."""

from __future__ import annotations

from typing import Final

from policy_engine.api.routes import approvals, decisions, facts, models, orders, releases, switches

ROUTERS: Final = (
    models.router,
    facts.subjects,
    facts.tenants,
    releases.router,
    switches.router,
    orders.router,
    approvals.router,
    decisions.router,
)
"""Every router of the management API, in the order of the OpenAPI document."""
