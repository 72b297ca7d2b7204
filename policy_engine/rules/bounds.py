"""Pattern functions bound to one cell: what each kind matches, and how little of it is kept.

Rules of the room:
- `Bound.test` answers and raises for a text what Casbin's function does with that text and the cell.
- A bound cell is small before it is first asked: a policy may hold a hundred thousand of them.
Left to others: which kind a cell becomes (`rules.patterns`, `rules.globs`).
"""

from __future__ import annotations

import ipaddress
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from policy_engine.core.regexes import Regex, compile_regex
from policy_engine.limits import LIMITS

SEGMENT: Final = "\0"
"""Stands for one segment of a path in what is left of a plain cell; a plain cell cannot hold it."""


class Bound(ABC):
    """A function bound to a cell. Every text that it matches begins with `prefix`.

    `exact`: it matches `prefix` alone. `whole_prefix`: it matches just what begins with `prefix`. `total`: `test`
    raises for no text at all.
    """

    __slots__ = ("prefix",)

    exact = False
    whole_prefix = False
    total = True

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    @abstractmethod
    def test(self, text: str) -> bool:
        """Return what Casbin's function returns for the text and the cell, and raise what it raises."""

    @property
    def size_bytes(self) -> int:
        """Return about how much memory is held, at most, once it has been asked."""
        return 300 + 4 * len(self.prefix)


class Exact(Bound):
    """Matches one text."""

    __slots__ = ()
    exact = True

    def test(self, text: str) -> bool:
        """Return whether the text is the one."""
        return text == self.prefix


class Beginning(Bound):
    """Matches whatever begins so."""

    __slots__ = ()
    whole_prefix = True

    def test(self, text: str) -> bool:
        """Return whether the text begins so."""
        return text.startswith(self.prefix)


class Pieces(Bound):
    """Matches a beginning, then plain pieces with one path segment between each two, then at most one `x*`."""

    __slots__ = ("_cut", "_rest")

    def __init__(self, prefix: str, rest: str, *, cut: bool) -> None:
        self.prefix = prefix
        self._rest = rest
        self._cut = cut

    def test(self, text: str) -> bool:
        """Return whether the pieces stand in the text one after the other, to its end where the cell says so."""
        if self._cut:
            text = text.partition("?")[0]
        if not text.startswith(self.prefix):
            return False
        place = len(self.prefix)
        *pieces, tail = self._rest.split(SEGMENT)
        for piece in pieces:
            if not text.startswith(piece, place):
                return False
            place += len(piece)
            end = text.find("/", place)
            end = len(text) if end < 0 else end
            if end == place:
                return False
            place = end
        return _ends(tail, text, place)

    @property
    def size_bytes(self) -> int:
        """Return about how much memory is held, at most."""
        return 300 + 4 * (len(self.prefix) + len(self._rest))


class Expression(Bound):
    """Matches a beginning, then a regular expression from the place `start` on, which the beginning has reached."""

    __slots__ = ("_cut", "_regex", "_start")

    def __init__(self, prefix: str, regex: Regex, start: int, *, cut: bool) -> None:
        self.prefix = prefix
        self._regex = regex
        self._start = start
        self._cut = cut

    def test(self, text: str) -> bool:
        """Return whether the text begins so and the expression matches from there."""
        if self._cut:
            text = text.partition("?")[0]
        return text.startswith(self.prefix) and self._regex(text, self._start)

    @property
    def size_bytes(self) -> int:
        """Return about how much memory is held, at most."""
        return 300 + 4 * len(self.prefix) + self._regex.size_bytes


class Miscounted(Expression):
    """A `keyMatch4` cell with groups of its own: Casbin raises for every text that matches."""

    __slots__ = ()
    total = False

    def test(self, text: str) -> bool:
        """Return false, or raise what Casbin raises for a text that matches."""
        if super().test(text):
            raise Exception("KeyMatch4: number of tokens is not equal to number of values")
        return False


class Repeated(Bound):
    """A `keyMatch4` cell that says a name twice: the segments there must be the same."""

    __slots__ = ("_expression", "_names")

    def __init__(self, prefix: str, expression: re.Pattern[str], names: Sequence[str]) -> None:
        self.prefix = prefix
        self._expression = expression
        self._names = tuple(names)

    def test(self, text: str) -> bool:
        """Return whether the expression matches and equal names stand for equal segments."""
        found = self._expression.match(text)
        if found is None:
            return False
        said: dict[str, str | None] = {}
        return all(said.setdefault(name, part) == part for name, part in zip(self._names, found.groups(), strict=True))

    @property
    def size_bytes(self) -> int:
        """Return about how much memory is held, at most."""
        return 2_000 + 60 * len(self._expression.pattern)


class Network(Bound):
    """Matches addresses in a network; what is no address raises `ValueError`."""

    __slots__ = ("_network",)
    total = False

    def __init__(self, network: ipaddress.IPv4Network | ipaddress.IPv6Network | None) -> None:
        self.prefix = ""
        self._network = network

    def test(self, text: str) -> bool:
        """Return whether the address is in the network; raise `ValueError` for what is no address."""
        address = ipaddress.ip_address(text)
        return self._network is not None and address in self._network


def _ends(tail: str, text: str, place: int) -> bool:
    """Return whether a text from a place on is the last piece of a plain cell: plain text, `x*` or `.*`, and `$`."""
    anchored = tail.endswith("$")
    plain = tail[:-1] if anchored else tail
    plain, repeated = (plain[:-2], plain[-2]) if plain.endswith("*") else (plain, "")
    if not text.startswith(plain, place):
        return False
    if not anchored:
        return True
    place += len(plain)
    if repeated == ".":
        line = text.find("\n", place)
        return line < 0 or line == len(text) - 1
    left = text[place:]
    return (left.lstrip(repeated) if repeated else left) in ("", "\n")


@lru_cache(maxsize=256)
def _alike(expression: str) -> Regex:
    return compile_regex(expression)


def shared(expression: str) -> Regex:
    """Return the compiled expression; a short one is shared with the cells that need the same."""
    return _alike(expression) if len(expression) <= LIMITS.id_characters else compile_regex(expression)
