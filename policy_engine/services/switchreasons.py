"""Step 6 of a decision: the kill switches that cover a request, by code that shares nothing with the rules.

Rules of the room: what is unknown of a request (its place, its family, its tier) is unknown to the switch too, which
then covers it. A switch and a directive may bear one id, that of the letter they rest on: which of the two a reason
names, its code says.
Left to others: what a switch covers (`core.switches`), releases without registers (`services.plain`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from policy_engine.core.decision import Principal, Reason, Request
from policy_engine.core.derive import PlaceFacets, TenantFacets
from policy_engine.core.facets import FACT_OF_UNKNOWN
from policy_engine.core.facts import Model
from policy_engine.core.lacking import TENANT_TYPE
from policy_engine.core.release import Release
from policy_engine.core.switches import SwitchQuestion
from policy_engine.services.permissions import is_drill
from policy_engine.services.snapshot import Snapshot

SWITCHED: Final = "switch.engaged"
"""The code of the reason that names switches; every other one names directives."""

_FACTS: Final = {
    "families": "model.family",
    "tenants": "context.tenant",
    "tenant_types": TENANT_TYPE,
    "tiers": FACT_OF_UNKNOWN["tier"],
    "regions": FACT_OF_UNKNOWN["location"],
}
"""The fact to bring for a dimension in which a question is unknown."""


def question_of(
    release: Release,
    request: Request,
    model: Model,
    tenant: TenantFacets,
    place: PlaceFacets,
    principal: Principal,
) -> SwitchQuestion:
    """Return what switches are compared with."""
    gazetteer, serving_region = release.reference.gazetteer, request.serving_region
    regions: frozenset[str] | None = None
    if place.place.known and "location-anonymised" not in place.unknown:
        here = place.place
        regions = gazetteer.names(here.raw or "", here.region)
        if serving_region is not None:
            country, dash, _ = serving_region.partition("-")
            regions |= gazetteer.names(country, serving_region if dash else None)
    return SwitchQuestion(
        models=release.catalogue.names(model.id),
        tenants=tenant.ids,
        tenant_types=tenant.types,
        tier=model.tier,
        regions=regions,
        action=request.action,
        families=release.catalogue.families(model.id),
        drill=is_drill(principal),
    )


def switch_reasons(
    release: Release,
    snapshot: Snapshot,
    request: Request,
    model: Model,
    tenant: TenantFacets,
    place: PlaceFacets,
    principal: Principal,
    at: int,
) -> tuple[list[Reason], tuple[str, ...]]:
    """Return the reason of the kill switches in force that cover a request, none when none does.

    With it come the facts for want of which they do; none where one of them covers it whatever those are.
    """
    if not snapshot.switches:
        return [], ()
    question = question_of(release, request, model, tenant, place, principal)
    ids = snapshot.switches.engaged(question, at)
    if not ids:
        return [], ()
    facts = {_FACTS[name] for name in snapshot.switches.doubts(question, at)}
    if "location" in facts and place.place.known:
        facts = facts - {"location"} | {FACT_OF_UNKNOWN["location-anonymised"]}
    return [replace(release.reason(SWITCHED), orders=ids)], tuple(sorted(facts))


def ids_named(reasons: Iterable[tuple[str | None, str, Sequence[str]]], *, switches: bool) -> frozenset[str]:
    """Return the ids of the switches, or else of the directives, that reasons (rule, code, ids) name."""
    return frozenset(id for _, code, ids in reasons if (code == SWITCHED) is switches for id in ids)
