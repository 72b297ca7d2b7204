"""Casbin's pattern functions for Casbin's own evaluator: the same results and errors, in bounded time.

Rules of the room:
- Two texts go to `rules.patterns`; any other arguments go to Casbin's own function, whatever it makes of them.
- Bound patterns are kept between calls up to `pattern_memory_bytes`, then all forgotten: a request that names patterns
  of its own cannot make them grow.
- `keyGet2` and `keyGet3` need what a group matched, which only `re` says: a pattern for which that may take long is
  refused when it is asked about a long text.
Left to others: which functions a matcher may name (`rules.plainmodel`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from casbin import util

from policy_engine.core.regexes import Regex, compile_regex
from policy_engine.errors import LoadRefused
from policy_engine.limits import LIMITS
from policy_engine.rules.bounds import Bound
from policy_engine.rules.patterns import bind, braced

Function = Callable[..., object]

_STOCK: Final[Mapping[str, Function]] = {
    "keyMatch": util.key_match_func,
    "keyMatch2": util.key_match2_func,
    "keyMatch3": util.key_match3_func,
    "keyMatch4": util.key_match4_func,
    "keyMatch5": util.key_match5_func,
    "regexMatch": util.regex_match_func,
    "globMatch": util.glob_match_func,
    "ipMatch": util.ip_match_func,
}


class Kept:
    """What was bound, by function and cell, up to about so many bytes; then all of it is forgotten."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._held: dict[tuple[str, str], Any] = {}
        self.size_bytes = 0

    def bound(self, function: str, cell: str) -> Bound:
        """Return the function bound to the cell. Raises what `bind` raises."""
        found: Bound = self._of(bind, function, cell)
        return found

    def regex(self, function: str, expression: str) -> Regex:
        """Return the compiled expression of a `keyGet` function. Raises what `compile_regex` raises."""
        found: Regex = self._of(lambda _, pattern: compile_regex(pattern), function, expression)
        return found

    def _of(self, make: Callable[[str, str], Any], function: str, cell: str) -> Any:
        key = (function, cell)
        found = self._held.get(key)
        if found is None:
            found = make(function, cell)
            size = found.size_bytes + 4 * len(cell)
            if self.size_bytes + size > self._limit:
                self._held = {}
                self.size_bytes = 0
            if size <= self._limit:
                self._held[key] = found
                self.size_bytes += size
        return found


KEPT: Final = Kept(LIMITS.pattern_memory_bytes)


def _matching(name: str, stock: Function) -> Function:
    def function(*args: Any) -> object:
        if len(args) > 1 and type(args[0]) is str and type(args[1]) is str:
            return KEPT.bound(name, args[1]).test(args[0])
        return stock(*args)

    return function


def key_get2(*args: Any) -> object:
    """Return what stands for a name such as `:id` of a pattern, as Casbin's `key_get2` does.

    Raises what Casbin raises, and `LoadRefused` where looking for it may take unbounded time.
    """
    if not _three(args):
        return util.key_get2(*args)
    key, pattern, name = args
    pattern = pattern.replace("/*", "/.*")
    names = [found[1:] for found in re.findall(":[^/]+", pattern)]
    return _said("keyGet2", key, re.sub(":[^/]+", r"([^\\/]+)", pattern), names, name)


def key_get3(*args: Any) -> object:
    """Return what stands for a name such as `{id}` of a pattern, as Casbin's `key_get3` does.

    Raises what Casbin raises, and `LoadRefused` where looking for it may take unbounded time.
    """
    if not _three(args):
        return util.key_get3(*args)
    key, pattern, name = args
    names: list[str] = []
    pattern = braced("keyMatch3", pattern.replace("/*", "/.*"), "([^/]+?)", names)
    return _said("keyGet3", key, pattern, names, name)


def _three(args: tuple[Any, ...]) -> bool:
    return len(args) == 3 and type(args[0]) is str and type(args[1]) is str


def _said(function: str, key: str, pattern: str, names: list[str], wanted: Any) -> object:
    expression = f"^{'(.*)' if pattern == '*' else pattern}$"
    regex = KEPT.regex(function, expression)
    if not regex.within(len(key)):
        if regex(key):
            raise LoadRefused(f"this {function} pattern may take unbounded time; keep at most one `*` in it")
        return ""
    found = re.match(expression, key)
    if found is None:
        return ""
    for place, name in enumerate(names):
        if wanted == name:
            return found.groups()[place]
    return ""


SAFE_FUNCTIONS: Final[Mapping[str, Function]] = {
    **{name: _matching(name, stock) for name, stock in _STOCK.items()},
    "keyGet": util.key_get,
    "keyGet2": key_get2,
    "keyGet3": key_get3,
}
"""By the name that matchers call them: replacements for Casbin's own functions, and its `keyGet` family."""
