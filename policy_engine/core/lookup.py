"""The lookup: which rows match, found by the values that their columns hold, whatever the number of rows.

Rules of the room:
- Columns that are compared with one value each are the first steps: rows lie under the tuple of values that they name.
  Rows without a condition in some of them (`FREE`) lie under fewer values, so there is one look-up for each way in
  which rows name columns; where those ways are many, columns are dealt into two halves, the telling ones first. What
  the first half finds is compared in the columns of the second if it is little, else looked up among what those find.
- A key that accepts several values (the roles of a subject, the beginnings of a path) is one more step, taken over the
  values accepted or over the values present, whichever are fewer. Of values that lie alone only the pair is kept.
- A leaf is one place, a few of them, ascending, or `Many`, with what an effect needs to know of them all at once.
- The ways in which most rows name columns are looked up first, so that whoever has enough soon has it.
- Frozen: a change returns another lookup that shares what did not change.
Left to others: keys of columns (`core.columns`), which terms of a matcher are keys (`rules.selectors`), what rows found
are asked (`core.selection`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from policy_engine.core.columns import FREE, Cells, Half, Key, Ways, dealt, grouped, parted
from policy_engine.core.effects import Leaf, Words, places_of
from policy_engine.core.postings import spread

Found = tuple[int, ...] | int
Enough = Callable[[list[Leaf]], bool]
"""Whether leaves found so far tell what the others cannot change."""
_COMPARED_MAX: Final = 4
"""Up to so many different seconds under one first are compared one by one: that touches less memory than to look up."""
_Pair = tuple[Callable[[Any], Any], Any]
"""What makes the key of the second half of values, and the key that rows have.

Compared seconds are a tuple of these, the number and what lies there; of several there is a list.
"""


def _freeze(node: dict[Any, Any], depth: int, words: Words, firsts: int) -> None:
    """Make leaves of the lists `depth` steps below, and pairs of what lies alone more than `firsts` steps below."""
    if not depth:
        for key, below in node.items():
            if type(below) is list:
                node[key] = words.leaf(tuple(below))
        return
    for key, below in node.items():
        if depth > 1 or list in map(type, below.values()):
            _freeze(below, depth - 1, words, firsts - 1)
        if firsts <= 0 and len(below) == 1:
            node[key] = next(iter(below.items()))


def _compare(node: dict[Any, Any], pairs: Sequence[_Pair]) -> None:
    """Where few different seconds lie under a first, have them compared."""
    for key, below in node.items():
        if len(below) <= _COMPARED_MAX:
            seconds = [(*pairs[number], number, item) for number, item in below.items()]
            node[key] = seconds[0] if len(seconds) == 1 else seconds


class Lookup:
    """Rows by their keyed columns: `columns[n][place]` is what the key `keys[n]` keeps for a row."""

    __slots__ = ("_first", "_keys", "_many", "_numbers", "_second", "_steps", "_tables")

    def __init__(self, keys: Sequence[Key], columns: Sequence[Sequence[Any]], words: Words) -> None:
        self._keys = tuple(keys)
        count = len(columns[0])
        singles = [at for at, key in enumerate(keys) if key.single]
        self._many = tuple(at for at, key in enumerate(keys) if not key.single)
        halves = dealt(singles, columns, count)
        self._first = Half(keys, halves[0])
        self._second = Half(keys, halves[1]) if halves[1] else None
        self._numbers: Ways = {}
        pairs: list[_Pair] = []
        seconds = self._numbered(columns, count, pairs)
        self._tables: dict[int, Ways] = {}
        alike = parted([columns[at] for at in self._many], count)
        manys = {place: held for held, places in alike.items() for place in places} if len(alike) > 1 else {}
        for presence, places, named in self._first.keyed(columns, count):
            steps = [named] if seconds is None else [named, [seconds[place] for place in places]]
            parts: dict[int, Sequence[int]] = {held: range(len(places)) for held in alike}
            if manys:
                parts = grouped([manys[place] for place in places])
            for many, chosen in parts.items():
                node = self._tables.setdefault(many, {})[presence] = {}
                taken = steps if len(chosen) == len(places) else [[step[at] for at in chosen] for step in steps]
                held = places if len(chosen) == len(places) else [places[at] for at in chosen]
                below = [[columns[at][place] for place in held] for bit, at in enumerate(self._many) if many >> bit & 1]
                _put_all(node, zip(*taken, *below, strict=True), held)
        for many, ways in self._tables.items():
            depth = (0 if seconds is None else 1) + many.bit_count()
            for node in ways.values():
                _freeze(node, depth, words, 0 if seconds is None else 1)
                if seconds is not None:
                    _compare(node, pairs)
        self._set_steps()

    def _numbered(self, columns: Sequence[Sequence[Any]], count: int, pairs: list[_Pair]) -> list[int] | None:
        """Return a number for what each row names in the second half, the same for the same values.

        `pairs` gets, by number, what makes the key of values and the key.
        """
        if self._second is None:
            return None
        numbers = [0] * count
        for presence, places, named in self._second.keyed(columns, count):
            known: dict[Any, int] = {}
            getter = self._second.getter(presence)
            for place, key in zip(places, named, strict=True):
                number = known.get(key)
                if number is None:
                    number = known[key] = len(pairs)
                    pairs.append((getter, key))
                numbers[place] = number
            self._numbers[presence] = known
        return numbers

    def _set_steps(self) -> None:
        firsts = [
            (self._first.steps(_likely(ways)), tuple(at for bit, at in enumerate(self._many) if many >> bit & 1))
            for many, ways in self._tables.items()
        ]
        self._steps = tuple(firsts), None if self._second is None else self._second.steps(self._numbers)

    def leaves(self, values: Sequence[Any], enough: Enough | None = None) -> list[Leaf]:
        """Return the leaves whose rows' keyed columns all match, or the first of them that are `enough`."""
        leaves: list[Leaf] = []
        tables, seconds = self._steps
        numbers: list[int] | None = None
        for steps, many in tables:
            for get, key_of in steps:
                node = get(key_of(values))
                if node is None:
                    continue
                if seconds is None:
                    below: list[Any] = [node]
                elif type(node) is tuple:
                    second, key, _, item = node
                    if second(values) != key:
                        continue
                    below = [item]
                elif type(node) is list:
                    below = [item for second, key, _, item in node if second(values) == key]
                else:
                    if numbers is None:
                        numbers = [number for get, key_of in seconds if (number := get(key_of(values))) is not None]
                    if len(node) < len(numbers):
                        below = [item for number, item in node.items() if number in numbers]
                    else:
                        below = [item for item in map(node.get, numbers) if item is not None]
                if many:
                    for item in below:
                        self._walk(item, many, values, leaves)
                else:
                    leaves += below
                if enough is not None and leaves and enough(leaves):
                    return leaves
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
        """Add the leaves below a node whose cells match the keys that are left, those that accept several values."""
        key = self._keys[many[0]]
        if type(node) is tuple:
            cell, item = node
            if not key.holds(values, cell):
                return
            below = [item]
        else:
            accepted = () if len(node) == 1 else key.accepts(values, node)
            if len(node) == 1 or len(node) < len(accepted):
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
            below = nodes[-1][step] = _spelled(nodes[-1].get(step, {}))
            nodes.append(below)
        leaf = words.changed(nodes[-1].get(path[-1], ()), place, adding=adding)
        nodes[-1][path[-1]] = leaf
        for node, step in zip(reversed(nodes), reversed(path), strict=True):
            if node[step] not in ((), {}):
                break
            del node[step]
        if not root:
            del ways[presence]

    def _number(self, second: Half, cells: Cells) -> int:
        """Return the number of what a row names in the second half, giving it one at first sight."""
        presence = second.presence(cells)
        known = self._numbers.get(presence, {})
        key = second.key(cells, presence)
        if key not in known:
            number = sum(map(len, self._numbers.values()))  # numbers are never given back, so this one is new
            self._numbers[presence] = {**known, key: number}
        return int(self._numbers[presence][key])


def _likely(ways: Ways) -> Ways:
    """Return the ways in which rows name columns, those that most of them take first."""
    return dict(sorted(ways.items(), key=lambda way: -len(way[1])))


def _spelled(node: Any) -> dict[Any, Any]:
    """Return a copy of a node that has steps below it, as a dict, whatever form it has."""
    if type(node) is dict:
        return dict(node)
    if type(node) is tuple and len(node) == 2:
        return dict((node,))
    compared = [node] if type(node) is tuple else node
    return {number: item for _, _, number, item in compared}


def _put_all(node: dict[Any, Any], paths: Iterable[Sequence[Any]], places: Sequence[int]) -> None:
    """Put each place under the steps of its path; several under one path are a list."""
    for path, place in zip(paths, places, strict=True):
        within = node
        for step in path[:-1]:
            below = within.get(step)
            if below is None:
                below = within[step] = {}
            within = below
        last = path[-1]
        held = within.get(last)
        if held is None:
            within[last] = place
        elif type(held) is int:
            within[last] = [held, place]
        else:
            held.append(place)
