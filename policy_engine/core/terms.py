"""Terms of general matchers: conditions over rows that are found from the request's values, without a scan.

Rules of the room:
- `select` gives the rows that may match, as bits; where `exact` is false it may give too many, never too few, and
  `test` settles each row. `select` may give bits of rows that do not exist; the caller cuts them off.
- `kinds` are the types that a term can read at each position of the request's values. For a value of any other type
  nothing here may be asked: what Casbin would do with it is Casbin's to say.
- Nothing is kept between requests. Frozen: a change returns another term.
Left to others: terms of the published functions (`core.index`), what a matcher's text means (`rules.selectors`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address
from operator import ge, gt, le, lt
from typing import Any, Final, Protocol

from policy_engine.core.columns import FREE, Cells
from policy_engine.core.postings import Postings, spread

SCALARS: Final[frozenset[type]] = frozenset((str, int, float, bool, type(None)))
TEXT: Final[frozenset[type]] = frozenset((str,))
NUMBERS: Final[frozenset[type]] = frozenset((int, float, bool))
COLLECTIONS: Final[frozenset[type]] = frozenset((list, tuple, set, frozenset))
ADDRESSES: Final[frozenset[type]] = frozenset((IPv4Address, IPv6Address))
EVERY_ROW: Final = -1
Kinds = Mapping[int, frozenset[type]]
Check = Callable[[Sequence[Any]], bool]
"""Says whether a term can read the values, where their types do not tell."""

_CUMULATIVE_BYTES: Final = 4_194_304
"""What the cumulative bits of one `Compared` may take; beyond it they are coarse and rows are tested."""


class Reading(Protocol):
    """What reads values of some types."""

    @property
    def kinds(self) -> Kinds: ...


class Selector(Protocol):
    """One condition over rows; `exact`: `select` never gives a row too many."""

    exact: bool

    @property
    def weight(self) -> float:
        """How many rows the term lets pass, about; the narrowest is asked first."""
        ...

    @property
    def kinds(self) -> Kinds:
        """The types that the term can read, by position."""
        ...

    @property
    def checks(self) -> tuple[Check, ...]:
        """What else must hold of values before the term may be asked."""
        ...

    def select(self, values: Sequence[Any]) -> int:
        """Return the rows that may match, as bits."""
        ...

    def test(self, values: Sequence[Any], slot: int) -> bool:
        """Return whether one row matches."""
        ...

    def changed(self, add: Mapping[int, Cells], remove: Mapping[int, Cells]) -> Selector:
        """Return the term with rows added behind all others, and rows removed."""
        ...


class Column:
    """One cell a row, by slot; `at` is its place in a row's cells. A change shares the list until it is written."""

    __slots__ = ("at", "cells")

    def __init__(self, at: int, cells: list[Any]) -> None:
        self.at = at
        self.cells = cells

    def changed(self, add: Mapping[int, Cells]) -> Column:
        """Return the column with rows added behind. Cells of rows that are gone stay, and nobody asks for them."""
        return Column(self.at, self.cells + [row[self.at] for row in add.values()]) if add else self


class Term:
    """What the terms share: nothing to check beside types."""

    exact = True
    checks: tuple[Check, ...] = ()


class Equals(Term):
    """The value equals the row's cell; a free cell asks nothing."""

    def __init__(self, position: int, column: Column, postings: Postings | None = None) -> None:
        self.position = position
        self.column = column
        self.postings = postings if postings is not None else Postings([named(cell) for cell in column.cells])
        self.weight = self.postings.weight
        self.kinds: Kinds = {position: SCALARS}

    def select(self, values: Sequence[Any]) -> int:
        return self.postings.of(values[self.position])

    def test(self, values: Sequence[Any], slot: int) -> bool:
        cell = self.column.cells[slot]
        return cell is FREE or bool(cell == values[self.position])

    def changed(self, add: Mapping[int, Cells], remove: Mapping[int, Cells]) -> Equals:
        postings = self.postings.changed(*accepting(self.column.at, add, remove, named))
        return Equals(self.position, self.column.changed(add), postings)


def named(cell: Any) -> frozenset[Any] | None:
    """Return what a row with this cell accepts: the cell, or anything."""
    return None if cell is FREE else frozenset((cell,))


def accepting(
    at: int, add: Mapping[int, Cells], remove: Mapping[int, Cells], read: Callable[[Any], frozenset[Any] | None]
) -> tuple[dict[int, frozenset[Any] | None], dict[int, frozenset[Any] | None]]:
    """Return what rows added and rows removed accept in one column."""
    return {slot: read(row[at]) for slot, row in add.items()}, {slot: read(row[at]) for slot, row in remove.items()}


class ElementOf(Term):
    """The value is an element of the row's cell, a tuple (`r.x in ("a", "b")`)."""

    def __init__(self, position: int, column: Column, postings: Postings | None = None) -> None:
        self.position = position
        self.column = column
        self.postings = postings if postings is not None else Postings([frozenset(cell) for cell in column.cells])
        self.weight = self.postings.weight
        self.kinds: Kinds = {position: SCALARS}

    def select(self, values: Sequence[Any]) -> int:
        return self.postings.of(values[self.position])

    def test(self, values: Sequence[Any], slot: int) -> bool:
        return values[self.position] in self.column.cells[slot]

    def changed(self, add: Mapping[int, Cells], remove: Mapping[int, Cells]) -> ElementOf:
        postings = self.postings.changed(*accepting(self.column.at, add, remove, frozenset))
        return ElementOf(self.position, self.column.changed(add), postings)


class Holds(Term):
    """The value, a collection, holds the row's cell (`p.x in r.list`)."""

    def __init__(self, position: int, column: Column, postings: Postings | None = None) -> None:
        self.position = position
        self.column = column
        self.postings = postings if postings is not None else Postings([named(cell) for cell in column.cells])
        self.weight = self.postings.weight
        self.kinds: Kinds = {position: COLLECTIONS}

    def select(self, values: Sequence[Any]) -> int:
        return self.postings.of_any(values[self.position])

    def test(self, values: Sequence[Any], slot: int) -> bool:
        return self.column.cells[slot] in values[self.position]

    def changed(self, add: Mapping[int, Cells], remove: Mapping[int, Cells]) -> Holds:
        postings = self.postings.changed(*accepting(self.column.at, add, remove, named))
        return Holds(self.position, self.column.changed(add), postings)


class Said(Term):
    """The value itself, true or false, for every row."""

    weight = 0.0

    def __init__(self, position: int) -> None:
        self.position = position
        self.kinds: Kinds = {position: frozenset((bool,))}

    def select(self, values: Sequence[Any]) -> int:
        return EVERY_ROW if values[self.position] else 0

    def test(self, values: Sequence[Any], slot: int) -> bool:
        return bool(values[self.position])

    def changed(self, add: Mapping[int, Cells], remove: Mapping[int, Cells]) -> Said:
        return self


class Fixed(Term):
    """What the row alone says, true or false."""

    def __init__(self, column: Column, bits: int | None = None) -> None:
        self.column = column
        self.bits = spread([slot for slot, cell in enumerate(column.cells) if cell]) if bits is None else bits
        self.weight = float(self.bits.bit_count())
        self.kinds: Kinds = {}

    def select(self, values: Sequence[Any]) -> int:
        return self.bits

    def test(self, values: Sequence[Any], slot: int) -> bool:
        return bool(self.column.cells[slot])

    def changed(self, add: Mapping[int, Cells], remove: Mapping[int, Cells]) -> Fixed:
        gone = spread(list(remove))
        come = spread([slot for slot, row in add.items() if row[self.column.at]])
        return Fixed(self.column.changed(add), self.bits & ~gone | come)


class Compared(Term):
    """The value is before or after the row's cell, both numbers or both texts (`<`, `<=`, `>`, `>=`).

    `_bounds` are cells in order; `_below[n]` are the rows whose cell is at most `_bounds[n]`.
    """

    exact = False
    _TESTS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {"<": lt, "<=": le, ">": gt, ">=": ge}

    def __init__(self, position: int, operator: str, column: Column, *, text: bool) -> None:
        self.position = position
        self.operator = operator
        self.column = column
        self.text = text
        self.holds = self._TESTS[operator]
        self.kinds: Kinds = {position: TEXT if text else NUMBERS}
        self.weight = len(column.cells) / 2
        self._fill()

    def _fill(self) -> None:
        cells = self.column.cells
        order = sorted(range(len(cells)), key=cells.__getitem__)
        most = max(1, _CUMULATIVE_BYTES * 8 // max(1, len(cells)))
        step = -(-len(order) // most) if order else 1
        self._bounds: list[Any] = []
        self._below: list[int] = []
        self._all = 0
        for start in range(0, len(order), step):
            part = order[start : start + step]
            self._all |= spread(part)
            bound = cells[part[-1]]
            if self._bounds and self._bounds[-1] == bound:
                self._below[-1] = self._all
            else:
                self._bounds.append(bound)
                self._below.append(self._all)

    def select(self, values: Sequence[Any]) -> int:
        value = values[self.position]
        if self.operator in (">", ">="):  # the row's cell lies below the value
            place = bisect_left(self._bounds, value)
            return self._below[place] if place < len(self._below) else self._all
        place = bisect_left(self._bounds, value) - 1
        return self._all & ~self._below[place] if place >= 0 else self._all

    def test(self, values: Sequence[Any], slot: int) -> bool:
        return bool(self.holds(values[self.position], self.column.cells[slot]))

    def changed(self, add: Mapping[int, Cells], remove: Mapping[int, Cells]) -> Compared:
        copy = object.__new__(Compared)
        copy.position, copy.operator, copy.text, copy.holds = self.position, self.operator, self.text, self.holds
        copy.kinds, copy.weight, copy.column = self.kinds, self.weight, self.column.changed(add)
        copy._bounds, copy._below = list(self._bounds), list(self._below)
        gone = ~spread(list(remove))
        copy._below = [below & gone for below in copy._below]
        copy._all = self._all & gone
        for slot, row in add.items():
            place = bisect_left(copy._bounds, row[self.column.at])
            copy._all |= 1 << slot
            for at in range(place, len(copy._below)):
                copy._below[at] |= 1 << slot
        return copy


def merged_kinds(parts: Iterable[Reading]) -> dict[int, frozenset[type]]:
    """Return the types that all of the terms can read, by position."""
    kinds: dict[int, frozenset[type]] = {}
    for part in parts:
        for position, types in part.kinds.items():
            kinds[position] = kinds.get(position, types) & types
    return kinds
