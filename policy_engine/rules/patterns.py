"""Casbin's pattern functions bound to one cell of a policy: the same answers, in bounded time, cheap to load.

Rules of the room:
- For a request text, `Bound.test` returns and raises what Casbin's own function does with that text and the cell.
- Every text that a bound cell matches begins with `prefix`, so that an index may look cells up by their beginning.
- A cell of plain path pieces (`/a/:id/b/*`) is matched piece by piece and never compiled. Any other becomes a regular
  expression of `core.regexes`; the plain beginning is cut off first, so that cells alike but for it share one.
- What Casbin's function raises for the cell whatever the request is raised by `bind`; a pattern whose time cannot be
  bounded is `LoadRefused`.
Left to others: what each kind matches (`rules.bounds`), globs (`rules.globs`), arguments of other types and the
functions in Casbin's evaluator (`rules.safefunctions`).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

from policy_engine.core.regexes import literal_prefix
from policy_engine.errors import LoadRefused
from policy_engine.rules.bounds import (
    SEGMENT,
    Beginning,
    Bound,
    Exact,
    Expression,
    Miscounted,
    Network,
    Pieces,
    Repeated,
    shared,
)
from policy_engine.rules.globs import bind_glob

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
_BEGINNING: Final = re.compile(rf"\^?({_PLAIN}*)")
_WORDS: Final = re.compile(rf"{_PLAIN}*")
_SEGMENTS: Final = re.compile(r"\[\^\\?/\]\+|\(\[\^/\]\+\)")
_PIECES: Final = re.compile(rf"(?:\0(?=/|\$?\Z)|{_PLAIN}(?![*+?{{]))*(?:[\w.]\*)?\$?")

_NAMED: Final = re.compile(r":[^/]+")
_BRACED: Final = {
    "keyMatch3": re.compile(r"{[^/]+?}"),
    "keyMatch4": re.compile(r"{([^/]+)}"),
    "keyMatch5": re.compile(r"{[^/]+}"),
}

_OPENINGS: Final = {"keyMatch2": ":", "keyMatch3": "{", "keyMatch5": "{"}
"""What a name in a path begins with. (The names of `keyMatch4` must be compared, so its cells are read whole.)"""


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

    parts = cell.split("/")
    for place, part in enumerate(parts):
        if "{" in part:
            end = part.rfind("}") + 1
            parts[place] = _BRACED[function].sub(named, part[:end]) + part[end:]
    return "/".join(parts)


def _key(cell: str) -> Bound:
    beginning, star, _ = cell.partition("*")
    return Beginning(beginning) if star else Exact(cell)


def _path(function: str) -> Callable[[str], Bound]:
    opening = _OPENINGS.get(function)
    cut = function == "keyMatch5"

    def bound(cell: str) -> Bound:
        if opening is not None:
            beginning, found, _ = cell.partition(opening)
            rest = cell[len(beginning) :]
            if found and len(rest) <= _SHARED_CHARACTERS and _WORDS.fullmatch(beginning):
                pieces = _shared_path(function, rest)
                if pieces is not None:
                    return Pieces(beginning, pieces, cut=cut)
        expression, names = derived(function, cell)
        if len(set(names)) < len(names) and function == "keyMatch4":
            return _repeated(expression, names)
        if "(" in cell and function == "keyMatch4" and re.compile(expression).groups != len(names):
            return Miscounted(literal_prefix(expression), shared(expression), 0, cut=False)
        return _matching(expression, cut=cut)

    return bound


def _repeated(expression: str, names: Sequence[str]) -> Bound:
    compiled = re.compile(expression)
    regex = shared(expression)
    prefix = literal_prefix(expression)
    if compiled.groups != len(names):
        return Miscounted(prefix, regex, 0, cut=False)
    if not regex.harmless:
        raise LoadRefused(
            "this keyMatch4 pattern repeats a name and may take unbounded time; keep one `*` or give each name once"
        )
    return Repeated(prefix, compiled, names)


def _matching(expression: str, *, cut: bool = False) -> Bound:
    """Return what `re.match` does with the expression and a text (cut at its first `?` where so asked)."""
    found = next(_BEGINNING.finditer(expression))
    prefix, rest = found.group(1), expression[found.end() :]
    if rest and rest[0] in "*+?{":
        prefix, rest = prefix[:-1], prefix[-1:] + rest
    pieces = _shared_pieces(rest) if len(rest) <= _SHARED_CHARACTERS else _pieces(rest)
    if pieces is not None:
        if not cut and _boundless(pieces):
            return Beginning(prefix)
        return Pieces(prefix, pieces, cut=cut)
    if "|" in rest or "(?" in rest:
        return Expression(literal_prefix(expression), shared(expression), 0, cut=cut)
    try:
        return Expression(prefix, shared(rest), len(prefix), cut=cut)
    except re.error:
        return Expression("", shared(expression), 0, cut=cut)  # says where in the whole of it the trouble is


def _pieces(rest: str) -> str | None:
    """Return what follows a plain beginning as plain pieces, `None` where it is more than that."""
    pieces = _SEGMENTS.sub(SEGMENT, rest)
    return pieces if SEGMENT not in rest and _PIECES.fullmatch(pieces) else None


_SHARED_CHARACTERS: Final = 256
_shared_pieces: Final = lru_cache(1_024)(_pieces)
"""Thousands of cells differ in their beginnings and go on alike."""


@lru_cache(1_024)
def _shared_path(function: str, rest: str) -> str | None:
    """Return a path from its first name on as plain pieces, `None` where it is more than that or begins otherwise."""
    expression, _ = derived(function, rest)
    return _pieces(expression[1:]) if expression.startswith("^[^") else None


def _boundless(pieces: str) -> bool:
    """Return whether what is left of a plain cell matches whatever comes."""
    return pieces == "" or (len(pieces) == 2 and pieces[1] == "*")


def _address(cell: str) -> Bound:
    try:
        return Network(ipaddress.ip_network(cell, strict=False))
    except ValueError:
        return Network(None)  # Casbin compares the address with the text, which are never equal


_BINDERS: Final[dict[str, Callable[[str], Bound]]] = {
    "keyMatch": _key,
    **{name: _path(name) for name in ("keyMatch2", "keyMatch3", "keyMatch4", "keyMatch5")},
    "regexMatch": _matching,
    "globMatch": bind_glob,
    "ipMatch": _address,
}
