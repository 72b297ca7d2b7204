"""Terms of general matchers: conditions over rows that are found from the request's values, without a scan.

Rules of the room:
- `select` gives the rows that may match, as bits; where `exact` is false it may give too many, never too few, and
  `test` settles each row. `select` may give bits of rows that do not exist; the caller cuts them off.
- `kinds` are the types that a term can read at each position of the request's values. For a value of any other type
  nothing here may be asked: what Casbin would do with it is Casbin's to say.
- Nothing is kept between requests. Frozen: a change returns another term.
Left to others: terms of the published functions (`core.index`), what a matcher's text means (`rules.selectors`).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address
from operator import ge, gt, le, lt
from typing import Any, Final, Protocol

from policy_engine.core.lookup import FREE, Cells
from policy_engine.core.postings import Postings, spread
from policy_engine.core.roles import NO_DOMAIN, Roles

SCALARS: Final[frozenset[type]] = frozenset((str, int, float, bool, type(None)))
TEXT: Final[frozenset[type]] = frozenset((str,))
NUMBERS: Final[frozenset[type]] = frozenset((int, float, bool))
COLLECTIONS: Final[frozenset[type]] = frozenset((list, tuple, set, frozenset))
ADDRESSES: Final[frozenset[type]] = frozenset((IPv4Address, IPv6Address))
EVERY_ROW: Final = -1
Kinds = Mapping[int, frozenset[type]]
Check = Callable[[Sequence[Any]], bool]
"""Says whether a term can read the values, where their types do not tell."""

_CUMULATIVE_BYTES: Final = 4_194_304
"""What the cumulative bits of one `Compared` may take; beyond it they are coarse and rows are tested."""


class Reading(Protocol):
    """What reads values of some types."""

    @property
    def kinds(self) -> Kinds: ...


class Selector(Protocol):
    """One condition over rows; see the module for what it promises."""

    exact: bool

    @property
    def weight(self) -> float: ...

    @property
    def kinds(self) -> Kinds: ...

    @property
    def checks(self) -> tuple[Check, ...]: ...

    def select(self, values: Sequence[Any]) -> int: ...

    def test(self, values: Sequence[Any], slot: int) -> bool: ...

    def changed(self, add: Mapping[int, Cells], remove: Mapping[int, Cells]) -> Selector: ...


class Column:
    """One cell a row, by slot; `at` is its place in a row's cells. A change shares the list until it is written."""

    __slots__ = ("at", "cells")

    def __init__(self, at: int, cells: list[Any]) -> None:
        self.at = at
        self.cells = cells

    def changed(self, add: Mapping[int, Cells]) -> Column:
        """Return the column with rows added behind. Cells of rows that are gone stay, and nobody asks for them."""
        return Column(self.at, self.cells + [row[self.at] for row in add.values()]) if add else self


class Term:
    """What the terms share: nothing to check beside types."""

    exact = True
    checks: tuple[Check, ...] = ()


class Equals(Term):
    """The value equals the row's cell; a free cell asks nothing."""

    def __init__(self, position: int, column: Column, postings: Postings | None = None) -> None:
        self.position = position
        self.column = column
        self.postings = postings if postings is not None else Postings([named(cell) for cell in column.cells])
        self.weight = self.postings.weight
        self.kinds: Kinds = {position: SCALARS}

    def select(self, values: Sequence[Any]) -> int:
        return self.postings.of(values[self.position])

    def test(self, values: Sequence[Any], slot: int) -> bool:
        cell = self.column.cells[slot]
        return cell is FREE or bool(cell == values[self.position])

    def changed(self, add: Mapping[int, Cells], remove: Mapping[int, Cells]) -> Equals:
        postings = self.postings.changed(*accepting(self.column.at, add, remove, named))
        return Equals(self.position, self.column.changed(add), postings)


def named(cell: Any) -> frozenset[Any] | None:
    """Return what a row with this cell accepts: the cell, or anything."""
    return None if cell is FREE else frozenset((cell,))


def accepting(
    at: int, add: Mapping[int, Cells], remove: Mapping[int, Cells], read: Callable[[Any], frozenset[Any] | None]
) -> tuple[dict[int, frozenset[Any] | None], dict[int, frozenset[Any] | None]]:
    """Return what rows added and rows removed accept in one column."""
    return {slot: read(row[at]) for slot, row in add.items()}, {slot: read(row[at]) for slot, row in remove.items()}


class ElementOf(Term):
    """The value is an element of the row's cell, a tuple (`r.x in ("a", "b")`)."""

    def __init__(self, position: int, column: Column, postings: Postings | None = None) -> None:
        self.position = position
        self.column = column
        self.postings = postings if postings is not None else Postings([frozenset(cell) for cell in column.cells])
        self.weight = self.postings.weight
        self.kinds: Kinds = {position: SCALARS}

    def select(self, values: Sequence[Any]) -> int:
        return self.postings.of(values[self.position])

    def test(self, values: Sequence[Any], slot: int) -> bool:
        return values[self.position] in self.column.cells[slot]

    def changed(self, add: Mapping[int, Cells], remove: Mapping[int, Cells]) -> ElementOf:
        postings = self.postings.changed(*accepting(self.column.at, add, remove, frozenset))
        return ElementOf(self.position, self.column.changed(add), postings)


class Holds(Term):
    """The value, a collection, holds the row's cell (`p.x in r.list`)."""

    def __init__(self, position: int, column: Column, postings: Postings | None = None) -> None:
        self.position = position
        self.column = column
        self.postings = postings if postings is not None else Postings([named(cell) for cell in column.cells])
        self.weight = self.postings.weight
        self.kinds: Kinds = {position: COLLECTIONS}

    def select(self, values: Sequence[Any]) -> int:
        return self.postings.of_any(values[self.position])

    def test(self, values: Sequence[Any], slot: int) -> bool:
        return self.column.cells[slot] in values[self.position]

    def changed(self, add: Mapping[int, Cells], remove: Mapping[int, Cells]) -> Holds:
        postings = self.postings.changed(*accepting(self.column.at, add, remove, named))
        return Holds(self.position, self.column.changed(add), postings)


class Said(Term):
    """The value itself, true or false, for every row."""

    weight = 0.0

    def __init__(self, position: int) -> None:
        self.position = position
        self.kinds: Kinds = {position: frozenset((bool,))}

    def select(self, values: Sequence[Any]) -> int:
        return EVERY_ROW if values[self.position] else 0

    def test(self, values: Sequence[Any], slot: int) -> bool:
        return bool(values[self.position])

    def changed(self, add: Mapping[int, Cells], remove: Mapping[int, Cells]) -> Said:
        return self


class Fixed(Term):
    """What the row alone says, true or false."""

    def __init__(self, column: Column, bits: int | None = None) -> None:
        self.column = column
        self.bits = spread([slot for slot, cell in enumerate(column.cells) if cell]) if bits is None else bits
        self.weight = float(self.bits.bit_count())
        self.kinds: Kinds = {}

    def select(self, values: Sequence[Any]) -> int:
        return self.bits

    def test(self, values: Sequence[Any], slot: int) -> bool:
        return bool(self.column.cells[slot])

    def changed(self, add: Mapping[int, Cells], remove: Mapping[int, Cells]) -> Fixed:
        gone = spread(list(remove))
        come = spread([slot for slot, row in add.items() if row[self.column.at]])
        return Fixed(self.column.changed(add), self.bits & ~gone | come)


class Compared(Term):
    """The value is before or after the row's cell, both numbers or both texts (`<`, `<=`, `>`, `>=`).

    `_bounds` are cells in order; `_below[n]` are the rows whose cell is at most `_bounds[n]`.
    """

    exact = False
    _TESTS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {"<": lt, "<=": le, ">": gt, ">=": ge}

    def __init__(self, position: int, operator: str, column: Column, *, text: bool) -> None:
        self.position = position
        self.operator = operator
        self.column = column
        self.text = text
        self.holds = self._TESTS[operator]
        self.kinds: Kinds = {position: TEXT if text else NUMBERS}
        self.weight = len(column.cells) / 2
        self._fill()

    def _fill(self) -> None:
        cells = self.column.cells
        order = sorted(range(len(cells)), key=cells.__getitem__)
        most = max(1, _CUMULATIVE_BYTES * 8 // max(1, len(cells)))
        step = -(-len(order) // most) if order else 1
        self._bounds: list[Any] = []
        self._below: list[int] = []
        self._all = 0
        for start in range(0, len(order), step):
            part = order[start : start + step]
            self._all |= spread(part)
            bound = cells[part[-1]]
            if self._bounds and self._bounds[-1] == bound:
                self._below[-1] = self._all
            else:
                self._bounds.append(bound)
                self._below.append(self._all)

    def select(self, values: Sequence[Any]) -> int:
        value = values[self.position]
        if self.operator in (">", ">="):  # the row's cell lies below the value
            place = bisect_left(self._bounds, value)
            return self._below[place] if place < len(self._below) else self._all
        place = bisect_left(self._bounds, value) - 1
        return self._all & ~self._below[place] if place >= 0 else self._all

    def test(self, values: Sequence[Any], slot: int) -> bool:
        return bool(self.holds(values[self.position], self.column.cells[slot]))

    def changed(self, add: Mapping[int, Cells], remove: Mapping[int, Cells]) -> Compared:
        copy = object.__new__(Compared)
        copy.position, copy.operator, copy.text, copy.holds = self.position, self.operator, self.text, self.holds
        copy.kinds, copy.weight, copy.column = self.kinds, self.weight, self.column.changed(add)
        copy._bounds, copy._below = list(self._bounds), list(self._below)
        gone = ~spread(list(remove))
        copy._below = [below & gone for below in copy._below]
        copy._all = self._all & gone
        for slot, row in add.items():
            place = bisect_left(copy._bounds, row[self.column.at])
            copy._all |= 1 << slot
            for at in range(place, len(copy._below)):
                copy._below[at] |= 1 << slot
        return copy


class Bound(Protocol):
    """A pattern of one row: every text that it matches begins with `prefix`."""

    @property
    def prefix(self) -> str: ...

    @property
    def exact(self) -> bool: ...

    def test(self, text: str) -> bool: ...


class Matches(Term):
    """The row's pattern matches the value. Patterns with another beginning than the value's are not tried."""

    exact = False

    def __init__(
        self, position: int, column: Column, postings: Postings | None = None, lengths: Iterable[int] = ()
    ) -> None:
        self.position = position
        self.column = column
        self.postings = postings if postings is not None else Postings([_begins(cell) for cell in column.cells])
        self.lengths = tuple(lengths) or tuple(sorted({len(cell.prefix) for cell in column.cells}))
        self.weight = len(column.cells) / max(1, len(self.postings.dense) + len(self.postings.few))
        self.kinds: Kinds = {position: TEXT}

    def select(self, values: Sequence[Any]) -> int:
        text = values[self.position]
        ends = self.lengths[: bisect_right(self.lengths, len(text))]
        return self.postings.of_any(text[:end] for end in ends)

    def test(self, values: Sequence[Any], slot: int) -> bool:
        bound: Bound = self.column.cells[slot]
        return bound.test(values[self.position])

    def changed(self, add: Mapping[int, Cells], remove: Mapping[int, Cells]) -> Matches:
        postings = self.postings.changed(*accepting(self.column.at, add, remove, _begins))
        lengths = sorted({*self.lengths, *(len(row[self.column.at].prefix) for row in add.values())})
        return Matches(self.position, self.column.changed(add), postings, lengths)


def _begins(cell: Bound) -> frozenset[Any]:
    return frozenset((cell.prefix,))


Network = tuple[int, int, int]
"""Version, length of the prefix, and the prefix as a number."""
NO_NETWORK: Final[Network] = (0, 0, 0)
"""No address lies in it."""


class Addresses(Term):
    """The value, an IP address, lies in the row's network."""

    def __init__(self, position: int, column: Column, postings: Postings | None = None) -> None:
        self.position = position
        self.column = column
        self.postings = postings if postings is not None else Postings([named(cell) for cell in column.cells])
        self.lengths = tuple({cell[:2] for cell in (*self.postings.dense, *self.postings.few)})
        self.weight = self.postings.weight
        self.kinds: Kinds = {position: ADDRESSES}

    def select(self, values: Sequence[Any]) -> int:
        return self.postings.of_any(networks_of(values[self.position], self.lengths))

    def test(self, values: Sequence[Any], slot: int) -> bool:
        cell = self.column.cells[slot]
        return cell in networks_of(values[self.position], (cell[:2],))

    def changed(self, add: Mapping[int, Cells], remove: Mapping[int, Cells]) -> Addresses:
        postings = self.postings.changed(*accepting(self.column.at, add, remove, named))
        return Addresses(self.position, self.column.changed(add), postings)


def networks_of(address: IPv4Address | IPv6Address, lengths: Iterable[tuple[int, int]]) -> list[Network]:
    """Return the networks of these (version, length) in which an address lies."""
    version, bits, number = address.version, address.max_prefixlen, int(address)
    return [(version, length, number >> bits - length) for kind, length in lengths if kind == version]


class HasRole(Term):
    """The value has the row's role, in the domain that the request names, if roles have domains.

    `roles` is where the graph of the day stands among the values, so that new links make no new terms.
    """

    def __init__(
        self, position: int, domain: int | None, roles: int, column: Column, postings: Postings | None = None
    ) -> None:
        self.position = position
        self.domain = domain
        self.roles = roles
        self.column = column
        self.postings = postings if postings is not None else Postings([named(cell) for cell in column.cells])
        self.weight = self.postings.weight
        self.kinds: Kinds = {position: TEXT} if domain is None else {position: TEXT, domain: TEXT}

    def reach(self, values: Sequence[Any]) -> Collection[Any]:
        """Return the roles of the request's value."""
        roles: Roles = values[self.roles]
        return roles.reach(values[self.position], NO_DOMAIN if self.domain is None else values[self.domain])

    def select(self, values: Sequence[Any]) -> int:
        return self.postings.of_any(self.reach(values))

    def test(self, values: Sequence[Any], slot: int) -> bool:
        return self.column.cells[slot] in self.reach(values)

    def changed(self, add: Mapping[int, Cells], remove: Mapping[int, Cells]) -> HasRole:
        postings = self.postings.changed(*accepting(self.column.at, add, remove, named))
        return HasRole(self.position, self.domain, self.roles, self.column.changed(add), postings)


class HasRoleThere(Term):
    """The value has the row's role in the row's own domain; a cell is (role, domain)."""

    def __init__(self, position: int, roles: int, column: Column, postings: Postings | None = None) -> None:
        self.position = position
        self.roles = roles
        self.column = column
        self.postings = postings if postings is not None else Postings([_role_there(cell) for cell in column.cells])
        self.weight = self.postings.weight
        self.kinds: Kinds = {position: TEXT}

    def select(self, values: Sequence[Any]) -> int:
        name = values[self.position]
        roles: Roles = values[self.roles]
        wanted: list[Any] = [name]  # a name has itself as a role, whatever the domain
        for domain in roles.domains_of(name):
            wanted += [(role, domain) for role in roles.reach(name, domain) if role != name]
        return self.postings.of_any(wanted)

    def test(self, values: Sequence[Any], slot: int) -> bool:
        role, domain = self.column.cells[slot]
        roles: Roles = values[self.roles]
        return role in roles.reach(values[self.position], domain)

    def changed(self, add: Mapping[int, Cells], remove: Mapping[int, Cells]) -> HasRoleThere:
        postings = self.postings.changed(*accepting(self.column.at, add, remove, _role_there))
        return HasRoleThere(self.position, self.roles, self.column.changed(add), postings)


def _role_there(cell: tuple[str, str]) -> frozenset[Any]:
    return frozenset((cell, cell[0]))


class _Joined:
    """What combinations of terms share."""

    def __init__(self, parts: Iterable[Selector]) -> None:
        self.parts = tuple(parts)
        self.exact = all(part.exact for part in self.parts)
        self.checks: tuple[Check, ...] = tuple(check for part in self.parts for check in part.checks)

    @cached_property
    def kinds(self) -> Kinds:
        return merged_kinds(self.parts)

    def _changed(self, add: Mapping[int, Cells], remove: Mapping[int, Cells]) -> list[Selector]:
        return [part.changed(add, remove) for part in self.parts]


class Either(_Joined):
    """At least one of the terms holds."""

    @property
    def weight(self) -> float:
        """The rows that the terms let pass together, at most."""
        return sum(part.weight for part in self.parts)

    def select(self, values: Sequence[Any]) -> int:
        found = 0
        for part in self.parts:
            found |= part.select(values)
        return found

    def test(self, values: Sequence[Any], slot: int) -> bool:
        return any(part.test(values, slot) for part in self.parts)

    def changed(self, add: Mapping[int, Cells], remove: Mapping[int, Cells]) -> Either:
        return Either(self._changed(add, remove))


class Both(_Joined):
    """All of the terms hold."""

    @property
    def weight(self) -> float:
        """The rows that the narrowest term lets pass."""
        return min(part.weight for part in self.parts)

    def select(self, values: Sequence[Any]) -> int:
        found = EVERY_ROW
        for part in self.parts:
            found &= part.select(values)
            if not found:
                break
        return found

    def test(self, values: Sequence[Any], slot: int) -> bool:
        return all(part.test(values, slot) for part in self.parts)

    def changed(self, add: Mapping[int, Cells], remove: Mapping[int, Cells]) -> Both:
        return Both(self._changed(add, remove))


class Negated(_Joined):
    """The one term does not hold."""

    weight = 1e9

    def select(self, values: Sequence[Any]) -> int:
        return ~self.parts[0].select(values) if self.exact else EVERY_ROW

    def test(self, values: Sequence[Any], slot: int) -> bool:
        return not self.parts[0].test(values, slot)

    def changed(self, add: Mapping[int, Cells], remove: Mapping[int, Cells]) -> Negated:
        return Negated(self._changed(add, remove))


def merged_kinds(parts: Iterable[Reading]) -> dict[int, frozenset[type]]:
    """Return the types that all of the terms can read, by position."""
    kinds: dict[int, frozenset[type]] = {}
    for part in parts:
        for position, types in part.kinds.items():
            kinds[position] = kinds.get(position, types) & types
    return kinds
