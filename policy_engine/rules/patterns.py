"""Casbin's pattern functions bound to one cell of a policy: the same answers, in bounded time, cheap to load.

Rules of the room:
- For a request text, `Bound.test` returns and raises what Casbin's own function does with that text and the cell.
- Every text that a bound cell matches begins with `prefix`, so that an index may look cells up by their beginning.
- A cell of plain path pieces (`/a/:id/b/*`) is matched piece by piece and never compiled. Any other becomes a regular
  expression of `core.regexes`; the plain beginning is cut off first, so that cells alike but for it share one.
- What Casbin's function raises for the cell whatever the request is raised by `bind`; a pattern whose time cannot be
  bounded is `LoadRefused`.
Left to others: arguments of other types, and the functions in Casbin's evaluator (`rules.safefunctions`).
"""

from __future__ import annotations

import ipaddress
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

from wcmatch import glob

from policy_engine.core.regexes import Regex, compile_regex, literal_prefix
from policy_engine.errors import LoadRefused
from policy_engine.limits import LIMITS

PATTERN_FUNCTIONS: Final = (
    "keyMatch",
    "keyMatch2",
    "keyMatch3",
    "keyMatch4",
    "keyMatch5",
    "regexMatch",
    "globMatch",
    "ipMatch",
)

_PLAIN: Final = r"[\w/\-:~@,=;%&!<>\"' #]"
"""A character that stands for itself in every regular expression without the verbose flag."""
_BEGINNING: Final = re.compile(rf"\^?({_PLAIN}*)(.*)", re.DOTALL)
_SEGMENT: Final = "\0"
"""Stands for one segment of a path in what is left of a plain cell; a plain cell cannot hold it."""
_SEGMENTS: Final = re.compile(r"\[\^\\?/\]\+|\(\[\^/\]\+\)")
_PIECES: Final = re.compile(rf"(?:\0(?=/|\$?\Z)|{_PLAIN}(?![*+?{{]))*(?:[\w.]\*)?\$?")
_TAIL: Final = re.compile(r"(.*?)(?:([\w.])\*)?(\$?)", re.DOTALL)

_NAMED: Final = re.compile(r":[^/]+")
_BRACED: Final = {
    "keyMatch3": re.compile(r"{[^/]+?}"),
    "keyMatch4": re.compile(r"{([^/]+)}"),
    "keyMatch5": re.compile(r"{[^/]+}"),
}

_GLOB_FLAGS: Final = glob.GLOBSTAR | glob.BRACE
_STARS: Final = re.compile(r"\*{2,}")
_PLAIN_GLOB: Final = re.compile(r"(?=.{0,128}\Z)(/|[A-Za-z0-9_\-]*)(?:[A-Za-z0-9_\-/]|\*(?!\*))*\Z")


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


class _Exact(Bound):
    """Matches one text."""

    __slots__ = ()
    exact = True

    def test(self, text: str) -> bool:
        return text == self.prefix


class _Beginning(Bound):
    """Matches whatever begins so."""

    __slots__ = ()
    whole_prefix = True

    def test(self, text: str) -> bool:
        return text.startswith(self.prefix)


class _Pieces(Bound):
    """Matches a beginning, then plain pieces with one path segment between each two, then at most one `x*`."""

    __slots__ = ("_cut", "_rest")

    def __init__(self, prefix: str, rest: str, *, cut: bool) -> None:
        self.prefix = prefix
        self._rest = rest
        self._cut = cut

    def test(self, text: str) -> bool:
        if self._cut:
            text = text.partition("?")[0]
        if not text.startswith(self.prefix):
            return False
        place = len(self.prefix)
        *pieces, tail = self._rest.split(_SEGMENT)
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
        return 300 + 4 * (len(self.prefix) + len(self._rest))


class _Expression(Bound):
    """Matches a beginning, then a regular expression from the place `start` on, which the beginning has reached."""

    __slots__ = ("_cut", "_regex", "_start")

    def __init__(self, prefix: str, regex: Regex, start: int, *, cut: bool) -> None:
        self.prefix = prefix
        self._regex = regex
        self._start = start
        self._cut = cut

    def test(self, text: str) -> bool:
        if self._cut:
            text = text.partition("?")[0]
        return text.startswith(self.prefix) and self._regex(text, self._start)

    @property
    def size_bytes(self) -> int:
        return 300 + 4 * len(self.prefix) + self._regex.size_bytes


class _Miscounted(_Expression):
    """A `keyMatch4` cell with groups of its own: Casbin raises for every text that matches."""

    __slots__ = ()
    total = False

    def test(self, text: str) -> bool:
        if super().test(text):
            raise Exception("KeyMatch4: number of tokens is not equal to number of values")
        return False


class _Repeated(Bound):
    """A `keyMatch4` cell that says a name twice: the segments there must be the same."""

    __slots__ = ("_expression", "_names")

    def __init__(self, prefix: str, expression: re.Pattern[str], names: Sequence[str]) -> None:
        self.prefix = prefix
        self._expression = expression
        self._names = tuple(names)

    def test(self, text: str) -> bool:
        found = self._expression.match(text)
        if found is None:
            return False
        said: dict[str, str | None] = {}
        return all(said.setdefault(name, part) == part for name, part in zip(self._names, found.groups(), strict=True))

    @property
    def size_bytes(self) -> int:
        return 2_000 + 60 * len(self._expression.pattern)


class _Globs(Bound):
    """Matches what one of the expressions does that a glob stands for; without them the glob is read at each test."""

    __slots__ = ("_cell", "_regexes")

    def __init__(self, prefix: str, cell: str, regexes: tuple[Regex, ...] | None) -> None:
        self.prefix = prefix
        self._cell = cell
        self._regexes = regexes

    def test(self, text: str) -> bool:
        if not text.startswith(self.prefix):
            return False
        regexes = self._regexes if self._regexes is not None else _plain_glob(self._cell)
        return any(regex(text) for regex in regexes)

    @property
    def size_bytes(self) -> int:
        return 300 + 4 * len(self._cell) + sum(regex.size_bytes for regex in self._regexes or ())


class _Network(Bound):
    """Matches addresses in a network; what is no address raises `ValueError`."""

    __slots__ = ("_network",)
    total = False

    def __init__(self, network: ipaddress.IPv4Network | ipaddress.IPv6Network | None) -> None:
        self.prefix = ""
        self._network = network

    def test(self, text: str) -> bool:
        address = ipaddress.ip_address(text)
        return self._network is not None and address in self._network


def bind(function: str, cell: str) -> Bound:
    """Return Casbin's function of that name bound to a cell.

    Raises what the function raises for the cell whatever the request text is, and `LoadRefused` for a pattern whose
    time cannot be bounded.
    """
    return _BINDERS[function](cell)


def derived(function: str, cell: str) -> tuple[str, list[str]]:
    """Return the regular expression that `keyMatch2` to `keyMatch5` make of a cell, and the names in its braces."""
    cell = cell.replace("/*", "/.*")
    if function == "keyMatch2":
        cell = _NAMED.sub(r"[^\\/]+", cell) if ":" in cell else cell
        return f"^{'(.*)' if cell == '*' else cell}$", []
    names: list[str] = []
    segment = {"keyMatch3": r"[^\/]+", "keyMatch4": "([^/]+)", "keyMatch5": "[^/]+"}[function]
    return f"^{braced(function, cell, segment, names)}$", names


def braced(function: str, cell: str, segment: str, names: list[str]) -> str:
    """Return the cell with a segment for each name in braces.

    Each part between slashes is looked through only up to its last brace: what comes after cannot be in one, and
    looking there from every opening brace would take the square of its length.
    """
    if "{" not in cell:
        return cell

    def named(found: re.Match[str]) -> str:
        names.append(found.group()[1:-1])
        return segment

    parts = []
    for part in cell.split("/"):
        end = part.rfind("}") + 1
        parts.append(_BRACED[function].sub(named, part[:end]) + part[end:])
    return "/".join(parts)


def _key(cell: str) -> Bound:
    beginning, star, _ = cell.partition("*")
    return _Beginning(beginning) if star else _Exact(cell)


def _path(function: str) -> Callable[[str], Bound]:
    def bound(cell: str) -> Bound:
        expression, names = derived(function, cell)
        if len(set(names)) < len(names) and function == "keyMatch4":
            return _repeated(expression, names)
        if "(" in cell and function == "keyMatch4" and re.compile(expression).groups != len(names):
            return _Miscounted(literal_prefix(expression), _shared(expression), 0, cut=False)
        return _matching(expression, cut=function == "keyMatch5")

    return bound


def _repeated(expression: str, names: Sequence[str]) -> Bound:
    compiled = re.compile(expression)
    regex = _shared(expression)
    prefix = literal_prefix(expression)
    if compiled.groups != len(names):
        return _Miscounted(prefix, regex, 0, cut=False)
    if not regex.harmless:
        raise LoadRefused(
            "this keyMatch4 pattern repeats a name and may take unbounded time; keep one `*` or give each name once"
        )
    return _Repeated(prefix, compiled, names)


def _matching(expression: str, *, cut: bool = False) -> Bound:
    """Return what `re.match` does with the expression and a text (cut at its first `?` where so asked)."""
    found = _BEGINNING.fullmatch(expression)
    if found is None:  # it matches every text; this is for the type checker
        raise ValueError(expression)
    prefix, rest = found.groups()
    if rest and rest[0] in "*+?{":
        prefix, rest = prefix[:-1], prefix[-1:] + rest
    pieces = _SEGMENTS.sub(_SEGMENT, rest) if _SEGMENT not in rest else rest
    if _SEGMENT not in rest and _PIECES.fullmatch(pieces):
        if not cut and _boundless(pieces):
            return _Beginning(prefix)
        return _Pieces(prefix, pieces, cut=cut)
    if "|" in rest or "(?" in rest:
        return _Expression(literal_prefix(expression), _shared(expression), 0, cut=cut)
    try:
        return _Expression(prefix, _shared(rest), len(prefix), cut=cut)
    except re.error:
        re.compile(expression)  # says where in the whole expression the trouble is
        raise


def _boundless(pieces: str) -> bool:
    """Return whether what is left of a plain cell matches whatever comes."""
    return pieces == "" or (len(pieces) == 2 and pieces[1] == "*")


def _ends(tail: str, text: str, place: int) -> bool:
    """Return whether a text from a place on is the last piece of a plain cell: plain text, `x*` or `.*`, and `$`."""
    found = _TAIL.fullmatch(tail)
    if found is None:  # it matches every text; this is for the type checker
        raise ValueError(tail)
    plain, repeated, anchored = found.groups()
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


@lru_cache(maxsize=1_024)
def _alike(expression: str) -> Regex:
    return compile_regex(expression)


def _shared(expression: str) -> Regex:
    """Return the compiled expression; a short one is shared with the cells that need the same."""
    return _alike(expression) if len(expression) <= LIMITS.id_characters else compile_regex(expression)


def _glob(cell: str) -> Bound:
    if len(cell) > LIMITS.glob_characters:
        raise LoadRefused(f"this glob is longer than {LIMITS.glob_characters} characters (glob_characters); split it")
    plain = _PLAIN_GLOB.fullmatch(cell)
    if plain is not None:
        return _Globs(plain.group(1), cell, None)
    expressions = _translated(cell)
    prefixes = [literal_prefix(expression) for expression in expressions]
    least, most = min(prefixes, default=""), max(prefixes, default="")
    same = 0
    while same < min(len(least), len(most)) and least[same] == most[same]:
        same += 1
    return _Globs(least[:same], cell, tuple(_shared(expression) for expression in expressions))


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


def _address(cell: str) -> Bound:
    try:
        return _Network(ipaddress.ip_network(cell, strict=False))
    except ValueError:
        return _Network(None)  # Casbin compares the address with the text, which are never equal


_BINDERS: Final[dict[str, Callable[[str], Bound]]] = {
    "keyMatch": _key,
    **{name: _path(name) for name in ("keyMatch2", "keyMatch3", "keyMatch4", "keyMatch5")},
    "regexMatch": _matching,
    "globMatch": _glob,
    "ipMatch": _address,
}
