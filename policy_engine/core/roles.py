"""Role links: which names reach which, by domain, followed as Casbin's role manager follows them.

Rules of the room:
- A name reaches itself, and whatever lies at most nine links away; circles end by themselves.
- What a name reaches over more than one link is found when it is first asked for and kept; made-up names leave nothing
  behind.
- Frozen: a change returns another graph that shares what did not change.
Left to others: names that stand for patterns (`rules.patternroles`), reading the lines (`rules.policy`).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Final

ROLE_STEPS_COUNT: Final = 9
"""Casbin's role manager looks ten levels deep, the name itself being the first."""
NO_DOMAIN: Final = ""
_KEPT_NAMES_COUNT: Final = 1_000_000
_KEPT_REACH_COUNT: Final = 1_024

Link = tuple[str, str, str]
"""User, role, domain; the domain is empty where the role definition has none."""
_Links = dict[Hashable, tuple[str, ...]]
"""User -> roles; any hashable may be asked for."""


class Roles:
    """The links of one role definition."""

    __slots__ = ("_domains_of", "_kept", "_links")

    def __init__(self, links: Iterable[Link] = ()) -> None:
        domains: dict[Hashable, dict[Hashable, list[str]]] = {}
        for user, role, domain in links:
            domains.setdefault(domain, {}).setdefault(user, []).append(role)
        self._links: dict[Hashable, _Links] = {
            domain: {user: tuple(roles) for user, roles in users.items()} for domain, users in domains.items()
        }
        self._kept: dict[tuple[Hashable, Hashable], frozenset[Hashable]] = {}
        self._domains_of: dict[Hashable, list[Hashable]] | None = None

    def reach(self, name: Hashable, domain: Hashable = NO_DOMAIN) -> frozenset[Hashable]:
        """Return the name itself and every role that it has in the domain. Raises `TypeError` for unhashable names."""
        links = self._links.get(domain)
        held = None if links is None else links.get(name)
        if links is None or held is None:
            return frozenset((name,))
        if links.keys().isdisjoint(held):  # most names lie one link from their roles, and those lead nowhere
            return frozenset((name, *held))
        key = (name, domain)
        found = self._kept.get(key)
        if found is None:
            found = _reach(links, name)
            if len(found) <= _KEPT_REACH_COUNT and len(self._kept) < _KEPT_NAMES_COUNT:
                self._kept[key] = found
        return found

    def among(self, name: Hashable, domain: Hashable, roles: Iterable[Hashable]) -> frozenset[Hashable]:
        """Return every role that the name has in the domain; of roles that no line holds, those that are given.

        Here a role that no line holds is nobody's. Raises `TypeError` for unhashable names.
        """
        return self.reach(name, domain)

    def has(self, name: Hashable, domain: Hashable, role: Hashable) -> bool:
        """Return whether a name has a role in the domain, or is it. Raises `TypeError` for unhashable names."""
        links = self._links.get(domain)
        held = None if links is None else links.get(name)
        if held is None:
            return role == name
        return role in held or role in self.reach(name, domain)

    def there(self, name: Hashable, cells: Iterable[Hashable]) -> list[Hashable]:
        """Return the (role, domain) that a name has beside itself; of domains that no line holds, those in cells."""
        return [
            (role, domain)
            for domain in self._domains_in_which(name)
            for role in self.reach(name, domain)
            if role != name
        ]

    def _domains_in_which(self, name: Hashable) -> Iterable[Hashable]:
        """Return the domains in which a name has a role beside itself."""
        if self._domains_of is None:
            found: dict[Hashable, list[Hashable]] = {}
            for domain, users in self._links.items():
                for user in users:
                    found.setdefault(user, []).append(domain)
            self._domains_of = found
        return self._domains_of.get(name, ())

    def changed(self, add: Iterable[Link] = (), remove: Iterable[Link] = ()) -> Roles:
        """Return the graph with links added, and each link to remove taken out once. Raises `KeyError` for no link."""
        copy = Roles()
        copy._links = dict(self._links)
        fresh: set[Hashable] = set()

        def users(domain: Hashable) -> _Links:
            if domain not in fresh:
                copy._links[domain] = dict(copy._links.get(domain, {}))
                fresh.add(domain)
            return copy._links[domain]

        for user, role, domain in remove:
            held = list(users(domain)[user])
            if role not in held:
                raise KeyError(role)
            held.remove(role)
            if held:
                users(domain)[user] = tuple(held)
            else:
                del users(domain)[user]
        for user, role, domain in add:
            users(domain)[user] = (*users(domain).get(user, ()), role)
        return copy


def _reach(links: _Links, name: Hashable) -> frozenset[Hashable]:
    reached: set[Hashable] = {name}
    edge: set[Hashable] = {name}
    for _ in range(ROLE_STEPS_COUNT):
        below: set[Hashable] = {role for user in edge for role in links.get(user, ())}
        edge = below - reached
        if not edge:
            break
        reached |= edge
    return frozenset(reached)
