"""Keys of the lookup: what a keyed column is compared with.

Left to others: the lookup itself (`core.lookup`), which terms of a matcher may be keys (`rules.selectors`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Sequence
from typing import Any

from policy_engine.core.matching import Bound, networks_of
from policy_engine.core.roles import NO_DOMAIN, Roles
from policy_engine.core.terms import ADDRESSES, COLLECTIONS, SCALARS, TEXT, Kinds


class _Lengths:
    """The lengths that rows name, in order. Enforcers that come of one another share them, and may be made at the same
    time: they only grow, and none is lost, for whoever asks sees when there are more than were put in order last."""

    __slots__ = ("_known", "_ordered")

    def __init__(self) -> None:
        self._known: dict[Any, None] = {}
        self._ordered: tuple[Any, ...] = ()

    def add(self, length: Any) -> None:
        """Take a length, whether or not it is there."""
        self._known[length] = None

    def ordered(self) -> tuple[Any, ...]:
        """Return all of them, ascending."""
        found = self._ordered
        if len(found) != len(self._known):
            found = self._ordered = tuple(sorted(self._known))
        return found


class EqualKey:
    """The cell equals the value."""

    single = True
    plain = True

    def __init__(self, position: int) -> None:
        self.position = position
        self.kinds: Kinds = {position: SCALARS}

    def cell(self, cell: Any) -> Any:
        """Return what the lookup keeps for a row's cell."""
        return cell

    def accepts(self, values: Sequence[Any], present: Collection[Any]) -> Collection[Any]:
        return (values[self.position],)

    def holds(self, values: Sequence[Any], cell: Any) -> bool:
        return bool(cell == values[self.position])


class ValuesKey:
    """The cell is one of the value's elements."""

    single = False
    plain = True

    def __init__(self, position: int) -> None:
        self.position = position
        self.kinds: Kinds = {position: COLLECTIONS}

    def cell(self, cell: Any) -> Any:
        """Return what the lookup keeps for a row's cell."""
        return cell

    def accepts(self, values: Sequence[Any], present: Collection[Any]) -> Collection[Any]:
        return frozenset(values[self.position])

    def holds(self, values: Sequence[Any], cell: Any) -> bool:
        return cell in values[self.position]


class HeldKey:
    """The cell is the value, or one of its elements."""

    single = False
    plain = True

    def __init__(self, position: int) -> None:
        self.position = position
        self.kinds: Kinds = {position: TEXT | COLLECTIONS}

    def cell(self, cell: Any) -> Any:
        """Return what the lookup keeps for a row's cell."""
        return cell

    def accepts(self, values: Sequence[Any], present: Collection[Any]) -> Collection[Any]:
        value = values[self.position]
        return (value,) if type(value) is str else frozenset(value)

    def holds(self, values: Sequence[Any], cell: Any) -> bool:
        value = values[self.position]
        return bool(cell == value) if type(value) is str else cell in value


class RoleKey:
    """The cell is a role of the value; `roles` is where the graph of the day stands among the values."""

    single = False
    plain = True

    def __init__(self, position: int, domain: int | None, roles: int) -> None:
        self.position = position
        self.domain = domain
        self.roles = roles
        self.kinds: Kinds = {position: TEXT} if domain is None else {position: TEXT, domain: TEXT}

    def cell(self, cell: Any) -> Any:
        """Return what the lookup keeps for a row's cell."""
        return cell

    def accepts(self, values: Sequence[Any], present: Collection[Any]) -> Collection[Any]:
        roles: Roles = values[self.roles]
        domain = NO_DOMAIN if self.domain is None else values[self.domain]
        return roles.among(values[self.position], domain, present)

    def holds(self, values: Sequence[Any], cell: Any) -> bool:
        roles: Roles = values[self.roles]
        return roles.has(values[self.position], NO_DOMAIN if self.domain is None else values[self.domain], cell)


class AddressKey:
    """The cell is a network in which the value, an IP address, lies."""

    single = False
    plain = False

    def __init__(self, position: int) -> None:
        self.position = position
        self._lengths = _Lengths()
        self.kinds: Kinds = {position: ADDRESSES}

    def cell(self, cell: Any) -> Any:
        """Return what the lookup keeps for a row's cell."""
        self._lengths.add(cell[:2])
        return cell

    def accepts(self, values: Sequence[Any], present: Collection[Any]) -> Collection[Any]:
        return networks_of(values[self.position], self._lengths.ordered())

    def holds(self, values: Sequence[Any], cell: Any) -> bool:
        return cell in networks_of(values[self.position], (cell[:2],))


class PrefixKey:
    """The cell is a pattern: a whole text, or one whose matches have a beginning, which the value has.

    The lengths of the beginnings that rows name only grow, which costs look-ups and never an answer.
    """

    single = False
    plain = False

    def __init__(self, position: int) -> None:
        self.position = position
        self._lengths = _Lengths()
        self.kinds: Kinds = {position: TEXT}

    def cell(self, cell: Any) -> Any:
        """Return what the lookup keeps for a row's cell: a text, or a beginning as a tuple of one."""
        bound: Bound = cell
        if bound.exact:  # nothing but the text itself matches
            return bound.prefix
        self._lengths.add(len(bound.prefix))
        return (bound.prefix,)

    def accepts(self, values: Sequence[Any], present: Collection[Any]) -> Collection[Any]:
        text = values[self.position]
        lengths = self._lengths.ordered()
        ends = lengths[: bisect_right(lengths, len(text))]
        return [text, *((text[:end],) for end in ends)]

    def holds(self, values: Sequence[Any], cell: Any) -> bool:
        text: str = values[self.position]
        return text.startswith(cell[0]) if type(cell) is tuple else bool(text == cell)
