"""The rows of a policy in groups of one matcher each, and what changes when rows come and go.

Rules of the room: every row has a slot; a row that goes leaves it empty, and once more are empty than filled, all rows
are compiled anew. A row that no term can hold (another number of values, a text that is no expression, a pattern that
does not compile) is `loose`: it is judged by Casbin's evaluator when a scan comes to it, and raises then if it must.
Left to others: asking (`rules.enforcer`), one group (`rules.rowgroups`).
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from logging import Logger
from typing import Any, Final

from policy_engine.core.effects import Effect, Words, word
from policy_engine.core.roles import Roles
from policy_engine.core.selection import Columns
from policy_engine.errors import InputRefused, TooLarge
from policy_engine.rules.patternroles import PatternRoles
from policy_engine.rules.policy import Row, link_of
from policy_engine.rules.rowgroups import Group, Layout, RowRefused
from policy_engine.rules.rulebook import Rulebook

_GONE: Final[Row] = ()
_LOOSE: Final = -1
_GONE_COUNT: Final = 1_024
"""So many empty slots, or as many as there are rows, may stay: each takes memory as a row does."""
ShapeKey = tuple[str, ...]


@dataclass(slots=True)
class Rows:
    """The rows of a rulebook, compiled; frozen once made.

    `lines` are rows by slot, empty where one has gone; `groups_of` and `places_of` say which group each is in, and
    where (group -1: loose).
    """

    book: Rulebook
    lines: list[Row]
    groups_of: array[int]
    places_of: array[int]
    keys: dict[ShapeKey, int]
    groups: list[Group]
    loose: tuple[int, ...]
    effect: Effect
    gone: frozenset[int] = frozenset()
    sources: tuple[tuple[int, Group | Sequence[int]], ...] = field(init=False)
    only: Group | None = field(init=False)

    def __post_init__(self) -> None:
        found: list[tuple[int, Group | Sequence[int]]] = [
            (group.slots[0], group) for group in self.groups if group.slots
        ]
        if self.loose:
            found.append((self.loose[0], self.loose))
        self.sources = tuple(sorted(found, key=lambda source: source[0]))
        alone = len(self.groups) == 1 and not self.loose and len(self.groups[0].slots) == len(self.lines)
        alone = alone and self.count > 0  # without rows Casbin asks the matcher itself
        self.only = self.groups[0] if alone else None

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self.lines) - len(self.gone)

    @classmethod
    def of(cls, book: Rulebook) -> Rows:
        """Compile all rows of a rulebook's policy."""
        lines = list(book.policy.rows)
        effect = Effect(book.policy.effect, _words(book, lines))
        placed = _Placed(book, {}, [])
        placed.put_all(lines, 0)
        groups = [placed.group(number, effect) for number in range(len(placed.layouts))]
        homes = placed.groups_of, placed.places_of
        return cls(book, lines, *homes, placed.keys, groups, tuple(placed.loose), effect)

    def answer_without_rows(self, request: Sequence[Any]) -> bool:
        """Return what Casbin answers where the policy has no rows. Raises what Casbin raises."""
        matched = self.book.evaluation.matches_nothing(request)
        return Effect(self.book.policy.effect, [word("allow")]).of((0,) if matched else ())[0]

    def slots_of(self, group: Group) -> list[int]:
        """Return the slots of a group's rows that are still there."""
        return [slot for slot in group.slots if slot not in self.gone] if self.gone else group.slots

    def updated(self, add: list[list[Any]], remove: list[list[Any]]) -> Rows:
        """Return the rows after a change. Raises `InputRefused` for a row that is not there or fits no definition,
        `TooLarge` for too many rows, and `RowRefused` for one that nothing can judge within bounds.
        """
        come = [self._kind(row) for row in add]
        go = [self._kind(row) for row in remove]
        new, old = ([row for key, row in lines if key == "p"] for lines in (come, go))
        most = self.book.limits.rules_count
        if self.count + len(new) - len(old) > most:
            raise TooLarge(f"the policy would have more than {most} rules (rules_count); split it", where="row")
        book = self._relinked([line for line in come if line[0] != "p"], [line for line in go if line[0] != "p"])
        copy = self._rebound(book) if book is not self.book else self
        changed = copy._changed(new, old)
        return changed if len(changed.gone) <= max(_GONE_COUNT, changed.count) else changed._compacted()

    def _kind(self, row: list[Any]) -> tuple[str, list[Any]]:
        """Return the kind of a row and its values: `g` lines name theirs, `p` rows may."""
        policy = self.book.policy
        if row and row[0] in policy.places and len(row) > policy.places[row[0]]:
            return row[0], row[1:]
        if row and row[0] == "p" and len(row) == len(policy.columns) + 1:
            return "p", row[1:]
        if len(row) == len(policy.columns):
            return "p", row
        message = f"a row has {len(row)} values and fits no definition of the model; write it as a line of the policy"
        raise InputRefused(f'{message} file, its kind first (["p", ...])', where="row")

    def _relinked(self, add: list[tuple[str, list[Any]]], remove: list[tuple[str, list[Any]]]) -> Rulebook:
        """Return the rulebook with lines of role definitions added and removed."""
        if not add and not remove:
            return self.book
        policy = self.book.policy
        lines = {key: list(held) for key, held in policy.lines.items()}
        for key, line in remove:
            if line not in lines.get(key, []):
                raise InputRefused(f"a `{key}` line to remove is not in the policy; remove what is there", where="row")
            lines[key].remove(line)
        for key, line in add:
            lines.setdefault(key, []).append(line)
        roles = dict(self.book.roles)
        for key in dict.fromkeys(key for key, _ in (*add, *remove)):
            links = [
                [link_of(line, policy.places[key]) for kind, line in part if kind == key] for part in (add, remove)
            ]
            held: Roles = roles[key]
            plain = not isinstance(held, PatternRoles)
            roles[key] = held.changed(*links) if plain else self.book.graph(key, lines)
        return self.book.with_lines(lines, roles)

    def _rebound(self, book: Rulebook) -> Rows:
        groups = [group.bound(book.evaluation, tuple(book.roles.values()), book.remembered) for group in self.groups]
        ranks = self._ranks(book, self.lines, self.gone)
        effect = self.effect.changed((), (), ranks)
        return replace(self, book=book, groups=groups, effect=effect)

    def _changed(self, add: list[list[Any]], remove: list[list[Any]]) -> Rows:
        gone = self._removed(remove)
        book = self.book
        lines = [*self.lines, *add]
        for slot in gone:
            lines[slot] = _GONE
        everything_gone = self.gone | frozenset(gone)
        ranks = self._ranks(book, lines, everything_gone)
        effect = self.effect.changed(_words(book, add), gone, ranks)
        placed = _Placed(book, dict(self.keys), self.groups)
        placed.put_all(add, len(self.lines))
        places: dict[int, list[int]] = {}
        for slot in gone:
            places.setdefault(self.groups_of[slot], []).append(self.places_of[slot])
        groups = [
            placed.changed(number, group, places.get(number, []), effect) for number, group in enumerate(self.groups)
        ]
        groups += [placed.group(number, effect) for number in range(len(self.groups), len(placed.layouts))]
        loose = tuple(slot for slot in (*self.loose, *placed.loose) if slot not in everything_gone)
        in_groups, at_places = self.groups_of + placed.groups_of, self.places_of + placed.places_of
        book = replace(book, policy=replace(book.policy, rows=lines))
        return Rows(book, lines, in_groups, at_places, placed.keys, groups, loose, effect, everything_gone)

    def _compacted(self) -> Rows:
        """Return the same rows compiled anew, without the slots of those that have gone."""
        held = [(slot, line) for slot, line in enumerate(self.lines) if slot not in self.gone]
        policy = self.book.policy.with_rows(self.book.policy.as_written(held))
        return Rows.of(replace(self.book, policy=policy))

    def _removed(self, remove: list[list[Any]]) -> list[int]:
        """Return the slots of rows to remove: for each, the first that holds it and does not go already."""
        wanted: dict[Row, int] = {}
        for row in remove:
            wanted[tuple(row)] = wanted.get(tuple(row), 0) + 1
        gone: list[int] = []
        for slot, line in enumerate(self.lines) if wanted else ():
            key = tuple(line)
            if wanted.get(key) and slot not in self.gone:
                gone.append(slot)
                wanted[key] -= 1
        if any(wanted.values()):
            raise InputRefused("a row to remove is not in the policy; remove what is there", where="row")
        return gone

    @staticmethod
    def _ranks(book: Rulebook, lines: list[Row], gone: frozenset[int]) -> list[int] | None:
        """Return each slot's place in Casbin's scan, or `None` where slots are in order."""
        if not book.policy.sorts:
            return None
        held = [(slot, line) for slot, line in enumerate(lines) if slot not in gone]
        rows = [line for _, line in held]
        ordered = book.policy.ordered(book.policy.as_written(held), book.policy.lines)
        if all(first is second for first, second in zip(rows, ordered, strict=True)):
            return None
        place_of = {id(line): place for place, line in enumerate(ordered)}
        ranks = [len(lines)] * len(lines)
        for slot, line in held:
            ranks[slot] = place_of[id(line)]
        return ranks

    def memory_bytes(self) -> int:
        """Return the bytes of everything that these rows hold, each object counted once."""
        return _size(
            [
                self.lines,
                self.book.remembered,
                self.groups_of,
                self.places_of,
                self.groups,
                self.effect,
                self.book.roles,
            ],
            set(),
        )


class _Placed:
    """Rows on their way into groups: those of a known shape, those of a new one, and the loose."""

    def __init__(self, book: Rulebook, keys: dict[ShapeKey, int], groups: Sequence[Group]) -> None:
        self._book = book
        self.keys = keys
        self.layouts = [group.layout for group in groups]
        self._counts = [len(group.rows) for group in groups]
        self._rows: list[list[Row]] = [[] for _ in groups]
        self._slots: list[list[int]] = [[] for _ in groups]
        self._columns: list[Columns] = [()] * len(groups)
        self.loose: list[int] = []
        self.groups_of: array[int] = array("q")
        self.places_of: array[int] = array("q")

    def put_all(self, rows: Sequence[Row], start: int) -> None:
        """Place rows whose slots begin at `start`. Raises `RowRefused` for one that nothing can judge within bounds."""
        self.groups_of = array("q", [_LOOSE]) * len(rows)
        self.places_of = array("q", [0]) * len(rows)
        self._sort(rows, start)
        for at, layout in enumerate(self.layouts):
            slots = self._slots[at]
            try:
                columns, unfit = layout.fit(self._rows[at], self._book.evaluation)
            except RowRefused as refused:
                row = rows[slots[refused.place] - start]
                where = self._book.policy.place(row)
                raise RowRefused(refused.message, refused.place, where=where, row=row) from None
            if unfit:
                self.loose += [slots[place] for place in unfit]
                kept = [place for place in range(len(slots)) if place not in unfit]
                columns = [[column[place] for place in kept] for column in columns]
                slots = self._slots[at] = [slots[place] for place in kept]
                self._rows[at] = [self._rows[at][place] for place in kept]
            self._columns[at] = columns
            for place, slot in enumerate(slots, self._counts[at]):
                self.groups_of[slot - start] = at
                self.places_of[slot - start] = place
        self.loose.sort()

    def _sort(self, rows: Sequence[Row], start: int) -> None:
        """Put rows into their groups by the shape of their texts, where they have any."""
        size = len(self._book.policy.columns)
        if self._book.shapes is None and rows and set(map(len, rows)) == {size}:
            self._number(rows[0])  # makes the one group at first sight
            number = self.keys[()]
            self._rows[number], self._slots[number] = list(rows), list(range(start, start + len(rows)))
            return
        for slot, row in enumerate(rows, start):
            found = self._number(row) if len(row) == size else None
            if found is None:
                self.loose.append(slot)
            else:
                self._rows[found[0]].append(found[1])
                self._slots[found[0]].append(slot)

    def _number(self, row: Row) -> tuple[int, Row] | None:
        """Return the group of a row and the row with its literals behind, or `None` for a loose one."""
        book = self._book
        key: ShapeKey = ()
        held = row
        layout = book.layout
        if book.shapes is not None:
            key, shape, literals = book.shapes.of(row)
            if shape is None:
                return None
            held = [*row, *literals] if literals else row
            if key not in self.keys:
                layout = Layout(shape.tree, shape.names, book.policy.places)
        if key not in self.keys and layout is not None:
            self.keys[key] = len(self.layouts)
            self.layouts.append(layout)
            self._counts.append(0)
            self._rows.append([])
            self._slots.append([])
            self._columns.append(())
        return self.keys[key], held

    def group(self, number: int, effect: Effect) -> Group:
        """Return a new group of the rows placed in it."""
        book, slots = self._book, self._slots[number]
        words = Words(effect.name, [effect.words[slot] for slot in slots])
        roles, columns = tuple(book.roles.values()), self._columns[number]
        layout = self.layouts[number]
        return Group(layout, book.evaluation, roles, self._rows[number], slots, columns, words, book.remembered)

    def changed(self, number: int, group: Group, gone: list[int], effect: Effect) -> Group:
        """Return a group with the rows placed in it, and without those at these places; itself where nothing moved."""
        rows = list(zip(self._rows[number], self._slots[number], strict=True))
        if not rows and not gone:
            return group
        slots = [*group.slots, *self._slots[number]]
        alone = len(slots) == len(effect.words)  # then places are slots
        words = Words(effect.name, effect.words if alone else [effect.words[slot] for slot in slots])
        return group.changed(rows, self._columns[number], gone, words)


def _words(book: Rulebook, rows: Iterable[Row]) -> list[int]:
    """Return what each row's effect counts as; without an effect column every row allows."""
    place = book.names.columns.get("p_eft")
    if place is None:
        return [word("allow") for _ in rows]
    return [word(row[place]) if len(row) > place else 0 for row in rows]


def _size(held: Any, seen: set[int]) -> int:
    """Return the bytes of an object and all that it holds, each counted once. What is the process's is not counted."""
    total = 0
    waiting = [held]
    while waiting:
        item = waiting.pop()
        if id(item) in seen or isinstance(item, type | Logger) or callable(item):
            continue
        seen.add(id(item))
        total += sys.getsizeof(item)
        if isinstance(item, Mapping):
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple | set | frozenset):
            waiting += item
        else:
            waiting += getattr(item, "__dict__", {}).values()
            slots = [name for kind in type(item).__mro__ for name in getattr(kind, "__slots__", ())]
            waiting += [getattr(item, name) for name in slots if hasattr(item, name)]
    return total
