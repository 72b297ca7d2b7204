"""Tables of a release: country groups with dated editions, embargoes, sovereigns, codes, and a rule with dates.

Rules of the room:
- `*.csv`, UTF-8, a header line, every cell written out; dates are `YYYY-MM-DD` (00:00Z) or RFC 3339.
- A table whose columns are `country,group,effective_from,effective_to` holds groups; one row a membership, start
  included, end excluded, an empty end is open. Its editions begin at its distinct dates; each has its source in
  `editions.csv`. Its name is the file's name without `_groups`; an edition is a Casbin domain such as `ear@2026-07-23`.
- Refused: a row of another length, a repeated or overlapping row, a code that no code table knows, a group name that
  two tables share or that is a code, an edition without source and a source without edition.
Left to others: set expressions over groups (`rules.groups`), what a group means (the packs).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from policy_engine.core.instants import DAY, ENDLESS, format_instant, parse_instant
from policy_engine.errors import LoadRefused
from policy_engine.limits import Limits
from policy_engine.rules.sources import decode

FOLDER: Final = "tables/"
GROUP_COLUMNS: Final = ("country", "group", "effective_from", "effective_to")
STATUS_COLUMNS: Final = ("status", "effective_from", "effective_to")
_FIXED: Final = {
    "countries.csv": ("code",),
    "regions.csv": ("code",),
    "sovereigns.csv": ("code", "sovereign"),
    "affiliates_rule.csv": STATUS_COLUMNS,
    "editions.csv": ("table", "effective_from", "source"),
}
_COUNTRY = re.compile(r"[A-Z]{2}")
_REGION = re.compile(r"[A-Z]{2}-[A-Z0-9]{1,3}")
_GROUP = re.compile(r"[A-Za-z][A-Za-z0-9:_]*")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: where it stands and its cells by column."""

    where: str
    cells: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Span:
    """What holds from `start` until `until`."""

    start: int
    until: int
    value: str


@dataclass(frozen=True, slots=True)
class GroupTable:
    """A table of groups: name, edition starts in order, and each group's members at each edition."""

    name: str
    starts: tuple[int, ...]
    members: tuple[Mapping[str, frozenset[str]], ...]

    def domain(self, edition: int) -> str:
        """Return the Casbin domain of an edition."""
        return f"{self.name}@{date_text(self.starts[edition])}"


@dataclass(frozen=True, slots=True)
class Tables:
    """All tables of a release. `sources` are (table, start or empty) -> source."""

    groups: Mapping[str, GroupTable]
    codes: frozenset[str]
    regions: frozenset[str]
    sovereigns: Mapping[str, str]
    affiliates: tuple[Span, ...]
    sources: Mapping[tuple[str, str], str]

    @property
    def listed_countries(self) -> frozenset[str]:
        """Return the countries that some group table has a row for: only these resolve."""
        return frozenset(code for code in self._listed() if "-" not in code)

    @property
    def listed_regions(self) -> frozenset[str]:
        """Return the regions that some group table has a row for."""
        return frozenset(code for code in self._listed() if "-" in code)

    def _listed(self) -> Iterable[str]:
        return (
            code
            for table in self.groups.values()
            for edition in table.members
            for codes in edition.values()
            for code in codes
        )


def read_tables(files: Mapping[str, bytes], limits: Limits) -> Tables:
    """Return the tables among a release's files. Raises `LoadRefused` with file, line and a fix."""
    rows: dict[str, list[Row]] = {}
    grouped: dict[str, list[Row]] = {}
    for path in sorted(path for path in files if path.startswith(FOLDER)):
        name = path.removeprefix(FOLDER)
        columns = _FIXED.get(name, GROUP_COLUMNS)
        lines = _read_rows(path, decode(path, files[path], limits.table_bytes), columns)
        if name in _FIXED:
            rows[name] = lines
        else:
            grouped[name.removesuffix(".csv").removesuffix("_groups")] = lines
    countries = _codes(rows.get("countries.csv", []), _COUNTRY, "an ISO 3166-1 alpha-2 code in upper case")
    regions = _codes(rows.get("regions.csv", []), _REGION, "an ISO 3166-2 code in upper case")
    tables = {name: _group_table(name, found, countries | regions) for name, found in grouped.items()}
    _refuse_clashes(tables, countries | regions)
    affiliates = _statuses(rows.get("affiliates_rule.csv", []))
    starts = {name: [date_text(start) for start in table.starts] for name, table in tables.items()}
    starts["affiliates_rule"] = [date_text(span.start) for span in affiliates]
    starts.update({name: [""] for name in ("countries", "regions", "sovereigns") if f"{name}.csv" in rows})
    sources = _sources(rows.get("editions.csv", []), starts)
    found = Tables(tables, countries | regions, regions, {}, affiliates, sources)
    return replace(found, sovereigns=_sovereigns(rows.get("sovereigns.csv", []), countries, found.listed_countries))


def date_text(instant: int) -> str:
    """Return `YYYY-MM-DD` for a 00:00Z instant, else RFC 3339."""
    text = format_instant(instant)
    return text[:10] if instant % DAY == 0 else text


def _read_rows(path: str, text: str, columns: tuple[str, ...]) -> list[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    found: list[Row] = []
    seen: dict[tuple[str, ...], int] = {}
    try:
        header = next(reader, [])
        if tuple(header) != columns:
            raise LoadRefused(f"the header must be `{','.join(columns)}`", where=f"{path}:1")
        for cells in reader:
            where = f"{path}:{reader.line_num}"
            if len(cells) != len(columns):
                message = f"the row has {len(cells)} cells where the header has {len(columns)}; correct its arity"
                raise LoadRefused(message, where=where)
            if any(cell != cell.strip() for cell in cells):
                raise LoadRefused("a cell begins or ends with a space; remove it", where=where)
            first = seen.setdefault(tuple(cells), reader.line_num)
            if first != reader.line_num:
                raise LoadRefused(f"the row repeats line {first}; remove one", where=where)
            found.append(Row(where, dict(zip(columns, cells, strict=True))))
    except csv.Error:
        raise LoadRefused(
            "the quotes of this row do not close; correct them", where=f"{path}:{reader.line_num}"
        ) from None
    return found


def _codes(rows: list[Row], pattern: re.Pattern[str], wanted: str) -> frozenset[str]:
    for row in rows:
        if not pattern.fullmatch(row.cells["code"]):
            raise LoadRefused(f"the code is not {wanted}", where=row.where)
    return frozenset(row.cells["code"] for row in rows)


def _span(row: Row, value: str) -> Span:
    cells = row.cells
    try:
        start = parse_instant(cells["effective_from"])
        until = parse_instant(cells["effective_to"]) if cells["effective_to"] else ENDLESS
    except ValueError:
        raise LoadRefused("a date is written YYYY-MM-DD or as RFC 3339 with a zone", where=row.where) from None
    if until <= start:
        raise LoadRefused("the interval ends before it starts; exchange or correct the dates", where=row.where)
    return Span(start, until, value)


def _group_table(name: str, rows: list[Row], codes: frozenset[str]) -> GroupTable:
    if not rows:
        raise LoadRefused(
            "the table has no rows; an empty set restricts nobody. Remove the file", where=f"{FOLDER}{name}"
        )
    spans: dict[tuple[str, str], list[Span]] = {}
    for row in rows:
        code, group = row.cells["country"], row.cells["group"]
        if code not in codes:
            message = f"the code `{code}` is in neither countries.csv nor regions.csv; correct or add it"
            raise LoadRefused(message, where=row.where)
        if not _GROUP.fullmatch(group):
            raise LoadRefused("a group's name is letters, digits, `:` and `_`", where=row.where)
        span = _span(row, code)
        held = spans.setdefault((code, group), [])
        if any(span.start < other.until and other.start < span.until for other in held):
            raise LoadRefused(
                "the row overlaps another of the same code and group; join or separate them", where=row.where
            )
        held.append(span)
    every = [span for held in spans.values() for span in held]
    last = max(span.start for span in every)
    starts = sorted({span.start for span in every} | {span.until for span in every if span.until < ENDLESS})
    members = [_members(spans, start) for start in starts]
    if not members[-1]:
        raise LoadRefused(f"every row ends; the edition after {date_text(last)} would be empty", where=rows[-1].where)
    return GroupTable(name, tuple(starts), tuple(members))


def _members(spans: Mapping[tuple[str, str], list[Span]], at: int) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for (code, group), held in spans.items():
        if any(span.start <= at < span.until for span in held):
            found.setdefault(group, set()).add(code)
    return {group: frozenset(codes) for group, codes in found.items()}


def _refuse_clashes(tables: Mapping[str, GroupTable], codes: frozenset[str]) -> None:
    owners: dict[str, str] = {}
    for name, table in tables.items():
        for group in {group for edition in table.members for group in edition}:
            other = owners.setdefault(group, name)
            if other != name:
                message = f"the group `{group}` is in the tables `{other}` and `{name}`; rename one"
                raise LoadRefused(message, where=f"{FOLDER}{name}")
            if group in codes:
                message = f"the group `{group}` has the name of a country or region; rename it"
                raise LoadRefused(message, where=f"{FOLDER}{name}")


def _statuses(rows: list[Row]) -> tuple[Span, ...]:
    spans: list[Span] = []
    for row in rows:
        status = row.cells["status"]
        if status not in ("in_force", "suspended"):
            raise LoadRefused("the status is `in_force` or `suspended`", where=row.where)
        span = _span(row, status)
        if spans and span.start != spans[-1].until:
            raise LoadRefused("the row does not begin where the one before it ends; leave no gap", where=row.where)
        spans.append(span)
    if spans and spans[-1].until != ENDLESS:
        raise LoadRefused("the last row must be open; leave its effective_to empty", where=rows[-1].where)
    return tuple(spans)


def _sources(rows: list[Row], starts: Mapping[str, list[str]]) -> dict[tuple[str, str], str]:
    sources: dict[tuple[str, str], str] = {}
    for row in rows:
        table, start, source = row.cells["table"], row.cells["effective_from"], row.cells["source"]
        if table not in starts or start not in starts[table]:
            message = f"there is no edition `{table}@{start}`; write the table and date as the table has them"
            raise LoadRefused(message, where=row.where)
        if (table, start) in sources:
            raise LoadRefused(f"the edition of `{table}` has two sources; keep one", where=row.where)
        if not source:
            raise LoadRefused("the source is empty; say where the edition comes from", where=row.where)
        sources[table, start] = source
    missing = [(table, start) for table, dates in starts.items() for start in dates if (table, start) not in sources]
    if missing:
        message = f"the edition `{'@'.join(missing[0])}` has no source; add a row"
        raise LoadRefused(message, where=f"{FOLDER}editions.csv")
    return sources


def _sovereigns(rows: list[Row], countries: frozenset[str], listed: frozenset[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for row in rows:
        code, sovereign = row.cells["code"], row.cells["sovereign"]
        if code not in countries:
            raise LoadRefused(f"the code `{code}` is not in countries.csv; correct or add it", where=row.where)
        if code in found:
            raise LoadRefused(f"the code `{code}` has two sovereigns; keep one", where=row.where)
        if code in listed:
            raise LoadRefused(f"`{code}` has rows of its own in a group table; keep one of the two", where=row.where)
        if sovereign not in listed:
            raise LoadRefused(f"the sovereign `{sovereign}` has no row in a group table; correct it", where=row.where)
        found[code] = sovereign
    return found
