"""A matcher as its conjuncts: which request tokens and which policy column each one reads, and how.

Rules of the room: the text is Casbin's own, after Casbin's own preprocessing; it is parsed with `ast` and never run.
Understood are `r.x == p.x`, `p.x == "*" || r.x == p.x`, `g(r.x, p.g)`, `g(r.x, p.g, r.d)`, `g(r.x, p.g, p.d)` and the
published functions, joined by `&&`. Everything else is refused by its own text.
Left to others: turning a conjunct into a term (`rules.compile`).
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from policy_engine.errors import LoadRefused
from policy_engine.rules.functions import ANY, PUBLISHED
from policy_engine.rules.parsing import casbin_expression
from policy_engine.rules.stumbles import NEEDED_SECTIONS

EQUAL = "equal"
EQUAL_OR_ANY = "equal-or-any"
PATTERNS = frozenset(
    ("keyMatch", "keyMatch2", "keyMatch3", "keyMatch4", "keyMatch5", "regexMatch", "globMatch", "ipMatch", "timeMatch")
)
"""Functions of Casbin whose cost or answer is not bounded by what a policy writes."""


@dataclass(frozen=True, slots=True)
class Conjunct:
    """One term of a matcher. `function` is `equal`, `equal-or-any`, the name of a role definition or of a function.

    `tokens` are request tokens by name in the order they are read; `column` is the policy column; `domain_column` is
    set where the policy row names the domain of `g`.
    """

    function: str
    tokens: tuple[str, ...]
    column: str
    domain_column: str | None = None


def request_tokens(model: Any) -> tuple[str, ...]:
    """Return the names in `r = ...`."""
    return tuple(token.removeprefix("r_") for token in model["r"]["r"].tokens)


def policy_columns(model: Any) -> tuple[str, ...]:
    """Return the names in `p = ...`."""
    return tuple(token.removeprefix("p_") for token in model["p"]["p"].tokens)


def split_matcher(model: Any, where: str) -> tuple[Conjunct, ...]:
    """Return the conjuncts of a Casbin model's matcher. Raises `LoadRefused` by name for what is not understood."""
    refuse_contexts(model, where)
    text = model["m"]["m"].value
    try:
        # The same text that the stock enforcer evaluates: `&&` is `and`, `||` is `or`, `!` is `not`.
        tree = casbin_expression(text).ast_parsed_value
    except (SyntaxError, IndexError, AttributeError, ValueError, RecursionError):
        raise LoadRefused("the matcher is no expression; correct the line `m = ...`", where=where) from None
    reader = _Reader(model, where)
    return tuple(reader.conjunct(part) for part in _flatten(tree))


def _flatten(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
        return [part for value in node.values for part in _flatten(value)]
    return [node]


def refuse_contexts(model: Any, where: str, place: Callable[[str, str], str] | None = None) -> None:
    """Refuse second definitions (`r2`), conditional roles and roles of other places by name. Raises `LoadRefused`.

    `place` tells, where a file is known, where a definition stands that has this name in the section of this title.
    """

    def at(title: str, key: str) -> str:
        return where if place is None else place(title, key)

    for section, title in NEEDED_SECTIONS.items():
        for key in model[section]:
            if key != section:
                message = f"a second definition `{key}` is not supported; keep one `{section}`"
                raise LoadRefused(message, where=at(title, key))
    for key, roles in (model["g"] or {}).items():
        if roles.params_tokens:
            message = f"conditional roles (`{key}`) are not supported; use plain `_` places"
            raise LoadRefused(message, where=at("role_definition", key))
        if roles.value.count("_") not in (2, 3):
            raise LoadRefused(f"`{key}` must have two or three places `_`", where=at("role_definition", key))


class _Reader:
    """Reads one conjunct against the names that a model defines."""

    def __init__(self, model: Any, where: str) -> None:
        self._tokens = frozenset(request_tokens(model))
        self._columns = frozenset(policy_columns(model))
        self._roles = {key: roles.value.count("_") for key, roles in (model["g"] or {}).items()}
        self._where = where

    def conjunct(self, node: ast.expr) -> Conjunct:
        if isinstance(node, ast.Compare):
            return self._equality(node, EQUAL)
        if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or) and len(node.values) == 2:
            return self._any_or_equality(node)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            return self._call(node, node.func.id)
        raise self._refused(node)

    def _equality(self, node: ast.Compare, function: str) -> Conjunct:
        if len(node.ops) == 1 and isinstance(node.ops[0], ast.Eq):
            sides = dict(self._side(side, node) for side in (node.left, node.comparators[0]))
            if sides.keys() == {"r", "p"}:
                return Conjunct(function, (sides["r"],), sides["p"])
        raise self._refused(node)

    def _any_or_equality(self, node: ast.BoolOp) -> Conjunct:
        wild = [part for part in node.values if self._is_any(part)]
        rest = [part for part in node.values if not self._is_any(part)]
        if len(wild) == 1 and isinstance(rest[0], ast.Compare):
            found = self._equality(rest[0], EQUAL_OR_ANY)
            if found.column == self._is_any(wild[0]):
                return found
        raise self._refused(node)

    def _is_any(self, node: ast.expr) -> str | None:
        """Return the column that a part `p.x == "*"` compares, if it is one."""
        if not (isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], ast.Eq)):
            return None
        left, right = node.left, node.comparators[0]
        for name, text in ((left, right), (right, left)):
            if isinstance(text, ast.Constant) and text.value == ANY and isinstance(name, ast.Name):
                side, column = self._side(name, node)
                return column if side == "p" else None
        return None

    def _call(self, node: ast.Call, name: str) -> Conjunct:
        if name in self._roles:
            return self._role(node, name)
        function = PUBLISHED.get(name)
        if function is None:
            raise self._refused(node, name)
        sides = [self._side(argument, node) for argument in node.args]
        if tuple(side for side, _ in sides) != function.arguments:
            wanted = ", ".join(f"{side}.…" for side in function.arguments)
            raise LoadRefused(f"`{name}` has the wrong arguments; write {name}({wanted})", where=self._where)
        if name in ("grouped", "outside") and self._roles.get("g") != 3:
            raise LoadRefused(f"`{name}` needs `g = _, _, _` under [role_definition]", where=self._where)
        tokens = tuple(found for side, found in sides if side == "r")
        return Conjunct(name, tokens, next(found for side, found in sides if side == "p"))

    def _role(self, node: ast.Call, name: str) -> Conjunct:
        sides = [self._side(argument, node) for argument in node.args]
        kinds = "".join(side for side, _ in sides)
        if len(sides) != self._roles[name] or kinds not in ("rp", "rpr", "rpp"):
            raise self._refused(node)
        tokens = tuple(found for side, found in sides if side == "r")
        domain = sides[2][1] if kinds == "rpp" else None
        return Conjunct(name, tokens, sides[1][1], domain)

    def _side(self, node: ast.expr, whole: ast.expr) -> tuple[str, str]:
        if isinstance(node, ast.Name):
            side, _, name = node.id.partition("_")
            if (side == "r" and name in self._tokens) or (side == "p" and name in self._columns):
                return side, name
            if side in ("r", "p"):
                raise LoadRefused(
                    f"the matcher reads `{side}.{name}`, which is not defined; define it or correct the name",
                    where=self._where,
                )
        raise self._refused(whole)

    def _refused(self, node: ast.expr, name: str | None = None) -> LoadRefused:
        if name in PATTERNS or name == "eval":
            message = f"`{name}` is an unbounded pattern; use a published function or an equality"
        elif name is not None:
            message = f"the function `{name}` is not published; use one of {', '.join(PUBLISHED)}"
        else:
            message = (
                f"the matcher term `{ast.unparse(node)}` is not supported; use an equality, g() or a published function"
            )
        return LoadRefused(message, where=self._where)
