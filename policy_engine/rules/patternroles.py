"""Roles whose names or domains are patterns, as `add_named_matching_func` and its twin for domains make them.

Rules of the room: the graph is built in the order of the lines by Casbin's own role manager. A name that no line holds
gets what the patterns that it fits have, found anew for each name and not put into the graph: in Casbin such a name
stays there, and one that looks like a pattern itself changes later answers. Names of rows are put in beforehand.
Left to others: plain roles (`core.roles`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any

from casbin.rbac.default_role_manager.role_manager import RoleManager

from policy_engine.core.roles import NO_DOMAIN, ROLE_STEPS_COUNT, Link, Roles

_Matching = Callable[[Any, Any], bool]
_KEPT_DOMAINS_COUNT = 1_024


class PatternRoles(Roles):
    """The links of a role definition with matching functions for names, domains, or both."""

    __slots__ = ("_built", "_by_domain", "_domain_matching", "_matching", "_with_domains")

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

    def reach(self, name: Hashable, domain: Hashable = NO_DOMAIN) -> frozenset[Hashable]:
        """Return the name itself and every role that it has in the domain. Raises `TypeError` for unhashable names."""
        graph = self._graph(domain)
        held = graph.all_roles.get(name)
        edge = set(held.roles) if held is not None else self._of_stranger(graph, name)
        reached: set[Hashable] = {name}
        for _ in range(ROLE_STEPS_COUNT):
            fresh = {role for role in edge if role.name not in reached}
            if not fresh:
                break
            reached |= {role.name for role in fresh}
            edge = {role for held in fresh for role in held.roles}
        return frozenset(reached)

    def domains_of(self, name: Hashable) -> Iterable[Hashable]:
        """Return every domain that lines name: a pattern may reach into any of them."""
        return self._by_domain.keys()

    def _of_stranger(self, graph: Any, name: Hashable) -> set[Any]:
        if graph.matching_func is None:
            return set()
        return {role for held in graph._matching_roles(name) for role in held.roles}

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
