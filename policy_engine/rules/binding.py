"""How a matcher uses the ids of a request: which of them the rows can name one by one, for whoever lists them.

Rules of the room: the matcher is read as `rules.plainmodel` parsed it, and never run. What is not understood is not
bound, so that a listing that rests on it never calls itself complete.
Left to others: the ids themselves (`services.plainsearch`).
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from policy_engine.core.plain import Use
from policy_engine.core.release import Token

_ANY: Final = "*"
_MEMBER: Final[Mapping[str, str | None]] = {
    "subject.id": None,
    "resource.id": None,
    "action.name": None,
    "context.tenant": None,
    "subject": "id",
    "resource": "id",
    "action": "name",
}
"""Where the id stands in what a token of this source holds; `None` where the token is the id itself."""


def uses_of(matcher: ast.expr, tokens: Iterable[Token], roles: Collection[str]) -> dict[str, Use]:
    """Return by token how the matcher uses the id that it holds; tokens that hold none are left out."""
    return {
        token.name: _Reader(token.name, _MEMBER[token.source], roles).use(matcher)
        for token in tokens
        if token.source in _MEMBER
    }


class _Reader:
    """Reads a matcher for the id in one token, which is compared with the column that is named like it."""

    def __init__(self, name: str, member: str | None, roles: Collection[str]) -> None:
        self._token, self._column = f"r_{name}", f"p_{name}"
        self._member = member
        self._roles = roles

    def use(self, matcher: ast.expr) -> Use:
        calls = [node for node in ast.walk(matcher) if isinstance(node, ast.Call)]
        roles = {_called(call) for call in calls if call.args and self._is_id(call.args[0])} & set(self._roles)
        words = {word for node in ast.walk(matcher) if isinstance(node, ast.Compare) for word in self._words(node)}
        return Use(frozenset(roles), frozenset(words), self._binds(matcher))

    def _words(self, node: ast.Compare) -> list[str]:
        """Return the texts that a comparison holds the id against."""
        sides = (node.left, *node.comparators)
        if not any(map(self._is_id, sides)):
            return []
        parts = [part for side in sides for part in ast.walk(side) if isinstance(part, ast.Constant)]
        return [part.value for part in parts if isinstance(part.value, str)]

    def _binds(self, node: ast.expr) -> bool:
        """Return whether no id passes that the row's column and the roles do not name; `*` in it may stand for any."""
        if isinstance(node, ast.BoolOp):
            return (any if isinstance(node.op, ast.And) else all)(map(self._binds, node.values))
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], ast.Eq):
            left, right = node.left, node.comparators[0]
            column, other = (left, right) if self._is_column(left) else (right, left)
            any_id = isinstance(other, ast.Constant) and other.value == _ANY
            return self._is_column(column) and (any_id or self._is_id(other))
        if isinstance(node, ast.Call) and _called(node) in self._roles and len(node.args) > 1:
            return self._is_id(node.args[0]) and self._is_column(node.args[1])
        return False

    def _is_id(self, node: ast.expr) -> bool:
        if self._member is not None:
            return isinstance(node, ast.Attribute) and node.attr == self._member and self._is_token(node.value)
        return self._is_token(node)

    def _is_token(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Name) and node.id == self._token

    def _is_column(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Name) and node.id == self._column


def _called(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""
