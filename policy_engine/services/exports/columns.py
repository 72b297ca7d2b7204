"""The columns of a table of entries: one row an entry, and no public member lost. Pure.

Members that decisions and changes share have columns of their own; what has none stands in `other`, as JSON. So a row
gives the entry's members back. Lists are JSON texts in CSV and XLSX and real lists in Parquet; instants are RFC 3339
text there and timestamps here.
Left to others: cells that are safe to show (`neutral`), files (`textfiles`, `sheets`, `parquet`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

import orjson

from policy_engine.core.instants import format_instant


class Kind(StrEnum):
    """What a column holds. Any column may be empty: not every kind of entry has every member."""

    TEXT = "text"
    NUMBER = "number"
    INSTANT = "instant"
    FLAG = "flag"
    TEXTS = "texts"
    REASONS = "reasons"


@dataclass(frozen=True, slots=True)
class Column:
    """One column: the member it shows, and what that holds."""

    name: str
    kind: Kind


COLUMNS: Final = (
    Column("log", Kind.TEXT),
    Column("seq", Kind.NUMBER),
    Column("at", Kind.INSTANT),
    Column("kind", Kind.TEXT),
    Column("id", Kind.TEXT),
    Column("outcome", Kind.TEXT),
    Column("action", Kind.TEXT),
    Column("model", Kind.TEXT),
    Column("asked", Kind.TEXT),
    Column("tier", Kind.NUMBER),
    Column("tenant", Kind.TEXT),
    Column("reasons", Kind.REASONS),
    Column("rules", Kind.TEXTS),
    Column("lifted", Kind.TEXTS),
    Column("licences", Kind.TEXTS),
    Column("missing", Kind.TEXTS),
    Column("flags", Kind.TEXTS),
    Column("reached", Kind.FLAG),
    Column("instant", Kind.INSTANT),
    Column("until", Kind.INSTANT),
    Column("by", Kind.TEXT),
    Column("epoch", Kind.NUMBER),
    Column("release", Kind.TEXT),
    Column("clock", Kind.TEXT),
    Column("commit", Kind.TEXT),
    Column("sealed", Kind.TEXT),
    Column("v", Kind.NUMBER),
    Column("other", Kind.TEXT),
)
"""All columns, in order. New ones come last before `other`; none is renamed."""

OTHER: Final = len(COLUMNS) - 1
_TYPES: Final[Mapping[Kind, type[Any]]] = {
    Kind.TEXT: str,
    Kind.NUMBER: int,
    Kind.INSTANT: int,
    Kind.FLAG: bool,
    Kind.TEXTS: list,
    Kind.REASONS: list,
}


def row_of(public: Mapping[str, Any]) -> list[Any]:
    """Return the values of an entry's columns, as the log holds them; `None` where it has no such member.

    A member that does not hold what its column does (an entry of a later version) goes to `other`, never lost.
    """
    row: list[Any] = [None] * len(COLUMNS)
    left: dict[str, Any] = {}
    for name, value in public.items():
        place, kind = _PLACES.get(name, _NOWHERE)
        if place == OTHER:
            left[name] = value
        elif value is None:
            if not _may_be_null(name, public):
                left[name] = None
        elif _holds(kind, value):
            row[place] = value
        else:
            left[name] = value
    if left:
        row[OTHER] = orjson.dumps(left, option=orjson.OPT_SORT_KEYS).decode()
    return row


_PLACES: Final = {column.name: (place, column.kind) for place, column in enumerate(COLUMNS[:OTHER])}
_NOWHERE: Final = (OTHER, Kind.TEXT)

_NULLABLE: Final = frozenset({"action", "tenant", "model", "tier", "until", "release"})
"""Members of decisions that may be null: an empty cell means null there, and no member anywhere else."""


def _may_be_null(name: str, public: Mapping[str, Any]) -> bool:
    """Return whether an empty cell says that a member of this name is null; else it is kept in `other`."""
    return name == "release" or (public.get("kind") == "decision" and name in _NULLABLE)


def _holds(kind: Kind, value: Any) -> bool:
    if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind is not Kind.FLAG):
        return False
    if kind is Kind.TEXTS:
        return all(type(item) is str for item in value)
    return kind is not Kind.REASONS or all(_is_reason(item) for item in value)


def _is_reason(item: Any) -> bool:
    if type(item) is not list or len(item) != 3:
        return False
    rule, code, orders = item
    return (
        (rule is None or type(rule) is str)
        and type(code) is str
        and type(orders) is list
        and all(type(order) is str for order in orders)
    )


def members_of(row: Sequence[Any]) -> dict[str, Any]:
    """Return the public members that `row_of` made a row of: the way back."""
    found: dict[str, Any] = {} if row[OTHER] is None else orjson.loads(row[OTHER])
    decision = row[_KIND] == "decision"
    for value, column in zip(row, COLUMNS[:OTHER], strict=False):
        absent = column.name == "release" or (decision and column.name in _NULLABLE)
        if value is not None or (absent and column.name not in found):
            found[column.name] = value
    return found


_KIND: Final = next(place for place, column in enumerate(COLUMNS) if column.name == "kind")


def cell_of(column: Column, value: Any) -> str | int | None:
    """Return a value as a spreadsheet shows it: a number, a text, or nothing."""
    if value is None or column.kind is Kind.TEXT or column.kind is Kind.NUMBER:
        return value  # type: ignore[no-any-return]  # a text, a whole number, or nothing
    if column.kind is Kind.INSTANT:
        return _instant(value)
    if column.kind is Kind.FLAG:
        return "true" if value else "false"
    return orjson.dumps(value).decode()


@lru_cache(4_096)
def _instant(at: int) -> str:
    return format_instant(at) if -_SHOWN_MAX < at < _SHOWN_MAX else str(at)


_SHOWN_MAX: Final = 60_000_000_000 * 1_000_000
"""Instants beyond the year 3870 are written as their number: a calendar text would overflow some day."""
