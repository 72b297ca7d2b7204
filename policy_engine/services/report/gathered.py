"""What one pass over the entries of a period counts: decisions, changes, gaps and readings. Public members only.

Rules of the room: nothing here is personal, for entries' public parts are not; an individual tenant is null in them and
stays "sealed". Lists are bounded: what is beyond `LISTED_COUNT` is counted and said to be left out.
Left to others: which entries (`services.exports.source`), keyed counts (`keyed`), showing it (`sections`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Generic, TypeVar

import orjson

from policy_engine.services.exports.source import Entry
from policy_engine.services.incident import begins_epoch
from policy_engine.services.report.period import Period

LISTED_COUNT: Final = 200
"""Events of one kind that are listed one by one; the rest are counted."""

SEALED_TENANT: Final = "(sealed: an individual, or unknown)"
UNKNOWN: Final = "(unknown)"
CHANGED_KEPT_COUNT: Final = 1_000
AT_THE_BEGINNING: Final = "in force at the beginning"
"""What began an epoch whose beginning lies before the period."""

Verdict = tuple[str, str, str | None]
"""Outcome, tier and release of a decision: what keyed counts need of it."""


@dataclass(frozen=True, slots=True)
class Event:
    """One entry that is listed: when, what, about which id, by which key, and a remark."""

    entry: str
    at: int
    kind: str
    about: str
    by: str
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Era:
    """From when an epoch and a release were in force, and the kind of change that began it."""

    epoch: int
    release: str | None
    at: int
    kind: str


Item = TypeVar("Item", Event, Era)


@dataclass(slots=True)
class Listed(Generic[Item]):
    """Events of one sort: the first `most` of them, and how many there were."""

    events: list[Item] = field(default_factory=list)
    count: int = 0
    most: int = LISTED_COUNT

    def add(self, event: Item) -> None:
        """Count an event, and keep it while there is room."""
        self.count += 1
        if len(self.events) < self.most:
            self.events.append(event)

    @property
    def left(self) -> int:
        """How many were counted and not kept."""
        return self.count - len(self.events)


@dataclass(slots=True)
class Gathered:
    """Everything that was counted. Counters of decisions have the outcome last in their keys.

    `newest` is the era of the entry read last; `in_force` are those that began with another release.
    """

    period: Period
    entries: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    bars: Counter[tuple[int, str]] = field(default_factory=Counter)
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    models: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    tenants: Counter[tuple[str, str]] = field(default_factory=Counter)
    tiers: Counter[tuple[str, str]] = field(default_factory=Counter)
    actions: Counter[tuple[str, str]] = field(default_factory=Counter)
    orders: Counter[str] = field(default_factory=Counter)
    licences: Counter[str] = field(default_factory=Counter)
    readings: Counter[tuple[str, str]] = field(default_factory=Counter)
    listed: dict[str, Listed[Event]] = field(default_factory=dict)
    marks: Listed[Event] = field(default_factory=Listed)
    newest: Era | None = None
    eras: Listed[Era] = field(default_factory=partial(Listed, most=CHANGED_KEPT_COUNT))
    in_force: Listed[Era] = field(default_factory=partial(Listed, most=CHANGED_KEPT_COUNT))
    releases: Counter[str] = field(default_factory=Counter)
    missed: int = 0
    missed_reasons: Counter[str] = field(default_factory=Counter)
    logs: set[str] = field(default_factory=set)
    verdicts: dict[tuple[str, int], tuple[Verdict, int]] = field(default_factory=dict)
    verdicts_complete: bool = True

    @property
    def decisions(self) -> int:
        """How many decisions there were."""
        return self.outcomes.total()


SORTS: Final[Mapping[str, tuple[str, ...]]] = {
    "orders": ("switch.", "order."),
    "releases": ("release.",),
    "keys": ("key.", "genesis"),
    "gaps": ("gap",),
    "readings": ("read", "export."),
    "erasures": ("erased", "pruned", "hold."),
}
"""Sorts of events that are listed, by the beginnings of their kinds."""

APPROVALS: Final = "approvals"
"""The sort of whatever names a proposal: that it was made, and what became of it."""

MARKED: Final = ("switch.engaged", "switch.released", "order.received", "order.amended", "order.ended")
"""Kinds that are marked in the picture of decisions over time; drills are not, for they changed nobody's access."""


def gather(period: Period, pages: Iterable[Sequence[Entry]], keyed_most: int, *, one_log: bool) -> Gathered:
    """Return what the entries of a period say; of at most `keyed_most` decisions it is kept what keyed counts need."""
    found = Gathered(period)
    for page in pages:
        for log_id, seq, data in page:
            public = orjson.loads(data)
            found.entries += 1
            found.logs.add(log_id)
            found.kinds[public["kind"]] += 1
            _count_era(found, public)
            if public["kind"] == "decision":
                _count_decision(found, public)
                if len(found.verdicts) < keyed_most:
                    found.verdicts[log_id, seq] = (_verdict(public), public["instant"])
                else:
                    found.verdicts_complete = False
            else:
                _count_event(found, public, str(seq) if one_log else f"{log_id}:{seq}")
    return found


def _verdict(public: Mapping[str, Any]) -> Verdict:
    return public["outcome"], _tier(public), public["release"]


def _tier(public: Mapping[str, Any]) -> str:
    return UNKNOWN if public["tier"] is None else str(public["tier"])


def _count_decision(found: Gathered, public: Mapping[str, Any]) -> None:
    outcome = public["outcome"]
    found.outcomes[outcome] += 1
    found.bars[found.period.bar_of(public["at"]), outcome] += 1
    found.models[public["model"] or UNKNOWN, _tier(public), outcome] += 1
    found.tenants[public["tenant"] or SEALED_TENANT, outcome] += 1
    found.tiers[_tier(public), outcome] += 1
    found.actions[public["action"] or UNKNOWN, outcome] += 1
    found.releases[public["release"] or "none"] += 1
    for licence in public["licences"]:
        found.licences[licence] += 1
    # A decision counts once for each, however many of its reasons name it. No set: ties are shown in this order.
    found.orders.update(dict.fromkeys(order for _, _, orders in public["reasons"] for order in orders).keys())
    if outcome == "deny":
        found.reasons.update(dict.fromkeys((rule or "-", code) for rule, code, _ in public["reasons"]).keys())


def _count_event(found: Gathered, public: Mapping[str, Any], entry: str) -> None:
    kind = public["kind"]
    event = Event(entry, public["at"], kind, _about(public), str(public.get("by") or "-"), _remark(public))
    for sort, beginnings in SORTS.items():
        if kind.startswith(beginnings):
            found.listed.setdefault(sort, Listed()).add(event)
    if "proposal" in public:
        found.listed.setdefault(APPROVALS, Listed()).add(replace(event, about=str(public["proposal"])))
    if kind in MARKED and "drill" not in public:
        found.marks.add(event)
    if kind == "gap":
        found.missed += public["count"]
        for code, count in public["reasons"]:
            found.missed_reasons[code] += count
    if kind == "read":
        found.readings[str(public.get("what", "-")), event.by] += 1


def _about(public: Mapping[str, Any]) -> str:
    """Return the id that an entry is about, from the members in which ids stand."""
    for name in ("switch", "order", "key", "published", "stored", "activates", "hold", "proposal"):
        value = public.get(name)
        if isinstance(value, str):
            return value
    return "-"


_REMARKED: Final = (
    "proposed",
    "order_kind",
    "what",
    "by_sealed",
    "entries",
    "count",
    "held",
    "retention_days",
    "sha256",
)


def _remark(public: Mapping[str, Any]) -> str:
    """Return what else an event says of itself, in the words of the log."""
    said = [f"{name}: {_said(public[name])}" for name in _REMARKED if name in public]
    if "erases" in public:
        said.append(f"data keys destroyed: {len(public['erases']['keys'])}; bodies: {public['erases']['bodies']}")
    if "prunes" in public:
        said.append(f"bodies pruned: {public['prunes']['bodies']}")  # a range has entries without one too
    return "; ".join(said)


def _said(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(str(item) for item in value[:8]) + (", …" if len(value) > 8 else "")
    return str(value)


def _count_era(found: Gathered, public: Mapping[str, Any]) -> None:
    """Keep when the epoch or the release changed; the first entry of the period says what was in force then."""
    last, epoch, release = found.newest, public["epoch"], public["release"]
    if last is not None and (epoch < last.epoch or (epoch, release) == (last.epoch, last.release)):
        return  # nothing new, or another log's entry of an epoch that had ended
    unseen = AT_THE_BEGINNING if last is None else "-"  # whoever is bounded to tenants reads no change
    era = Era(epoch, release, public["at"], public["kind"] if begins_epoch(public) else unseen)
    found.newest = era
    found.eras.add(era)
    if last is None or last.release != release:
        found.in_force.add(era)
