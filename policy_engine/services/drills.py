"""Drills: every kind of selector of a kill switch, engaged and released for real, against nobody but the drill.

Rules of the room:
- What is engaged is an ordinary switch, by the ordinary change, under the ordinary fence; its scope is marked `drill`.
  What asks is the ordinary decider, as the principal `DRILL`, and every answer is an entry. Nothing is simulated.
- A drill holds when the switch is not named before, is named by the first decision behind the commit, and is not named
  after its release, where the decision is again what it was before.
- Time to effect runs from asking for the engagement to the durable deny that names it. It stands in the log, in the
  entry of the release, and in the register until the next drill. It is of this process; other replicas are the
  business of `drained`.
- Ids are the same in every drill, so the register keeps one row a kind. What an interrupted drill left engaged, which
  denies nobody, the next one releases first.
Left to others: who asks (`services.drillsubject`), switches (`services.switches`), showing (the doors).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from policy_engine.core.decision import Decision, Outcome, Principal, Request
from policy_engine.core.facts import Location, Model
from policy_engine.core.instants import parse_instant
from policy_engine.core.plain import AnyRelease, PlainRelease
from policy_engine.core.switches import DRILL as DRILL_SCOPE
from policy_engine.errors import Conflict
from policy_engine.services.decide import Decider
from policy_engine.services.drillsubject import DRILL_SUBJECT, DRILL_TENANT, DRILL_TENANT_TYPE
from policy_engine.services.permissions import DRILL
from policy_engine.services.snapshot import Snapshots
from policy_engine.services.switches import Switches
from policy_engine.store.interfaces import Row, Store

KINDS: Final = (
    "everything",
    "model",
    "alias",
    "base",
    "family",
    "tier",
    "tenant",
    "tenant_type",
    "country",
    "region",
    "action",
)
"""Every kind of selector, in the order in which they are drilled."""

HELD: Final = "held"
FAILED: Final = "failed"
SKIPPED: Final = "skipped"

_PREFIX: Final = "drill-"

Ticks = Callable[[], int]
"""A clock of nanoseconds that never goes back."""


@dataclass(frozen=True, slots=True)
class Selector:
    """One kind to drill: its scope and the request that it must stop; `request=None`: `note` says why there is none."""

    kind: str
    scope: Mapping[str, Any]
    request: Request | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Drilled:
    """What came of one kind. Without the switch the drill was allowed or not (`allowed_before`)."""

    kind: str
    switch: str
    scope: Mapping[str, Any]
    status: str
    committed_microseconds: int | None = None
    effect_microseconds: int | None = None
    allowed_before: bool | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class LastDrill:
    """The last drill that the register knows of: when it ended, which kinds it held for, which not, the slowest."""

    at: int
    held: tuple[str, ...]
    failed: tuple[str, ...]
    slowest_microseconds: int


class Drills:
    """Runs drills and reads what the last one found."""

    def __init__(
        self,
        store: Store,
        switches: Switches,
        decider: Decider,
        snapshots: Snapshots,
        *,
        ticks: Ticks = time.monotonic_ns,
    ) -> None:
        self._store = store
        self._switches = switches
        self._decider = decider
        self._snapshots = snapshots
        self._ticks = ticks

    def run(self, principal: Principal, reason: str) -> tuple[Drilled, ...]:
        """Drill every kind of selector, one after another; return what came of each.

        Raises `NotPermitted` without a person's unbounded key with `switch:engage` (`local` may on a sample database),
        and `Conflict` while no release is active.
        """
        release = self._snapshots.refresh().release
        if release is None:
            raise Conflict("no release is active, so there is nothing that a drill could be denied; activate one first")
        for kind in KINDS:
            self._clear(principal, _id(kind))
        return tuple(self._drill(principal, selector, reason) for selector in selectors(release, self._is_allowed))

    def last(self) -> LastDrill | None:
        """Return the last drill, `None` when there was none."""
        return last_drill(self._store.rows("switches"))

    def _is_allowed(self, request: Request) -> bool:
        return self._decider.evaluate(request, DRILL).outcome is Outcome.ALLOW

    def _drill(self, principal: Principal, selector: Selector, reason: str) -> Drilled:
        id = _id(selector.kind)
        drilled = Drilled(selector.kind, id, selector.scope, SKIPPED, note=selector.note)
        if selector.request is None:
            return drilled
        before = self._ask(selector.request)
        began = self._ticks()
        self._switches.engage_drill(principal, id, selector.scope, reason)
        committed = self._ticks()
        denied = self._ask(selector.request)
        effect = self._ticks()
        held = not _names(before, id) and _names(denied, id) and not denied.allowed
        drilled = replace(
            drilled,
            status=HELD if held else FAILED,
            committed_microseconds=(committed - began) // 1_000,
            effect_microseconds=(effect - began) // 1_000,
            allowed_before=before.allowed,
            note="" if held else "the first decision behind the commit was not denied by the switch",
        )
        self._switches.release_drill(principal, id, _found(drilled))
        after = self._ask(selector.request)
        if held and (_names(after, id) or after.allowed is not before.allowed):
            note = "the decision was not what it had been once it was released"
            drilled = replace(drilled, status=FAILED, note=note)
            # The release, which had to come first, says that it held: the register and the log must have the last word.
            self._switches.engage_drill(principal, id, selector.scope, reason)
            self._switches.release_drill(principal, id, _found(drilled))
        return drilled

    def _ask(self, request: Request) -> Decision:
        return self._decider.decide(request, DRILL)

    def _clear(self, principal: Principal, id: str) -> None:
        """Release what an interrupted drill left."""
        row = self._store.row("switches", id)
        if row is not None and row.document["scope"].get(DRILL_SCOPE) is True and row.document["released_at"] is None:
            self._switches.release_drill(principal, id, {"status": FAILED, "kind": id.removeprefix(_PREFIX)})


def selectors(release: AnyRelease, is_allowed: Callable[[Request], bool]) -> list[Selector]:
    """Return every kind with a scope and a request that it covers, or why this release has none."""
    model = _model(release, is_allowed)
    home, region, action = _place(release)
    request = Request(
        DRILL_SUBJECT,
        action,
        "drill:model" if model is None else model.id,
        DRILL_TENANT,
        Location(home, region),
        home,
    )
    derived = next((one for _, one in sorted(release.catalogue.models.items()) if one.bases), None)
    alias = None if model is None or not model.aliases else model.aliases[0]
    tier, family = (None, None) if model is None else (model.tier, model.family)
    types = () if isinstance(release, PlainRelease) else (DRILL_TENANT_TYPE.value,)
    named: dict[str, tuple[str, Any, Request, str]] = {
        "everything": ("models", "all", request, ""),
        "model": ("models", request.model, request, ""),
        "alias": ("models", alias, request, "the model has no alias"),
        "base": (
            "models",
            None if derived is None else derived.bases[0],
            request if derived is None else replace(request, model=derived.id),
            "no model of the catalogue derives from another",
        ),
        "family": ("families", family, request, "the model has no family"),
        "tier": ("tiers", tier, request, "the model has no tier"),
        "tenant": ("tenants", DRILL_TENANT, request, ""),
        "tenant_type": ("tenant_types", next(iter(types), None), request, "a plain folder knows no types of tenants"),
        "country": ("regions", home, request, ""),
        "region": ("regions", region, request, "the release knows no region of its home country"),
        "action": ("actions", action, request, ""),
    }
    return [_selector(kind, *named[kind]) for kind in KINDS]


def _selector(kind: str, dimension: str, value: Any, request: Request, note: str) -> Selector:
    if value is None:
        return Selector(kind, {}, None, note)
    return Selector(kind, {dimension: value if value == "all" else [value]}, request)


def _model(release: AnyRelease, is_allowed: Callable[[Request], bool]) -> Model | None:
    """Return a model that the drill may use, since a deny says more then; else the first of the catalogue."""
    models = [model for _, model in sorted(release.catalogue.models.items())]
    home, region, action = _place(release)
    place = Location(home, region)
    for model in models:
        if is_allowed(Request(DRILL_SUBJECT, action, model.id, DRILL_TENANT, place, home)):
            return model
    return models[0] if models else None


def _place(release: AnyRelease) -> tuple[str, str | None, str]:
    """Return country, region and action of what a drill asks; a plain folder has no tables to say them."""
    if isinstance(release, PlainRelease):
        actions = sorted(release.named.get("action.name", ()))
        return "US", "US-CA", "infer" if "infer" in actions or not actions else actions[0]
    reference = release.reference
    home, actions = reference.home_country, sorted(reference.actions)
    regions = reference.gazetteer.regions_of(home)
    return home, next(iter(regions), None), "infer" if "infer" in actions else actions[0]


def last_drill(rows: Iterable[Row]) -> LastDrill | None:
    """Return what rows of switches say of the last drill; kinds that it skipped keep what an earlier one found."""
    return read_last_drill((row.id, row.document) for row in rows)


def read_last_drill(documents: Iterable[tuple[str, Mapping[str, Any]]]) -> LastDrill | None:
    """The same from ids and documents, for whoever reads the register without a store."""
    found = [
        (document["drilled"].get("kind", id), document["drilled"], parse_instant(document["released_at"]))
        for id, document in documents
        if document["scope"].get(DRILL_SCOPE) is True and document.get("drilled") and document["released_at"]
    ]
    if not found:
        return None
    return LastDrill(
        at=max(at for _, _, at in found),
        held=tuple(kind for kind, drilled, _ in found if drilled["status"] == HELD),
        failed=tuple(kind for kind, drilled, _ in found if drilled["status"] != HELD),
        slowest_microseconds=max(drilled.get("effect_microseconds", 0) for _, drilled, _ in found),
    )


def _id(kind: str) -> str:
    return f"{_PREFIX}{kind}"


def _names(decision: Decision, id: str) -> bool:
    return any(id in reason.orders for reason in decision.reasons)


def _found(drilled: Drilled) -> dict[str, Any]:
    """Return what the log keeps of a drill."""
    return {
        "kind": drilled.kind,
        "status": drilled.status,
        "committed_microseconds": drilled.committed_microseconds,
        "effect_microseconds": drilled.effect_microseconds,
        "allowed_before": drilled.allowed_before,
    }
