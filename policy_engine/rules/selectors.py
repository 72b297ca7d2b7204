"""From conjuncts of a matcher to keys and terms: what can be found from the request's values without a scan.

Rules of the room:
- A part is inverted only where it is known what it gives for every row and every readable value: true or false, never
  an error. Everything else is left in `rest`, in its order, to Casbin's evaluator, and so is what stands behind a part
  that may raise, for a row that raises must be met in its turn.
- A row whose cells do not fit (a pattern that does not compile, texts among numbers) is refused by `Cell.read`, and
  goes to the rows that are always asked one by one.
Left to others: the data behind terms (`core.terms`), readers (`rules.readers`), rows (`rules.rowgroups`).
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any, Final

from policy_engine.core import joined, matching, published, terms
from policy_engine.core.columns import FREE, Key
from policy_engine.core.keys import AddressKey, EqualKey, HeldKey, PrefixKey, RoleKey, ValuesKey
from policy_engine.core.terms import Column, Selector
from policy_engine.errors import LoadRefused
from policy_engine.rules.compile import published_term
from policy_engine.rules.expressions import IMPURE, POLICY, REQUEST, Names, conjuncts, reads
from policy_engine.rules.functions import ANY, PUBLISHED
from policy_engine.rules.patterns import bind
from policy_engine.rules.readers import ADDRESS

Build = Callable[[Column], Selector]
Read = Callable[[Any], Any]
"""From what an expression gives for a row to a cell. Raises `NotFit` for what the term cannot hold."""

_TEXT_PATTERNS: Final = frozenset(
    ("keyMatch", "keyMatch2", "keyMatch3", "keyMatch4", "keyMatch5", "regexMatch", "globMatch")
)
_ORDERS: Final = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
_TURNED: Final = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


class NotFit(Exception):
    """A row's cell is nothing that the term can hold."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What a term takes of each row: an expression over the row (several: a tuple of them), and how it is read.

    `free`: an expression that, where it is true, makes the row ask nothing.
    """

    nodes: tuple[ast.expr, ...]
    read: Read
    free: ast.expr | None = None


@dataclass(frozen=True, slots=True)
class Leaf:
    """One inverted part: its cell, the term over it, and the key, where it can be one of the lookup's.

    `narrows`: the key alone leaves rows that the term must still test.
    """

    cell: Cell | None
    build: Build
    key: Key | None = None
    narrows: bool = False


@dataclass(frozen=True, slots=True)
class Joined:
    """Parts under `or`, `and` or `not`."""

    kind: type
    parts: tuple[Leaf | Joined, ...]


Part = Leaf | Joined


@dataclass(frozen=True, slots=True)
class Split:
    """A conjunction taken apart: what is inverted, and what is left to the evaluator, from left to right."""

    parts: tuple[Part, ...]
    rest: tuple[ast.expr, ...]


class Positions:
    """Where in the values each thing that a matcher reads stands: tokens, then graphs of roles, then the others."""

    def __init__(self, names: Names, graphs: Sequence[str]) -> None:
        self._names = names
        self._first = len(names.tokens) + len(graphs)
        self._more: dict[str, int] = {}
        self.graphs = {name: len(names.tokens) + at for at, name in enumerate(graphs)}
        self.nodes: list[ast.expr] = []

    def of(self, node: ast.expr) -> int:
        """Return the position of an expression that reads the request, giving it one at first sight."""
        if isinstance(node, ast.Name):
            return self._names.tokens[node.id]
        text = ast.dump(node)
        if text not in self._more:
            self._more[text] = self._first + len(self.nodes)
            self.nodes.append(node)
        return self._more[text]


class Inverter:
    """Takes the conjuncts of one matcher apart."""

    def __init__(self, names: Names, roles: Mapping[str, int], positions: Positions) -> None:
        self._names = names
        self._roles = roles  # how many places each role definition has
        self._positions = positions

    def split(self, tree: ast.expr) -> Split:
        """Return the inverted parts and the rest of a matcher."""
        parts: list[Part] = []
        rest: list[ast.expr] = []
        late: list[ast.expr] = []
        for node in conjuncts(tree):
            part = None if rest else self.part(node)
            if part is not None:
                parts.append(part)
            elif not rest and self._total(node):
                late.append(node)  # never raises, so it may wait until the inverted parts have narrowed the rows
            else:
                rest.append(node)
        return Split(tuple(parts), (*late, *rest))

    def part(self, node: ast.expr) -> Part | None:
        """Return the inverted form of an expression, or `None` where it has none."""
        if isinstance(node, ast.BoolOp):
            free = self._free(node)
            if free is not None:
                return free
            return self._joined(joined.Either if isinstance(node.op, ast.Or) else joined.Both, node.values)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return self._joined(joined.Negated, [node.operand])
        if isinstance(node, ast.Compare) and len(node.ops) > 1:
            return self._chain(node)
        sides = reads(node, self._names)
        if sides & IMPURE:
            return None
        if sides in (0, POLICY) and not self._asks_roles(node):
            return Leaf(Cell((node,), _truth), terms.Fixed)
        if isinstance(node, ast.Compare):
            found = self._comparison(node.left, node.ops[0], node.comparators[0])
            if found is not None:
                return found
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            found = self._call(node, node.func.id)
            if found is not None:
                return found
        if sides == REQUEST:
            position = self._positions.of(node)
            return Leaf(None, lambda column: terms.Said(position))
        return None

    def _joined(self, kind: type, nodes: Sequence[ast.expr]) -> Joined | None:
        parts = [self.part(node) for node in nodes]
        found = tuple(part for part in parts if part is not None)
        return Joined(kind, found) if len(found) == len(parts) else None

    def _chain(self, node: ast.Compare) -> Joined | None:
        """`a < r.x < b` is `a < r.x` and `r.x < b`."""
        sides = [node.left, *node.comparators]
        pairs = zip(sides, node.ops, sides[1:], strict=False)
        return self._joined(joined.Both, [ast.Compare(left, [op], [right]) for left, op, right in pairs])

    def _free(self, node: ast.BoolOp) -> Leaf | None:
        """`r.x == p.x || p.x == "*"`, and any other equality that a condition on the row sets free."""
        if not isinstance(node.op, ast.Or) or len(node.values) != 2:
            return None
        for part, free in (node.values, node.values[::-1]):
            if reads(free, self._names) != POLICY or not isinstance(part, ast.Compare) or len(part.ops) != 1:
                continue
            leaf = self._comparison(part.left, part.ops[0], part.comparators[0])
            if leaf is not None and isinstance(leaf.key, EqualKey) and leaf.cell is not None:
                return Leaf(Cell(leaf.cell.nodes, leaf.cell.read, free), leaf.build, leaf.key)
        return None

    def _sides(self, left: ast.expr, right: ast.expr) -> str:
        """Return which side reads what: `rp`, `pr`, or nothing where both read both or the same."""
        found = [reads(side, self._names) for side in (left, right)]
        if found[0] == REQUEST and found[1] in (0, POLICY):
            return "rp"
        return "pr" if found[1] == REQUEST and found[0] in (0, POLICY) else ""

    def _comparison(self, left: ast.expr, operator: ast.cmpop, right: ast.expr) -> Leaf | None:
        sides = self._sides(left, right)
        if not sides:
            return None
        asked, written = (left, right) if sides == "rp" else (right, left)
        position = self._positions.of(asked)
        if isinstance(operator, ast.Eq | ast.NotEq):
            return _equality(position, written, negated=isinstance(operator, ast.NotEq))
        if isinstance(operator, ast.In | ast.NotIn):
            return _membership(position, written, sides, negated=isinstance(operator, ast.NotIn))
        sign = _ORDERS.get(type(operator))
        if sign is None:
            return None
        text = self._is_text(written)
        sign = sign if sides == "rp" else _TURNED[sign]
        read = _text if text else _number
        return Leaf(Cell((written,), read), lambda column: terms.Compared(position, sign, column, text=text))

    def _is_text(self, node: ast.expr) -> bool:
        """Return whether an expression over the row gives texts: a column does, and so does a text itself."""
        if isinstance(node, ast.Name):
            return not node.id.startswith("_n")
        return isinstance(node, ast.Constant) and isinstance(node.value, str)

    def _call(self, node: ast.Call, name: str) -> Leaf | None:
        sides = "".join(_letter(reads(argument, self._names)) for argument in node.args)
        if name in self._roles:
            return self._role(node, name, sides)
        if name in self._names.own:
            return None  # the caller's own, whatever else is called so
        if sides == "rp" and name == "ipMatch":
            return _address(self._positions.of(ast.Call(ast.Name(ADDRESS), [node.args[0]], [])), node.args[1])
        if sides == "rp" and name in _TEXT_PATTERNS:
            return _pattern(name, self._positions.of(node.args[0]), node.args[1])
        declared = PUBLISHED.get(name)
        if declared is not None and sides == "".join(declared.arguments):
            return self._published(node, name)
        return None

    def _published(self, node: ast.Call, name: str) -> Leaf | None:
        positions = [self._positions.of(argument) for argument in node.args[::2]]
        written = node.args[1]
        if name == "has":
            held = HeldKey(positions[0])
            return Leaf(Cell((written,), _condition), lambda column: published.HeldBy(positions[0], column), held)
        if name in ("grouped", "outside"):
            graph = self._positions.graphs.get("g")
            if graph is None or self._roles["g"] != 3:
                return None  # raises, as in Casbin without domains
            places, outside = (positions[0], positions[1]), name == "outside"
            build = lambda column: published.Grouped(places, graph, column, outside=outside)  # noqa: E731  one of three
            return Leaf(Cell((written,), _condition), build)
        invert = lambda cells: published_term(name, positions, cells, _no_links)  # noqa: E731  made anew at each change

        def read(value: Any) -> str:
            try:
                published_term(name, positions, (_text(value),), _no_links)
            except ValueError:
                raise NotFit from None
            return str(value)

        return Leaf(Cell((written,), read), lambda column: published.Made(positions, invert, column))

    def _role(self, node: ast.Call, name: str, sides: str) -> Leaf | None:
        if len(sides) != self._roles[name] or sides not in ("rp", "rpr", "rpp"):
            return None
        position, graph = self._positions.of(node.args[0]), self._positions.graphs[name]
        if sides == "rpp":
            there = Cell((node.args[1], node.args[2]), _texts)
            return Leaf(there, lambda column: matching.HasRoleThere(position, graph, column))
        domain = self._positions.of(node.args[2]) if sides == "rpr" else None
        cell = Cell((node.args[1],), _text)
        key = RoleKey(position, domain, graph)
        return Leaf(cell, lambda column: matching.HasRole(position, domain, graph, column), key)

    def _asks_roles(self, node: ast.expr) -> bool:
        """Return whether an expression asks for roles, whose links may change while its row stays."""
        return any(isinstance(part, ast.Name) and part.id in self._roles for part in ast.walk(node))

    def _total(self, node: ast.expr) -> bool:
        """Return whether an expression is a call that is declared never to raise, on plain names."""
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.keywords:
            return False
        declared = self._names.functions.get(node.func.id)
        plain = all(isinstance(argument, ast.Name | ast.Constant) for argument in node.args)
        return declared is not None and declared.total and plain


def _no_links(wanted: set[str]) -> Mapping[str, Mapping[str, frozenset[str]]]:
    return {}


def _condition(value: Any) -> Any:
    return FREE if _text(value) == ANY else value


def _letter(sides: int) -> str:
    return {REQUEST: "r", POLICY: "p", 0: "p"}.get(sides, "?")


def _equality(position: int, written: ast.expr, *, negated: bool) -> Leaf:
    cell = Cell((written,), _scalar)
    if negated:
        return Leaf(cell, lambda column: joined.Negated([terms.Equals(position, column)]))
    return Leaf(cell, lambda column: terms.Equals(position, column), EqualKey(position))


def _membership(position: int, written: ast.expr, sides: str, *, negated: bool) -> Leaf | None:
    build: Build
    key: Key | None = None
    if sides == "rp":
        cell = Cell((written,), _scalars)
        build = lambda column: terms.ElementOf(position, column)  # noqa: E731  one of two ways to build
    else:
        cell = Cell((written,), _scalar)
        build = lambda column: terms.Holds(position, column)  # noqa: E731  one of two ways to build
        key = ValuesKey(position)
    if negated:
        return Leaf(cell, lambda column: joined.Negated([build(column)]))
    return Leaf(cell, build, key)


def _pattern(name: str, position: int, written: ast.expr) -> Leaf:
    def read(value: Any) -> Any:
        if type(value) is not str:
            raise NotFit
        try:
            bound = bind(name, value)
        except LoadRefused:
            raise  # might never end; Casbin would try
        except Exception:  # noqa: BLE001  a pattern that raises at load raises in Casbin whenever a scan reaches it
            raise NotFit from None
        if not bound.total:
            raise NotFit
        return bound

    narrows = name != "keyMatch"  # whose patterns are whole texts or beginnings, and nothing else
    return Leaf(Cell((written,), read), lambda column: matching.Matches(position, column), PrefixKey(position), narrows)


def _address(position: int, written: ast.expr) -> Leaf:
    return Leaf(Cell((written,), _network), lambda column: matching.Addresses(position, column), AddressKey(position))


def _network(value: Any) -> matching.Network:
    """Return a network as Casbin's `ipMatch` reads it; a text that is none holds no address."""
    if type(value) is not str:
        raise NotFit
    try:
        network = ip_network(value, strict=False)
    except ValueError:
        return matching.NO_NETWORK
    length = network.prefixlen
    return network.version, length, int(network.network_address) >> network.max_prefixlen - length


def _truth(value: Any) -> bool:
    if type(value) is not bool:
        raise NotFit
    return value


def _scalar(value: Any) -> Any:
    if type(value) not in terms.SCALARS or value != value:
        raise NotFit
    return value


def _text(value: Any) -> str:
    if type(value) is not str:
        raise NotFit
    return value


def _number(value: Any) -> Any:
    if type(value) not in terms.NUMBERS or value != value:
        raise NotFit
    return value


def _texts(values: Any) -> tuple[str, ...]:
    return tuple([_text(value) for value in values])


def _scalars(value: Any) -> tuple[Any, ...]:
    if type(value) not in terms.COLLECTIONS:
        raise NotFit
    return tuple([_scalar(element) for element in value])
