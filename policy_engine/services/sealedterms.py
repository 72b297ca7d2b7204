"""Whether an opened decision says what the sealed terms of a question ask: the meaning that tags only make fast.

Rules of the room: a facet that the entry does not have holds nothing; a group is that of the table edition in force at
the decision's instant, under the release that decided. Left to others: finding by tags, who may ask.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from policy_engine.core.release import Release
from policy_engine.services.questions import Question, SealedTerm
from policy_engine.services.rejudge import Recorded
from policy_engine.services.snapshot import Snapshot


def holds(question: Question, recorded: Recorded, snapshot: Callable[[], Snapshot]) -> bool:
    """Return whether every sealed term of a question holds for an opened decision. `snapshot` is that of its time."""
    return all(_holds(term, recorded, snapshot) for term in question.sealed)


def _holds(term: SealedTerm, recorded: Recorded, snapshot: Callable[[], Snapshot]) -> bool:
    found = _values(term.facet, recorded)
    if term.group is None:
        return not found.isdisjoint(term.values)
    return not found.isdisjoint(_group(term.group, recorded, snapshot()))


def _values(facet: str, recorded: Recorded) -> frozenset[str]:
    body = recorded.body
    if facet == "subject":
        return frozenset((body["subject"],))
    if facet == "tenant":
        sealed = recorded.public["tenant"] is None and body["tenant"] is not None
        return frozenset((body["tenant"],)) if sealed else frozenset()
    return frozenset(body.get("tagged", {}).get(facet, ()))


def _group(name: str, recorded: Recorded, snapshot: Snapshot) -> Collection[str]:
    release = snapshot.release
    if not isinstance(release, Release):
        return ()
    return release.reference.groups.at(recorded.public["instant"]).groups.get(name, frozenset())
