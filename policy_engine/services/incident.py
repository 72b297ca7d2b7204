"""The course of an incident, from the public log alone: each change, and what was decided under it until the next.

Rules of the room:
- A stretch is what was written under one epoch, in every log: the entry names it, so nothing is guessed from order.
- An allow of an older epoch that is dated after the change is counted apart (`late`): law 4 makes that none. A store
  dates a change later than every entry before it, in each of its logs.
- Nothing sealed is opened; who may read public parts may have this.
Left to others: who got through before an order was entered, and how persons stood under it (`services.asof`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from policy_engine.core.decision import Outcome
from policy_engine.store.interfaces import EPOCH_REGISTERS

_NAMES: Final = ("order", "switch", "proposal", "activates", "order_kind", "beyond", "proposed", "proposed_by", "by")
"""Public members of a change that say what changed, and by whom."""

_WITHIN: Final = ("proposal.", "export.unsealed")
"""How the kinds of what names a proposal begin and takes no effect by it: making, refusing and failing, and one use."""


@dataclass(slots=True)
class Stretch:
    """One epoch: the change that began it, and the decisions written under it.

    `started_at` is `None` where the change lies before what was looked at; then `kind` is empty.
    `denied_by` counts denies by the order or switch that their reasons name. `late_count` counts allows of older epochs
    that are dated after the change.
    """

    epoch: int
    kind: str = ""
    entry: str = ""
    started_at: int | None = None
    said: dict[str, Any] = field(default_factory=dict)
    allows_count: int = 0
    denies_count: int = 0
    denied_by: Counter[str] = field(default_factory=Counter)
    last_allow_at: int | None = None
    late_count: int = 0


def course(entries: Iterable[tuple[str, Mapping[str, Any]]]) -> list[Stretch]:
    """Return the stretches in the order of their epochs, from `(name, public part)` of entries in any order.

    Memory grows with the epochs and with the distinct instants of allows in an epoch, not with the entries.
    """
    found: dict[int, Stretch] = {}
    allows: dict[int, Counter[int]] = {}
    for name, public in entries:
        stretch = found.setdefault(public["epoch"], Stretch(public["epoch"]))
        if public["kind"] == "decision":
            _count(stretch, public)
            if public["outcome"] == Outcome.ALLOW:
                allows.setdefault(stretch.epoch, Counter())[public["at"]] += 1
        elif stretch.started_at is None and begins_epoch(public):
            stretch.kind, stretch.entry, stretch.started_at = public["kind"], name, public["at"]
            stretch.said = {member: public[member] for member in _NAMES if public.get(member) is not None}
    stretches = [found[epoch] for epoch in sorted(found)]
    for stretch in stretches:
        if stretch.started_at is not None:
            stretch.late_count = _late(allows, stretch.epoch, stretch.started_at)
    return stretches


def begins_epoch(public: Mapping[str, Any]) -> bool:
    """Return whether an entry is a change that raised the epoch, and not one that lies within it."""
    if any(member in public for member in ("activates", "erases", "prunes")):
        return True
    rows = public.get("rows", ())
    if any(register in EPOCH_REGISTERS for register, _ in rows):
        return True
    # Whatever a second person approved raises the epoch, a recovery too, which writes no row but its proposal's.
    return bool(rows) and "proposal" in public and not public["kind"].startswith(_WITHIN)


def _count(stretch: Stretch, public: Mapping[str, Any]) -> None:
    if public["outcome"] == Outcome.ALLOW:
        stretch.allows_count += 1
        stretch.last_allow_at = max(public["at"], stretch.last_allow_at or 0)
    else:
        stretch.denies_count += 1
        stretch.denied_by.update({order for _, _, orders in public["reasons"] for order in orders})


def _late(allows: Mapping[int, Counter[int]], epoch: int, since: int) -> int:
    """Return how many allows of older epochs are dated after an instant."""
    return sum(
        count for older, instants in allows.items() if older < epoch for at, count in instants.items() if at > since
    )
