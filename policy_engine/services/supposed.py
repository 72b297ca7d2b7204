"""What would have been: decisions decided again with one row of the registers saying something else.

Rules of the room:
- A supposition replaces what one row says; whatever is not supposed is as it was. It is decided by the same path as a
  replay (`services.rejudge`) and never recorded as a decision. A decision that rested on a row that was erased is
  handed over as erased.
- Corrected facts keep the dates of their evidence unless others are given: what is asked is what the right value would
  have done, not what newer evidence would.
Left to others: the walk (`services.walk`), directives (`services.letthrough`), who may ask (`services.asof`).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from policy_engine.core.decision import Evaluation
from policy_engine.core.factparse import (
    PERSON_FIELDS,
    TENANT_FIELDS,
    parse_person,
    parse_tenant,
    split_provenance,
    storable,
)
from policy_engine.errors import InputRefused
from policy_engine.ledger.canonical import quote
from policy_engine.ledger.sealing import KeyVault, data_key_id, row_key_id
from policy_engine.services.datakeys import Tags
from policy_engine.services.factdocuments import subject_register
from policy_engine.services.marks import Marks
from policy_engine.services.past import instant_of, is_decision
from policy_engine.services.questions import Question
from policy_engine.services.rejudge import OUTCOME, Difference, Recorded, Rejudge, answered_otherwise, differences
from policy_engine.services.releases import ReleaseLoader
from policy_engine.services.sealedterms import groups_of, holds
from policy_engine.services.walk import Closed, Walk
from policy_engine.store.interfaces import Row, State, StoredEntry
from policy_engine.store.registerinterfaces import RegisterReader

_FACETS = {"persons": "subject", "tenants": "tenant"}
_NOTHING_KNOWN = dict.fromkeys(("method", "assurance", "verified_at", "expires_at", "reference", "source", "verifier"))


class Supposed:
    """Registers of which one row says something else. `suppose` makes it of the row that is there, or of none."""

    def __init__(
        self, registers: RegisterReader, register: str, id: str, suppose: Callable[[Row | None], Row | None]
    ) -> None:
        self._registers = registers
        self._of = (register, id)
        self._suppose = suppose

    def state(self) -> State:
        """Return the state, which is not supposed."""
        return self._registers.state()

    def row(self, register: str, id: str) -> Row | None:
        """Return a row; the one that is supposed says what is supposed."""
        found = self._registers.row(register, id)
        return self._suppose(found) if (register, id) == self._of else found

    def rows(self, register: str, *, after: str = "", limit: int | None = None) -> list[Row]:
        """Return the rows in order of id, the supposed one among them."""
        found = self._registers.rows(register, after=after)
        if register == self._of[0] and self._of[1] > after:
            supposed = self.row(*self._of)
            others = [row for row in found if row.id != self._of[1]]
            found = sorted((*others, *(() if supposed is None else (supposed,))), key=lambda row: row.id)
        return found[:limit]

    def blob(self, hash: str) -> bytes | None:
        """Return release content."""
        return self._registers.blob(hash)


@dataclass(frozen=True, slots=True)
class Otherwise:
    """A decision that would have come out otherwise: what it was, what it would have been, and how they differ."""

    entry: str
    instant: int
    subject: str
    tenant: str | None
    model: str | None
    action: str
    was: str
    would_be: str
    reasons: tuple[str, ...]
    orders: tuple[str, ...]
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class Correction:
    """Facts of one person or tenant that are supposed, with the provenance given for each (none: as it was)."""

    register: str
    id: str
    facts: Mapping[str, Any]
    since: int

    def __post_init__(self) -> None:
        subject_register(self.register, "fact")
        values, _ = split_provenance(self._document({"facts": {}}), "fact")
        parse = parse_person if self.register == "persons" else parse_tenant
        parse(self.id, values, "fact")

    def of(self, row: Row | None) -> Row | None:
        """Return a row with the facts corrected; nobody has facts who is not in the register."""
        return None if row is None else replace(row, document=self._document(row.document))

    def concerns(self, tags: Tags, keys: Container[str] = ()) -> Callable[[StoredEntry], bool]:
        """Return what recognises decisions about the subject by the bytes and tags of their entries.

        Tags go with a body that is erased or pruned. The id of its data key stays: `keys` are those of the subject.
        """
        facet = _FACETS[self.register]
        named = f'"tenant":{quote(self.id)}'.encode()

        def may(entry: StoredEntry) -> bool:
            if not is_decision(entry):
                return False
            if (facet == "tenant" and named in entry.public) or entry.data_key in keys:
                return True
            return tags.tag(instant_of(entry.public), facet, self.id) in (entry.tags or b"")

        return may

    def may_be_of(self, step: Closed) -> bool:
        """Return whether a decision that does not open may be about the subject; one that names another tenant is not.

        A person who was erased acted for others beside their own tenant.
        """
        named = None if step.public is None else step.public["tenant"]
        return self.register == "persons" or named in (None, self.id)

    def _document(self, document: Mapping[str, Any]) -> dict[str, Any]:
        facts = dict(document["facts"])
        for name, given in self.facts.items():
            whole = given if isinstance(given, Mapping) and "value" in given else {"value": given}
            facts[name] = {**_NOTHING_KNOWN, **facts.get(name, {}), **whole, "value": storable(whole["value"])}
        return {"facts": facts}


def keys_of(vault: KeyVault, correction: Correction, others: Iterable[str], marks: Marks) -> frozenset[str]:
    """Return the ids of the data keys of a person within any tenant, or of anybody within a tenant.

    `others` are the tenants, or else the persons, of the register. Whoever was erased is in none; then the keys that
    the erasure destroyed with theirs say what was theirs, under tenants that no register has too.
    """
    index, id, others = vault.index_key(), correction.id, tuple(others)
    if correction.register == "persons":
        own = {data_key_id(index, tenant, id) for tenant in (None, *others)}
    else:
        own = {data_key_id(index, id, person) for person in (id, *others)}
    return marks.erased_with(frozenset(own | {row_key_id(index, correction.register, id)}))


def corrected(
    walk: Walk, releases: ReleaseLoader, correction: Correction, tags: Tags, keys: Container[str] = ()
) -> Iterator[Otherwise | Closed | None]:
    """Yield, for every decision about the subject, how the corrected facts would have answered it.

    `None` stands for a decision that comes out the same; what does not open is handed over.
    """
    rejudge = Rejudge(Supposed(walk.past, correction.register, correction.id, correction.of), releases)
    for step in walk.steps(lambda public: public["instant"] >= correction.since, may=correction.concerns(tags, keys)):
        if isinstance(step, Closed):
            if correction.may_be_of(step):
                yield step
        elif isinstance(step, Recorded) and step.body[_FACETS[correction.register]] == correction.id:
            yield _answered(walk, rejudge, step)


def otherwise(walk: Walk, step: Recorded, found: Evaluation, odd: tuple[Difference, ...]) -> Otherwise:
    """Return how a decision would have come out."""
    body = step.body
    return Otherwise(
        entry=walk.name(step),
        instant=step.public["instant"],
        subject=body["subject"],
        tenant=body["tenant"],
        model=step.public["model"],
        action=body["action"],
        was=step.public["outcome"],
        would_be=found.outcome.value,
        reasons=tuple(reason.code for reason in found.reasons),
        orders=tuple(dict.fromkeys(order for reason in found.reasons for order in reason.orders)),
        differences=tuple(difference for difference in odd if difference.member in OUTCOME),
    )


class Forgotten:
    """Registers of persons and tenants in which nobody's facts of some names are known."""

    def __init__(self, registers: RegisterReader, names: frozenset[str]) -> None:
        unknown = names - PERSON_FIELDS - TENANT_FIELDS
        if unknown or not names:
            raise InputRefused(f"must be among {', '.join(sorted(PERSON_FIELDS | TENANT_FIELDS))}", where="without")
        self._registers = registers
        self._names = names
        self.state = registers.state
        self.blob = registers.blob

    def row(self, register: str, id: str) -> Row | None:
        """Return a row without the facts that are forgotten."""
        found = self._registers.row(register, id)
        return found if found is None or register not in _FACETS else self._forget(found)

    def rows(self, register: str, *, after: str = "", limit: int | None = None) -> list[Row]:
        """Return the rows in order of id, without the facts that are forgotten."""
        found = self._registers.rows(register, after=after, limit=limit)
        return [self._forget(row) for row in found] if register in _FACETS else found

    def _forget(self, row: Row) -> Row:
        facts = {name: fact for name, fact in row.document["facts"].items() if name not in self._names}
        return replace(row, document={"facts": facts})


def forgotten(
    walk: Walk, releases: ReleaseLoader, names: frozenset[str], question: Question
) -> Iterator[Otherwise | Closed | None]:
    """Yield, for every decision asked for, how it would have been answered had nobody known facts of these names.

    `None` stands for a decision that comes out the same: then none of them decided it.
    """
    rejudge = Rejudge(Forgotten(walk.past, names), releases)
    groups = groups_of(walk.past, releases)
    for step in walk.steps(question.matches):
        if isinstance(step, Closed):
            yield step
        elif isinstance(step, Recorded) and holds(question, step, groups):
            yield _answered(walk, rejudge, step)


def _answered(walk: Walk, rejudge: Rejudge, step: Recorded) -> Otherwise | Closed | None:
    """Return how a decision would have been answered, `None` for the same, or that it cannot be told any more."""
    gone = walk.basis_gone(step)
    if gone is not None:
        return gone
    found = rejudge(step)
    odd = differences(step, found)
    return otherwise(walk, step, found, odd) if answered_otherwise(odd) else None
