"""Terms of patterns, addresses and roles: as `core.terms`, over what rows write of other things than values.

Left to others: the patterns themselves (`rules.patterns`), the links of roles (`core.roles`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final, Protocol

from policy_engine.core.columns import Cells
from policy_engine.core.postings import Postings
from policy_engine.core.roles import NO_DOMAIN, Roles
from policy_engine.core.terms import ADDRESSES, TEXT, Column, Kinds, Term, accepting, named


class Bound(Protocol):
    """A pattern of one row: every text that it matches begins with `prefix`."""

    @property
    def prefix(self) -> str:
        """What every text that the pattern matches begins with."""
        ...

    @property
    def exact(self) -> bool:
        """Whether the pattern matches that text and nothing else."""
        ...

    def test(self, text: str) -> bool:
        """Return whether the pattern matches a text."""
        ...


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

    def reach(self, values: Sequence[Any], among: Iterable[Any]) -> Collection[Any]:
        """Return the roles of the request's value; of those that no line holds, the ones among these."""
        roles: Roles = values[self.roles]
        domain = NO_DOMAIN if self.domain is None else values[self.domain]
        return roles.among(values[self.position], domain, among)

    def select(self, values: Sequence[Any]) -> int:
        return self.postings.of_any(self.reach(values, self.postings.named()))

    def test(self, values: Sequence[Any], slot: int) -> bool:
        roles: Roles = values[self.roles]
        domain = NO_DOMAIN if self.domain is None else values[self.domain]
        return roles.has(values[self.position], domain, self.column.cells[slot])

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
        # A name has itself as a role, whatever the domain.
        return self.postings.of_any([name, *roles.there(name, self.postings.named())])

    def test(self, values: Sequence[Any], slot: int) -> bool:
        role, domain = self.column.cells[slot]
        roles: Roles = values[self.roles]
        return roles.has(values[self.position], domain, role)

    def changed(self, add: Mapping[int, Cells], remove: Mapping[int, Cells]) -> HasRoleThere:
        postings = self.postings.changed(*accepting(self.column.at, add, remove, _role_there))
        return HasRoleThere(self.position, self.roles, self.column.changed(add), postings)


def _role_there(cell: tuple[str, str]) -> frozenset[Any]:
    return frozenset((cell, cell[0]))
