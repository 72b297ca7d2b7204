"""Casbin's own evaluator on one row or one expression: what the index cannot answer, and what raises.

Rules of the room: one row is judged exactly as the body of Casbin's loop judges it, its checks and errors included.
Functions are Casbin's, made safe against patterns that never end, and roles are ours, which keep no made-up names.
Left to others: the order in which rows are asked (`core.effects`), which rows need asking at all (`rules.rowgroups`).
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from casbin.util import SimpleEval, util

from policy_engine.core.roles import NO_DOMAIN, Roles
from policy_engine.rules.parsing import casbin_expression
from policy_engine.rules.readers import UNREAD

Functions = Mapping[str, Callable[..., Any]]
Row = Sequence[Any]


def role_function(roles: Roles, *, domains: bool) -> Callable[..., bool]:
    """Return `g` as Casbin makes it for a role definition, over a graph that does not grow with what is asked."""

    def has_role(*arguments: Any) -> bool:
        name, role = arguments[0], arguments[1]
        domain = str(arguments[2]) if len(arguments) > 2 else NO_DOMAIN
        hash(name), hash(role)  # Casbin's role manager raises for a name that cannot be a key
        reached = roles.among(name, domain if domains else NO_DOMAIN, (role,))
        return role in reached and bool(role == role)  # a set finds NaN by identity, Casbin asks whether it is equal

    return has_role


class Evaluation:
    """The matcher of a model with its functions. `text` is as the model holds it, before Casbin preprocesses it."""

    def __init__(self, text: str, tokens: Sequence[str], columns: Sequence[str], functions: Functions) -> None:
        self.text = text
        self.tokens = tuple(tokens)
        self.columns = tuple(columns)
        self.functions = dict(functions)
        self.expands = bool(util.has_eval(text))
        self._rule_names: list[str] = util.get_eval_value(text)

    def expression(self, row: Row) -> str:
        """Return the text that Casbin evaluates for a row: the matcher with `eval()` replaced by the row's texts."""
        if not self.expands:
            return self.text
        held = dict(zip(self.columns, row, strict=False))
        rules = [util.escape_assertion(held[name]) for name in self._rule_names]
        expanded: str = util.replace_eval(self.text, rules)
        return expanded

    def judge(self, request: Sequence[Any]) -> Callable[[Row], bool]:
        """Return what tells of one row after another whether Casbin finds that it matches, for one request.

        The function raises what Casbin raises when its loop comes to that row.
        """
        asked = dict(zip(self.tokens, request, strict=False))
        once: Any = None
        columns, size, expands = self.columns, len(self.columns), self.expands

        def matches(row: Row) -> bool:
            nonlocal once
            if len(row) != size:
                raise RuntimeError("invalid policy size")
            if expands or once is None:
                once = casbin_expression(self.expression(row), self.functions)
            names = dict(zip(columns, row, strict=False))
            names.update(asked)
            found = once.eval(names)
            return found if found is True or found is False else as_match(found)

        return matches

    def matches_nothing(self, request: Sequence[Any]) -> bool:
        """Return what Casbin makes of a policy without rows: the matcher on empty texts. Raises what Casbin raises."""
        if self.expands:
            raise RuntimeError("please make sure rule exists in policy when using eval() in matcher")
        parameters = {**dict(zip(self.tokens, request, strict=False)), **dict.fromkeys(self.columns, "")}
        return bool(casbin_expression(self.text, self.functions).eval(parameters))

    def evaluator(self) -> Callable[[ast.expr, Mapping[str, Any]], Any]:
        """Return what evaluates one expression after another under names. It raises what Casbin's evaluator raises."""
        held = SimpleEval("", self.functions)
        held.expr = self.text

        def evaluate(node: ast.expr, names: Mapping[str, Any]) -> Any:
            held.names = names
            return held._eval(node)

        return evaluate

    def of(self, node: ast.expr, names: Mapping[str, Any]) -> Any:
        """Return the value of one expression under these names. Raises what Casbin's evaluator raises."""
        return self.evaluator()(node, names)

    def of_request(self, node: ast.expr, request: Sequence[Any]) -> Any:
        """Return the value of an expression that reads the request only, or `UNREAD` where it raises."""
        try:
            return self.of(node, dict(zip(self.tokens, request, strict=False)))
        except Exception:  # noqa: BLE001  whatever it is, the scan raises it where Casbin would
            return UNREAD


def as_match(result: Any) -> bool:
    """Return what Casbin makes of a matcher's value. Raises `RuntimeError` for what is neither a truth nor a float."""
    if isinstance(result, bool):
        return result
    if isinstance(result, float):
        return result != 0
    raise RuntimeError("matcher result should be bool, int or float")
