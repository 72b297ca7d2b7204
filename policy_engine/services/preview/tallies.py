"""Counts of who loses and who gains, by tenant, region, tier, model, action and person.

Rules of the room: combinations are counted, and persons once each. What is personal is counted
apart (regions) or under one name (tenants that are individuals), so that it can be left out whole.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

LOSES: Final = "loses"
GAINS: Final = "gains"
KEEPS: Final = "keeps"
WITHOUT: Final = "without"

DIMENSIONS: Final = ("tenant", "model", "tier", "action", "region")
PERSONAL: Final = ("region",)
INDIVIDUAL: Final = "(individuals)"
UNKNOWN: Final = "(unknown)"


@dataclass(frozen=True, slots=True)
class Share:
    """How many combinations, of how many persons, lose and gain under one value of a dimension."""

    value: str
    loses: int
    gains: int
    persons_losing: int
    persons_gaining: int


@dataclass(slots=True)
class Tallies:
    """Counts of combinations by what becomes of them, and of those that lose or gain by each dimension."""

    effects: Counter[str] = field(default_factory=Counter)
    persons: dict[str, set[str]] = field(default_factory=lambda: {LOSES: set(), GAINS: set()})
    _counted: dict[str, Counter[tuple[str, str]]] = field(default_factory=dict)
    _persons: dict[tuple[str, str, str], set[str]] = field(default_factory=dict)

    def add(self, effect: str, subject: str, values: dict[str, str | None]) -> None:
        """Count a combination; one that loses or gains under each of its values."""
        self.effects[effect] += 1
        if effect not in self.persons:
            return
        self.persons[effect].add(subject)
        for dimension, value in values.items():
            name = UNKNOWN if value is None else value
            self._counted.setdefault(dimension, Counter())[effect, name] += 1
            self._persons.setdefault((dimension, effect, name), set()).add(subject)

    def shares(self, dimension: str) -> list[Share]:
        """Return the counts of a dimension, the largest first."""
        counted = self._counted.get(dimension, Counter())
        found = [
            Share(
                value,
                counted[LOSES, value],
                counted[GAINS, value],
                len(self._persons.get((dimension, LOSES, value), ())),
                len(self._persons.get((dimension, GAINS, value), ())),
            )
            for value in {value for _, value in counted}
        ]
        return sorted(found, key=lambda one: (-one.loses - one.gains, one.value))

    def by(self, *, personal: bool) -> dict[str, list[Share]]:
        """Return the counts of every dimension, without the personal ones unless they may be shown."""
        return {name: self.shares(name) for name in DIMENSIONS if personal or name not in PERSONAL}


def effect_of(before: bool, after: bool) -> str:
    """Return what becomes of a combination that is allowed before, after, both or neither."""
    if before:
        return KEEPS if after else LOSES
    return GAINS if after else WITHOUT
