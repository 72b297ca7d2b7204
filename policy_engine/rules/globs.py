"""Casbin's `globMatch` bound to one cell, as wcmatch reads globs.

Rules of the room:
- Casbin rewrites the glob, wcmatch makes regular expressions of it, and `core.regexes` matches them in bounded time.
- A plain glob is read only when a text comes that begins like it.
Left to others: the other functions (`rules.patterns`).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from wcmatch import glob

from policy_engine.core.regexes import Regex, compile_regex, literal_prefix
from policy_engine.errors import LoadRefused
from policy_engine.limits import LIMITS
from policy_engine.rules.bounds import Bound, shared

_GLOB_FLAGS: Final = glob.GLOBSTAR | glob.BRACE
_STARS: Final = re.compile(r"\*{2,}")
_SLASHES: Final = re.compile(r"/{2,}")
_PLAIN_GLOB: Final = re.compile(
    r"(?!/\*\*\Z)(?=.{0,128}\Z)(?!(?:.*\*\*){3})(/|[A-Za-z0-9_\-]*)(?:\*\*(?=/|\Z))?"
    r"(?:[A-Za-z0-9_\-]|/(?:\*\*(?=/|\Z))?|\*(?!\*))*\Z"
)
"""A short glob of plain characters, `*` and at most two `**`: it can surely be read, and its time bounded."""


class _Globs(Bound):
    """Matches what one of the expressions does that a glob stands for."""

    __slots__ = ("_regexes",)

    def __init__(self, prefix: str, regexes: tuple[Regex, ...]) -> None:
        self.prefix = prefix
        self._regexes = regexes

    def test(self, text: str) -> bool:
        return text.startswith(self.prefix) and any(regex(text) for regex in self._regexes)

    @property
    def size_bytes(self) -> int:
        return 300 + 4 * len(self.prefix) + sum(regex.size_bytes for regex in self._regexes)


class _PlainGlob(Bound):
    """A plain glob, read only for texts that begin like it; globs take a run of slashes for one."""

    __slots__ = ("_beginning", "_cell")

    def __init__(self, prefix: str, cell: str) -> None:
        self.prefix = prefix
        self._cell = cell
        self._beginning = _SLASHES.sub("/", cell.partition("*")[0]).rstrip("/")

    def test(self, text: str) -> bool:
        if not text.startswith(self.prefix):
            return False
        squeezed = _SLASHES.sub("/", text) if "//" in text else text
        return squeezed.startswith(self._beginning) and any(regex(text) for regex in _plain_glob(self._cell))

    @property
    def size_bytes(self) -> int:
        return 300 + 8 * len(self._cell)


def bind_glob(cell: str) -> Bound:
    """Return `globMatch` bound to a cell. Raises what it raises for every text, and `LoadRefused` for a long one."""
    if len(cell) > LIMITS.glob_characters:
        raise LoadRefused(f"this glob is longer than {LIMITS.glob_characters} characters (glob_characters); split it")
    plain = _PLAIN_GLOB.fullmatch(cell)
    if plain is not None:
        return _PlainGlob(plain.group(1), cell)
    expressions = _translated(cell)
    prefixes = [literal_prefix(expression) for expression in expressions]
    least, most = min(prefixes, default=""), max(prefixes, default="")
    same = 0
    while same < min(len(least), len(most)) and least[same] == most[same]:
        same += 1
    return _Globs(least[:same], tuple(shared(expression) for expression in expressions))


@lru_cache(maxsize=1_024)
def _plain_glob(cell: str) -> tuple[Regex, ...]:
    return tuple(compile_regex(expression) for expression in _translated(cell))


def _translated(cell: str) -> list[str]:
    """Return the regular expressions of which one must match the whole text, each with its end."""
    if cell.startswith("*/"):
        cell = cell[1:]
    cell = "/".join(part if part == "**" else _STARS.sub("*", part) for part in cell.split("/"))
    if cell.endswith("/**"):
        cell = f"{{{cell[:-3]},{cell}}}"
    wanted, _ = glob.translate(cell, flags=_GLOB_FLAGS)
    return [rf"(?:{expression})\Z" for expression in wanted]
