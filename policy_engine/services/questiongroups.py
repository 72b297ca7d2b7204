"""Country groups in questions: which countries were in a group for an entry, by the release and editions of its time.

Rules of the room: an entry is judged by the table edition that was in force at its own instant, in the release that it
names; not by today's tables. Before the oldest edition that is the oldest, as for decisions. A group may be any that
the tables have, or several joined as packs join them (`D:5 + MO`, `D:1 + D:4 - A:5`). Where a release cannot be loaded
the question is refused, not answered in part.
Left to others: reading tables (`rules.tables`), finding entries by country (`services.finding`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable

from policy_engine.core.plain import AnyRelease, PlainRelease
from policy_engine.errors import InputRefused, LoadRefused
from policy_engine.limits import LIMITS
from policy_engine.rules.groups import compile_group
from policy_engine.rules.tables import Tables, read_tables

Countries = frozenset[str]
Editions = tuple[tuple[int, ...], tuple[Countries, ...]]
"""The starts of a table's editions, in order, and the countries of a group in each."""

_NEVER: Editions = ((0,), (frozenset(),))


class QuestionGroups:
    """Answers for one log; `load` gives a release by its hash, and remembers it."""

    def __init__(self, load: Callable[[str], AnyRelease]) -> None:
        self._load = load
        self._tables: dict[str, Tables | None] = {}
        self._known: dict[tuple[str, str], Editions] = {}

    def at(self, release: str | None, group: str, instant: int) -> Countries:
        """Return the countries of a group at an instant; none without a release, or where it has no such group.

        Raises `InputRefused` for a release that cannot be loaded.
        """
        starts, members = self._editions(release, group)
        return members[max(bisect_right(starts, instant) - 1, 0)]

    def ever(self, release: str | None, group: str) -> Countries:
        """Return the countries that were in a group in any edition of a release. Raises as `at`."""
        return frozenset().union(*self._editions(release, group)[1])

    def check(self, release: str | None, group: str) -> None:
        """Raise `InputRefused` for what is no group of the release in force."""
        if not self.ever(release, group):
            raise InputRefused(
                "the tables of the active release have no such group; write one of theirs, or several joined by ` + ` "
                'and ` - `, such as group:D:5 or group:"D:5 + MO"',
                where="question",
            )

    def _editions(self, release: str | None, group: str) -> Editions:
        if release is None:
            return _NEVER
        found = self._known.get((release, group))
        if found is None:
            found = self._known[release, group] = self._compiled(release, group)
        return found

    def _compiled(self, release: str, group: str) -> Editions:
        tables = self._tables_of(release)
        if tables is None:
            return _NEVER
        try:
            compiled = compile_group(group, tables, "question")
        except LoadRefused:
            return _NEVER
        return tables.groups[compiled.table].starts, compiled.editions

    def _tables_of(self, release: str) -> Tables | None:
        if release not in self._tables:
            try:
                loaded = self._load(release)
            except LoadRefused:
                raise InputRefused(
                    "a release of the time asked about cannot be loaded, so its groups are not known; restore it, or "
                    "ask about another time",
                    where="question",
                ) from None
            plain = isinstance(loaded, PlainRelease)
            self._tables[release] = None if plain else read_tables(loaded.files, LIMITS)
        return self._tables[release]
