"""The recorded decisions of the last days, decided again as if the change had been in force all the time.

Rules of the room:
- One walk over the log; a decision is decided again by the path of a replay (`services.rejudge`), under the registers
  of its own time with the one row supposed. What it is without the change is what is recorded.
- Only what the change can reach is opened; the rest is counted by its public part. What does not open is named.
- Decisions of drills are nobody's and are passed over.
Left to others: which row is supposed (`changes`), who may see it (`service`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from policy_engine.core.decision import Evaluation, Outcome
from policy_engine.core.instants import DAY, ENDLESS, format_instant
from policy_engine.core.plain import PlainRelease
from policy_engine.errors import LoadRefused, VerificationFailed
from policy_engine.limits import Limits
from policy_engine.services.permissions import DRILL
from policy_engine.services.preview.changes import Pairs, Supposition
from policy_engine.services.preview.standing import Line
from policy_engine.services.preview.tallies import INDIVIDUAL, LOSES, Tallies, effect_of
from policy_engine.services.rejudge import Recorded, Rejudge
from policy_engine.services.releases import ReleaseLoader
from policy_engine.services.supposed import Supposed
from policy_engine.services.walk import Closed, Walk


@dataclass(slots=True)
class Day:
    """Decisions of one day (UTC): as they were recorded, and as they would have been."""

    day: str
    allow: int = 0
    deny: int = 0
    would_allow: int = 0
    would_deny: int = 0


@dataclass(slots=True)
class Past:
    """What was found of the recorded decisions since `since_at`, up to `until_at`.

    `complete=False`: it stopped at the limit; then `until_at` is the first decision that was left out. `lines` are
    those that come out otherwise, with the name of the entry.
    """

    since_at: int
    until_at: int
    decisions_count: int = 0
    replayed_count: int = 0
    complete: bool = True
    listed: bool = True
    closed: list[Mapping[str, Any]] = field(default_factory=list)
    days: dict[str, Day] = field(default_factory=dict)
    tallies: Tallies = field(default_factory=Tallies)
    lines: list[tuple[str, Line]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Window:
    """Which decisions are decided again, under the change as it is in force at an instant, and within which bounds."""

    since: int
    until: int
    at: int
    limits: Limits


def replay_supposed(walk: Walk, releases: ReleaseLoader, supposition: Supposition, window: Window) -> Past:
    """Return what the decisions of a window, which ends before `until`, would have been."""
    registers = Supposed(walk.past, supposition.register, supposition.id, supposition.throughout(window.at).now)
    rejudge, served = Rejudge(registers, releases), Rejudge(registers, releases, hints=True)
    reached = _Reached(supposition, rejudge)
    found = Past(window.since, window.until)

    def wanted(public: Mapping[str, Any]) -> bool:
        """Count every decision of the window; open those that the change can reach."""
        if public["instant"] < window.since or public["by"] == DRILL.id or not found.complete:
            return False
        can_change = reached(public)
        if can_change and found.replayed_count >= window.limits.preview_decisions_count:
            found.complete, found.until_at = False, int(public["instant"])
            return False
        found.decisions_count += 1
        _day(found, public["instant"], public["outcome"])
        if can_change:
            return True
        _would(found, public["instant"], public["outcome"])
        found.tallies.effects[effect_of(*[public["outcome"] == Outcome.ALLOW] * 2)] += 1
        return False

    for one in walk.steps(wanted, until=window.until):
        step = (walk.basis_gone(one) or one) if isinstance(one, Recorded) else one
        if isinstance(step, Closed):
            if step.public is not None:
                _would(found, step.public["instant"], step.public["outcome"])
            found.closed.append({"entry": walk.name(step), "status": step.status, "note": step.note})
        elif isinstance(step, Recorded):
            found.replayed_count += 1
            _replayed(walk, found, (rejudge, served), step, window.limits.preview_rows_count)
        if not found.complete:
            break
    return found


def _replayed(walk: Walk, found: Past, rejudges: tuple[Rejudge, Rejudge], step: Recorded, most: int) -> None:
    """Decide again; of what is lost, a second time with the models that would still have served."""
    public, (rejudge, served) = step.public, rejudges
    try:
        would_be = rejudge(step)
        if public["outcome"] == Outcome.ALLOW and would_be.outcome is Outcome.DENY:
            would_be = served(step)
    except (VerificationFailed, LoadRefused) as failed:
        _would(found, public["instant"], public["outcome"])
        found.closed.append({"entry": walk.name(step), "status": "unreadable", "note": failed.message})
        return
    _would(found, public["instant"], would_be.outcome)
    effect = effect_of(public["outcome"] == Outcome.ALLOW, would_be.outcome is Outcome.ALLOW)
    line = _line(effect, would_be)
    tenant = INDIVIDUAL if would_be.tenant_sealed else line.tenant
    tier = "unclassified" if would_be.tier is None else str(would_be.tier)
    values = {"tenant": tenant, "model": line.model, "tier": tier, "action": line.action, "region": line.region}
    found.tallies.add(effect, line.subject, values)
    if effect in found.tallies.persons:
        if len(found.lines) < most:
            found.lines.append((walk.name(step), line))
        else:
            found.listed = False


def _line(effect: str, would_be: Evaluation) -> Line:
    request = would_be.request
    place = request.location
    return Line(
        effect=effect,
        subject=request.subject_id,
        tenant=request.tenant or "",
        model=would_be.model or request.model,
        action=request.action,
        region=None if place is None else place.region or place.country,
        reasons=tuple(dict.fromkeys(reason.code for reason in would_be.reasons)),
        orders=tuple(dict.fromkeys(order for reason in would_be.reasons for order in reason.orders)),
        missing=would_be.missing,
        fallbacks=would_be.alternatives if effect == LOSES else (),
    )


class _Reached:
    """Whether a decision is on a model and action that the change can reach, under the release of its time."""

    def __init__(self, supposition: Supposition, rejudge: Rejudge) -> None:
        self._supposition = supposition
        self._rejudge = rejudge
        self._pairs: dict[str, Pairs] = {}

    def __call__(self, public: Mapping[str, Any]) -> bool:
        release = self._rejudge.snapshot().release
        if release is None or self._supposition.document is None:
            return False
        if isinstance(release, PlainRelease):  # its own words for models and actions: whatever it is, decide again
            return True
        pairs = self._pairs.get(release.hash)
        if pairs is None:
            pairs = self._pairs[release.hash] = self._supposition.pairs(release)
        if public["action"] is None:
            return any(model == public["model"] for model, _ in pairs)
        return (public["model"], public["action"]) in pairs


def _day(found: Past, instant: int, outcome: str) -> None:
    day = _of_day(found, instant)
    if outcome == Outcome.ALLOW:
        day.allow += 1
    else:
        day.deny += 1


def _would(found: Past, instant: int, outcome: str) -> None:
    day = _of_day(found, instant)
    if outcome == Outcome.ALLOW:
        day.would_allow += 1
    else:
        day.would_deny += 1


def _of_day(found: Past, instant: int) -> Day:
    name = format_instant(min(instant, ENDLESS - 1) // DAY * DAY)[:10]
    return found.days.setdefault(name, Day(name))
