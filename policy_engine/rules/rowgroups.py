"""A group of rows under one matcher: the selection that finds them, and what is left to Casbin's evaluator.

Rules of the room: rows of a group have places of their own from 0; `slots` says which row of the policy each one is.
What the evaluator found for a row is remembered only under scalars (type and value) that the request showed, never an
object, in a store of so many bytes that is emptied when it is full.
Left to others: the order among groups and the effect (`rules.enforcer`), taking a matcher apart (`rules.selectors`).
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

from policy_engine.core.columns import FREE
from policy_engine.core.effects import Words
from policy_engine.core.keys import EqualKey, HeldKey
from policy_engine.core.lookup import Found
from policy_engine.core.postings import ascending
from policy_engine.core.roles import Roles
from policy_engine.core.selection import Columns, Selection
from policy_engine.core.terms import SCALARS, Column, Selector
from policy_engine.errors import LoadRefused
from policy_engine.rules.evaluation import Evaluation, as_match
from policy_engine.rules.expressions import IMPURE, REQUEST, Names, reads
from policy_engine.rules.readers import Reader, reader_of
from policy_engine.rules.remembered import Outcomes, Remembered
from policy_engine.rules.selectors import Cell, Inverter, Joined, Leaf, NotFit, Part, Positions

_WAYS_COUNT = 256
"""Keys are taken as long as rows have conditions in no more different ways than this."""
_NARROWED_KINDS_MIN = 8
"""A key that only narrows is worth its step from so many beginnings of patterns on."""


Row = Sequence[Any]


class RowRefused(LoadRefused):
    """A row cannot be held at all; `place` is which one of those that were to be fitted, `row` what it says."""

    def __init__(self, message: str, place: int, *, where: str | None = None, row: Row = ()) -> None:
        self.place = place
        self.row = row
        super().__init__(message, where=where)


def _asking(row: Row) -> bool:
    """Say of a row of a cell that is never free that it asks something."""
    return False


class Layout:
    """A matcher taken apart: where cells come from, how terms are built, what is read of a request."""

    def __init__(self, tree: ast.expr, names: Names, roles: Mapping[str, int]) -> None:
        self.names = names
        positions = Positions(names, tuple(roles))
        split = Inverter(names, roles, positions).split(tree)
        self.leaves: list[Leaf] = []
        self.parts = tuple(self._numbered(part) for part in split.parts)
        self.cells = [leaf.cell for leaf in self.leaves if leaf.cell is not None]
        self.rest = split.rest
        self.asked = tuple(positions.nodes)

    def _numbered(self, part: Part) -> Part:
        if isinstance(part, Joined):
            return Joined(part.kind, tuple(self._numbered(inner) for inner in part.parts))
        self.leaves.append(part)
        return part

    def fit(self, rows: Sequence[Row], evaluation: Evaluation) -> tuple[list[list[Any]], set[int]]:
        """Return the columns of cells of some rows, and the places of rows that the terms cannot hold.

        Raises `RowRefused` for a row that nothing here can judge within bounds.
        """
        unfit: set[int] = set()
        written = _written(rows)
        columns = [self._column(cell, rows, written, evaluation, unfit) for cell in self.cells]
        return columns, unfit

    def _column(
        self,
        cell: Cell,
        rows: Sequence[Row],
        written: Sequence[Sequence[Any]],
        evaluation: Evaluation,
        unfit: set[int],
    ) -> list[Any]:
        """Return one column; a cell is read once for all rows that say the same in the same types."""
        places = self._places(cell)
        if len(places) == 1 and places[0] < len(written):
            said = list(written[places[0]])
            alike = set(map(type, said)) == {str}
        else:
            said = [tuple([row[place] for place in places]) for row in rows]
            alike = all(type(value) is str for row in said for value in row)
        if not alike:
            said = [repr(value) for value in said]  # 1, 1.0 and True are equal, and not the same to every expression
        # Every value is read with the last row that says it, and refused with the first.
        reading = self._reading(cell, evaluation)
        read = {value: reading(row) for value, row in dict(zip(said, rows, strict=True)).items()}
        column = [read[value] for value in said]
        if any(type(found) is LoadRefused for found in read.values()):
            place = next(place for place, found in enumerate(column) if type(found) is LoadRefused)
            raise RowRefused(column[place].message, place)
        if any(found is NotFit for found in read.values()):
            unfit.update(place for place, found in enumerate(column) if found is NotFit)
        return column

    def _reading(self, cell: Cell, evaluation: Evaluation) -> Callable[[Row], Any]:
        """Return what reads the cell of a row: it gives the cell, `NotFit` itself, or why the row is refused."""
        free = _asking if cell.free is None else self._valuing(cell.free, evaluation)
        values = [self._valuing(node, evaluation) for node in cell.nodes]
        only = values[0] if len(values) == 1 else None

        def read(row: Row) -> Any:
            try:
                is_free = free(row)
                if type(is_free) is not bool:
                    return NotFit
                found = [value(row) for value in values] if only is None else only(row)
                return FREE if is_free else cell.read(found)
            except NotFit:
                return NotFit
            except LoadRefused as refused:
                return LoadRefused(refused.message)

        return read

    def _places(self, cell: Cell) -> list[int]:
        nodes = [*cell.nodes, *([] if cell.free is None else [cell.free])]
        named = {part.id for node in nodes for part in ast.walk(node) if isinstance(part, ast.Name)}
        return [place for name, place in self.names.columns.items() if name in named]

    def _valuing(self, node: ast.expr, evaluation: Evaluation) -> Callable[[Row], Any]:
        """Return what gives the value of an expression over a row, or raises `NotFit`; made once for all rows."""

        def evaluated(row: Row) -> Any:
            try:
                return evaluation.of(node, dict(zip(self.names.columns, row, strict=False)))
            except Exception:  # noqa: BLE001  a row that raises by itself is asked one by one, and raises then
                raise NotFit from None

        if isinstance(node, ast.Name):
            return itemgetter(self.names.columns[node.id])
        if isinstance(node, ast.Constant):
            held = node.value
            return lambda row: held
        if not isinstance(node, ast.Compare) or len(node.ops) != 1 or not isinstance(node.ops[0], ast.Eq):
            return evaluated
        left, right = (self._valuing(side, evaluation) for side in (node.left, node.comparators[0]))

        def compared(row: Row) -> Any:
            first, second = left(row), right(row)
            return first == second if type(first) in SCALARS and type(second) in SCALARS else evaluated(row)

        return compared

    def built(self, part: Part, columns: Columns) -> Selector:
        """Return the term of a part over these columns."""
        if isinstance(part, Joined):
            term: Selector = part.kind([self.built(inner, columns) for inner in part.parts])
            return term
        if part.cell is None:
            return part.build(Column(0, []))
        at = self.place(part)
        return part.build(Column(at, list(columns[at])))

    def place(self, leaf: Leaf) -> int:
        """Return where a leaf's cell stands among a row's cells."""
        return next(at for at, cell in enumerate(self.cells) if cell is leaf.cell)


class Group:
    """Rows under one matcher. `rows` are the policy's rows with the values of their literals behind, by place."""

    def __init__(
        self,
        layout: Layout,
        evaluation: Evaluation,
        roles: Sequence[Roles],
        rows: list[Row],
        slots: list[int],
        columns: Columns,
        words: Words,
        remembered: Remembered,
    ) -> None:
        self.layout = layout
        self.rows = rows
        self.slots = slots
        keyed = self._keyed(columns)
        # A part without a key is a term; so is one whose key does no more than narrow.
        exact = [leaf for leaf in keyed if not leaf.narrows]
        self.terms: tuple[Selector, ...] = tuple(
            layout.built(part, columns) for part in layout.parts if not any(part is leaf for leaf in exact)
        )
        keys = [(leaf.key, layout.place(leaf)) for leaf in keyed if leaf.key is not None]
        self.selection = Selection(keys, self.terms, columns, len(rows), words)
        self._bind(evaluation, roles, remembered)

    def _bind(self, evaluation: Evaluation, roles: Sequence[Roles], remembered: Remembered) -> None:
        layout = self.layout
        self._evaluation = evaluation
        self._roles = tuple(roles)
        self._readers = tuple(reader_of(node, layout.names, evaluation.of_request) for node in layout.asked)
        self._more = bool(self._roles or self._readers)
        self.rest = Rest(layout, evaluation, remembered) if layout.rest else None

    def _keyed(self, columns: Columns) -> list[Leaf]:
        """Return which parts become keys: those that part the rows best, while rows name them in few ways."""
        layout = self.layout
        leaves = [part for part in layout.parts if isinstance(part, Leaf) and part.key is not None]
        kinds = {id(leaf): _kinds_count(leaf, columns[layout.place(leaf)]) for leaf in leaves}
        leaves.sort(key=lambda leaf: (not isinstance(leaf.key, EqualKey), -kinds[id(leaf)]))
        presence: list[int] | None = None
        keyed: list[Leaf] = []
        for leaf in leaves:
            if leaf.narrows and kinds[id(leaf)] < _NARROWED_KINDS_MIN:
                continue
            if leaf.cell is not None and (leaf.cell.free is not None or isinstance(leaf.key, HeldKey)):
                column = columns[layout.place(leaf)]
                wider = [
                    held * 2 + (cell is FREE) for held, cell in zip(presence or [0] * len(column), column, strict=True)
                ]
                if len(set(wider)) > _WAYS_COUNT:
                    continue
                presence = wider
            keyed.append(leaf)
        return keyed

    def values(self, request: Sequence[Any]) -> Sequence[Any]:
        """Return what keys and terms read: the request's own values, graphs of roles, and what readers find."""
        if not self._more:
            return request
        if not self._readers:
            return (*request, *self._roles)
        return (*request, *self._roles, *[read(request) for read in self._readers])

    def ordered(self, found: Found) -> Iterable[int]:
        """Return places in order, lazily where they are bits."""
        return ascending(found) if isinstance(found, int) else found

    def bound(self, evaluation: Evaluation, roles: Sequence[Roles], remembered: Remembered) -> Group:
        """Return the group under other functions and links of roles; rows and terms are shared."""
        copy: Group = object.__new__(Group)
        copy.__dict__.update(self.__dict__)
        copy._bind(evaluation, roles, remembered)
        return copy

    def changed(self, add: Sequence[tuple[Row, int]], columns: Columns, remove: Sequence[int], words: Words) -> Group:
        """Return the group with rows (and their slots) added behind all others, and the rows at these places removed.

        `columns` are the cells of the rows added.
        """
        copy: Group = object.__new__(Group)
        copy.__dict__.update(self.__dict__)
        held, _ = self.layout.fit([self.rows[place] for place in remove], self._evaluation)
        gone = dict(zip(remove, zip(*held, strict=True) if held else [()] * len(remove), strict=True))
        cells = zip(*columns, strict=True) if columns else [()] * len(add)
        come = {len(self.rows) + at: row for at, row in enumerate(cells)}
        copy.rows = self.rows + [row for row, _ in add]
        copy.slots = self.slots + [slot for _, slot in add]
        copy.terms = tuple(term.changed(come, gone) for term in self.terms)
        copy.selection = self.selection.changed(copy.terms, come, gone, words)
        return copy


def _kinds_count(leaf: Leaf, column: Sequence[Any]) -> int:
    """Return in how many kinds a part's key sorts the cells of a column."""
    return len({cell.prefix for cell in column}) if leaf.narrows else len(set(column))


def _written(rows: Sequence[Row]) -> list[list[Any]]:
    """Return what rows of one length say, by place; none of rows that differ in length. Each row is read once."""
    lengths = set(map(len, rows))
    if len(lengths) != 1:
        return []
    length = lengths.pop()
    every = list(chain.from_iterable(rows))
    return [every[place::length] for place in range(length)]


class Rest:
    """The part of a matcher that is left to Casbin's evaluator, with what it found before."""

    def __init__(self, layout: Layout, evaluation: Evaluation, remembered: Remembered) -> None:
        names = layout.names
        self._evaluation = evaluation
        self._columns = tuple(names.columns)
        self._node = layout.rest[0] if len(layout.rest) == 1 else ast.BoolOp(ast.And(), list(layout.rest))
        self._remembered = remembered
        self._readers: tuple[Reader, ...] | None = None
        if not reads(self._node, names) & IMPURE:
            asked = _requests(self._node, names)
            self._readers = tuple(reader_of(node, names, evaluation.of_request) for node in asked)
        named = {node.id for node in ast.walk(self._node) if isinstance(node, ast.Name)}
        self._places = tuple(place for name, place in names.columns.items() if name in named)
        self._typed = any(place >= len(evaluation.columns) for place in self._places)

    def judge(self, request: Sequence[Any]) -> Callable[[Row], bool]:
        """Return what tells of a row whether the rest holds for a request. It raises what Casbin's evaluator raises."""
        asked = dict(zip(self._evaluation.tokens, request, strict=False))
        evaluate = self._evaluation.evaluator()
        node, columns = self._node, self._columns

        def evaluated(row: Row) -> bool:
            names = dict(zip(columns, row, strict=False))
            names.update(asked)
            found = evaluate(node, names)
            return found if found is True or found is False else as_match(found)

        outcomes = None
        if self._readers is not None:
            outcomes = self._remembered.outcomes(self, [read(request) for read in self._readers])
        return evaluated if outcomes is None else self._remembering(outcomes, evaluated)

    def _remembering(self, outcomes: Outcomes, evaluated: Callable[[Row], bool]) -> Callable[[Row], bool]:
        places, typed, keep = self._places, self._typed, self._remembered.keep

        def remembered(row: Row) -> bool:
            cells: tuple[Any, ...] = tuple([row[place] for place in places])
            if typed:  # 1, 1.0 and True are equal, and not the same to every expression
                cells = (*cells, *map(type, cells))
            found = outcomes.get(cells)
            if found is None:
                found = evaluated(row)
                keep(outcomes, cells, found)
            return found

        return remembered


def _requests(node: ast.expr, names: Names) -> list[ast.expr]:
    """Return the largest expressions inside one that read the request and nothing else."""
    sides = reads(node, names)
    if sides == REQUEST and not isinstance(node, ast.Starred):
        return [node]
    inner = [part.value if isinstance(part, ast.keyword) else part for part in ast.iter_child_nodes(node)]
    return [found for part in inner if isinstance(part, ast.expr) for found in _requests(part, names)]
