"""Columns that are compared with one value each: in which ways rows name them, and the keys that look them up.

Rules of the room: a row without a condition in a column (`FREE`) names fewer columns, so there is one look-up for each
way in which rows name them. Where those ways are many, columns are dealt into two halves.
Left to others: what lies under a key (`core.lookup`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, Protocol


class _Free:
    """The cell of a row without a condition in a column."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "FREE"


FREE: Final = _Free()
Cells = tuple[Any, ...]


class Key(Protocol):
    """What a keyed column is compared with. `single`: exactly the value at `position`; else what `accepts` gives.

    `plain`: the lookup keeps a row's cell as it is.
    """

    single: bool
    plain: bool
    position: int

    @property
    def kinds(self) -> Mapping[int, frozenset[type]]:
        """The types that the key can read, by position of the request's values."""
        ...

    def cell(self, cell: Any) -> Any:
        """Return what the lookup keeps for a row's cell."""
        ...

    def accepts(self, values: Sequence[Any], present: Collection[Any]) -> Collection[Any]:
        """Return the cells that match the request's values, all of those present and maybe others."""
        ...

    def holds(self, values: Sequence[Any], cell: Any) -> bool:
        """Return whether one cell matches."""
        ...


_WAYS_MAX: Final = 8
"""From more ways than this in which rows name columns, the columns are dealt into two halves."""
Ways = dict[int, dict[Any, Any]]
"""By which columns of a half have a condition (as bits): the values named -> what lies there."""
Step = tuple[Callable[[Any], Any], Callable[[Any], Any]]
"""A look-up, and what makes its key of a request's values."""


class Half:
    """Some of the columns that are compared with one value: `at` are their places among a row's cells."""

    __slots__ = ("at", "positions")

    def __init__(self, keys: Sequence[Key], at: Sequence[int]) -> None:
        self.at = tuple(at)
        self.positions = tuple(keys[place].position for place in at)

    def presence(self, cells: Cells) -> int:
        """Return in which of the columns a row has a condition, as bits."""
        return sum(1 << bit for bit, place in enumerate(self.at) if cells[place] is not FREE)

    def key(self, cells: Cells, presence: int) -> Any:
        """Return the key of a row, as `steps` makes it of values."""
        held = [cells[place] for bit, place in enumerate(self.at) if presence >> bit & 1]
        return held[0] if len(held) == 1 else tuple(held)

    def keyed(self, columns: Sequence[Sequence[Any]], count: int) -> Iterable[tuple[int, Sequence[int], Sequence[Any]]]:
        """Yield for each way in which rows name the columns: its bits, the rows' places, and their keys."""
        held = [columns[place] for place in self.at]
        for presence, places in parted(held, count).items():
            picked = [
                column if len(places) == count else [column[place] for place in places]
                for bit, column in enumerate(held)
                if presence >> bit & 1
            ]
            keys = picked[0] if len(picked) == 1 else list(zip(*picked, strict=True)) or [()] * len(places)
            yield presence, places, keys

    def steps(self, ways: Ways) -> tuple[Step, ...]:
        """Return how a request's values are looked up."""
        return tuple([(held.get, self.getter(presence)) for presence, held in ways.items()])

    def getter(self, presence: int) -> Callable[[Any], Any]:
        """Return what makes the key of a request's values."""
        positions = [position for bit, position in enumerate(self.positions) if presence >> bit & 1]
        return itemgetter(*positions) if positions else _nothing


def _nothing(values: Any) -> Any:
    return ()


def dealt(singles: Sequence[int], columns: Sequence[Sequence[Any]], count: int) -> tuple[list[int], list[int]]:
    """Return the columns in two halves, the second empty where rows name them in few ways.

    The first half has the columns that every row names, and of the others those with the most different cells, as long
    as the ways of rows to name them stay few, or are no more than those of the columns that are left: what it finds is
    little then.
    """
    seen = set(_presences([columns[at] for at in singles], count))

    def ways(places: Sequence[int]) -> int:
        bits = sum(1 << bit for bit, at in enumerate(singles) if at in places)
        return len({held & bits for held in seen})

    if len(seen) <= _WAYS_MAX:
        return list(singles), []
    free = [at for bit, at in enumerate(singles) if any(not held >> bit & 1 for held in seen)]
    free.sort(key=lambda at: -len(set(columns[at])))
    first = [at for at in singles if at not in free]
    for at in free:
        ways_with = ways([*first, at])
        if ways_with <= _WAYS_MAX or ways_with <= ways([each for each in free if each not in first]):
            first.append(at)
    return sorted(first), [at for at in singles if at not in first]


def parted(columns: Sequence[Sequence[Any]], count: int) -> dict[int, Sequence[int]]:
    """Return the places of rows by which columns they have a condition in, as bits."""
    return grouped(_presences(columns, count))


def grouped(held: Sequence[int]) -> dict[int, Sequence[int]]:
    """Return the places by what is held there, ascending."""
    alike = set(held)
    if len(alike) == 1:
        return {alike.pop(): range(len(held))}
    found: dict[int, list[int]] = {each: [] for each in alike}
    for place, each in enumerate(held):
        found[each].append(place)
    return dict(found)


def _presences(columns: Sequence[Sequence[Any]], count: int) -> list[int]:
    """Return for each row in which columns it has a condition, as bits."""
    presences = [(1 << len(columns)) - 1] * count
    for at, column in enumerate(columns):
        if any(cell is FREE for cell in column):
            bit = 1 << at
            presences = [held ^ bit if cell is FREE else held for held, cell in zip(presences, column, strict=True)]
    return presences
