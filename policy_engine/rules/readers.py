"""Readers: what a matcher reads of a request, read once a decision, before any row is looked at.

Rules of the room:
- A reader gives exactly what Casbin's evaluator would, or `UNREAD`: for a missing attribute, an error, a container in
  between that Casbin would inspect, a forbidden name, or anything else out of the ordinary. Whoever gets `UNREAD`
  leaves the request to a scan in Casbin's own evaluator, which raises what there is to raise.
- Nothing of an object is kept: it may be another one behind the same name next time.
Left to others: types that a term can read (`core.selection`), the scan (`rules.evaluation`).
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from operator import eq, ge, gt, le, lt, ne
from types import ModuleType
from typing import Any, Final

import simpleeval

from policy_engine.core.terms import SCALARS
from policy_engine.rules.expressions import Names

Reader = Callable[[Sequence[Any]], Any]
Evaluate = Callable[[ast.expr, Sequence[Any]], Any]
"""Casbin's evaluator on one expression that reads the request only."""


class _Unread:
    __slots__ = ()

    def __repr__(self) -> str:
        return "UNREAD"


UNREAD: Final = _Unread()
ADDRESS: Final = "<address>"
"""Marks, as the function of a call, that a text is to be read as an IP address."""
_CONTAINERS: Final = (list, tuple, set, frozenset, dict, ModuleType)
_OPERATORS: Final = {ast.Eq: eq, ast.NotEq: ne, ast.Lt: lt, ast.LtE: le, ast.Gt: gt, ast.GtE: ge}


def reader_of(node: ast.expr, names: Names, evaluate: Evaluate) -> Reader:
    """Return the reader of an expression that reads nothing but the request."""
    if isinstance(node, ast.Name) and node.id in names.tokens:
        place = names.tokens[node.id]
        return lambda values: values[place]
    if isinstance(node, ast.Attribute) and not _forbidden(node.attr):
        return _attribute(reader_of(node.value, names, evaluate), node.attr)
    if isinstance(node, ast.Constant) and type(node.value) in SCALARS:
        constant = node.value
        return lambda values: constant
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _OPERATORS:
        left, right = (reader_of(side, names, evaluate) for side in (node.left, node.comparators[0]))
        return _comparison(left, right, _OPERATORS[type(node.ops[0])])
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == ADDRESS:
        return _address(reader_of(node.args[0], names, evaluate))
    return lambda values: evaluate(node, values)


def _address(base: Reader) -> Reader:
    def read(values: Sequence[Any]) -> Any:
        text = base(values)
        try:
            return ip_address(text) if type(text) is str else UNREAD
        except ValueError:
            return UNREAD

    return read


def _forbidden(name: str) -> bool:
    return name.startswith(tuple(simpleeval.DISALLOW_PREFIXES)) or name in simpleeval.DISALLOW_METHODS


def _attribute(base: Reader, name: str) -> Reader:
    shadowed = hasattr(dict, name)

    def read(values: Sequence[Any]) -> Any:
        held = base(values)
        try:
            if type(held) is dict:
                # Casbin's evaluator looks through a dict for what it forbids; scalars alone need no look.
                if shadowed or not all(type(value) in SCALARS for value in held.values()):
                    return UNREAD
                return held[name]
            if isinstance(held, _CONTAINERS) or callable(held):
                return UNREAD
            try:
                return getattr(held, name)
            except (AttributeError, TypeError):
                return held[name]
        except Exception:  # noqa: BLE001  an object of a caller may raise anything; the scan will tell what
            return UNREAD

    return read


def _comparison(left: Reader, right: Reader, operator: Callable[[Any, Any], Any]) -> Reader:
    def read(values: Sequence[Any]) -> Any:
        first, second = left(values), right(values)
        if type(first) not in SCALARS or type(second) not in SCALARS:
            return UNREAD
        try:
            return operator(first, second)
        except TypeError:
            return UNREAD

    return read
