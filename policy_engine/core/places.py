"""Places: what a country or region code means, and which groups it is in at an instant.

Rules of the room:
- Codes are ISO 3166-1 alpha-2 in upper case plus `XK`, regions ISO 3166-2. A territory with its own code is its
  sovereign, HK is CN and LI is CH (15 CFR 738.3(b), 85 FR 83788, Part 738 footnote 5); that map is data.
- A code that resolves to nothing is unknown, never unrestricted. A region that does not belong to its country makes
  the place unknown, and a listed region counts whatever country stands beside it.
- The table edition in force at the instant decides; before the oldest edition the oldest is used and flagged.
Left to others: reading tables (`rules`), what a group means for a decision (the packs).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from policy_engine.core.instants import ENDLESS

UNKNOWN = "unknown"

_WHOLE_COUNTRIES: Mapping[str, str] = {
    "CN-MO": "MO",
    "CN-TW": "TW",
    "FI-01": "AX",
    "FR-971": "GP",
    "FR-972": "MQ",
    "FR-973": "GF",
    "FR-974": "RE",
    "FR-976": "YT",
    "NL-AW": "AW",
    "NL-CW": "CW",
    "NL-SX": "SX",
}
"""Regions (ISO 3166-2) that are the whole of a country code (ISO 3166-1), where no sovereign and spelling tell it."""
_REGIONS_OF: Mapping[str, str] = {country: region for region, country in _WHOLE_COUNTRIES.items()}
_PARTS: Mapping[str, str] = {"NL-BQ1": "BQ", "NL-BQ2": "BQ", "NL-BQ3": "BQ", "NO-21": "SJ", "NO-22": "SJ"}
"""Regions that are a part of a country code: whoever is there is in that country, and not the other way round."""


@dataclass(frozen=True, slots=True)
class Place:
    """A resolved place. `country` is the sovereign's code or `None`; `codes` is what group tables are asked about.

    `known` is false when the country does not resolve, or the region is no region of it.
    """

    raw: str | None
    country: str | None
    region: str | None
    known: bool
    codes: frozenset[str]


NOWHERE = Place(None, None, None, False, frozenset())
"""A place of which nothing was said."""


class Gazetteer:
    """Resolves codes. Built from the release's tables; `listed` are regions that some group table names."""

    __slots__ = ("_countries", "_listed", "_regions", "_sovereigns")

    def __init__(
        self,
        countries: Iterable[str],
        sovereigns: Mapping[str, str],
        regions: Iterable[str],
        listed: Iterable[str] = (),
    ) -> None:
        self._countries = frozenset(countries)
        self._sovereigns = dict(sovereigns)
        self._regions = frozenset(regions)
        self._listed = frozenset(listed)

    def country(self, code: str | None) -> str | None:
        """Return the sovereign's code for a country code, or `None` when it resolves to nothing."""
        if code is None:
            return None
        code = self._sovereigns.get(code, code)
        return code if code in self._countries else None

    def resolve(self, country: str | None, region: str | None = None) -> Place:
        """Return the place that a country code and an optional region code name."""
        sovereign = self.country(country)
        if region is None:
            codes = frozenset() if sovereign is None else frozenset((sovereign,))
            return Place(country, sovereign, None, sovereign is not None, codes)
        known = sovereign is not None and region in self._regions and self._belongs(country, sovereign, region)
        found = [] if sovereign is None else [sovereign]
        if known or region in self._listed:
            found.append(region)
        return Place(country, sovereign, region, known, frozenset(found))

    def names(self, country: str, region: str | None = None) -> frozenset[str]:
        """Return every code by which an order may name a place, or the country that it lies in.

        A territory has a code of its own and is a region of its sovereign as well: PR and US-PR are one place.
        """
        sovereign = self.country(country)
        found = {country, sovereign or country, region or country}
        within, _, part = (region or "").partition("-")
        if self._sovereigns.get(part) == within:
            found.add(part)
        if f"{sovereign}-{country}" in self._regions:
            found.add(f"{sovereign}-{country}")
        twins = (_WHOLE_COUNTRIES.get(region or ""), _PARTS.get(region or ""), _REGIONS_OF.get(country))
        found.update(twin for twin in twins if twin is not None)
        return frozenset(found)

    def regions_of(self, country: str) -> list[str]:
        """Return the known regions of a country, in order."""
        return sorted(region for region in self._regions if region.startswith(f"{country}-"))

    def serving(self, code: str | None) -> str | None:
        """Return the country of a serving region given as a country or an ISO 3166-2 code, or `None`."""
        if code is not None and code in self._regions:
            code = code.partition("-")[0]
        return self.country(code)

    @staticmethod
    def _belongs(country: str | None, sovereign: str, region: str) -> bool:
        return region.partition("-")[0] == country or region == f"{sovereign}-{country}"


@dataclass(frozen=True, slots=True)
class Edition:
    """One table from one instant on: which codes are in which group. `domain` is its Casbin domain."""

    domain: str
    start: int
    groups: Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class EditionsInForce:
    """What all tables say from `start` until `until`; `flags` names tables asked before their oldest edition."""

    start: int
    until: int
    domains: frozenset[str]
    groups: Mapping[str, frozenset[str]]
    flags: tuple[str, ...]


class GroupTables:
    """All group tables of a release with their editions. Group names are unique across tables (the loader's duty)."""

    __slots__ = ("_periods", "_starts", "tables")

    def __init__(self, tables: Mapping[str, tuple[Edition, ...]]) -> None:
        self.tables = {name: tuple(sorted(editions, key=lambda e: e.start)) for name, editions in tables.items()}
        starts = sorted({e.start for editions in self.tables.values() for e in editions})
        self._starts = [-ENDLESS, *starts]
        ends = [*starts, ENDLESS]
        self._periods = [self._period(start, until) for start, until in zip(self._starts, ends, strict=True)]

    def _period(self, start: int, until: int) -> EditionsInForce:
        domains: list[str] = []
        flags: list[str] = []
        groups: dict[str, frozenset[str]] = {}
        for name, editions in sorted(self.tables.items()):
            begun = [edition for edition in editions if edition.start <= start]
            edition = begun[-1] if begun else editions[0]
            if not begun:
                flags.append(f"edition-before-oldest:{name}")
            domains.append(edition.domain)
            groups.update(edition.groups)
        return EditionsInForce(start, until, frozenset(domains), groups, tuple(flags))

    def at(self, instant: int) -> EditionsInForce:
        """Return the editions in force at the instant."""
        return self._periods[bisect_right(self._starts, instant) - 1]

    @property
    def boundaries(self) -> tuple[int, ...]:
        """Return the instants at which some edition begins, in order."""
        return tuple(self._starts[1:])


class Timeline:
    """A status with dates, such as a rule that is suspended for a year; gaps answer `otherwise`."""

    __slots__ = ("_starts", "_states")

    def __init__(self, periods: Iterable[tuple[int, int, str]], *, before: str, otherwise: str) -> None:
        self._starts = [-ENDLESS]
        self._states = [before]
        for start, until, status in sorted(periods):
            if start == self._starts[-1]:
                self._states[-1] = status
            else:
                self._starts.append(start)
                self._states.append(status)
            if until < ENDLESS:
                self._starts.append(until)
                self._states.append(otherwise)

    def at(self, instant: int) -> tuple[str, int]:
        """Return the status at the instant and the instant at which the next period begins."""
        place = bisect_right(self._starts, instant)
        return self._states[place - 1], self._starts[place] if place < len(self._starts) else ENDLESS

    @property
    def boundaries(self) -> tuple[int, ...]:
        """Return the instants at which the status may change, in order."""
        return tuple(self._starts[1:])
