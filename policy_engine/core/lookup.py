"""The lookup: which rows match, found by the values that their columns hold, whatever the number of rows.

Rules of the room:
- Rows are sorted into tables by which of their keyed columns have a condition at all (`FREE`: none). In a table, rows
  lie under the values they name, so a request needs one look-up a table, whoever asks and however often; tables that
  need a value nobody named are not asked at all.
- A key that accepts several values (the roles of a subject, the beginnings of a path) is one more step inside a table,
  taken over the values accepted or over the values present, whichever are fewer.
- A leaf is a few places, ascending, or `Many` of them with what an effect needs to know of them all at once.
- Frozen: a change returns another lookup that shares what did not change.
Left to others: which terms of a matcher are keys (`rules.selectors`), what rows found are asked (`core.selection`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, Protocol

from policy_engine.core.effects import FEW_PLACES_COUNT, Leaf, Many, Words
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

    def accepts(self, values: Sequence[Any]) -> Collection[Any]:
        """Return the cells that match the request's values."""
        ...

    def holds(self, values: Sequence[Any], cell: Any) -> bool:
        """Return whether one cell matches."""
        ...


_Step = tuple[Callable[[Any], Any], Callable[[Any], Any], tuple[int, ...]]
"""What asks a table: its look-up, what makes the key of a request's values, and the keys of further steps."""


class _Table:
    """The rows that have conditions in the same columns: `presence` has a bit for each of them."""

    __slots__ = ("key_of", "many", "presence", "root", "row_key", "singles")

    def __init__(self, keys: Sequence[Key], presence: int) -> None:
        held = [at for at in range(len(keys)) if presence >> at & 1]
        self.presence = presence
        self.singles = [at for at in held if keys[at].single]
        self.many = tuple(at for at in held if not keys[at].single)
        self.key_of = _getter([keys[at].position for at in self.singles])
        self.row_key = _getter(self.singles)
        self.root: dict[Any, Any] = {}

    def fill(self, columns: Sequence[Sequence[Any]], places: Sequence[int], words: Words) -> None:
        """Put rows in, each under its cells."""
        levels = [_keys([columns[at] for at in self.singles], places)]
        levels += [[columns[at][place] for place in places] for at in self.many]
        above = levels[:-1]
        root = self.root
        for at, (place, last) in enumerate(zip(places, levels[-1], strict=True)):
            node = root
            for level in above:
                node = node.setdefault(level[at], {})
            held = node.get(last)
            if held is None:
                node[last] = (place,)
            elif type(held) is tuple:
                node[last] = [*held, place]
            else:
                held.append(place)
        _freeze(root, len(self.many), words)


def _keys(columns: Sequence[Sequence[Any]], places: Sequence[int]) -> Sequence[Any]:
    """Return the look-up key of each row: nothing, the one cell, or a tuple of cells, as `itemgetter` makes them."""
    if not columns:
        return [()] * len(places)
    picked = [column if len(places) == len(column) else [column[place] for place in places] for column in columns]
    return picked[0] if len(picked) == 1 else list(zip(*picked, strict=True))


def _freeze(node: dict[Any, Any], depth: int, words: Words) -> None:
    for key, below in node.items():
        if depth:
            _freeze(below, depth - 1, words)
        elif type(below) is list:
            node[key] = words.leaf(tuple(below))


def _getter(positions: Sequence[int]) -> Callable[[Any], Any]:
    return itemgetter(*positions) if positions else _nothing


def _nothing(values: Any) -> Any:
    return ()


class Lookup:
    """Rows by their keyed columns: `columns[n][place]` is what the key `keys[n]` keeps for a row."""

    __slots__ = ("_keys", "_known", "_plans", "_tables")

    def __init__(self, keys: Sequence[Key], columns: Sequence[Sequence[Any]], words: Words) -> None:
        self._keys = tuple(keys)
        self._tables: dict[int, _Table] = {}
        self._known: list[set[Any] | None] = [None] * len(keys)
        count = len(columns[0]) if columns else 0
        for presence, places in _parted(columns, count).items():
            table = self._tables[presence] = _Table(self._keys, presence)
            table.fill(columns, places, words)
        if len(self._tables) > 1:
            self._known = [set(column) if key.single else None for key, column in zip(self._keys, columns, strict=True)]
        self._plans: dict[int, tuple[_Step, ...]] = {}

    def leaves(self, values: Sequence[Any]) -> list[Leaf]:
        """Return the leaves whose rows' keyed columns all match."""
        tables = self._asked(values)
        leaves: list[Leaf] = []
        for get, key_of, many in tables:
            node = get(key_of(values))
            if node is not None:
                if many:
                    self._walk(node, many, values, leaves)
                else:
                    leaves.append(node)
        return leaves

    def _asked(self, values: Sequence[Any]) -> tuple[_Step, ...]:
        """Return how to ask the tables that need no value that nobody named."""
        strange = 0
        if len(self._tables) > 1:
            for at, known in enumerate(self._known):
                if known is not None and values[self._keys[at].position] not in known:
                    strange |= 1 << at
        plan = self._plans.get(strange)
        if plan is None:
            tables = [table for presence, table in self._tables.items() if not presence & strange]
            plan = self._plans[strange] = tuple([(table.root.get, table.key_of, table.many) for table in tables])
        return plan

    def find(self, values: Sequence[Any]) -> Found:
        """Return the places of every row whose keyed columns all match, ascending, or as bits."""
        leaves = self.leaves(values)
        if not leaves:
            return ()
        if len(leaves) == 1:
            leaf = leaves[0]
            return leaf.places if isinstance(leaf, Many) else leaf
        places: list[int] = []
        bits = 0
        for leaf in leaves:
            held = leaf.places if isinstance(leaf, Many) else leaf
            if isinstance(held, int):
                bits |= held
            else:
                places += held
        return bits | spread(places) if bits else tuple(sorted(places))

    def _walk(self, node: Any, many: tuple[int, ...], values: Sequence[Any], leaves: list[Leaf]) -> None:
        key = self._keys[many[0]]
        accepted = key.accepts(values)
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
        copy._keys, copy._plans = self._keys, {}
        copy._tables = dict(self._tables)
        fresh: dict[int, _Table] = {}
        for place, cells in remove.items():
            copy._change(cells, place, fresh, words, adding=False)
        for place, cells in add.items():
            copy._change(cells, place, fresh, words, adding=True)
        copy._tables = {presence: table for presence, table in copy._tables.items() if table.root}
        copy._known = [
            None if len(copy._tables) < 2 or not key.single else self._named(at, add.values())
            for at, key in enumerate(self._keys)
        ]
        return copy

    def _named(self, at: int, rows: Iterable[Cells]) -> set[Any]:
        """Return the cells of one column that any row names or ever named, with those of rows added."""
        known = self._known[at]
        if known is None:
            tables = [table for presence, table in self._tables.items() if presence >> at & 1]
            known = {
                key[table.singles.index(at)] if len(table.singles) > 1 else key
                for table in tables
                for key in table.root
            }
        more = {cells[at] for cells in rows} - known
        return known | more if more else known

    def _change(self, cells: Cells, place: int, fresh: dict[int, _Table], words: Words, *, adding: bool) -> None:
        presence = sum(1 << at for at, cell in enumerate(cells) if cell is not FREE)
        table = fresh.get(presence)
        if table is None:
            held = self._tables.get(presence)
            table = fresh[presence] = self._tables[presence] = _Table(self._keys, presence)
            table.root = {} if held is None else dict(held.root)
        path = [table.row_key(cells), *(cells[at] for at in table.many)]
        nodes = [table.root]
        for step in path[:-1]:
            below = nodes[-1][step] = dict(nodes[-1].get(step, {}))
            nodes.append(below)
        nodes[-1][path[-1]] = words.changed(nodes[-1].get(path[-1], ()), place, adding=adding)
        for node, step in zip(reversed(nodes), reversed(path), strict=True):
            if node[step] not in ((), {}):
                break
            del node[step]


def _parted(columns: Sequence[Sequence[Any]], count: int) -> dict[int, Sequence[int]]:
    """Return the places of rows by which columns they have a condition in."""
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


__all__ = ["FEW_PLACES_COUNT", "FREE", "Cells", "Found", "Key", "Lookup"]
