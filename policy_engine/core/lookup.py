"""The lookup: which rows match, found by the values that their columns hold, whatever the number of rows.

Rules of the room:
- Columns that are compared with one value each are the first steps: rows lie under the tuple of values that they name.
  Rows without a condition in some of them (`FREE`) lie under fewer values, so there is one look-up for each way in
  which rows name columns; where those ways are many, columns are dealt into two halves, and what one half finds is
  looked up among what the other finds.
- A key that accepts several values (the roles of a subject, the beginnings of a path) is one more step, taken over the
  values accepted or over the values present, whichever are fewer.
- A leaf is one place, a few of them, ascending, or `Many`, with what an effect needs to know of them all at once.
- Frozen: a change returns another lookup that shares what did not change.
Left to others: which terms of a matcher are keys (`rules.selectors`), what rows found are asked (`core.selection`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, Protocol

from policy_engine.core.effects import Leaf, Words, places_of
from policy_engine.core.postings import spread


class _Free:
    """The cell of a row without a condition in a column."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "FREE"


FREE: Final = _Free()
Found = tuple[int, ...] | int
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
_Ways = dict[int, dict[Any, Any]]
"""By which columns of a half have a condition (as bits): the values named -> what lies there."""
_Step = tuple[Callable[[Any], Any], Callable[[Any], Any]]
"""A look-up, and what makes its key of a request's values."""


class _Half:
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
        for presence, places in _parted(held, count).items():
            picked = [
                column if len(places) == count else [column[place] for place in places]
                for bit, column in enumerate(held)
                if presence >> bit & 1
            ]
            keys = picked[0] if len(picked) == 1 else list(zip(*picked, strict=True)) or [()] * len(places)
            yield presence, places, keys

    def steps(self, ways: _Ways) -> tuple[_Step, ...]:
        """Return how a request's values are looked up."""
        return tuple([(held.get, self._getter(presence)) for presence, held in ways.items()])

    def _getter(self, presence: int) -> Callable[[Any], Any]:
        positions = [position for bit, position in enumerate(self.positions) if presence >> bit & 1]
        return itemgetter(*positions) if positions else _nothing


def _nothing(values: Any) -> Any:
    return ()


def _freeze(node: dict[Any, Any], depth: int, words: Words) -> None:
    for key, below in node.items():
        if depth:
            _freeze(below, depth - 1, words)
        elif type(below) is list:
            node[key] = words.leaf(tuple(below))


class Lookup:
    """Rows by their keyed columns: `columns[n][place]` is what the key `keys[n]` keeps for a row."""

    __slots__ = ("_first", "_keys", "_many", "_numbers", "_second", "_steps", "_tables")

    def __init__(self, keys: Sequence[Key], columns: Sequence[Sequence[Any]], words: Words) -> None:
        self._keys = tuple(keys)
        count = len(columns[0])
        singles = [at for at, key in enumerate(keys) if key.single]
        self._many = tuple(at for at, key in enumerate(keys) if not key.single)
        halves = _dealt(singles, columns, count)
        self._first = _Half(keys, halves[0])
        self._second = _Half(keys, halves[1]) if halves[1] else None
        self._numbers: _Ways = {}
        seconds = self._numbered(columns, count)
        firsts = list(self._first.keyed(columns, count))
        self._tables: dict[int, _Ways] = {}
        parted = _parted([columns[at] for at in self._many], count)
        alike = next(iter(parted), 0)
        manys = {place: held for held, places in parted.items() for place in places} if len(parted) > 1 else None
        for presence, places, named in firsts:
            for place, key in zip(places, named, strict=True):
                many = alike if manys is None else manys[place]
                node = self._tables.setdefault(many, {}).setdefault(presence, {})
                path = [key] if seconds is None else [key, seconds[place]]
                path += [columns[at][place] for bit, at in enumerate(self._many) if many >> bit & 1]
                _put(node, path, place)
        for many, ways in self._tables.items():
            depth = (0 if seconds is None else 1) + many.bit_count()
            for node in ways.values():
                _freeze(node, depth, words)
        self._set_steps()

    def _numbered(self, columns: Sequence[Sequence[Any]], count: int) -> list[int] | None:
        """Return a number for what each row names in the second half, the same for the same values."""
        if self._second is None:
            return None
        numbers = [0] * count
        next_number = 0
        for presence, places, named in self._second.keyed(columns, count):
            known: dict[Any, int] = {}
            for place, key in zip(places, named, strict=True):
                number = known.get(key)
                if number is None:
                    number = known[key] = next_number
                    next_number += 1
                numbers[place] = number
            self._numbers[presence] = known
        return numbers

    def _set_steps(self) -> None:
        firsts = [
            (self._first.steps(ways), tuple(at for bit, at in enumerate(self._many) if many >> bit & 1))
            for many, ways in self._tables.items()
        ]
        self._steps = tuple(firsts), () if self._second is None else self._second.steps(self._numbers)

    def leaves(self, values: Sequence[Any]) -> list[Leaf]:
        """Return the leaves whose rows' keyed columns all match."""
        leaves: list[Leaf] = []
        tables, seconds = self._steps
        numbers: list[int] = []
        for get, key_of in seconds:
            number = get(key_of(values))
            if number is not None:
                numbers.append(number)
        for steps, many in tables:
            for get, key_of in steps:
                node = get(key_of(values))
                if node is None:
                    continue
                if not seconds:
                    below: list[Any] = [node]
                elif len(node) < len(numbers):
                    below = [item for number, item in node.items() if number in numbers]
                else:
                    below = [item for item in map(node.get, numbers) if item is not None]
                if many:
                    for item in below:
                        self._walk(item, many, values, leaves)
                else:
                    leaves += below
        return leaves

    def find(self, values: Sequence[Any]) -> Found:
        """Return the places of every row whose keyed columns all match, ascending, or as bits."""
        leaves = self.leaves(values)
        if not leaves:
            return ()
        if len(leaves) == 1:
            return places_of(leaves[0])
        places: list[int] = []
        bits = 0
        for leaf in leaves:
            if type(leaf) is int:
                places.append(leaf)
                continue
            held = places_of(leaf)
            if isinstance(held, int):
                bits |= held
            else:
                places += held
        return bits | spread(places) if bits else tuple(sorted(places))

    def _walk(self, node: Any, many: tuple[int, ...], values: Sequence[Any], leaves: list[Leaf]) -> None:
        key = self._keys[many[0]]
        accepted = key.accepts(values, node)
        if len(node) < len(accepted):
            below = [item for cell, item in node.items() if key.holds(values, cell)]
        else:
            below = [node[cell] for cell in accepted if cell in node]
        if len(many) == 1:
            leaves += below
        else:
            for item in below:
                self._walk(item, many[1:], values, leaves)

    def changed(self, add: Mapping[int, Cells], remove: Mapping[int, Cells], words: Words) -> Lookup:
        """Return the lookup with rows added behind all others, and rows removed; cells are what the keys keep."""
        copy = object.__new__(Lookup)
        copy._keys, copy._many, copy._first, copy._second = self._keys, self._many, self._first, self._second
        copy._numbers = dict(self._numbers)
        copy._tables = {many: dict(ways) for many, ways in self._tables.items()}
        fresh: set[tuple[int, int]] = set()
        for place, cells in remove.items():
            copy._change(cells, place, fresh, words, adding=False)
        for place, cells in add.items():
            copy._change(cells, place, fresh, words, adding=True)
        copy._set_steps()
        return copy

    def _change(self, cells: Cells, place: int, fresh: set[tuple[int, int]], words: Words, *, adding: bool) -> None:
        """Put a row in, or take it out, copying what was not copied for this change before."""
        many = sum(1 << bit for bit, at in enumerate(self._many) if cells[at] is not FREE)
        presence = self._first.presence(cells)
        ways = self._tables.setdefault(many, {})
        if (many, presence) not in fresh:
            ways[presence] = dict(ways.get(presence, {}))
            fresh.add((many, presence))
        root = ways.setdefault(presence, {})
        path = [self._first.key(cells, presence)]
        if self._second is not None:
            path.append(self._number(self._second, cells))
        path += [cells[at] for bit, at in enumerate(self._many) if many >> bit & 1]
        nodes = [root]
        for step in path[:-1]:
            below = nodes[-1][step] = dict(nodes[-1].get(step, {}))
            nodes.append(below)
        leaf = words.changed(nodes[-1].get(path[-1], ()), place, adding=adding)
        nodes[-1][path[-1]] = leaf
        for node, step in zip(reversed(nodes), reversed(path), strict=True):
            if node[step] not in ((), {}):
                break
            del node[step]
        if not root:
            del ways[presence]

    def _number(self, second: _Half, cells: Cells) -> int:
        """Return the number of what a row names in the second half, giving it one at first sight."""
        presence = second.presence(cells)
        known = self._numbers.get(presence, {})
        key = second.key(cells, presence)
        if key not in known:
            number = sum(map(len, self._numbers.values()))  # numbers are never given back, so this one is new
            self._numbers[presence] = {**known, key: number}
        return int(self._numbers[presence][key])


def _put(node: dict[Any, Any], path: Sequence[Any], place: int) -> None:
    for step in path[:-1]:
        node = node.setdefault(step, {})
    last = path[-1]
    held = node.get(last)
    if held is None:
        node[last] = place
    elif type(held) is int:
        node[last] = [held, place]
    else:
        held.append(place)


def _dealt(singles: Sequence[int], columns: Sequence[Sequence[Any]], count: int) -> tuple[list[int], list[int]]:
    """Return the columns in two halves, the second empty where rows name them in few ways."""
    if len(_parted([columns[at] for at in singles], count)) <= _WAYS_MAX:
        return list(singles), []
    free = [at for at in singles if any(cell is FREE for cell in columns[at])]
    return [at for at in singles if at not in free[1::2]], free[1::2]


def _parted(columns: Sequence[Sequence[Any]], count: int) -> dict[int, Sequence[int]]:
    """Return the places of rows by which columns they have a condition in, as bits."""
    whole = (1 << len(columns)) - 1
    free = [at for at, column in enumerate(columns) if any(cell is FREE for cell in column)]
    if not free:
        return {whole: range(count)} if count else {}
    presence = [whole] * count
    for at in free:
        bit = 1 << at
        presence = [held ^ bit if cell is FREE else held for held, cell in zip(presence, columns[at], strict=True)]
    parted: dict[int, list[int]] = {}
    for place, held in enumerate(presence):
        parted.setdefault(held, []).append(place)
    return dict(parted)
