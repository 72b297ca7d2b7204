"""Steps 3 to 8 of a decision under a plain Casbin folder: from a request to an evaluation, with no entry written.

Rules of the room:
- Subject and resource types are free; persons, tenants, directives and licences are not consulted. Kill switches are,
  before the rules and by code that shares nothing with them; what is unknown about a request is covered by a switch
  that asks for it (its tenant, its place, its tier, the kind of its tenant).
- The policy's own effect decides. Whatever errs, and any value that the policy reads and nobody may vouch for, denies.
- Reasons name rules by file and line; no reason, public id or public action is a word that only the caller wrote.
Left to others: bounding the request (`evaluate`), the entry and the answer (`decide`, `record`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from policy_engine.core.decision import Evaluation, Outcome, Principal, Reason, Request
from policy_engine.core.facts import Model
from policy_engine.core.plain import Judged, PlainRelease
from policy_engine.core.switches import Switchboard, SwitchQuestion
from policy_engine.services.permissions import is_drill
from policy_engine.services.snapshot import Snapshot

_COUNTRY = re.compile("[A-Z]{2}")
_REGION = re.compile("[A-Z]{2}-[A-Z0-9]{1,3}")
_UNKNOWN_TYPE = frozenset(("unknown",))


@dataclass(frozen=True, slots=True)
class _Asked:
    """One question on its way: what is asked, by whom, under what, and what its resource turned out to be."""

    release: PlainRelease
    request: Request
    principal: Principal
    snapshot: Snapshot
    at: int
    resource_id: str | None
    model: Model | None

    def found(self, outcome: Outcome, reasons: Iterable[Reason], **more: Any) -> Evaluation:
        """Return the evaluation; what is not said is nothing."""
        request = self.request
        known = {
            "missing": (),
            "alternatives": (),
            "release": self.release.hash,
            "epoch": self.snapshot.state.epoch,
            "at": self.at,
            "until": self.snapshot.next_boundary(self.at),
            "model": self._public_id(),
            "tier": None if self.model is None else self.model.tier,
            "tenant_sealed": True,
            "values": None,
            "matched": (),
            "lifted": (),
            "licences": (),
            "revisions": (),
            "action_known": request.action in self.release.named.get("action.name", ()),
        }
        return Evaluation(request=request, outcome=outcome, reasons=tuple(reasons), **{**known, **more})

    def denied(self, code: str, **more: Any) -> Evaluation:
        """Return a deny that never reached the rules."""
        return self.found(Outcome.DENY, (self.release.reason(code),), **more)

    def _public_id(self) -> str | None:
        if self.model is not None:
            return self.model.id
        return self.resource_id if self.resource_id in self.release.named.get("resource.id", ()) else None


def evaluate_plain(
    release: PlainRelease, request: Request, principal: Principal, snapshot: Snapshot, at: int
) -> Evaluation:
    """Return the evaluation of a request, already bounded by its principal, at an instant. Never raises."""
    # 3. An alias resolves to its catalogue entry, where there is a catalogue; otherwise a resource id is itself.
    meant = release.find(request.model)
    resource_id, model = (None, None) if meant is None else meant
    asked = _Asked(release, request, principal, snapshot, at, resource_id, model)
    if principal.tenants is not None and request.tenant not in principal.tenants:
        return asked.denied("tenant.not-permitted")
    if meant is None:
        return asked.denied("model.unknown", missing=("resource.id",))
    try:
        return _with_rules(asked)
    except Exception:  # noqa: BLE001  whatever errs denies; the values must not reach a log or a traceback
        return asked.denied("rules.error")


def plain_question(
    release: PlainRelease, request: Request, principal: Principal, snapshot: Snapshot, at: int, switches: Switchboard
) -> SwitchQuestion:
    """Return what switches from elsewhere are compared with, as our own are."""
    meant = release.find(request.model)
    resource_id, model = (None, None) if meant is None else meant
    asked = _Asked(release, request, principal, snapshot, at, resource_id, model)
    return _question(request, resource_id or "", asked, switches)


def _with_rules(asked: _Asked) -> Evaluation:
    release = asked.release
    # 6. Kill switches are checked first, by code that shares nothing with the rules.
    switches = asked.snapshot.switches
    question = _question(asked.request, asked.resource_id or "", asked, switches) if switches else None
    ids = () if question is None else switches.engaged(question, asked.at)
    if ids:
        return asked.found(Outcome.DENY, (replace(release.reason("switch.engaged"), orders=ids),))
    # 4. and 5. The flat tuple: what the principal may supply, and what `entities.jsonl` says of subject and resource.
    flat = release.flat(asked.request, asked.resource_id or "", supplied="*" in asked.principal.supplies)
    if flat.unknown:
        return asked.denied("token.unknown", missing=flat.unknown)
    # 7. and 8. All rules that match, and the outcome that the policy's own effect gives.
    return _judged(asked, flat.values, release.judge(flat.values))


def _judged(asked: _Asked, values: tuple[Any, ...], judged: Judged) -> Evaluation:
    rule = judged.deciding
    if judged.allowed and rule is None:
        return asked.denied("rules.error")  # an allow that no rule gives is not a known yes
    outcome = Outcome.ALLOW if judged.allowed else Outcome.DENY
    reason = asked.release.reason("no-rule-allows") if rule is None else asked.release.reason_of(rule)
    return asked.found(outcome, (reason,), values=values, matched=judged.matching)


def _question(request: Request, resource_id: str, asked: _Asked, switches: Switchboard) -> SwitchQuestion:
    """Return what kill switches are compared with."""
    model = asked.model
    names = frozenset((resource_id,)) if model is None else asked.release.catalogue.names(model.id)
    return SwitchQuestion(
        models=names | {request.model},
        tenants=None if request.tenant is None else frozenset((request.tenant,)),
        tenant_types=_UNKNOWN_TYPE,
        tier=None if model is None else model.tier,
        regions=_regions(request, switches),
        action=request.action,
        families=None if model is None else asked.release.catalogue.families(model.id),
        drill=is_drill(asked.principal),
    )


def _regions(request: Request, switches: Switchboard) -> frozenset[str] | None:
    """Return the places of a request, `None` where one is unknown.

    There is no gazetteer here, so a code that has not the form of one is unknown, and a country without its region may
    be any region of it that a switch names.
    """
    place = request.location
    if place is None or place.anonymiser or place.country is None or request.serving_region is None:
        return None
    if not _COUNTRY.fullmatch(place.country):
        return None
    named = {place.country, request.serving_region}
    if place.region is None:
        return switches.regions_of(place.country).union(named)
    if not _REGION.fullmatch(place.region) or not place.region.startswith(f"{place.country}-"):
        return None
    return frozenset((*named, place.region))
