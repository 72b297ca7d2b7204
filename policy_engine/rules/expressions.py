"""Matcher texts as Casbin parses them: which names they read, and what of them is not supported.

Rules of the room: a text is preprocessed and parsed by Casbin's own code and never run as Python. Kinds of syntax that
Casbin's evaluator has but whose outcome depends on more than the row and the request (comprehensions count their steps
over the whole scan) are refused by name; so is a pattern that the request itself would supply.
Left to others: terms (`rules.selectors`), expanding `eval()` (`rules.shapes`), evaluating (`rules.evaluation`).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from simpleeval import MAX_STRING_LENGTH

from policy_engine.errors import LoadRefused
from policy_engine.rules.functions import Declared
from policy_engine.rules.parsing import casbin_expression, parsed

REQUEST: Final = 1
POLICY: Final = 2
IMPURE: Final = 4
"""What an expression reads, as bits: the request, the row, or something outside both."""

_KINDS: Final = (
    ast.expr_context,
    ast.boolop,
    ast.operator,
    ast.unaryop,
    ast.cmpop,
    ast.BoolOp,
    ast.UnaryOp,
    ast.BinOp,
    ast.Compare,
    ast.Call,
    ast.keyword,
    ast.Name,
    ast.Attribute,
    ast.Constant,
    ast.Subscript,
    ast.Slice,
    ast.Tuple,
    ast.List,
    ast.Set,
    ast.Dict,
    ast.IfExp,
    ast.Starred,
)
_REGULAR: Final = frozenset(
    ("keyMatch2", "keyMatch3", "keyMatch4", "keyMatch5", "regexMatch", "globMatch", "keyGet2", "keyGet3")
)
"""Functions whose second argument becomes a regular expression."""
BUILT_IN: Final = frozenset(("list", "tuple", "dict", "set"))
"""Functions of Casbin's evaluator itself; pure."""


@dataclass(frozen=True, slots=True)
class Names:
    """What a matcher may name: request tokens (`r_x`) by place, row values (`p_x`) by place, and functions.

    `own` are the names of functions that the caller declared, whatever other functions are called so.
    """

    tokens: Mapping[str, int]
    columns: Mapping[str, int]
    functions: Mapping[str, Declared]
    own: frozenset[str] = frozenset()

    def with_columns(self, more: Iterable[str]) -> Names:
        """Return the same with further row values behind the others."""
        columns = dict(self.columns)
        for name in more:
            columns[name] = len(columns)
        return Names(self.tokens, columns, self.functions, self.own)


_NOT: Final = re.compile(r"!(?!=)")


def preprocess(text: str) -> str:
    """Return a matcher as Casbin hands it to its evaluator: `&&`, `||` and `!` become words, wherever they stand."""
    text = text.replace("&&", "and").replace("||", "or")
    return _NOT.sub("not ", text) if "!" in text else text


def parse(text: str, names: Names, where: str | None = None) -> ast.expr:
    """Return the tree of a matcher's text. Raises `LoadRefused` for what is no expression or is not supported."""
    try:
        tree = casbin_expression(text).ast_parsed_value
        single = len(parsed(preprocess(text).strip()).body) == 1
    except (SyntaxError, IndexError, AttributeError, ValueError, RecursionError, MemoryError):
        raise LoadRefused("the matcher is no expression; correct the line `m = ...`", where=where) from None
    if not isinstance(tree, ast.expr) or not single:
        raise LoadRefused("the matcher is more than one expression; join them with `&&`", where=where)
    check(tree, names, where)
    return tree


def check(tree: ast.expr, names: Names, where: str | None) -> None:
    """Refuse names and syntax that are not supported, by name. Raises `LoadRefused`."""
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if not isinstance(node, _KINDS):
            raise LoadRefused(
                f"a matcher may not hold `{ast.unparse(node)}` ({type(node).__name__}); write it without",
                where=where,
            )
        if isinstance(node, ast.Name):
            _check_name(node.id, names, where, called=id(node) in called)
        elif isinstance(node, ast.Call):
            _check_pattern(node, names, where)
        elif isinstance(node, ast.Constant) and len(str(node.value)) > MAX_STRING_LENGTH:
            message = f"a matcher may not hold a text of more than {MAX_STRING_LENGTH} characters; shorten it"
            raise LoadRefused(message, where=where)


def _check_name(name: str, names: Names, where: str | None, *, called: bool) -> None:
    if called:
        if name == "timeMatch" and name not in names.own:
            raise LoadRefused("`timeMatch` reads the clock; pass the time in the request and compare it", where=where)
        if name == "eval":
            raise LoadRefused("`eval` takes one policy column, as in eval(p.rule)", where=where)
        if name not in names.functions and name not in BUILT_IN:
            known = ", ".join(sorted(names.functions.keys() - {"timeMatch"}))
            raise LoadRefused(
                f"the function `{name}` is not known; use one of {known}, "
                "or declare your own when you build the enforcer",
                where=where,
            )
    elif name not in names.tokens and name not in names.columns:
        side, _, rest = name.partition("_")
        shown = f"{side}.{rest}" if side in ("r", "p") and rest else name
        raise LoadRefused(f"the matcher reads `{shown}`, which is not defined; define it or correct it", where=where)


def _check_pattern(node: ast.Call, names: Names, where: str | None) -> None:
    function = node.func.id if isinstance(node.func, ast.Name) else ""
    if (
        function in _REGULAR
        and function not in names.own
        and len(node.args) > 1
        and reads(node.args[1], names) & REQUEST
    ):
        raise LoadRefused(
            f"`{function}` would take its pattern from the request, which could name one without end; "
            "put the policy's column second",
            where=where,
        )


def reads(node: ast.AST, names: Names) -> int:
    """Return what an expression reads, as bits of `REQUEST`, `POLICY` and `IMPURE`."""
    found = 0
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            if part.id in names.tokens:
                found |= REQUEST
            elif part.id in names.columns:
                found |= POLICY
            else:
                declared = names.functions.get(part.id)
                if declared is not None and not declared.pure:
                    found |= IMPURE
    return found


def conjuncts(tree: ast.expr) -> list[ast.expr]:
    """Return the parts of a conjunction from left to right, nested ones too; any other expression is its only part."""
    if isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.And):
        return [part for value in tree.values for part in conjuncts(value)]
    return [tree]
