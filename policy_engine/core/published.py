"""Terms of the published functions (`has`, `within`, `grouped` ...) over rows that come and go.

Rules of the room: as in `core.terms`. Terms whose rows seldom change are made of those of `core.index`, and made anew
when rows come or go.
Left to others: what the functions mean (`rules.functions`), reading cells (`rules.selectors`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from policy_engine.core.columns import FREE, Cells
from policy_engine.core.index import Term as Inverted
from policy_engine.core.postings import Postings
from policy_engine.core.roles import Roles
from policy_engine.core.terms import COLLECTIONS, EVERY_ROW, SCALARS, TEXT, Column, Kinds, Term, accepting, named

Invert = Callable[[Sequence[str]], Inverted | None]
"""From a column as it is written to the term, `None` where no row has a condition."""


class HeldBy(Term):
    """The value, or one element of it, is the row's cell (`has`); a free cell asks nothing."""

    def __init__(self, position: int, column: Column, postings: Postings | None = None) -> None:
        self.position = position
        self.column = column
        self.postings = postings if postings is not None else Postings([named(cell) for cell in column.cells])
        self.weight = self.postings.weight
        self.kinds: Kinds = {position: TEXT | COLLECTIONS}

    def select(self, values: Sequence[Any]) -> int:
        value = values[self.position]
        return self.postings.of(value) if type(value) is str else self.postings.of_any(value)

    def test(self, values: Sequence[Any], slot: int) -> bool:
        cell, value = self.column.cells[slot], values[self.position]
        return cell is FREE or (cell == value if type(value) is str else cell in value)

    def changed(self, add: Mapping[int, Cells], remove: Mapping[int, Cells]) -> HeldBy:
        postings = self.postings.changed(*accepting(self.column.at, add, remove, named))
        return HeldBy(self.position, self.column.changed(add), postings)


class Grouped(Term):
    """The value, or one element of it, belongs to the row's group in one of the domains that the request names.

    `outside` turns it round for rows that have a condition, and reads one text only.
    """

    def __init__(
        self,
        positions: tuple[int, int],
        roles: int,
        column: Column,
        postings: Postings | None = None,
        *,
        outside: bool = False,
    ) -> None:
        self.positions = positions
        self.roles = roles
        self.column = column
        self.outside = outside
        self.postings = postings if postings is not None else Postings([named(cell) for cell in column.cells])
        self.weight = self.postings.weight
        value, domains = positions
        self.kinds: Kinds = {value: TEXT if outside else TEXT | COLLECTIONS, domains: COLLECTIONS}
        self.checks = (self._texts,)

    def _texts(self, values: Sequence[Any]) -> bool:
        """Return whether codes and domains are texts, as role managers need them."""
        return all(
            type(held) is str or all(type(element) is str for element in held)
            for held in (values[position] for position in self.positions)
        )

    def _groups(self, values: Sequence[Any]) -> Collection[Any]:
        value, domains = (values[position] for position in self.positions)
        roles: Roles = values[self.roles]
        codes = (value,) if type(value) is str else value
        named = self.postings.named
        return {group for code in codes for domain in domains for group in roles.among(code, domain, named())}

    def select(self, values: Sequence[Any]) -> int:
        groups = self._groups(values)
        if not self.outside:
            return self.postings.of_any(groups)
        free = self.postings.free
        return free | ~(self.postings.of_any(groups) & ~free)

    def test(self, values: Sequence[Any], slot: int) -> bool:
        cell = self.column.cells[slot]
        return cell is FREE or (cell in self._groups(values)) is not self.outside

    def changed(self, add: Mapping[int, Cells], remove: Mapping[int, Cells]) -> Grouped:
        postings = self.postings.changed(*accepting(self.column.at, add, remove, named))
        return Grouped(self.positions, self.roles, self.column.changed(add), postings, outside=self.outside)


class Made(Term):
    """A term of `core.index` over a column as it is written; `positions` are those that it reads."""

    def __init__(self, positions: Sequence[int], invert: Invert, column: Column) -> None:
        self._positions = tuple(positions)
        self._invert = invert
        self.column = column
        self._inner = invert(column.cells)
        self.weight = float(len(column.cells)) if self._inner is None else self._inner.weight
        self.kinds: Kinds = dict.fromkeys(self._positions, SCALARS | COLLECTIONS)
        self.checks = () if self._inner is None else (self._inner.readable,)

    def select(self, values: Sequence[Any]) -> int:
        return EVERY_ROW if self._inner is None else self._inner.select(values)

    def test(self, values: Sequence[Any], slot: int) -> bool:
        return bool(self.select(values) >> slot & 1)

    def changed(self, add: Mapping[int, Cells], remove: Mapping[int, Cells]) -> Made:
        return Made(self._positions, self._invert, self.column.changed(add))
