"""Reading the text of an expression, by Casbin's own replacements or as it stands, in a process of many threads.

CPython before 3.11.5 counts in one place for all threads how deep it is in a tree (gh-106905). Where garbage is
collected meanwhile and another thread reads an expression, either fails on a text that is right: then it is read again,
for a decision must not depend on who else decides.
Left to others: what an expression may be (`expressions`, `plainmodel`), its value (`evaluation`).
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from casbin.core_enforcer import CoreEnforcer

T = TypeVar("T")
TRIES_COUNT: Final = 16
_MISCOUNTED: Final = (SystemError, RecursionError)


def casbin_expression(text: str, functions: Mapping[str, Any] | None = None) -> Any:
    """Return what Casbin's evaluator makes of a text. Raises what it raises for a text that is no expression."""
    return _read(lambda: CoreEnforcer._get_expression(text, functions))


def parsed(text: str) -> ast.Module:
    """Return the tree of a text. Raises what `ast.parse` raises for one that is no Python."""
    return _read(lambda: ast.parse(text))


def _read(read: Callable[[], T]) -> T:
    for _ in range(TRIES_COUNT - 1):
        try:
            return read()
        except _MISCOUNTED:
            continue
    return read()
