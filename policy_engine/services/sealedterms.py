"""Whether an opened decision says what the sealed terms of a question ask: the meaning that tags only make fast.

Rules of the room: a facet that the entry does not have holds nothing; a group is that of the table edition in force at
the decision's instant, under the release that decided. Left to others: finding by tags, who may ask.
"""

from __future__ import annotations

from functools import partial

from policy_engine.services.questiongroups import QuestionGroups
from policy_engine.services.questions import Question, SealedTerm
from policy_engine.services.rejudge import Recorded
from policy_engine.services.releases import ReleaseLoader
from policy_engine.store.registerinterfaces import RegisterReader


def holds(question: Question, recorded: Recorded, groups: QuestionGroups) -> bool:
    """Return whether every sealed term of a question holds for an opened decision."""
    return all(_holds(term, recorded, groups) for term in question.sealed)


def groups_of(registers: RegisterReader, releases: ReleaseLoader) -> QuestionGroups:
    """Return the groups of countries of the releases that registers know."""
    return QuestionGroups(partial(releases.stored, registers))


def _holds(term: SealedTerm, recorded: Recorded, groups: QuestionGroups) -> bool:
    found = _values(term.facet, recorded)
    if term.group is None:
        return not found.isdisjoint(term.values)
    public = recorded.public
    return not found.isdisjoint(groups.at(public["release"], term.group, public["instant"]))


def _values(facet: str, recorded: Recorded) -> frozenset[str]:
    body = recorded.body
    if facet == "subject":
        return frozenset((body["subject"],))
    if facet == "tenant":
        sealed = recorded.public["tenant"] is None and body["tenant"] is not None
        return frozenset((body["tenant"],)) if sealed else frozenset()
    return frozenset(body.get("tagged", {}).get(facet, ()))
