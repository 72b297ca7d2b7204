"""How long `re` may take over a pattern: a bound read off the parsed pattern, before any text is seen.

Rules of the room:
- The bound is `factor * n ** degree` steps for a text of n characters. It may be too high, never too low; what cannot
  be judged is `EXPLOSIVE`.
- `re` tries again only where it had a choice. A choice that the next character decides costs nothing more, since every
  wrong way ends at once. A choice that it does not decide multiplies: an unbounded repeat raises the degree by one, a
  bounded one and an alternation raise the factor.
- A repeat of more than one item is judged only when nothing inside it leaves a choice; otherwise it is `EXPLOSIVE`.
Left to others: what is done with such patterns (`regexes`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from re import IGNORECASE, _parser  # type: ignore[attr-defined]  # the standard library's parser has no public name
from typing import Any, Final

from policy_engine.core.characters import (
    ALL,
    END,
    LOOKS,
    NEWLINE,
    REPEATS,
    SINGLE,
    UNBOUNDED,
    Item,
    Tree,
    inner,
    mask,
    single,
)

EXPLOSIVE: Final = 1_000
"""The degree of a pattern whose cost is exponential, or could not be judged."""

_ENDS: Final = {_parser.AT_END: END | NEWLINE, _parser.AT_END_STRING: END}


@dataclass(frozen=True, slots=True)
class Cost:
    """The bound on trying items and all that follows them, from one place.

    `fallible` is false when they match whatever comes; `first` holds every next character with which they can go on.
    """

    degree: int
    factor: int
    fallible: bool
    first: int

    def steps(self, size: int) -> int:
        """Return a bound on the work for a text of so many characters."""
        return int(self.factor * max(size, 1) ** self.degree)


ACCEPTED: Final = Cost(0, 1, False, ALL)


def assess(tree: Tree) -> Cost:
    """Return the bound for a whole pattern tried at one place, as `re.match` does."""
    return _Analysis().cost(tree.items, tree.flags, ACCEPTED)


class _Analysis:
    """One judgement; remembers what it found of loop bodies, so that nesting does not double the work."""

    def __init__(self) -> None:
        self._decided: dict[tuple[int, int, int], int | None] = {}

    def cost(self, items: Sequence[Item], flags: int, tail: Cost) -> Cost:
        """Return the bound on trying the items and then the tail."""
        for item in reversed(items):
            tail = self._item(item, flags, tail)
        return tail

    def _item(self, item: Item, flags: int, tail: Cost) -> Cost:
        op, value = item
        group = inner(item, flags)
        if op in SINGLE:
            return replace(tail, fallible=True, first=mask(item, flags))
        if group is not None:
            return self.cost(*group, tail)
        if op is _parser.AT:
            return replace(tail, fallible=True, first=_ENDS.get(value, ALL) & tail.first)
        if op is _parser.BRANCH:
            return _either([self.cost(branch, flags, tail) for branch in value[1]], _overlaps(value[1], flags))
        if op in REPEATS:
            return self._repeat(value, flags, tail)
        if op in LOOKS:
            inside = self._inside(value[1], flags)
            first = inside.first if op is _parser.ASSERT else ALL
            return _joined(inside, replace(tail, fallible=True, first=first & tail.first))
        return self._unusual(op, value, flags, tail)

    def _unusual(self, op: Any, value: Any, flags: int, tail: Cost) -> Cost:
        if op is _parser.ATOMIC_GROUP:
            inside = self._inside(value, flags)
            return _joined(inside, replace(tail, fallible=tail.fallible or inside.fallible, first=inside.first))
        if op is _parser.POSSESSIVE_REPEAT and self._body(value[2], flags, ALL) is not None:
            return replace(tail, degree=max(1, tail.degree), fallible=True, first=ALL)
        if op is _parser.GROUPREF:
            return replace(tail, degree=max(1, tail.degree), fallible=True, first=ALL)
        if op is _parser.GROUPREF_EXISTS:
            ways = [self.cost(way, flags, tail) for way in value[1:] if way is not None]
            return replace(_either([*ways, tail], len(ways) + 1), first=ALL, fallible=True)
        return replace(tail, degree=EXPLOSIVE, fallible=True, first=ALL)

    def _inside(self, items: Any, flags: int) -> Cost:
        """Return the bound on trying items by themselves, the way that succeeds included."""
        found = self.cost(items, flags, ACCEPTED)
        scans = int(items.getwidth()[1] >= UNBOUNDED)
        return replace(found, degree=max(found.degree, scans))

    def _repeat(self, value: tuple[int, int, Any], flags: int, tail: Cost) -> Cost:
        least, most, body = value
        if most == 0:
            return tail
        if most == 1 and single(body, flags) is None:
            within = self.cost(body, flags, tail)
            return within if least else _either([within, tail], 2)
        starts = self._body(body, flags, tail.first)
        if starts is None:
            return replace(tail, degree=EXPLOSIVE, fallible=True, first=ALL)
        first = starts if least else starts | tail.first
        if not tail.fallible:
            scans = int(single(body, flags) is None)
            return replace(tail, degree=max(scans, tail.degree), fallible=least > 0, first=first)
        free = least != most and bool(starts & tail.first)
        if most < UNBOUNDED:
            factor = tail.factor * (most - least + 1) if free else tail.factor + most
            return replace(tail, factor=factor, first=first)
        degree = tail.degree + 1 if free else max(1, tail.degree)
        return replace(tail, degree=degree, factor=tail.factor + least, first=first)

    def _body(self, body: Any, flags: int, after: int) -> int | None:
        """Return what the body of a repeat can begin with, or `None` when a choice inside it stays open."""
        one = single(body, flags)
        if one is not None:
            return mask(*one)
        if body.getwidth()[0] == 0:
            return None
        starts = self._settled(body, flags, 0)
        if starts is None or self._settled(body, flags, starts | after) is None:
            return None
        return starts

    def _settled(self, items: Sequence[Item], flags: int, after: int) -> int | None:
        """Return what the items can begin with when `after` may follow; `None` when the next character leaves a choice.

        Leaving a repeat or an alternation is a choice here too.
        """
        key = (id(items), flags, after)
        if key not in self._decided:
            self._decided[key] = self._settle(items, flags, after)
        return self._decided[key]

    def _settle(self, items: Sequence[Item], flags: int, after: int) -> int | None:
        found: int | None = after
        for item in reversed(items):
            if found is None:
                return None
            found = self._settle_item(item, flags, found)
        return found

    def _settle_item(self, item: Item, flags: int, after: int) -> int | None:
        op, value = item
        group = inner(item, flags)
        if op in SINGLE:
            return mask(item, flags)
        if group is not None:
            return self._settled(*group, after)
        if op is _parser.AT:
            return after
        if op in LOOKS:
            return after if self._inside(value[1], flags).degree == 0 else None
        if op is _parser.BRANCH:
            return _apart([self._settled(branch, flags, after) for branch in value[1]])
        if op in REPEATS:
            least, most, body = value
            if most == 0:
                return after
            starts = self._settled(body, flags, after) if most == 1 else self._body(body, flags, after)
            if starts is None or least == most:
                return starts
            if starts & after:
                return None
            return starts if least else starts | after
        return None


def _either(ways: list[Cost], overlaps: int) -> Cost:
    """Return the bound on alternatives of which so many can begin alike."""
    first = 0
    apart = True
    for way in ways:
        apart = apart and not first & way.first
        first |= way.first
    factor = max(way.factor for way in ways) * (1 if apart else overlaps) + len(ways)
    return Cost(max(way.degree for way in ways), factor, all(way.fallible for way in ways), first)


def _joined(inside: Cost, tail: Cost) -> Cost:
    """Return the bound on items tried once by themselves and then the tail."""
    return replace(tail, degree=max(inside.degree, tail.degree), factor=inside.factor + tail.factor)


def _apart(ways: Iterable[int | None]) -> int | None:
    found = 0
    for way in ways:
        if way is None or found & way:
            return None
        found |= way
    return found


def _overlaps(branches: Sequence[Sequence[Item]], flags: int) -> int:
    """Return how many alternatives can match at one place: of plain words only those that begin another."""
    if not all(op is _parser.LITERAL for branch in branches for op, _ in branch):
        return len(branches)
    words = [tuple(mask(item, flags) if flags & IGNORECASE else item[1] for item in branch) for branch in branches]
    counted: dict[tuple[int, ...], int] = {}
    for word in words:
        counted[word] = counted.get(word, 0) + 1
    return max(sum(counted.get(word[:size], 0) for size in range(len(word) + 1)) for word in counted)
