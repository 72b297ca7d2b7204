"""Roles whose names or domains are patterns, as `add_named_matching_func` and its twin for domains make them.

Rules of the room: the graph is built in the order of the lines by Casbin's own role manager. A name that no line holds
gets what the patterns that it fits have, and belongs to whoever has one of them. It is not put into the graph: in
Casbin such a name stays there, and one that looks like a pattern itself changes later answers.
Left to others: plain roles (`core.roles`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any

from casbin.rbac.default_role_manager.role_manager import RoleManager

from policy_engine.core.roles import NO_DOMAIN, ROLE_STEPS_COUNT, Link, Roles

_Matching = Callable[[Any, Any], bool]
_KEPT_DOMAINS_COUNT = 1_024
_KEPT_ROLES_COUNT = 16_384
_KEPT_CHARACTERS = 256


class PatternRoles(Roles):
    """The links of a role definition with matching functions for names, domains, or both."""

    __slots__ = ("_built", "_by_domain", "_domain_matching", "_fitted", "_matching", "_with_domains")

    def __init__(
        self,
        links: Iterable[Link],
        matching: _Matching | None,
        domain_matching: _Matching | None,
        *,
        with_domains: bool,
    ) -> None:
        links = list(links)
        super().__init__(links)
        self._matching = matching
        self._domain_matching = domain_matching
        self._with_domains = with_domains
        self._by_domain: dict[Hashable, list[Link]] = {}
        for link in links:
            self._by_domain.setdefault(link[2], []).append(link)
        self._built: dict[Hashable, Any] = {}
        self._fitted: dict[tuple[Hashable, Hashable], tuple[Any, ...]] = {}

    def reach(self, name: Hashable, domain: Hashable = NO_DOMAIN) -> frozenset[Hashable]:
        """Return the name itself and every role of the lines that it has. Raises `TypeError` for unhashable names."""
        return self.among(name, domain, ())

    def among(self, name: Hashable, domain: Hashable, roles: Iterable[Hashable]) -> frozenset[Hashable]:
        """Return every role that the name has in the domain; of roles that no line holds, those that are given.

        A role that no line holds belongs to whoever has a role that is a pattern which it fits.
        """
        graph = self._graph(domain)
        held = graph.all_roles.get(name)
        patterns = [] if held is not None or graph.matching_func is None else graph._matching_roles(name)
        edge = set(held.roles) if held is not None else {role for each in patterns for role in each.roles}
        reached: set[Hashable] = {name}
        given: set[Any] = set()
        for _ in range(ROLE_STEPS_COUNT):
            given |= edge
            fresh = {role for role in edge if role.name not in reached}
            if not fresh:
                break
            reached |= {role.name for role in fresh}
            edge = {role for held in fresh for role in held.roles}
        if graph.matching_func is None or not given:
            return frozenset(reached)
        # Casbin makes the name before the role, so the name too may be a pattern that the role fits.
        circular = not given.isdisjoint(patterns)
        for role in roles:
            if role in graph.all_roles or role in reached:
                continue
            fitted = self._patterns_of(graph, domain, role)
            if not given.isdisjoint(fitted) or (circular and graph._matching_fn(role, name)):
                reached.add(role)
        return frozenset(reached)

    def _patterns_of(self, graph: Any, domain: Hashable, role: Hashable) -> tuple[Any, ...]:
        """Return the patterns that a role fits which no line holds; kept for so many of no great length."""
        found = self._fitted.get((domain, role))
        if found is None:
            found = tuple(graph._matching_roles(role))
            if len(self._fitted) >= _KEPT_ROLES_COUNT:
                self._fitted.clear()
            if type(role) is str and type(domain) is str and len(role) + len(domain) <= _KEPT_CHARACTERS:
                self._fitted[domain, role] = found
        return found

    def has(self, name: Hashable, domain: Hashable, role: Hashable) -> bool:
        """Return whether a name has a role in the domain, or is it. Raises `TypeError` for unhashable names."""
        return role in self.among(name, domain, (role,))

    def there(self, name: Hashable, cells: Iterable[Hashable]) -> list[Hashable]:
        """Return the (role, domain) among cells that a name has: patterns may reach into any domain."""
        wanted: dict[Hashable, list[Hashable]] = {}
        for cell in cells:
            if isinstance(cell, tuple):
                wanted.setdefault(cell[1], []).append(cell[0])
        found: list[Hashable] = []
        for domain, roles in wanted.items():
            held = self.among(name, domain, roles)
            found += [(role, domain) for role in roles if role in held]
        return found

    def _graph(self, domain: Hashable) -> Any:
        """Return Casbin's role manager for a domain; of domains that no line names, only so many are kept."""
        graph = self._built.get(domain)
        if graph is None:
            graph = RoleManager(ROLE_STEPS_COUNT + 1)
            if self._matching is not None:
                graph.add_matching_func(self._matching)
            for user, role, _ in self._links_in(domain):
                graph.add_link(user, role)
            if len(self._built) >= _KEPT_DOMAINS_COUNT:
                self._built.clear()
            self._built[domain] = graph
        return graph

    def _links_in(self, domain: Hashable) -> list[Link]:
        """Return the links of a domain, then of every pattern of domains that it fits, as Casbin gathers them."""
        if not self._with_domains:
            return self._by_domain.get(NO_DOMAIN, [])
        found = list(self._by_domain.get(domain, []))
        if self._domain_matching is not None:
            for pattern, links in self._by_domain.items():
                if pattern != domain and self._fits(domain, pattern):
                    found += links
        return found

    def _fits(self, domain: Hashable, pattern: Hashable) -> bool:
        try:
            return bool(self._domain_matching and self._domain_matching(domain, pattern))
        except Exception:  # noqa: BLE001  Casbin takes an error in a matching function as no match
            return False
