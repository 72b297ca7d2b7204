"""Parsed regular expressions: single characters and places in a text, exactly as `re` itself sees them.

Rules of the room:
- Nothing here guesses what a class, a flag or an anchor means: one parsed item is compiled alone by `re`'s own
  compiler, and the compiled item is asked. So case folding, classes and anchors are those of the running Python.
- A mask tells which next characters an item may accept: one bit for each ASCII character, one for all others together,
  one for the end of the text. It may say too much, never too little.
Left to others: judging a pattern (`regexrisk`), running it (`automaton`, `regexes`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from re import _compiler, _parser  # type: ignore[attr-defined]  # the standard library's parser has no public name
from typing import Any, Final, TypeAlias

Item: TypeAlias = "tuple[Any, Any]"

ASCII_COUNT: Final = 128
OTHER: Final = 1 << ASCII_COUNT
END: Final = OTHER << 1
ALL: Final = (END << 1) - 1
NEWLINE: Final = 1 << ord("\n")

SINGLE: Final = frozenset({_parser.LITERAL, _parser.NOT_LITERAL, _parser.IN, _parser.ANY})
"""The items that consume exactly one character."""
REPEATS: Final = frozenset({_parser.MAX_REPEAT, _parser.MIN_REPEAT})
LOOKS: Final = frozenset({_parser.ASSERT, _parser.ASSERT_NOT})
UNBOUNDED: Final = _parser.MAXREPEAT

_KINDS: Final = int(re.ASCII | re.LOCALE | re.UNICODE)


@dataclass(frozen=True, slots=True)
class Tree:
    """A parsed pattern: its items and the flags that hold for all of them."""

    items: Sequence[Item]
    flags: int


def parse(pattern: str) -> Tree:
    """Return the tree of a pattern. Raises what `re.compile` raises for a pattern that it cannot read."""
    parsed = _parser.parse(pattern)
    return Tree(parsed, int(parsed.state.flags))


def scoped(flags: int, added: int, removed: int) -> int:
    """Return the flags inside a group such as `(?i-s:...)`."""
    if added & _KINDS:
        flags &= ~_KINDS
    return (flags | added) & ~removed


def inner(item: Item, flags: int) -> tuple[Sequence[Item], int] | None:
    """Return what a plain group holds and the flags inside it, or `None` when the item is no plain group."""
    if item[0] is not _parser.SUBPATTERN:
        return None
    _, added, removed, items = item[1]
    return items, scoped(flags, added, removed)


def single(items: Sequence[Item], flags: int) -> tuple[Item, int] | None:
    """Return the one item that consumes one character, and its flags, when the items amount to just that."""
    while len(items) == 1:
        item = items[0]
        if item[0] in SINGLE:
            return item, flags
        group = inner(item, flags)
        if group is None:
            return None
        items, flags = group
    return None


def fixed(item: Item) -> Item:
    """Return the item in a form that can be a key."""
    op, value = item
    return (op, tuple(value)) if op is _parser.IN else item


@lru_cache(maxsize=4_096)
def alone(item: Item, flags: int) -> re.Pattern[str]:
    """Return the pattern that is this one item (in `fixed` form): a character or a place."""
    op, value = item
    state = _parser.State()
    state.flags = flags
    part = _parser.SubPattern(state, [(op, list(value) if op is _parser.IN else value)])
    compiled: re.Pattern[str] = _compiler.compile(part, flags)
    return compiled


def mask(item: Item, flags: int) -> int:
    """Return the mask of the characters that a single-character item accepts."""
    if item[0] is _parser.LITERAL and not flags & re.IGNORECASE:
        return 1 << item[1] if item[1] < ASCII_COUNT else OTHER
    return _mask(fixed(item), flags)


@lru_cache(maxsize=4_096)
def _mask(item: Item, flags: int) -> int:
    accepts = alone(item, flags).match
    found = sum(1 << code for code in range(ASCII_COUNT) if accepts(chr(code)))
    return found if _ascii_only(item, flags) else found | OTHER


def _ascii_only(item: Item, flags: int) -> bool:
    """Return whether no character beyond ASCII can be accepted; in doubt `False`, as folding case crosses over."""
    op, value = item
    if op is not _parser.IN or flags & re.IGNORECASE:
        return False
    highest = [part[1] if kind is _parser.RANGE else part for kind, part in value]
    plain = all(kind in (_parser.LITERAL, _parser.RANGE) for kind, _ in value)
    return plain and max(highest, default=0) < ASCII_COUNT


def literals(items: Sequence[Item], flags: int) -> Iterator[str | None]:
    """Yield the characters with which every match begins, in order, then `None` unless the match ends there.

    Anchors and lookarounds consume nothing and are passed over: they only make the language smaller.
    """
    for item in items:
        op, value = item
        group = inner(item, flags)
        if op is _parser.LITERAL and not flags & re.IGNORECASE:
            yield chr(value)
        elif group is not None:
            yield from literals(*group)
        elif op in REPEATS:
            yield from _repeated(value, flags)
        elif op is not _parser.AT and op not in LOOKS:
            yield None


def _repeated(value: tuple[int, int, Sequence[Item]], flags: int) -> Iterator[str | None]:
    least, most, body = value
    for _ in range(least):
        yield from literals(body, flags)
    if least != most:
        yield None
