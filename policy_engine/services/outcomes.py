"""What an evaluation says: of a deny that never reached the rules, of a verdict of the rules, at another instant.

Rules of the room: these are functions of what was found; nothing is looked up, derived or decided here. Every deny has
a reason, and the facts that would have to be brought are named. Ids that may be personal are marked to be sealed.
Left to others: finding it (`evaluate`), the verdict (`core.authorizer`), words for people (`explain`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from policy_engine.core.authorizer import Verdict
from policy_engine.core.decision import Evaluation, Outcome, Reason, Request
from policy_engine.core.facets import FACT_OF_UNKNOWN, Found
from policy_engine.core.facts import Model, Tenant
from policy_engine.core.instants import ENDLESS
from policy_engine.core.lacking import lacking
from policy_engine.core.release import Release, RuleMeta
from policy_engine.services.factcache import Known
from policy_engine.services.snapshot import Snapshot

_MISSING_BY_CODE = {
    "tenant.unknown": "context.tenant",
    "subject.unknown": "subject",
    "model.unknown": "resource.id",
}


def refused(
    request: Request,
    snapshot: Snapshot,
    at: int,
    reasons: list[Reason],
    model: Model | None,
    person: Known[Any, Any] | None = None,
    tenant: Known[Any, Any] | None = None,
    until: int = ENDLESS,
    lacks: tuple[str, ...] = (),
) -> Evaluation:
    """Return a deny that never reached the rules. `lacks` are facts for want of which it denies."""
    missing = lacks + tuple(_MISSING_BY_CODE[r.code] for r in reasons if r.code in _MISSING_BY_CODE)
    return Evaluation(
        request=request,
        outcome=Outcome.DENY,
        reasons=tuple(reasons),
        missing=missing,
        alternatives=(),
        release=snapshot.state.release or "",
        epoch=snapshot.state.epoch,
        at=at,
        until=min(until, snapshot.next_boundary(at)),
        model=None if model is None else model.id,
        tier=None if model is None else model.tier,
        tenant_sealed=_sealed_tenant(tenant),
        values=None,
        matched=(),
        lifted=(),
        licences=(),
        revisions=_revisions(request, person, tenant),
    )


def ruled(
    request: Request,
    snapshot: Snapshot,
    release: Release,
    model: Model,
    person: Known[Any, Any],
    tenant: Known[Any, Any],
    found: Found,
    values: tuple[Any, ...],
    verdict: Verdict,
    at: int,
    until: int,
) -> Evaluation:
    """Return what the rules found: their verdict, with its reasons, and on a deny what would have to be brought."""
    rules = release.rules
    lifted = tuple(rules[p].id for p in verdict.lifted)
    if verdict.outcome is Outcome.ALLOW:
        reasons = [rules[p].reason for p in verdict.allows]
        missing: tuple[str, ...] = ()
    else:
        reasons = [_with_orders(rules[p], found) for p in verdict.denies]
        missing = _missing(release, verdict, found)
        if not reasons:
            reasons = [release.reason("no-rule-allows")]
    return Evaluation(
        request=request,
        outcome=verdict.outcome,
        reasons=tuple(reasons),
        missing=missing,
        alternatives=(),
        release=release.hash,
        epoch=snapshot.state.epoch,
        at=at,
        until=until,
        model=model.id,
        tier=model.tier,
        tenant_sealed=_sealed_tenant(tenant),
        values=values,
        matched=tuple(rules[p].id for p in (*verdict.allows, *verdict.denies)) + lifted,
        lifted=lifted,
        licences=_used(release, verdict, found) if lifted else (),
        revisions=_revisions(request, person, tenant),
        flags=found.flags,
        facets=found.facets,
        action_known="action" not in found.facets["unknown"],
    )


_AT, _VALUES = (Evaluation._fields.index(name) for name in ("at", "values"))


def at_another_instant(known: Evaluation, snapshot: Snapshot, at: int) -> Evaluation:
    """Return an evaluation as it is at another instant before its end: the same but for the instant itself.

    Raises `ValueError` for one that never reached the rules: those are not kept.
    """
    values = known.values
    if values is None or snapshot.release is None:
        raise ValueError("an evaluation that did not reach the rules is not kept")
    place = snapshot.release.instant_position
    if place is not None:
        values = (*values[:place], at, *values[place + 1 :])
    return Evaluation._make((*known[:_AT], at, *known[_AT + 1 : _VALUES], values, *known[_VALUES + 1 :]))


def _with_orders(rule: RuleMeta, found: Found) -> Reason:
    """Name the directives behind a deny that reads the facet `directive`."""
    reason: Reason = rule.reason
    if not rule.directives:
        return reason
    named = [found.directives[block] for block in rule.directives if block in found.directives]
    ids = named[0] if len(named) == 1 else tuple(sorted(set().union(*named)))
    return replace(reason, orders=ids)


def _used(release: Release, verdict: Verdict, found: Found) -> tuple[str, ...]:
    """Return the ids of the licences that gave a key by which a deny was lifted; the others were not used."""
    turned = {release.rules[p].lift for p in verdict.lifted}
    return tuple(id for id, keys in found.given.items() if not keys.isdisjoint(turned))


def _missing(release: Release, verdict: Verdict, found: Found) -> tuple[str, ...]:
    """Return the facts to bring: those the denying rules lack, or, where none denies, those an allow requires."""
    unknown: frozenset[str] = found.facets["unknown"]
    names: Iterable[str]
    if verdict.denies:
        names = [name for p in verdict.denies for name in release.rules[p].unknown]
    else:
        names = release.required & unknown
    folded = (each for p in verdict.denies for each in release.rules[p].folded)
    return tuple(sorted({FACT_OF_UNKNOWN.get(name, name) for name in names} | lacking(folded, found.parts)))


def _revisions(
    request: Request, person: Known[Any, Any] | None, tenant: Known[Any, Any] | None
) -> tuple[tuple[str, str, int], ...]:
    found: list[tuple[str, str, int]] = []
    if person is not None:
        found.append(("persons", request.subject_id, person.revision))
    if tenant is not None and request.tenant is not None:
        found.append(("tenants", request.tenant, tenant.revision))
    return tuple(found)


def _sealed_tenant(tenant: Known[Any, Any] | None) -> bool:
    """The id of an individual, or of a tenant nobody knows, is personal (it may be anything a caller wrote)."""
    if tenant is None or tenant.subject is None:
        return True
    subject: Tenant = tenant.subject
    return subject.type is None or subject.type.value == "individual"
