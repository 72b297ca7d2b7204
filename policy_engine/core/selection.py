"""A selection: the rows that a conjunction of keys and terms lets pass, in the order of their places.

Rules of the room:
- The lookup is asked first. If it leaves few rows, each is tested by what is left of the terms; if many, terms narrow
  them all at once as bits, and only what is inexact is tested row by row, lazily, so that whoever stops early pays for
  no more rows than a scan would have visited.
- Nothing is asked of values whose types `kinds` does not name.
Left to others: what the effect makes of the rows (`core.effects`), building terms (`rules.selectors`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from policy_engine.core.columns import FREE, Cells, Key
from policy_engine.core.effects import Leaf, Words
from policy_engine.core.lookup import Enough, Found, Lookup
from policy_engine.core.postings import spread
from policy_engine.core.terms import COLLECTIONS, SCALARS, Selector, merged_kinds

_TESTED_ROWS_COUNT = 24
"""Up to so many rows are tested one by one rather than narrowed as bits."""
Tests = tuple[Selector, ...]
Columns = Sequence[Sequence[Any]]


class Selection:
    """Rows of one group. `keys` name the lookup's columns by their place among a row's cells.

    `positions` are those of the values that rows are found by, graphs of roles aside. `name` tells this selection from
    all others to whoever remembers its answers, who would else keep its rows for as long.
    """

    __slots__ = (
        "_checks",
        "_collections",
        "_inexact",
        "_kinds",
        "_live",
        "_lookup",
        "_terms",
        "keys",
        "name",
        "positions",
        "whole",
    )

    def __init__(
        self, keys: Sequence[tuple[Key, int]], terms: Sequence[Selector], columns: Columns, count: int, words: Words
    ) -> None:
        self.keys = tuple(keys)
        self.name = object()
        self._lookup = None
        if self.keys:
            kept = [columns[at] if key.plain else [_kept(key, cell) for cell in columns[at]] for key, at in self.keys]
            self._lookup = Lookup([key for key, _ in self.keys], kept, words)
        self._live = (1 << count) - 1 if self._lookup is None else 0
        self._kinds = tuple(merged_kinds((*[key for key, _ in self.keys], *terms)).items())
        self.positions = tuple(position for position, _ in self._kinds)
        self._collections = tuple(position for position, types in self._kinds if types & COLLECTIONS)
        self._set_terms(terms)

    def _set_terms(self, terms: Sequence[Selector]) -> None:
        self._terms = tuple(sorted(terms, key=lambda term: term.weight))
        self._inexact = tuple(term for term in self._terms if not term.exact)
        self._checks = tuple(check for term in terms for check in term.checks)
        self.whole = not terms and self._lookup is not None

    def readable(self, values: Sequence[Any]) -> bool:
        """Return whether every value is of a type that keys and terms can read."""
        for position, types in self._kinds:
            if type(values[position]) not in types:
                return False
        for position in self._collections:
            if type(values[position]) in COLLECTIONS and not SCALARS.issuperset(map(type, values[position])):
                return False
        return not self._checks or all(check(values) for check in self._checks)

    def leaves(self, values: Sequence[Any], enough: Enough | None = None) -> list[Leaf]:
        """Return the leaves of the rows that pass, or the first that are `enough`; only where `whole` is true."""
        return [] if self._lookup is None else self._lookup.leaves(values, enough)

    def find(self, values: Sequence[Any]) -> tuple[Found, Tests]:
        """Return places, ascending or as bits, and the terms that each of them must still be tested by."""
        found: Found = self._live if self._lookup is None else self._lookup.find(values)
        if isinstance(found, tuple) and (len(found) <= _TESTED_ROWS_COUNT or not self._terms):
            return found, self._terms
        bits = spread(found) if isinstance(found, tuple) else found
        for term in self._terms:
            bits &= term.select(values)
            if not bits:
                return (), ()
        return bits, self._inexact

    def changed(
        self, terms: Sequence[Selector], add: Mapping[int, Cells], remove: Mapping[int, Cells], words: Words
    ) -> Selection:
        """Return the selection with rows added behind all others, and rows removed; `terms` are changed already."""
        copy = object.__new__(Selection)
        copy.keys, copy.positions, copy.name = self.keys, self.positions, object()
        copy._kinds, copy._collections = self._kinds, self._collections
        copy._lookup = self._lookup
        if self._lookup is not None:
            copy._lookup = self._lookup.changed(self._keyed(add), self._keyed(remove), words)
        copy._live = self._live & ~spread(list(remove)) | spread(list(add)) if self._lookup is None else 0
        copy._set_terms(terms)
        return copy

    def _keyed(self, rows: Mapping[int, Cells]) -> dict[int, Cells]:
        return {place: tuple([_kept(key, cells[at]) for key, at in self.keys]) for place, cells in rows.items()}


def _kept(key: Key, cell: Any) -> Any:
    return FREE if cell is FREE else key.cell(cell)
