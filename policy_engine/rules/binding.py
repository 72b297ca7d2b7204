"""How a matcher uses the ids of a request: which of them the rows can name one by one, for whoever lists them.

Rules of the room: the matcher is read as `rules.plainmodel` parsed it, with the texts of rows that it evaluates, and
never run. Whatever stands in one comparison or call with an id may name it. What is not understood is not bound, so
that a listing that rests on it never calls itself complete.
Left to others: the ids themselves (`services.plainsearch`).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final
from unicodedata import normalize

from policy_engine.core.plain import PolicyRows, Use
from policy_engine.core.release import Token
from policy_engine.rules.plainmodel import PlainModel

_ANY: Final = "*"
_IDS: Final = ("subject.id", "resource.id", "action.name", "context.tenant")
"""The ids of a request by their paths; each is read by a token of its own, or as a member of an object."""


class Uses(Mapping[str, Use]):
    """How the matcher uses each id of a request, by its path, read when it is asked for and kept.

    Ids that no token holds are left out.
    """

    def __init__(self, model: PlainModel, tokens: Iterable[Token], rows: PolicyRows) -> None:
        self._model, self._rows = model, rows
        self._tokens: dict[str, dict[str, str]] = {}
        for path in _IDS:
            held = (path, path.partition(".")[0])
            if names := {token.name: token.source for token in tokens if token.source in held}:
                self._tokens[path] = names
        self._known: dict[str, Use] = {}

    def __getitem__(self, path: str) -> Use:
        names = self._tokens[path]
        if path not in self._known:
            self._known[path] = _Reader(self._model, path, names).use(names, self._texts(path, names))
        return self._known[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tokens)

    def __len__(self) -> int:
        return len(self._tokens)

    def _texts(self, path: str, names: Mapping[str, str]) -> Iterator[ast.expr]:
        """Yield the texts of rows that the matcher evaluates and that may read the id, each once."""
        member = path.partition(".")[2]
        others = {name: "" if source == path else rf"(?!\s*\.\s*(?!{member}\b)\w)" for name, source in names.items()}
        read = re.compile("|".join(rf"\br[._]{name}\b{others[name]}" for name in names))
        places = [self._rows.columns.index(name) + 1 for name in self._model.evaluated]
        for text in {row[place] for row in self._rows.lines for place in places} if places else ():
            if read.search(normalize("NFKC", text)):  # as Python reads names
                yield self._model.expression(text)


class _Reader:
    """Reads expressions for one id: the tokens that are it, and the members of objects that are."""

    def __init__(self, model: PlainModel, path: str, names: Mapping[str, str]) -> None:
        self._model = model
        self._member = path.partition(".")[2]
        self._whole = {f"r_{name}" for name, source in names.items() if source == path}
        self._objects = {f"r_{name}" for name, source in names.items() if source != path}
        self._columns: set[str] = set()

    def use(self, tokens: Iterable[str], texts: Iterable[ast.expr]) -> Use:
        read = False
        roles: set[str] = set()
        domains: set[str] = set()
        beside: list[ast.expr] = []
        for tree in (self._model.matcher, *texts):
            read = read or self._reads(tree)
            for node in ast.walk(tree):
                if isinstance(node, ast.Call) and _called(node) in self._model.roles:
                    for parts, asked in ((node.args[:2], roles), (node.args[2:], domains)):
                        if any(map(self._reads, parts)):
                            asked.add(_called(node))
                            beside += parts
                elif isinstance(node, ast.Compare | ast.Call) and self._reads(node):
                    beside.append(node)
        inside = [part for node in beside for part in self._inside(node)]
        words = {part.value for part in inside if isinstance(part, ast.Constant) and isinstance(part.value, str)}
        self._columns = {*tokens, *map(_column, inside)} & set(self._model.columns)
        bound = self._binds(self._model.matcher)
        return Use(frozenset(self._columns), frozenset(roles), frozenset(domains), frozenset(words), bound, read)

    def _reads(self, node: ast.AST) -> bool:
        """Return whether an expression reads the id, or an object that holds it otherwise than by another member."""
        if self._is_id(node):
            return True
        if isinstance(node, ast.Name):
            return node.id in self._objects
        return any(map(self._reads, self._below(node)))

    def _inside(self, node: ast.AST) -> Iterator[ast.AST]:
        """Yield an expression and what it is made of, but nothing of how it names a member of an object."""
        yield node
        for part in self._below(node):
            yield from self._inside(part)

    def _below(self, node: ast.AST) -> Sequence[ast.AST]:
        if self._member_of(node) is not None:
            return ()
        if isinstance(node, ast.Compare):  # `"role" in r.sub` asks about the members and reads none
            held = zip(node.ops, node.comparators, strict=True)
            asked = (side for sign, side in held if isinstance(sign, ast.In | ast.NotIn) and self._is_object(side))
            left_out = set(map(id, asked))
            return [node.left, *(side for side in node.comparators if id(side) not in left_out)]
        return list(ast.iter_child_nodes(node))

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

    def _is_id(self, node: ast.AST) -> bool:
        if isinstance(node, ast.Name):
            return node.id in self._whole
        return self._member_of(node) == self._member

    def _is_object(self, node: ast.AST) -> bool:
        return isinstance(node, ast.Name) and node.id in self._objects

    def _member_of(self, node: ast.AST) -> str | None:
        """Return which member of an object that holds the id is read, as `r.sub.id` or `r.sub["id"]`."""
        if isinstance(node, ast.Attribute) and self._is_object(node.value):
            return node.attr
        if isinstance(node, ast.Subscript) and self._is_object(node.value) and isinstance(node.slice, ast.Constant):
            return str(node.slice.value)
        return None


def _column(node: ast.AST) -> str:
    return node.id.removeprefix("p_") if isinstance(node, ast.Name) and node.id.startswith("p_") else ""


def _called(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""
