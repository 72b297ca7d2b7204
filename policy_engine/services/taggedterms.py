"""The sealed terms of a question as keyed tags: which to look for, and whether an entry's own tags are what is asked.

Rules of the room: a tag is keyed by the year of its entry, so each entry is judged by the tags of its own year; a group
stands for its countries at the entry's own time. An entry whose body was erased has no tags and is not found.
Left to others: what tags are (`ledger.sealing`), which countries a group has (`services.questiongroups`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from policy_engine.ledger.sealing import TAG_BYTES, KeyVault, tag
from policy_engine.services.datakeys import start_of, year_of
from policy_engine.services.questiongroups import QuestionGroups
from policy_engine.services.questions import Public, Question, SealedTerm
from policy_engine.store.indexinterfaces import Era, Marks


class SealedTerms:
    """The sealed terms of one question."""

    def __init__(self, terms: Sequence[SealedTerm], vault: KeyVault, groups: QuestionGroups) -> None:
        self._terms = terms
        self._vault = vault
        self._groups = groups
        self._made: dict[tuple[int, str, str], bytes] = {}
        self._wanted: dict[tuple[str, Iterable[str]], frozenset[bytes]] = {}
        self._year = self._start = self._end = 0

    def __len__(self) -> int:
        return len(self._terms)

    def to_look_for(self, question: Question, marks: Marks, eras: Iterable[Era]) -> list[list[bytes]]:
        """Return for each term the tags of which an entry must have one, and perhaps more than need be."""
        first = marks.first_at if question.since is None else max(question.since, marks.first_at)
        last = marks.last_at if question.until is None else min(question.until, marks.last_at)
        years = range(year_of(first), year_of(max(first, last)) + 1)
        releases = {era.release for era in eras}
        found = []
        for term in self._terms:
            values: Iterable[str] = term.values
            if term.group is not None:
                values = sorted(frozenset().union(*(self._groups.ever(release, term.group) for release in releases)))
            found.append([self._tag(year, term.facet, value) for year in years for value in values])
        return found

    def hold(self, public: Public, joined: bytes) -> bool:
        """Return whether the tags of an entry are what every term asks for."""
        if not self._terms:
            return True
        tags = [joined[start : start + TAG_BYTES] for start in range(0, len(joined), TAG_BYTES)]
        at = public["at"]
        if not self._start <= at < self._end:
            self._turn(at)
        return not any(self._of_year(term, public).isdisjoint(tags) for term in self._terms)

    def _turn(self, at: int) -> None:
        """Move to the year of an instant."""
        self._year = year_of(at)
        self._start, self._end = start_of(self._year), start_of(self._year + 1)
        self._wanted.clear()

    def _of_year(self, term: SealedTerm, public: Public) -> frozenset[bytes]:
        """Return the tags of this year of which an entry must have one."""
        values: Iterable[str] = term.values
        if term.group is not None:
            values = self._groups.at(public["release"], term.group, public.get("instant", public["at"]))
        found = self._wanted.get((term.facet, values))
        if found is None:
            found = self._wanted[term.facet, values] = frozenset(
                self._tag(self._year, term.facet, value) for value in values
            )
        return found

    def _tag(self, year: int, facet: str, value: str) -> bytes:
        found = self._made.get((year, facet, value))
        if found is None:
            found = self._made[year, facet, value] = tag(self._vault.period_key(str(year)), facet, value)
        return found
