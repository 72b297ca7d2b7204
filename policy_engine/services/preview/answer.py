"""What a preview hands over, in plain values: counts for everybody who may ask, names for whoever may see them.

Rules of the room: `complete` is true only when nothing was left out of any count; `notes` say in words what was
left out and what a preview cannot know. Without the right to see persons every list that names them is `None`, not
empty.
Left to others: finding out (`standing`, `recorded`), who may see what (`service`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from policy_engine.core.instants import format_instant
from policy_engine.services.preview.recorded import Day, Past
from policy_engine.services.preview.standing import Line, Standing, Undetermined
from policy_engine.services.preview.tallies import GAINS, KEEPS, LOSES, WITHOUT, Share, Tallies

STREAMS: Final = "Open streams and agent runs are not known to the engine, so they are not counted."
SEALED: Final = "Persons and regions are shown to whoever holds `audit:read`."
AT_LIMIT: Final = "It stopped at a limit, so there may be more; see docs/limits.md."
NOT_LISTED: Final = "Lists stopped at their limit; the counts did not."
PLAIN: Final = "A plain Casbin folder has no registers, so only recorded decisions are looked at."
RESIDENCE: Final = "Persons were asked from where they reside; give a location to ask all from one place."
NOTHING: Final = "Nothing takes effect at this stage: all of it waits for a second person."
OTHERWISE_COUNT: Final = 8
"""How many instants of a change are named beside the one that is shown."""
WAITS: Final = "Part of the change waits for a second person; ask for the stage `at_once` to see it without that part."


def otherwise(shown: int, others: Sequence[int]) -> list[str]:
    """Return the sentence that names the instants at which a preview of this one may not be believed."""
    if not others:
        return []
    named = ", ".join(format_instant(at) for at in others[:OTHERWISE_COUNT])
    more = len(others) - OTHERWISE_COUNT
    rest = f" and {more} more" if more > 0 else ""
    return [f"It shows {format_instant(shown)}; the change does something else from {named}{rest}."]


@dataclass(frozen=True, slots=True)
class Counts:
    """Combinations by what becomes of them, the persons who lose or gain any, and both by dimension."""

    keeps: int
    loses: int
    gains: int
    without: int
    persons_losing: int
    persons_gaining: int
    by: Mapping[str, Sequence[Share]]


@dataclass(frozen=True, slots=True)
class Fallback:
    """A model that would still serve, and how many combinations of person, tenant and action that lose it would."""

    model: str
    serves: int


@dataclass(frozen=True, slots=True)
class ByRegisters:
    """Who could use what the change reaches. `undetermined_count` are combinations of person, tenant and facts."""

    asked_count: int
    complete: bool
    models: Sequence[str]
    counts: Counts
    undetermined_count: int
    undetermined_by_fact: Mapping[str, int]
    fallbacks: Sequence[Fallback]
    unserved: int | None
    lines: Sequence[Line] | None
    undetermined: Sequence[Undetermined] | None


@dataclass(frozen=True, slots=True)
class EntryLine:
    """A recorded decision that would have come out otherwise."""

    entry: str
    effect: str
    subject: str
    tenant: str
    model: str
    action: str
    region: str | None
    reasons: Sequence[str]
    orders: Sequence[str]
    fallbacks: Sequence[str]


@dataclass(frozen=True, slots=True)
class ByRecord:
    """What the decisions of a window would have been. `closed` are those that could not be decided again."""

    since_at: int
    until_at: int
    decisions_count: int
    replayed_count: int
    complete: bool
    counts: Counts
    days: Sequence[Day]
    closed_count: int
    closed: Sequence[Mapping[str, Any]]
    lines: Sequence[EntryLine] | None


@dataclass(frozen=True, slots=True)
class Preview:
    """What a change would do. `id` is the entry of the preview itself; `recorded=None`: no days were asked for."""

    id: str
    what: str
    change: str
    stage: str
    waits: bool
    at: int
    epoch: int
    release: str
    complete: bool
    sees_persons: bool
    registers: ByRegisters
    recorded: ByRecord | None
    notes: Sequence[str]


def by_registers(found: Standing, models: Sequence[str], *, personal: bool, listed_max: int) -> ByRegisters:
    """Return what was found by the registers, with or without the persons."""
    work = found.work()
    facts = Counter(name for one in work for name in one.missing)
    losing = [line for line in found.lines if line.effect == LOSES]
    return ByRegisters(
        asked_count=found.asked_count,
        complete=found.complete,
        models=models,
        counts=counts_of(found.tallies, personal=personal),
        undetermined_count=len(work),
        undetermined_by_fact=dict(sorted(facts.items())),
        fallbacks=[Fallback(name, len(served)) for name, served in sorted(found.fallbacks.items())],
        unserved=sum(not line.fallbacks for line in losing) if found.listed else None,
        lines=found.lines[:listed_max] if personal else None,
        undetermined=work[:listed_max] if personal else None,
    )


def by_record(found: Past, *, personal: bool) -> ByRecord:
    """Return what was found of recorded decisions, with or without the persons."""
    lines = [_entry_line(name, line) for name, line in found.lines]
    return ByRecord(
        since_at=found.since_at,
        until_at=found.until_at,
        decisions_count=found.decisions_count,
        replayed_count=found.replayed_count,
        complete=found.complete and not found.closed,
        counts=counts_of(found.tallies, personal=personal),
        days=[day for _, day in sorted(found.days.items())],
        closed_count=len(found.closed),
        closed=found.closed[:100],
        lines=lines if personal else None,
    )


def counts_of(tallies: Tallies, *, personal: bool) -> Counts:
    """Return counts as they are handed over."""
    return Counts(
        keeps=tallies.effects[KEEPS],
        loses=tallies.effects[LOSES],
        gains=tallies.effects[GAINS],
        without=tallies.effects[WITHOUT],
        persons_losing=len(tallies.persons[LOSES]),
        persons_gaining=len(tallies.persons[GAINS]),
        by=tallies.by(personal=personal),
    )


def _entry_line(entry: str, line: Line) -> EntryLine:
    return EntryLine(
        entry=entry,
        effect=line.effect,
        subject=line.subject,
        tenant=line.tenant,
        model=line.model,
        action=line.action,
        region=line.region,
        reasons=line.reasons,
        orders=line.orders,
        fallbacks=line.fallbacks,
    )
