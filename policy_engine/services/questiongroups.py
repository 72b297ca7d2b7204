"""Country groups in questions: which countries were in a group for an entry, by the release and editions of its time.

Rules of the room: an entry is judged by the table edition that was in force at its own instant, in the release that it
names; not by today's tables. A group may be any that the tables have, or several joined as packs join them
(`D:5 + MO`, `D:1 + D:4 - A:5`). Where a release cannot be loaded the question is refused, not answered in part.
Left to others: reading tables (`rules.tables`), finding entries by country (`services.finding`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from policy_engine.core.places import GroupTables
from policy_engine.core.plain import AnyRelease, PlainRelease
from policy_engine.errors import InputRefused, LoadRefused

_NAME = r"[A-Za-z][A-Za-z0-9:_]*(?:-[A-Z0-9]{1,3})?"
_EXPRESSION: Final = re.compile(rf"{_NAME}(?: [+-] {_NAME})*")

Countries = frozenset[str]


class QuestionGroups:
    """Answers for one log; `load` gives a release by its hash, and remembers it."""

    def __init__(self, load: Callable[[str], AnyRelease]) -> None:
        self._load = load
        self._known: dict[tuple[str, str, int], Countries] = {}

    def at(self, release: str | None, group: str, instant: int) -> Countries:
        """Return the countries of a group at an instant; none without a release, or where it has no such group.

        Raises `InputRefused` for a text that is no group, or a release that cannot be loaded.
        """
        tables = self._tables(release)
        if release is None or tables is None:
            return frozenset()
        period = tables.at(instant)
        found = self._known.get((release, group, period.start))
        if found is None:
            found = self._known[release, group, period.start] = _members(group, period.groups)
        return found

    def ever(self, release: str | None, group: str) -> Countries:
        """Return the countries that were in a group in any edition of a release."""
        tables = self._tables(release)
        if tables is None:
            return frozenset()
        starts = (tables.at(0).start, *tables.boundaries)
        return frozenset().union(*(self.at(release, group, start) for start in starts))

    def _tables(self, release: str | None) -> GroupTables | None:
        if release is None:
            return None
        try:
            loaded = self._load(release)
        except LoadRefused:
            raise InputRefused(
                "a release of the time asked about cannot be loaded, so its groups are not known; restore it, or ask "
                "about another time",
                where="question",
            ) from None
        return None if isinstance(loaded, PlainRelease) else loaded.reference.groups

    def check(self, release: str | None, group: str) -> None:
        """Raise `InputRefused` for a text that is no group of the release in force."""
        if not _EXPRESSION.fullmatch(group):
            raise InputRefused(
                "a group is a name of the tables, or several joined by ` + ` and ` - `, such as D:5 or `D:5 + MO`",
                where="question",
            )
        if not self.ever(release, group):
            raise InputRefused(
                "the tables of the active release have no country in this group; look at `policy show`",
                where="question",
            )


def _members(group: str, groups: Mapping[str, Countries]) -> Countries:
    words = group.split(" ")
    found: Countries = frozenset()
    for operator, name in zip(("+", *words[1::2]), words[0::2], strict=True):
        codes = groups.get(name, frozenset((name,)) if len(name) == 2 and name.isalpha() else frozenset())
        found = found | codes if operator == "+" else found - codes
    return found
