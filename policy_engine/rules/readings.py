"""What the lines of a policy demand, as conditions for analysis: each conjunct of the matcher, cell by cell.

Rules of the room: a condition says of a facet what the conjunct's function says of its token (`rules.functions`,
Casbin's own equality and `g`). Role links are followed as Casbin follows them. A conjunct that is not known here is
refused by name, so that nothing is analysed in part.
Left to others: which facets a release or a model has (`rules.findings`), the analysis (`core.analysis`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from policy_engine.core.analysis import Rule
from policy_engine.core.classes import Condition, Facet, Given, Named, Segments
from policy_engine.errors import LoadRefused
from policy_engine.rules.functions import ANY, NO_LIFT, parse_interval, parse_names, parse_tiers
from policy_engine.rules.matcher import EQUAL, EQUAL_OR_ANY, Conjunct

GROUPED: Final = ("grouped", "outside")
_ROLE_STEPS_COUNT = 9
"""Casbin's role manager looks ten levels deep, the name itself being the first."""

Members = Mapping[str, Mapping[str, frozenset[str]]]
"""Domain -> role -> every name that has it; the domain is empty where roles have none."""


@dataclass(frozen=True, slots=True)
class Domains:
    """A token that names a set of role domains, as a facet of one value: the set that each value stands for."""

    facet: str
    sets: tuple[frozenset[str], ...]


@dataclass(frozen=True, slots=True)
class Terms:
    """What the request tokens of a matcher stand for: `names` gives the facet of each.

    `places` are facets that hold codes and never a group's own name, which Casbin counts as a member of the group.
    """

    names: Mapping[str, str]
    facets: Mapping[str, Facet]
    segments: Mapping[str, Segments] = field(default_factory=dict)
    domains: Mapping[str, Domains] = field(default_factory=dict)
    places: frozenset[str] = frozenset()


def read_rules(
    model: Any, lines: Sequence[Sequence[str]], columns: Sequence[str], conjuncts: Iterable[Conjunct], terms: Terms
) -> tuple[Rule, ...]:
    """Return the lines as rules. Raises `LoadRefused` for a conjunct and `ValueError` for a cell that is not known."""
    reading = _Reading(model, columns, terms)
    parts = tuple(conjuncts)
    for part in parts:
        if part.function not in _READ and part.function not in (model["g"] or {}):
            raise LoadRefused(f"`{part.function}` is not analysed")
    effect = columns.index("eft") if "eft" in columns else None
    return tuple(
        Rule("allow" if effect is None else line[effect], tuple(c for part in parts for c in reading.cell(part, line)))
        for line in lines
    )


class _Reading:
    """Reads cells, remembering what was read: equal cells of a column share their conditions."""

    def __init__(self, model: Any, columns: Sequence[str], terms: Terms) -> None:
        self._columns = columns
        self._terms = terms
        self._members = {key: members_of(roles) for key, roles in (model["g"] or {}).items()}
        self._users = frozenset(line[0] for roles in (model["g"] or {}).values() for line in roles.policy)
        self._known: dict[tuple[Conjunct, str, str], tuple[Condition, ...]] = {}

    def cell(self, part: Conjunct, line: Sequence[str]) -> tuple[Condition, ...]:
        """Return what a conjunct demands under a line."""
        value = line[self._columns.index(part.column)]
        domain = "" if part.domain_column is None else line[self._columns.index(part.domain_column)]
        key = (part, value, domain)
        found = self._known.get(key)
        if found is None:
            read = _READ.get(part.function)
            found = self._role(part, value, domain) if read is None else tuple(read(self, part, value))
            self._known[key] = found
        return found

    def equal(self, part: Conjunct, value: str) -> Iterable[Condition]:
        """The value is the cell's."""
        yield self._simple(part, frozenset((value,)))

    def wanted(self, part: Conjunct, value: str) -> Iterable[Condition]:
        """The value, or an element, is the cell's; `*` is no condition."""
        if value != ANY:
            yield self._simple(part, frozenset((value,)))

    def within(self, part: Conjunct, value: str) -> Iterable[Condition]:
        """The tier is among the cell's."""
        if value != ANY:
            yield self._simple(part, parse_tiers(value))

    def known(self, part: Conjunct, value: str) -> Iterable[Condition]:
        """None of the cell's names is held."""
        if value != ANY:
            yield self._simple(part, parse_names(value), inside=False)

    def unlifted(self, part: Conjunct, value: str) -> Iterable[Condition]:
        """The cell's key is not held."""
        if value != NO_LIFT:
            yield self._simple(part, frozenset((value,)), inside=False)

    def during(self, part: Conjunct, value: str) -> Iterable[Condition]:
        """The instant lies in the cell's interval."""
        if value != ANY:
            facet = self._terms.names[part.tokens[0]]
            yield self._simple(part, self._terms.segments[facet].between(*parse_interval(value)))

    def grouped(self, part: Conjunct, value: str) -> Iterable[Condition]:
        """The value, or an element, is (or with `outside` is not) in the cell's group in one of the domains named."""
        if value == ANY:
            return
        facet = self._terms.names[part.tokens[0]]
        domains = self._terms.domains[part.tokens[1]]
        inside = part.function == "grouped"
        members = self._members["g"]
        own = frozenset((value,))
        # A place is a code and never the name of a group, unless the group is named by a code.
        never: Named = own if facet in self._terms.places and value not in self._users else frozenset()
        by_members: dict[Named, set[int]] = {}
        for number, named in enumerate(domains.sets):
            found = frozenset[str]().union(*(members.get(domain, {}).get(value, own) for domain in named))
            by_members.setdefault(found - never, set()).add(number)
        for codes, numbers in by_members.items():
            given = None if len(by_members) == 1 else Given(domains.facet, frozenset(numbers))
            yield Condition(part.column, facet, codes, inside, given)

    def _role(self, part: Conjunct, value: str, domain: str) -> tuple[Condition, ...]:
        members = self._members[part.function]
        own = frozenset((value,))
        if len(part.tokens) == 1:
            return (self._simple(part, own | members.get(domain, {}).get(value, own)),)
        facet, asked = (self._terms.names[token] for token in part.tokens)
        by_members: dict[Named, set[str]] = {}
        for name, roles in members.items():
            if value in roles:
                by_members.setdefault(own | roles[value], set()).add(name)
        linked = frozenset(name for names in by_members.values() for name in names)
        return (
            *(
                Condition(part.column, facet, names, given=Given(asked, frozenset(domains)))
                for names, domains in by_members.items()
            ),
            Condition(part.column, facet, own, given=Given(asked, linked, inside=False)),
        )

    def _simple(self, part: Conjunct, values: Named, *, inside: bool = True) -> Condition:
        return Condition(part.column, self._terms.names[part.tokens[0]], values, inside)


_READ: Final[Mapping[str, Callable[[_Reading, Conjunct, str], Iterable[Condition]]]] = {
    EQUAL: _Reading.equal,
    EQUAL_OR_ANY: _Reading.wanted,
    "has": _Reading.wanted,
    "within": _Reading.within,
    "known": _Reading.known,
    "unlifted": _Reading.unlifted,
    "during": _Reading.during,
    "grouped": _Reading.grouped,
    "outside": _Reading.grouped,
}


def members_of(roles: Any) -> Members:
    """Return who has each role of one role definition of a Casbin model, in each domain."""
    places = roles.value.count("_")
    below: dict[str, dict[str, list[str]]] = {}
    for line in roles.policy:
        domain = line[2] if places == 3 else ""
        below.setdefault(domain, {}).setdefault(line[1], []).append(line[0])
    return {domain: {role: _reach(users, role) for role in users} for domain, users in below.items()}


def _reach(below: Mapping[str, Sequence[str]], role: str) -> frozenset[str]:
    reached = {role}
    edge = {role}
    for _ in range(_ROLE_STEPS_COUNT):
        edge = {user for name in edge for user in below.get(name, ())} - reached
        if not edge:
            break
        reached |= edge
    return frozenset(reached)
