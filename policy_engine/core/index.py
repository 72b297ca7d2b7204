"""The compiled index: which rules match a flat tuple of values, all at once, without scanning the rules.

Rules of the room:
- A rule is a position. Each term is one conjunct of the matcher, inverted when it is built: value -> the rules whose
  condition it meets, as bits of an `int` (few rules of many as a tuple of positions, so that memory stays small).
- Terms are asked most selective first; the AND of their answers is the set of matching rules.
- Nothing is kept between requests: a value never seen before costs what a repeated one does.
- A value of a kind that a term does not read raises; the caller denies. Codes nobody named simply match nothing.
Left to others: what a condition's text means and where terms come from (`rules.compile`), lifting and effects
(`core.authorizer`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

from policy_engine.core.instants import ENDLESS
from policy_engine.core.postings import Accepted, Postings, spread
from policy_engine.errors import InputRefused

_Select = Callable[[Sequence[Any]], int]
_Plain = tuple[int, Mapping[Any, int], int, _Select]

_SETS: Final = frozenset((frozenset, set, tuple, list))
_SCALARS: Final = frozenset((str, int, float, bool, type(None)))
_NARROW_BITS: Final = 512
_FEW_COUNT: Final = 64


class Term(Protocol):
    """One inverted conjunct. `weight` is the number of rules that it lets pass on average: the least is asked first."""

    weight: float

    def select(self, values: Sequence[Any]) -> int:
        """Return the rules whose condition holds, as bits. Raises `InputRefused` on a kind of value it cannot read."""
        ...

    def readable(self, values: Sequence[Any]) -> bool:
        """Return whether `select` can read its values."""
        ...


class Index:
    """All terms of a matcher over the same rules."""

    __slots__ = ("_all", "_plain", "_selects", "rule_count", "terms")

    def __init__(self, terms: Iterable[Term], rule_count: int) -> None:
        self.terms = tuple(sorted(terms, key=lambda term: term.weight))
        self.rule_count = rule_count
        self._all = (1 << rule_count) - 1
        plain = {term: term.plain for term in self.terms if isinstance(term, OneOf) and term.plain is not None}
        self._plain: tuple[_Plain, ...] = tuple(plain.values())
        self._selects: tuple[_Select, ...] = tuple(term.select for term in self.terms if term not in plain)

    def matching(self, values: Sequence[Any]) -> int:
        """Return every rule whose conditions all hold, as bits; lifts are the caller's. Raises as `Term.select`."""
        found = self._all
        for position, rules, free, select in self._plain:
            value = values[position]
            # The commonest kinds of term and value, without a call; everything else goes the long way.
            kind = type(value)
            if kind is str:
                found &= rules.get(value, free)
            elif kind is frozenset and not value:
                found &= free
            else:
                found &= select(values)
            if not found:
                return 0
        for select in self._selects:
            found &= select(values)
            if not found:
                return 0
        return found

    def places(self, values: Sequence[Any]) -> tuple[int, ...]:
        """Return the positions of the rules that `matching` returns, ascending."""
        return positions(self.matching(values))

    def readable(self, values: Sequence[Any]) -> bool:
        """Return whether no term would raise on these values, whatever the order they are asked in."""
        return all(term.readable(values) for term in self.terms)


def positions(found: int) -> tuple[int, ...]:
    """Return the positions of the set bits, ascending."""
    places: list[int] = []
    if found.bit_length() <= _NARROW_BITS or found.bit_count() <= _FEW_COUNT:
        while found:  # from the top, so that what is left grows shorter
            place = found.bit_length() - 1
            places.append(place)
            found ^= 1 << place
        places.reverse()
        return tuple(places)
    text = f"{found:b}"[::-1]
    at = text.find("1")
    while at >= 0:
        places.append(at)
        at = text.find("1", at + 1)
    return tuple(places)


class OneOf:
    """The value, or one element of a set of values, is among those that the rule accepts.

    With a `vocabulary`, a value outside it cannot be read.
    """

    __slots__ = ("_position", "_postings", "_vocabulary", "plain", "weight")

    def __init__(self, position: int, accepted: Sequence[Accepted], vocabulary: frozenset[Any] | None = None) -> None:
        self._position = position
        self._postings = Postings(accepted)
        self._vocabulary = vocabulary
        self.weight = self._postings.weight
        simple = vocabulary is None and not self._postings.few
        self.plain = (position, self._postings.dense, self._postings.free, self.select) if simple else None
        """What finds the rules of a text in one look-up: place, rules by value, rules of any other, and `select`."""

    def select(self, values: Sequence[Any]) -> int:
        value = values[self._position]
        if type(value) is str:
            if self._vocabulary is not None and value not in self._vocabulary:
                raise _unreadable(self._position)
            return self._postings.of(value)
        if self._vocabulary is not None or type(value) not in _SETS:
            raise _unreadable(self._position)
        return self._postings.of_any(value)

    def readable(self, values: Sequence[Any]) -> bool:
        value = values[self._position]
        if self._vocabulary is not None:
            return type(value) is str and value in self._vocabulary
        return type(value) is str or _strings(value)


class Equal:
    """The value equals the one that the rule names; a set equals nothing."""

    __slots__ = ("_position", "_postings", "weight")

    def __init__(self, position: int, accepted: Sequence[Accepted]) -> None:
        self._position = position
        self._postings = Postings(accepted)
        self.weight = self._postings.weight

    def select(self, values: Sequence[Any]) -> int:
        value = values[self._position]
        if type(value) not in _SCALARS:
            raise _unreadable(self._position)
        return self._postings.of(value)

    def readable(self, values: Sequence[Any]) -> bool:
        return type(values[self._position]) in _SCALARS


class NoneOf:
    """None of the set's elements is among those that the rule refuses."""

    __slots__ = ("_all", "_position", "_postings", "weight")

    def __init__(self, position: int, refused: Sequence[frozenset[Any]]) -> None:
        self._position = position
        self._postings = Postings(refused)
        self._all = (1 << len(refused)) - 1
        self.weight = float(len(refused))

    def select(self, values: Sequence[Any]) -> int:
        value = values[self._position]
        if type(value) not in _SETS:
            raise _unreadable(self._position)
        return self._all & ~self._postings.of_any(value) if value else self._all

    def readable(self, values: Sequence[Any]) -> bool:
        return _strings(values[self._position])


class Linked:
    """The value, or one element of it, is linked to the rule's group in one of the domains that the request names.

    `links` are domain -> group -> members; a group's own name is a member of it in every domain, as in Casbin.
    `expected` are the sets of domains that requests will name, so that they are merged when the term is built; any
    other set is read domain by domain. `outside` turns the answer round for rules that have a condition.
    """

    __slots__ = ("_all", "_domain_position", "_domains", "_free", "_merged", "_outside", "_own", "_position", "weight")

    def __init__(
        self,
        position: int,
        domain_position: int,
        groups: Sequence[str | None],
        links: Mapping[str, Mapping[str, Iterable[str]]],
        *,
        expected: Iterable[frozenset[str]] = (),
        outside: bool = False,
    ) -> None:
        self._position = position
        self._domain_position = domain_position
        self._outside = outside
        self._all = (1 << len(groups)) - 1
        self._free = spread([at for at, group in enumerate(groups) if group is None])
        self._own = _invert(groups, {})
        self._domains = {domain: _invert(groups, members) for domain, members in links.items()}
        self._merged = {domains: self._merge(domains) for domains in expected if domains}
        named = sum(group is not None for group in groups)
        kinds = max(1, len({group for group in groups if group is not None}))
        self.weight = self._free.bit_count() + named / kinds

    def select(self, values: Sequence[Any]) -> int:
        value = values[self._position]
        domains = values[self._domain_position]
        try:
            merged = self._merged.get(domains)
        except TypeError:
            merged = None
        if merged is None:
            if type(domains) not in _SETS:
                raise _unreadable(self._domain_position)
            merged = self._merge(domains)
        kind = type(value)
        found = 0
        if kind is str:
            found = merged.get(value, 0)
        elif kind in _SETS and not self._outside:
            for element in value:
                found |= merged.get(element, 0)
        else:
            raise _unreadable(self._position)
        return self._free | (self._all & ~found if self._outside else found)

    def readable(self, values: Sequence[Any]) -> bool:
        value = values[self._position]
        known = type(value) is str or (not self._outside and _strings(value))
        return known and _strings(values[self._domain_position])

    def _merge(self, domains: Iterable[str]) -> dict[str, int]:
        merged: dict[str, int] = {}
        for domain in domains:
            for code, found in self._domains.get(domain, self._own).items():
                merged[code] = merged.get(code, 0) | found
        return merged


class Role:
    """The value has the role that the rule names, in the domain that the request or the rule names (Casbin's `g`).

    `members` are the names that have each (role, domain); `domains` is the position of the request's domain, the
    list of the rules' domains, or `None` where roles have none.
    """

    __slots__ = ("_domain_position", "_position", "_postings", "weight")

    def __init__(
        self,
        position: int,
        roles: Sequence[str],
        members: Callable[[str], Iterable[tuple[str, str]]],
        domains: int | Sequence[str] | None = None,
    ) -> None:
        self._position = position
        self._domain_position = domains if isinstance(domains, int) else None
        reach = {role: frozenset(members(role)) for role in set(roles)}
        accepted: list[frozenset[Any]] = []
        for at, role in enumerate(roles):
            if isinstance(domains, int):
                accepted.append(reach[role] | {(role, None)})
            else:
                own = "" if domains is None else domains[at]
                accepted.append(frozenset(name for name, domain in reach[role] if domain == own) | {role})
        self._postings = Postings(accepted)
        self.weight = self._postings.weight

    def select(self, values: Sequence[Any]) -> int:
        if not self.readable(values):
            raise _unreadable(self._position)
        value = values[self._position]
        if self._domain_position is None:
            return self._postings.of(value)
        return self._postings.of_any(((value, values[self._domain_position]), (value, None)))

    def readable(self, values: Sequence[Any]) -> bool:
        if type(values[self._position]) is not str:
            return False
        return self._domain_position is None or type(values[self._domain_position]) is str


class Between:
    """The instant lies in the rule's interval, start included and end excluded."""

    __slots__ = ("_found", "_position", "_starts", "weight")

    def __init__(self, position: int, intervals: Sequence[tuple[int, int]]) -> None:
        self._position = position
        self._starts = sorted({-ENDLESS} | {instant for interval in intervals for instant in interval})
        self._found = [
            spread([at for at, (start, until) in enumerate(intervals) if start <= instant < until])
            for instant in self._starts
        ]
        self.weight = float(len(intervals))

    def select(self, values: Sequence[Any]) -> int:
        value = values[self._position]
        if type(value) is not int or value < -ENDLESS:
            raise _unreadable(self._position)
        return self._found[bisect_right(self._starts, value) - 1]

    def readable(self, values: Sequence[Any]) -> bool:
        value = values[self._position]
        return type(value) is int and value >= -ENDLESS


def _invert(groups: Sequence[str | None], links: Mapping[str, Iterable[str]]) -> dict[str, int]:
    """Return code -> the rules whose group holds it; a group holds its own name."""
    rules: dict[str, int] = {}
    for at, group in enumerate(groups):
        if group is not None:
            rules[group] = rules.get(group, 0) | 1 << at
    codes: dict[str, int] = dict(rules)
    for group, found in rules.items():
        for code in links.get(group, ()):
            codes[code] = codes.get(code, 0) | found
    return codes


def _strings(value: Any) -> bool:
    return type(value) in _SETS and all(type(element) is str for element in value)


def _unreadable(position: int) -> InputRefused:
    return InputRefused(
        "a value given to the rules is of a kind that they cannot read; nothing is allowed by it",
        where=f"value {position}",
    )
