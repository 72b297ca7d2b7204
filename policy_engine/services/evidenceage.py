"""What decisions rested on: kinds of evidence and its age, and evidence that was stale, self-declared or changed later.

Rules of the room:
- Looked at is the evidence of nationality of the person asked about, as the register had it at the decision: its level,
  the method and assurance it was given with, and the age of its verification at the instant of the decision.
- Stale is a fact of the person or tenant that had expired by then, or evidence that the rules were shown as expired.
  Self-declared is evidence of the level `declared`, or a fact given by the method `self_declared`.
- Changed later is a fact whose value, not only whose evidence, a later entry replaced: whether it was wrong then, or
  has become another, the log cannot know. It takes a walk of its own, before the one over the decisions.
Left to others: the walk, who may ask (`services.asof`), what evidence means to a rule (`core.derive`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from policy_engine.core.factparse import split_provenance
from policy_engine.core.facts import Provenance
from policy_engine.core.instants import DAY, parse_instant
from policy_engine.errors import InputRefused
from policy_engine.services.past import Past
from policy_engine.services.questiongroups import QuestionGroups
from policy_engine.services.questions import Question
from policy_engine.services.rejudge import Recorded
from policy_engine.services.sealedterms import holds
from policy_engine.services.walk import Changed, Closed, Walk
from policy_engine.store.interfaces import FACT_REGISTERS, Row

EVIDENCE: Final = "nationality_evidence"
SELF_DECLARED: Final = frozenset(("declared", "self_declared", "self-declared"))
AGES_DAYS: Final = (30, 90, 180, 365)
"""The ends, in days, of the classes of age; older is the last class."""

Later = Mapping[tuple[str, str], tuple[tuple[int, str, str], ...]]
"""By `(register, id)`: `(revision, fact, entry)` of each value that an entry replaced, in order."""


@dataclass(frozen=True, slots=True)
class Rested:
    """What one decision rested on. `age_days` is `None` where nobody knows when the evidence was verified."""

    entry: str
    instant: int
    outcome: str
    subject: str
    level: str
    method: str
    assurance: str
    age_days: int | None
    stale: tuple[str, ...]
    self_declared: tuple[str, ...]
    changed_later: tuple[str, ...]

    @property
    def age(self) -> str:
        """The class of age: `up to 30 days`, ..., `older than 365 days`, `unknown`."""
        if self.age_days is None:
            return "unknown"
        end = next((end for end in AGES_DAYS if self.age_days <= end), None)
        return f"older than {AGES_DAYS[-1]} days" if end is None else f"up to {end} days"


def changes_of_facts(walk: Walk) -> Later:
    """Return every value of a fact that a later entry replaced by another."""
    known: dict[tuple[str, str], Mapping[str, Any]] = {}
    found: dict[tuple[str, str], tuple[tuple[int, str, str], ...]] = {}
    for step in walk.steps(lambda public: False, may=lambda entry: False):
        if not isinstance(step, Changed):
            continue
        for register, id in walk.past.touched:
            if register not in FACT_REGISTERS:
                continue
            row = walk.past.row(register, id)
            values = {} if row is None else {name: fact.get("value") for name, fact in row.document["facts"].items()}
            before = known.get((register, id), {})
            odd = sorted(name for name, value in before.items() if value is not None and values.get(name) != value)
            if odd and row is not None:
                name = walk.name(step)
                found[register, id] = (*found.get((register, id), ()), *((row.revision, fact, name) for fact in odd))
            known[register, id] = values
    return found


def rested_on(walk: Walk, later: Later, question: Question, groups: QuestionGroups) -> Iterator[Rested | Closed]:
    """Yield what every decision that was asked for and reached the rules rested on, and what does not open."""
    grounds = Grounds(walk.past)
    for step in walk.steps(lambda public: public["reached"] and question.matches(public)):
        if isinstance(step, Closed):
            yield step
        elif isinstance(step, Recorded) and holds(question, step, groups):
            yield _rested(walk.name(step), step, grounds, later, _gone(walk, step))


def _gone(walk: Walk, step: Recorded) -> list[str]:
    """Return the rows that a decision rested on and that were erased since: what they said, nobody can tell."""
    rows = ((register, walk.row_gone(register, id, step)) for register, id, _ in step.body["revisions"])
    return [f"{register}.* {by}" for register, by in rows if by is not None]


@dataclass(frozen=True, slots=True)
class Ground:
    """What one revision of a row says of its facts: which expire, which are self-declared, and its evidence."""

    revision: int
    expiries: tuple[tuple[str, int], ...] = ()
    declared: tuple[str, ...] = ()
    level: str = "none"
    method: str = "unknown"
    assurance: str = "unknown"
    verified_at: int | None = None

    def age_days(self, at: int) -> int | None:
        """Return the age of the evidence at an instant, `None` where nobody knows when it was verified."""
        return None if self.verified_at is None else (at - self.verified_at) // DAY


class Grounds:
    """Rows of a moving past as decisions rest on them; each revision is read once."""

    def __init__(self, past: Past) -> None:
        self._past = past
        self._known: dict[tuple[str, str], Ground] = {}

    def of(self, register: str, id: str) -> Ground | None:
        """Return what a row says now, `None` when there is none."""
        row = self._past.row(register, id)
        if row is None:
            return None
        known = self._known.get((register, id))
        if known is None or known.revision != row.revision:
            known = self._known[register, id] = _ground(row)
        return known

    def of_person(self, body: Mapping[str, Any]) -> Ground:
        """Return what is known of the person that a decision was about; nothing of nobody."""
        found = (self.of(register, id) for register, id, _ in body["revisions"] if register == "persons")
        return next(found, None) or Ground(0)


def _ground(row: Row) -> Ground:
    try:
        provenance = split_provenance(row.document, row.register)[1]
    except InputRefused:
        return Ground(row.revision)
    value = row.document["facts"].get(EVIDENCE, {}).get("value")
    evidence = value if isinstance(value, Mapping) else {}
    given = provenance.get(EVIDENCE, Provenance())
    declared = [name for name, fact in provenance.items() if fact.method in SELF_DECLARED]
    if evidence.get("level") in SELF_DECLARED and EVIDENCE not in declared:
        declared.append(EVIDENCE)
    verified = evidence.get("verified_on")
    return Ground(
        revision=row.revision,
        expiries=tuple((name, fact.expires_at) for name, fact in provenance.items() if fact.expires_at is not None),
        declared=tuple(f"{row.register}.{name}" for name in declared),
        level=str(evidence.get("level") or "none"),
        method=given.method or "unknown",
        assurance=given.assurance or "unknown",
        verified_at=given.verified_at if verified is None else parse_instant(verified),
    )


def _rested(name: str, step: Recorded, grounds: Grounds, later: Later, gone: Sequence[str]) -> Rested:
    at, body = step.public["instant"], step.body
    stale: list[str] = []
    declared: tuple[str, ...] = ()
    changed = list(gone)
    for register, id, revision in body["revisions"]:
        ground = grounds.of(register, id)
        if ground is not None:
            stale += [f"{register}.{fact}" for fact, end in ground.expiries if end <= at]
            declared += ground.declared
        replaced = later.get((register, id), ())
        changed += [f"{register}.{fact} by entry {entry}" for number, fact, entry in replaced if number > revision]
    if body.get("tagged", {}).get("evidence") == ["expired"] and f"persons.{EVIDENCE}" not in stale:
        stale.append(f"persons.{EVIDENCE}")
    person = grounds.of_person(body)
    return Rested(
        entry=name,
        instant=at,
        outcome=step.public["outcome"],
        subject=body["subject"],
        level=person.level,
        method=person.method,
        assurance=person.assurance,
        age_days=person.age_days(at),
        stale=tuple(stale),
        self_declared=declared,
        changed_later=tuple(changed),
    )
