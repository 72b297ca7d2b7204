"""`/v1/subjects` and `/v1/tenants`: facts with their provenance, set by one person and shown on the record.

Ids of persons, and of tenants that are individuals, are personal: they travel in bodies, never in a URL, where every
proxy on the way would write them down. So showing is a POST.
Left to others: what a fact may say (`core.factparse`), who may set and read it (`services.facts`).
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field

from policy_engine.api.access import CHANGING, READING, READING_ONE, Caller, OpenEngine, route_options
from policy_engine.api.documents import Done, Id, Instant, Shown, Strict, Words, done
from policy_engine.core.instants import format_instant
from policy_engine.services.facts import READERS, FactRow

subjects = APIRouter(prefix="/v1/subjects", tags=["subjects"])
tenants = APIRouter(prefix="/v1/tenants", tags=["tenants"])


class Given(Strict):
    """Provenance of every fact that brings none of its own; who writes it is stamped by the engine."""

    method: Words | None = None
    assurance: Words | None = None
    verified_at: Instant | None = None
    expires_at: Instant | None = None
    reference: Words | None = None


class FactsToSet(Strict):
    """Facts of one person or tenant by name: plain values, or objects with `value` and provenance of its own."""

    id: Id
    facts: Annotated[dict[str, Any], Field(min_length=1)]
    provenance: Given = Given()


class WhoseFacts(Strict):
    """Whose facts to show."""

    id: Id


class FactsShown(Shown):
    """Each fact with its value and provenance."""

    id: str
    facts: dict[str, dict[str, Any]]
    revision: int


class ExpiringShown(Shown):
    """A fact that stops counting at an instant."""

    of: Annotated[str, Field(description="`persons` or `tenants`.")]
    id: str
    field: str
    expires_at: str


class ExpiringFacts(Shown):
    """Facts by the instant at which they stop counting, soonest first."""

    expiring: list[ExpiringShown]


class Within(Strict):
    """How many days ahead to look."""

    days: Annotated[int, Field(ge=0, le=36_500, strict=False)] = 30


@subjects.post("", **route_options("facts:write", problems=CHANGING))
def set_subject_facts(engine: OpenEngine, principal: Caller, body: FactsToSet) -> Done:
    """Set facts of a person; those not named stay. Nobody sets facts about themselves."""
    return _set(engine, principal, "persons", body)


@subjects.post("/show", **route_options(*READERS, problems=READING_ONE))
def show_subject(engine: OpenEngine, principal: Caller, body: WhoseFacts) -> FactsShown:
    """Show the facts of a person. The read is recorded before it is answered."""
    return _shown(engine.facts.show(principal, "persons", body.id))


@subjects.get("/expiring", **route_options(*READERS, problems=READING))
def list_expiring_facts(engine: OpenEngine, principal: Caller, within: Annotated[Within, Query()]) -> ExpiringFacts:
    """List facts of persons and tenants that have expired or soon will. The read is recorded."""
    found = engine.facts.expiring(principal, within.days)
    return ExpiringFacts(
        expiring=[
            ExpiringShown(of=each.register, id=each.id, field=each.field, expires_at=format_instant(each.expires_at))
            for each in found
        ]
    )


@tenants.post("", **route_options("facts:write", problems=CHANGING))
def set_tenant_facts(engine: OpenEngine, principal: Caller, body: FactsToSet) -> Done:
    """Set facts of a tenant; those not named stay."""
    return _set(engine, principal, "tenants", body)


@tenants.post("/show", **route_options(*READERS, "audit:read", problems=READING_ONE))
def show_tenant(engine: OpenEngine, principal: Caller, body: WhoseFacts) -> FactsShown:
    """Show the facts of a tenant. Of an individual the read is recorded before it is answered."""
    return _shown(engine.facts.show(principal, "tenants", body.id))


def _set(engine: OpenEngine, principal: Caller, register: str, body: FactsToSet) -> Done:
    given = body.provenance.model_dump(exclude_none=True)
    committed = engine.facts.set_facts(principal, register, body.id, body.facts, provenance=given)
    return done(body.id, committed)


def _shown(row: FactRow) -> FactsShown:
    return FactsShown(id=row.id, facts={name: dict(fact) for name, fact in row.facts.items()}, revision=row.revision)
