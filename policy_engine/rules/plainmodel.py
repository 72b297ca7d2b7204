"""The model.conf of a plain Casbin folder: what it defines, on which lines, and every refusal that it earns.

Rules of the room:
- Casbin reads the file; this says first where it is malformed, and afterwards what Casbin would forgive and a decision
  point must not: an effect that allows without a matching allow, a matcher that is no expression, an unknown function,
  a name that is not defined.
- The matcher is parsed as Casbin's evaluator parses it, and never run.
Left to others: the rows (`rules.plainpolicy`), what can be compiled (`rules.enforcer`).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from casbin.util import escape_assertion

from policy_engine.core.effects import DECIDING
from policy_engine.errors import LoadRefused
from policy_engine.limits import Limits
from policy_engine.rules.functions import PUBLISHED
from policy_engine.rules.parsing import parsed
from policy_engine.rules.safefunctions import SAFE_FUNCTIONS
from policy_engine.rules.sources import decode
from policy_engine.rules.stock import read_model

MODEL_FILE: Final = "model.conf"
ALLOW_OVERRIDE: Final = "some(where(p_eft==allow))"
DENY_ONLY: Final = "!some(where(p_eft==deny))"
SUBJECT_PRIORITY: Final = "subjectPriority(p_eft)||deny"
EFFECTS: Final = (
    ALLOW_OVERRIDE,
    f"{ALLOW_OVERRIDE}&&{DENY_ONLY}",
    "priority(p_eft)||deny",
    SUBJECT_PRIORITY,
)
"""The effects that need a matching allow, without their spaces."""
_SECTIONS: Final = {
    "request_definition": "r",
    "policy_definition": "p",
    "role_definition": "g",
    "policy_effect": "e",
    "matchers": "m",
}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OF_EVALUATOR: Final = frozenset(("eval", "list", "tuple", "dict", "set"))
"""What Casbin's evaluator and preprocessing know beside the functions of the model."""


@dataclass(frozen=True, slots=True)
class PlainModel:
    """A checked model: request tokens, policy columns, role definitions with their places, effect, evaluated columns.

    `lines` says where each definition (`r`, `m`, `g2`, …) stands; `functions` are those that the matcher calls,
    `expressions` the columns that it reads as regular expressions.
    """

    text: str
    matcher: ast.expr
    tokens: tuple[str, ...]
    columns: tuple[str, ...]
    roles: Mapping[str, int]
    effect: str
    evaluated: frozenset[str]
    functions: frozenset[str]
    expressions: frozenset[str]
    lines: Mapping[str, int]
    repeated: tuple[tuple[str, int], ...]

    def where(self, definition: str) -> str:
        """Return `file:line` of a definition."""
        return f"{MODEL_FILE}:{self.lines.get(definition, 1)}"

    def casbin(self) -> Any:
        """Return a fresh Casbin model without rows."""
        return read_model(self.text, MODEL_FILE)

    def expression(self, text: str) -> ast.expr:
        """Return a text that the matcher evaluates, already checked, as an expression."""
        return _parsed(escape_assertion(text), MODEL_FILE, "the rule that `eval()` reads")

    def check_expression(self, text: str, where: str) -> None:
        """Raise `LoadRefused` for a text of a policy row that the matcher evaluates and that is no expression."""
        names = _names(self.tokens, self.columns)
        what = "the rule that `eval()` reads"
        _checked(_parsed(escape_assertion(text), where, what), names, frozenset(self.roles), where, what)


def read_plain_model(content: bytes, limits: Limits) -> PlainModel:
    """Return the model. Raises `LoadRefused` with file, line and a fix."""
    text = decode(MODEL_FILE, content, limits.pack_bytes)
    lines, repeated = _definitions(text, limits)
    held = read_model(text, MODEL_FILE)

    def where(definition: str) -> str:
        return f"{MODEL_FILE}:{lines.get(definition, 1)}"

    for section in ("r", "p", "e", "m"):
        for key in held[section]:
            if key != section:
                raise LoadRefused(
                    f"a second definition `{key}` is not supported; keep one `{section}`", where=where(key)
                )
    tokens = _defined(held["r"]["r"].tokens, "r", where("r"))
    columns = _defined(held["p"]["p"].tokens, "p", where("p"))
    roles = {key: _places(roles, where(key)) for key, roles in (held["g"] or {}).items()}
    effect = "".join(held["e"]["e"].value.split())
    _check_effect(effect, roles, where("e"))
    if held["e"]["e"].value not in DECIDING:
        spaced = next(text for text in DECIDING if "".join(text.split()) == effect).replace("p_eft", "p.eft")
        message = f"Casbin knows this effect with its own spaces only; write e = {spaced}"
        raise LoadRefused(message, where=where("e"))
    names = _names(tokens, columns)
    tree = _parsed(held["m"]["m"].value, where("m"), "the matcher")
    functions, evaluated = _checked(tree, names, frozenset(roles), where("m"), "the matcher")
    return PlainModel(
        text, tree, tokens, columns, roles, effect, evaluated, functions, _expressions(tree), lines, repeated
    )


def _definitions(text: str, limits: Limits) -> tuple[dict[str, int], tuple[tuple[str, int], ...]]:
    """Return the line on which each definition begins, read as Casbin reads them, and those that come again."""
    found: dict[str, int] = {}
    repeated: list[tuple[str, int]] = []
    section: str | None = None
    start = 0
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        where = f"{MODEL_FILE}:{number}"
        if len(raw) > limits.policy_line_characters:
            most = limits.policy_line_characters
            raise LoadRefused(
                f"the line is longer than {most} characters (policy_line_characters); shorten it", where=where
            )
        if not line or line[0] in "#;":
            start = 0
        elif line[0] == "[" and line[-1] == "]":
            section, start = line[1:-1], 0
        elif start:  # a line continued by the backslash before it
            start = start if line[-1] == "\\" else 0
        else:
            name, equals, _ = line.partition("=")
            if not equals or not name.strip():
                raise LoadRefused("the line is no section and no `name = value`; correct or remove it", where=where)
            if section not in _SECTIONS:
                raise LoadRefused(
                    f"the line stands in no section that Casbin reads ({', '.join(_SECTIONS)})", where=where
                )
            key, letter = name.strip(), _SECTIONS[section]
            if not re.fullmatch(rf"{letter}\d*", key):
                message = f"a line of [{section}] begins `{letter} = `, and this one does not; correct it"
                raise LoadRefused(message, where=where)
            if key in found:
                repeated.append((key, found[key]))
            found[key] = number
            start = number if line[-1] == "\\" else 0
    return found, tuple(repeated)


def _defined(tokens: list[str], side: str, where: str) -> tuple[str, ...]:
    names = tuple(token.removeprefix(f"{side}_") for token in tokens)
    for at, name in enumerate(names):
        if not _NAME.fullmatch(name):
            raise LoadRefused(f"`{name}` is no name; names have letters, digits and `_`, between commas", where=where)
        if name in names[:at]:
            raise LoadRefused(f"`{side} = ...` names `{name}` twice; remove one", where=where)
    return names


def _places(roles: Any, where: str) -> int:
    if roles.params_tokens:
        raise LoadRefused("conditional roles are not supported; use plain `_` places", where=where)
    places = [place.strip() for place in roles.value.split(",")]
    if len(places) not in (2, 3) or set(places) != {"_"}:
        raise LoadRefused("a role definition is `_, _` or `_, _, _`; correct it", where=where)
    return len(places)


def _check_effect(effect: str, roles: Mapping[str, int], where: str) -> None:
    if effect == DENY_ONLY:
        message = "this effect allows without a matching allow; write e = some(where (p.eft == allow)) && "
        raise LoadRefused(f"{message}!some(where (p.eft == deny))", where=where)
    if effect not in EFFECTS:
        raise LoadRefused(
            "the policy effect is not one of Casbin's own; write e = some(where (p.eft == allow))", where=where
        )
    if effect == SUBJECT_PRIORITY and "g" not in roles:
        message = "this effect sorts rows by the roles of `g`, which is not defined; add it under [role_definition]"
        raise LoadRefused(message, where=where)


def _names(tokens: tuple[str, ...], columns: tuple[str, ...]) -> frozenset[str]:
    return frozenset((*(f"r_{token}" for token in tokens), *(f"p_{column}" for column in columns)))


def _checked(
    tree: ast.expr, names: frozenset[str], roles: frozenset[str], where: str, what: str
) -> tuple[frozenset[str], frozenset[str]]:
    """Return the functions that an expression calls and the policy columns that it evaluates."""
    known = SAFE_FUNCTIONS.keys() | PUBLISHED.keys() | roles | _OF_EVALUATOR
    bound = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    called = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    functions = {node.func.id: node for node in called if isinstance(node.func, ast.Name)}
    for name in functions:
        if name == "timeMatch":
            message = f"{what} calls `timeMatch`, which reads the clock; pass the time in the request and compare it"
            raise LoadRefused(message, where=where)
        if name not in known:
            raise LoadRefused(f"{what} calls `{name}`, which is no function here; correct the name", where=where)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id not in names | known | bound:
            raise LoadRefused(
                f"{what} reads `{_dotted(node.id)}`, which is not defined; define or correct it", where=where
            )
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            raise LoadRefused(f"{what} reads a name that begins with `_`; no value has one", where=where)
    evaluated = {_evaluated(node, names, where) for node in called if _is_eval(node)}
    return frozenset(functions), frozenset(evaluated)


def _parsed(text: str, where: str, what: str) -> ast.expr:
    """Return the expression, read after the same replacements that Casbin makes before it evaluates."""
    written = re.sub(r"!(?!=)", "not ", text.replace("&&", "and").replace("||", "or")).strip()
    try:
        body = parsed(written).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        body = []
    if len(body) != 1 or not isinstance(body[0], ast.Expr):
        raise LoadRefused(f"{what} is no expression; correct it (compare with ==, join with && and ||)", where=where)
    return body[0].value


def _expressions(tree: ast.expr) -> frozenset[str]:
    """Return the policy columns that are the pattern of a `regexMatch`."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    read = [node.args[1] for node in calls if ast.unparse(node.func) == "regexMatch" and len(node.args) == 2]
    names = [node.id for node in read if isinstance(node, ast.Name)]
    return frozenset(name.removeprefix("p_") for name in names if name.startswith("p_"))


def _is_eval(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Name) and node.func.id == "eval"


def _evaluated(node: ast.Call, names: frozenset[str], where: str) -> str:
    first = node.args[0] if len(node.args) == 1 and not node.keywords else None
    if isinstance(first, ast.Name) and first.id in names and first.id.startswith("p_"):
        return first.id.removeprefix("p_")
    raise LoadRefused("`eval()` reads one column of the policy, as in eval(p.rule); correct it", where=where)


def _dotted(name: str) -> str:
    return re.sub("^([rp])_", r"\1.", name)
