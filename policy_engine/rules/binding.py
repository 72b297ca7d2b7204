"""How a matcher uses the ids of a request: which of them the rows can name one by one, for whoever lists them.

Rules of the room: the matcher is read as `rules.plainmodel` parsed it, and never run. What is not understood is not
bound, so that a listing that rests on it never calls itself complete.
Left to others: the ids themselves (`services.plainsearch`).
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Final

from policy_engine.core.plain import Use
from policy_engine.core.release import Token
from policy_engine.rules.plainmodel import PlainModel

_ANY: Final = "*"
_IDS: Final = ("subject.id", "resource.id", "action.name", "context.tenant")
"""The ids of a request by their paths; each is read by a token of its own, or as a member of an object."""


def uses_of(model: PlainModel, tokens: Iterable[Token]) -> dict[str, Use]:
    """Return how the matcher uses each id of a request, by its path; ids that no token holds are left out."""
    found: dict[str, Use] = {}
    for path in _IDS:
        root, _, member = path.partition(".")
        names = {token.name: token.source for token in tokens if token.source in (path, root)}
        if names:
            whole = {f"r_{name}" for name, source in names.items() if source == path}
            inside = {(f"r_{name}", member) for name, source in names.items() if source == root}
            found[path] = _Reader(model, whole, inside).use(names)
    return found


class _Reader:
    """Reads a matcher for one id: the tokens that are it, and the members of objects that are."""

    def __init__(self, model: PlainModel, whole: set[str], inside: set[tuple[str, str]]) -> None:
        self._model = model
        self._whole, self._inside = whole, inside
        self._columns: set[str] = set()

    def use(self, tokens: Iterable[str]) -> Use:
        nodes = list(ast.walk(self._model.matcher))
        calls = [node for node in nodes if isinstance(node, ast.Call) and node.args and self._is_id(node.args[0])]
        sides = [side for node in nodes if isinstance(node, ast.Compare) for side in self._sides(node)]
        read = [*sides, *(argument for call in calls for argument in call.args[:2])]
        self._columns = {*tokens, *(column for node in read if (column := _column(node)))} & set(self._model.columns)
        roles = {_called(call) for call in calls} & self._model.roles.keys()
        texts = {part.value for side in sides for part in ast.walk(side) if isinstance(part, ast.Constant)}
        words = {text for text in texts if isinstance(text, str)}
        return Use(frozenset(self._columns), frozenset(roles), frozenset(words), self._binds(self._model.matcher))

    def _sides(self, node: ast.Compare) -> list[ast.expr]:
        """Return the sides of a comparison that holds the id against something."""
        sides = [node.left, *node.comparators]
        return sides if any(map(self._is_id, sides)) else []

    def _binds(self, node: ast.expr) -> bool:
        """Return whether no id passes that neither the columns nor the roles name; a `*` in them may stand for any."""
        if isinstance(node, ast.BoolOp):
            return (any if isinstance(node.op, ast.And) else all)(map(self._binds, node.values))
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], ast.Eq):
            left, right = node.left, node.comparators[0]
            column, other = (left, right) if _column(left) else (right, left)
            any_id = isinstance(other, ast.Constant) and other.value == _ANY
            return _column(column) in self._columns and (any_id or self._is_id(other))
        if isinstance(node, ast.Call) and _called(node) in self._model.roles and len(node.args) > 1:
            return self._is_id(node.args[0]) and _column(node.args[1]) in self._columns
        return False

    def _is_id(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            return (node.value.id, node.attr) in self._inside
        return isinstance(node, ast.Name) and node.id in self._whole


def _column(node: ast.expr) -> str:
    return node.id.removeprefix("p_") if isinstance(node, ast.Name) and node.id.startswith("p_") else ""


def _called(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""
