"""Counts by what is sealed, through keyed tags: tiers by country group, US persons, states of evidence.

No body is opened: a tag says that an entry has a value, not whom it is about. Looking by tags is a logged read all the
same, made by whoever calls. Small numbers are not shown: a group of persons about whom fewer than
`limits.small_group_decisions_count` decisions were made is said to be small, and so is each cell of its row below that;
a row with such a cell shows no total, so that no number can be had by subtraction.
Left to others: the logged read (`service`), the tables that say which countries a group has (`rules.tables`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from policy_engine.core.plain import AnyRelease, PlainRelease
from policy_engine.ledger.sealing import KeyVault, tag
from policy_engine.rules.basis import basis_of
from policy_engine.rules.tables import GroupTable
from policy_engine.services.datakeys import year_of
from policy_engine.services.releases import ReleaseLoader
from policy_engine.services.report.gathered import Gathered
from policy_engine.store.interfaces import ReadStore

EVIDENCE_STATES: Final = ("valid", "declared", "expired", "undated", "conflict", "none", "no-person", "contradictory")
US_PERSONS: Final = "US persons"
GROUPS_COUNT: Final = 60

Place = tuple[str, int]
Cells = Mapping[tuple[str, str], int]
"""Counts by row and (`tier` or) column."""


@dataclass(frozen=True, slots=True)
class Keyed:
    """What was counted: by group and tier, and by state of evidence and outcome. Countries can be in several groups."""

    groups: Cells
    evidence: Cells


def count_keyed(store: ReadStore, vault: KeyVault, loader: ReleaseLoader, found: Gathered) -> Keyed:
    """Return the counts of the decisions that were gathered. The caller has logged that it looks."""
    tagged = _Tagged(store, vault, found)
    return Keyed(_by_group(store, loader, found, tagged), _by_evidence(found, tagged))


class _Tagged:
    """Finds the decisions of a period by the value of a sealed facet."""

    def __init__(self, store: ReadStore, vault: KeyVault, found: Gathered) -> None:
        self._store = store
        self._found = found
        years = range(year_of(found.period.since), year_of(found.period.until - 1) + 1)
        self._keys = [vault.period_key(str(year)) for year in years]

    def places(self, facet: str, value: str) -> list[Place]:
        tags = [tag(key, facet, value) for key in self._keys]
        return [place for place in self._store.tagged(tags) if place in self._found.verdicts]


class _Membership:
    """Which countries were in which group of a release's tables, edition by edition."""

    def __init__(self, tables: Iterable[GroupTable]) -> None:
        self._table = {name: table for table in tables for edition in table.members for name in edition}

    def names(self) -> frozenset[str]:
        return frozenset(self._table)

    def ever(self, name: str) -> frozenset[str]:
        table = self._table.get(name)
        return frozenset[str]().union(*(edition.get(name, ()) for edition in table.members)) if table else frozenset()

    def at(self, name: str, instant: int) -> frozenset[str]:
        """Return the members at an instant; before the oldest edition those of the oldest, as decisions take it."""
        table = self._table.get(name)
        if table is None:
            return frozenset()
        return table.members[max(0, bisect_right(table.starts, instant) - 1)].get(name, frozenset())


def _by_group(store: ReadStore, loader: ReleaseLoader, found: Gathered, tagged: _Tagged) -> Cells:
    hashes = {verdict[2] for verdict, _ in found.verdicts.values() if verdict[2] is not None}
    releases = {hash: _membership(loader.stored(store, hash)) for hash in sorted(hashes)}
    names = sorted(frozenset[str]().union(*(release.names() for release in releases.values())))
    known: dict[str, list[Place]] = {}
    counts: Counter[tuple[str, str]] = Counter()
    for name in names[:GROUPS_COUNT]:
        seen: set[Place] = set()
        for country in sorted(frozenset[str]().union(*(release.ever(name) for release in releases.values()))):
            if country not in known:
                known[country] = tagged.places("counted", country)
            for place in known[country]:
                (_, tier, hash), instant = found.verdicts[place]
                if place not in seen and hash is not None and country in releases[hash].at(name, instant):
                    seen.add(place)
                    counts[name, tier] += 1
    for place in tagged.places("us_person", "yes"):
        counts[US_PERSONS, found.verdicts[place][0][1]] += 1
    return counts


def _membership(release: AnyRelease) -> _Membership:
    """Return the groups of a release's own tables; a plain Casbin folder has none."""
    basis = None if isinstance(release, PlainRelease) else basis_of(release)
    return _Membership(() if basis is None else basis.read.ground.tables.groups.values())


def _by_evidence(found: Gathered, tagged: _Tagged) -> Cells:
    counts: Counter[tuple[str, str]] = Counter()
    for state in EVIDENCE_STATES:
        for place in tagged.places("evidence", state):
            counts[state, found.verdicts[place][0][0]] += 1
    return counts


def shown_row(row: str, columns: Iterable[str], cells: Cells, least: int) -> tuple[list[str], str] | None:
    """Return the cells of a row as text and its total, small numbers withheld; `None` when the whole row is small.

    A cell of 0 is shown as 0: nobody is behind it. Where a cell is withheld, so is the total.
    """
    numbers = [cells.get((row, column), 0) for column in columns]
    total = sum(numbers)
    if total < least:
        return None
    small = [0 < number < least for number in numbers]
    texts = [f"under {least}" if hidden else f"{number:,}" for number, hidden in zip(numbers, small, strict=True)]
    return texts, "withheld" if any(small) else f"{total:,}"
