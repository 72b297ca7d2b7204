"""Counts by what is sealed, through keyed tags: tiers by country group, US persons, states of evidence.

No body is opened: a tag says that an entry has a value, not whom it is about. Looking by tags is a logged read all the
same, made by whoever calls. Small numbers are not shown: a group of persons about whom fewer than
`limits.small_group_decisions_count` decisions were made is said to be small, and so is each cell of its row below that.
No small number can be had by subtraction either: a row with such a cell shows no total; of two groups of which one
holds the other and a few decisions more, the smaller shows no number; and where all states of evidence that are shown
leave a few of the allows or denies that have any, the least of those that are shown is not.
What was erased or pruned has no tags any more, so how many decisions that are is said with the counts.
Left to others: the logged read (`service`), the tables that say which countries a group has (`rules.tables`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Final

from policy_engine.core.plain import AnyRelease, PlainRelease
from policy_engine.ledger.sealing import KeyVault, tag
from policy_engine.rules.basis import basis_of
from policy_engine.rules.tables import GroupTable
from policy_engine.services.datakeys import year_of
from policy_engine.services.releases import ReleaseLoader
from policy_engine.services.report.gathered import Gathered
from policy_engine.services.report.gone import Gone, gone_of
from policy_engine.store.interfaces import ReadStore

EVIDENCE_STATES: Final = ("valid", "declared", "expired", "undated", "conflict", "none", "no-person", "contradictory")
US_PERSONS: Final = "US persons"
GROUPS_COUNT: Final = 60
WITHHELD: Final = "withheld"

Place = tuple[str, int]
Cells = Mapping[tuple[str, str], int]
"""Counts by row and (`tier` or) column."""

Groups = tuple[Cells, frozenset[tuple[str, str]]]


@dataclass(frozen=True, slots=True)
class Keyed:
    """What was counted: by group and tier, and by state of evidence and outcome. Countries can be in several groups.

    `withheld` are cells of groups that would tell of a few persons by what another group has more,
    `evidence_withheld` those of states that would by what is left of all of them. `gone` are decisions that no count
    has because their tags went with their sealed parts; `stateless` are those that are there and have no state.
    """

    groups: Cells
    withheld: frozenset[tuple[str, str]]
    evidence: Cells
    evidence_withheld: frozenset[tuple[str, str]]
    gone: Gone
    stateless: int


def count_keyed(store: ReadStore, vault: KeyVault, loader: ReleaseLoader, found: Gathered, least: int) -> Keyed:
    """Return the counts of the decisions that were gathered. The caller has logged that it looks."""
    tagged = _Tagged(store, vault, found)
    groups, withheld = _by_group(store, loader, found, tagged, least)
    evidence = _by_evidence(found, tagged)
    gone = gone_of(store, found)  # after the tags were read: what goes meanwhile is in both, and missing nowhere
    stateless = max(0, found.decisions - gone.told - sum(evidence.values()))
    return Keyed(groups, withheld, evidence, frozenset(_told_by_the_rest(evidence, least)), gone, stateless)


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
        self._starts = sorted({start for table in self._table.values() for start in table.starts}) or [0]

    def names(self) -> frozenset[str]:
        return frozenset(self._table)

    def countries(self) -> frozenset[str]:
        tables = self._table.values()
        return frozenset(
            code for table in tables for edition in table.members for codes in edition.values() for code in codes
        )

    def edition(self, instant: int) -> int:
        """Return the start of the stretch around an instant in which no table changes."""
        return self._starts[max(0, bisect_right(self._starts, instant) - 1)]

    def at(self, name: str, instant: int) -> frozenset[str]:
        """Return the members at an instant; before the oldest edition those of the oldest, as decisions take it."""
        table = self._table.get(name)
        if table is None:
            return frozenset()
        return table.members[max(0, bisect_right(table.starts, instant) - 1)].get(name, frozenset())


@dataclass(frozen=True, slots=True)
class Alike:
    """What decisions have in common for counting by group: countries, tier, and whose tables of which instant count."""

    countries: frozenset[str]
    tier: str
    release: str | None
    instant: int


def _by_group(store: ReadStore, loader: ReleaseLoader, found: Gathered, tagged: _Tagged, least: int) -> Groups:
    hashes = {verdict[2] for verdict, _ in found.verdicts.values() if verdict[2] is not None}
    releases = {hash: _membership(loader.stored(store, hash)) for hash in sorted(hashes)}
    names = sorted(frozenset[str]().union(*(release.names() for release in releases.values())))[:GROUPS_COUNT]
    counts: Counter[tuple[str, str]] = Counter()
    parts: dict[str, set[Alike]] = {}
    alike = _alike(found, releases, tagged)
    for name in names:
        parts[name] = {
            one
            for one in alike
            if one.release is not None and one.countries & releases[one.release].at(name, one.instant)
        }
        for one in parts[name]:
            counts[name, one.tier] += alike[one]
    for place in tagged.places("us_person", "yes"):
        counts[US_PERSONS, found.verdicts[place][0][1]] += 1
    return counts, frozenset(_told_by_difference(parts, alike, least))


def _alike(found: Gathered, releases: Mapping[str, _Membership], tagged: _Tagged) -> Counter[Alike]:
    """Return how many decisions there are of each sort. Countries are found by their tags, one after another."""
    countries = sorted(frozenset[str]().union(*(release.countries() for release in releases.values())))
    masks: dict[Place, int] = {}
    for bit, country in enumerate(countries):
        for place in tagged.places("counted", country):
            masks[place] = masks.get(place, 0) | 1 << bit
    counted: Counter[tuple[int, str, str | None, int]] = Counter()
    for place, mask in masks.items():
        (_, tier, hash), instant = found.verdicts[place]
        counted[mask, tier, hash, 0 if hash is None else releases[hash].edition(instant)] += 1
    return Counter(
        {
            Alike(frozenset(c for bit, c in enumerate(countries) if mask >> bit & 1), tier, hash, instant): count
            for (mask, tier, hash, instant), count in counted.items()
        }
    )


def _told_by_difference(
    parts: Mapping[str, set[Alike]], alike: Counter[Alike], least: int
) -> Iterator[tuple[str, str]]:
    """Yield `(group, tier)` to withhold: another group has all of its decisions and only a few more."""
    tiers = {one.tier for one in alike}
    for inner, outer in permutations(parts, 2):
        for tier in tiers:
            smaller = {one for one in parts[inner] if one.tier == tier}
            larger = {one for one in parts[outer] if one.tier == tier}
            if smaller < larger and sum(alike[one] for one in larger - smaller) < least:
                yield inner, tier


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


def _told_by_the_rest(evidence: Cells, least: int) -> Iterator[tuple[str, str]]:
    """Yield `(state, outcome)` to withhold: without it, what is shown would leave a few decisions of that outcome.

    How many have any state is known to whoever reads the report: it says how many have none, and how many are gone.
    """
    outcomes: Counter[str] = Counter()
    for (_, outcome), number in evidence.items():
        outcomes[outcome] += number
    large = {
        state for state in EVIDENCE_STATES if sum(evidence.get((state, outcome), 0) for outcome in outcomes) >= least
    }
    for outcome, count in outcomes.items():
        shown = {state: evidence.get((state, outcome), 0) for state in large}
        shown = {state: number for state, number in shown.items() if number >= least}
        if shown and 0 < count - sum(shown.values()) < least:
            yield min(shown, key=lambda state: (shown[state], state)), outcome


def shown_row(
    row: str, columns: Sequence[str], cells: Cells, least: int, withheld: Container[tuple[str, str]] = ()
) -> tuple[list[str], str] | None:
    """Return the cells of a row as text and its total, small numbers withheld; `None` when the whole row is small.

    A cell of 0 is shown as 0: nobody is behind it. Where a cell is withheld, so is the total.
    """
    numbers = [cells.get((row, column), 0) for column in columns]
    total = sum(numbers)
    if total < least:
        return None
    texts = [
        f"under {least}" if 0 < number < least else WITHHELD if (row, column) in withheld else f"{number:,}"
        for number, column in zip(numbers, columns, strict=True)
    ]
    whole = all(text == f"{number:,}" for text, number in zip(texts, numbers, strict=True))
    return texts, f"{total:,}" if whole else WITHHELD
