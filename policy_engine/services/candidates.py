"""Which ids a listing asks about, in order, from behind a given one on.

Rules of the room:
- A candidate is only a question for the evaluator; nothing is listed that it does not allow.
- Order is that of the ids and never depends on who asks, so that a page can begin behind any id, also one that is gone.
- Reaching a page costs nothing for the pages before it: registers are read from the id on, folders are sorted once a
  release.
Left to others: asking, recording, paging (`search`); the ids of plain Casbin folders (`plainsearch`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from policy_engine.core.plain import PlainRelease
from policy_engine.core.release import Release
from policy_engine.services.factcache import FactCache
from policy_engine.services.plainsearch import PlainIds
from policy_engine.services.queries import Listing, Sought
from policy_engine.services.snapshot import Snapshot
from policy_engine.store.registerinterfaces import RegisterReader

_ROWS_COUNT = 32
"""Rows read at a time: few, for other threads wait meanwhile."""


class Candidates:
    """The ids of persons, models and actions that there are, or of whatever a plain folder knows."""

    def __init__(self, store: RegisterReader, facts: FactCache) -> None:
        self._store = store
        self._facts = facts
        self._plain: PlainIds | None = None

    def of(self, listing: Listing, snapshot: Snapshot, after: str) -> tuple[Iterable[str], bool]:
        """Return the candidates behind `after`, and whether they are all that there is to ask about."""
        release = snapshot.release
        if release is None:
            return (), True
        if isinstance(release, PlainRelease):
            if self._plain is None or self._plain.release is not release:
                self._plain = PlainIds(release)
            ids, complete = self._plain.candidates(listing)
            return _behind(ids, after), complete
        if listing.sought is Sought.SUBJECT:
            return self._persons(after, snapshot.state.facts_revision), True
        return _behind(_declared(release, listing), after), True

    def _persons(self, after: str, facts_revision: int) -> Iterator[str]:
        """Yield the ids of the register of persons. The evaluator says which are of the type asked for."""
        while rows := self._store.rows("persons", after=after, limit=_ROWS_COUNT):
            self._facts.learn(rows, facts_revision)
            for row in rows:
                yield row.id
            after = rows[-1].id


def _declared(release: Release, listing: Listing) -> Sequence[str]:
    if listing.sought is Sought.ACTION:
        return sorted(release.reference.actions)
    return sorted(release.catalogue.models) if listing.request.resource_type == "model" else ()


def _behind(ids: Sequence[str], after: str) -> Iterable[str]:
    first = bisect_right(ids, after)
    return (ids[place] for place in range(first, len(ids)))
