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

from collections.abc import Iterator, Mapping
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
    for step in walk.steps(lambda public: public["reached"] and question.matches(public)):
        if isinstance(step, Closed):
            yield step
        elif isinstance(step, Recorded) and holds(question, step, groups):
            yield _rested(walk, step, later)


def _rested(walk: Walk, step: Recorded, later: Later) -> Rested:
    at, body = step.public["instant"], step.body
    stale: list[str] = []
    declared: list[str] = []
    changed: list[str] = []
    person: Row | None = None
    for register, id, revision in body["revisions"]:
        row = walk.past.row(register, id)
        if row is None:
            continue
        if register == "persons":
            person = row
        for name, fact in _provenance(row).items():
            if fact.expires_at is not None and fact.expires_at <= at:
                stale.append(f"{register}.{name}")
            if fact.method in SELF_DECLARED:
                declared.append(f"{register}.{name}")
        replaced = later.get((register, id), ())
        changed += [f"{register}.{fact} by entry {entry}" for number, fact, entry in replaced if number > revision]
    level, method, age_days = evidence_of(walk.past, body, at)
    if body.get("tagged", {}).get("evidence") == ["expired"]:
        stale.append(f"persons.{EVIDENCE}")
    if level in SELF_DECLARED:
        declared.append(f"persons.{EVIDENCE}")
    return Rested(
        entry=walk.name(step),
        instant=at,
        outcome=step.public["outcome"],
        subject=body["subject"],
        level=level,
        method=method,
        assurance=_evidence(person)[1].assurance or "unknown",
        age_days=age_days,
        stale=tuple(dict.fromkeys(stale)),
        self_declared=tuple(dict.fromkeys(declared)),
        changed_later=tuple(changed),
    )


def evidence_of(past: Past, body: Mapping[str, Any], at: int) -> tuple[str, str, int | None]:
    """Return level, method and age in days of the evidence of nationality that a decision rested on."""
    person = next((past.row(register, id) for register, id, _ in body["revisions"] if register == "persons"), None)
    evidence, given = _evidence(person)
    verified = given.verified_at if evidence.get("verified_on") is None else parse_instant(evidence["verified_on"])
    age_days = None if verified is None else (at - verified) // DAY
    return str(evidence.get("level") or "none"), given.method or "unknown", age_days


def _evidence(person: Row | None) -> tuple[Mapping[str, Any], Provenance]:
    """Return the evidence of nationality that a row holds, and how it was given."""
    fact = {} if person is None else person.document["facts"].get(EVIDENCE, {})
    value = fact.get("value")
    given = Provenance() if person is None else _provenance(person).get(EVIDENCE, Provenance())
    return value if isinstance(value, Mapping) else {}, given


def _provenance(row: Row) -> Mapping[str, Provenance]:
    try:
        return split_provenance(row.document, row.register)[1]
    except InputRefused:
        return {}
