"""The matcher functions that we publish, with their purity, arguments and inversion, for any Casbin enforcer.

Rules of the room: every function here is pure (its answer depends on its arguments and, for `grouped` and `outside`,
on the enforcer's `g` lines); `"*"` in a policy is no condition; a value that a function cannot read raises, so that
the request is denied. `PUBLISHED` is what the compiler accepts; anything else in a matcher is refused by name.
Left to others: inverting a term (`rules.compile`), checking what packs write (`rules.packs`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from policy_engine.core.instants import ENDLESS, parse_instant

ANY: Final = "*"
"""In a policy column: no condition."""
NO_LIFT: Final = "-"
"""In a policy's lift column: nothing removes this row."""
TIERS: Final = ("1", "2", "3", "4", "5")
UNCLASSIFIED: Final = "unclassified"
TIER_WORDS: Final = frozenset((*TIERS, UNCLASSIFIED))
SEPARATOR: Final = "|"

_SETS = (frozenset, set, tuple, list)


@dataclass(frozen=True, slots=True)
class Published:
    """What is declared of a matcher function. `arguments` name the side each one is read from: `r` or `p`."""

    name: str
    arguments: tuple[str, ...]
    pure: bool
    inversion: str


@dataclass(frozen=True, slots=True)
class Declared:
    """A function for matchers, with what is promised of it.

    `pure`: its answer depends on its arguments alone, so it may be remembered. `total`: it returns true or false for
    any arguments and never raises, so it may be asked later than it stands in the matcher.
    """

    function: Callable[..., Any]
    pure: bool
    total: bool = False


PUBLISHED: Final = {
    function.name: function
    for function in (
        Published("has", ("r", "p"), True, "policy value -> rules; a set is the union of its elements"),
        Published("within", ("r", "p"), True, "tier -> rules"),
        Published("grouped", ("r", "p", "r"), True, "code -> rules, per domain of `g`; a set is a union"),
        Published("outside", ("r", "p", "r"), True, "code -> rules whose group holds it, turned round"),
        Published("known", ("r", "p"), True, "name -> rules that require it, turned round"),
        Published("during", ("r", "p"), True, "sorted bounds -> rules in force between them"),
        Published("unlifted", ("r", "p"), True, "lift key -> rules that it removes, turned round"),
    )
}


def has(value: Any, wanted: str) -> bool:
    """Return whether a text is the wanted one, or a set of texts holds it. Raises `TypeError` for other values."""
    if wanted == ANY:
        return True
    if isinstance(value, str):
        return value == wanted
    return wanted in _members(value)


def within(tier: Any, tiers: str) -> bool:
    """Return whether a tier is in `3+`, `1-2` or `5`; `unclassified` is in none. Raises `ValueError` otherwise."""
    if tiers == ANY:
        return True
    if tier not in TIER_WORDS:
        raise ValueError("a tier is 1 to 5 or unclassified")
    return tier in parse_tiers(tiers)


def known(unknown: Any, names: str) -> bool:
    """Return whether none of the names, separated by `|`, is in the set of what is unknown."""
    return names == ANY or parse_names(names).isdisjoint(_members(unknown))


def during(now: Any, interval: str) -> bool:
    """Return whether an instant lies in `FROM/UNTIL` (start included, end excluded, either side may be empty)."""
    if interval == ANY:
        return True
    if type(now) is not int:
        raise TypeError("an instant is a whole number of microseconds")
    start, until = parse_interval(interval)
    return start <= now < until


def unlifted(lifts: Any, key: str) -> bool:
    """Return whether the row's lift key is not among those that authorisations name; `-` never is."""
    return key == NO_LIFT or key not in _members(lifts)


def add_functions(enforcer: Any) -> None:
    """Put every published function on an unmodified `casbin.Enforcer`.

    `grouped` and `outside` ask the role manager of `g` at each call, so that reloading the policy is seen.
    """
    for name, function in published(lambda *link: enforcer.get_role_manager().has_link(*link)).items():
        enforcer.add_function(name, function)


def published(has_link: Callable[[str, str, str], bool]) -> dict[str, Callable[..., bool]]:
    """Return the published functions by name; `has_link(code, group, domain)` answers for the links of `g`."""

    def linked(code: str, group: str, domains: Any) -> bool:
        return any(has_link(code, group, domain) for domain in _members(domains))

    def grouped(value: Any, group: str, domains: Any) -> bool:
        """Return whether a code, or one of a set of codes, is linked to the group in one of the domains."""
        if group == ANY:
            return True
        codes = (value,) if isinstance(value, str) else _members(value)
        return any(linked(code, group, domains) for code in codes)

    def outside(value: Any, group: str, domains: Any) -> bool:
        """Return whether a code is linked to the group in none of the domains."""
        if group == ANY:
            return True
        if not isinstance(value, str):
            raise TypeError("`outside` reads one code")
        return not linked(value, group, domains)

    return {
        "has": has,
        "within": within,
        "grouped": grouped,
        "outside": outside,
        "known": known,
        "during": during,
        "unlifted": unlifted,
    }


@lru_cache(maxsize=1_024)
def parse_tiers(text: str) -> frozenset[str]:
    """Return the tiers that `3+`, `1-2` or `5` names. Raises `ValueError` for any other text."""
    if text in TIERS:
        return frozenset((text,))
    first, last = (text[:-1], TIERS[-1]) if text.endswith("+") else text.partition("-")[::2]
    if first in TIERS and last in TIERS and first <= last:
        return frozenset(tier for tier in TIERS if first <= tier <= last)
    raise ValueError('tiers are written "3+", "1-2" or "5"')


@lru_cache(maxsize=65_536)
def parse_interval(text: str) -> tuple[int, int]:
    """Return start and end of `FROM/UNTIL`. Raises `ValueError` for other texts and for an end before its start."""
    first, slash, last = text.partition("/")
    if not slash or not (first or last):
        raise ValueError('an interval is written "FROM/UNTIL"; one side may be empty')
    start = parse_instant(first) if first else -ENDLESS
    until = parse_instant(last) if last else ENDLESS
    if until <= start:
        raise ValueError("the interval ends before it starts")
    return start, until


@lru_cache(maxsize=65_536)
def parse_names(text: str) -> frozenset[str]:
    """Return the names in `a|b|c`."""
    return frozenset(text.split(SEPARATOR))


def _members(value: Any) -> Collection[Any]:
    if not isinstance(value, _SETS):
        raise TypeError("a set or list of texts is needed here")
    return value
