"""Persons and tenants in memory, each with its revision and its facets until they may change.

Rules of the room: an entry is used without a look at the store only while the store's facts revision is the one it
was checked under; the append compares revisions again, so a stale entry never decides. Bounded by count; the oldest
go first. Left to others: what facts mean (`core.derive`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from threading import Lock
from typing import Generic, TypeVar

from policy_engine.core.derive import PersonFacets, Reference, TenantFacets, derive_person, derive_tenant
from policy_engine.core.factparse import parse_person, parse_tenant, split_provenance
from policy_engine.core.facts import Person, Provenance, Tenant
from policy_engine.errors import InputRefused
from policy_engine.store.interfaces import Row
from policy_engine.store.registerinterfaces import RegisterReader

_KEPT_COUNT = 20_000

F = TypeVar("F", PersonFacets, TenantFacets)
S = TypeVar("S", Person, Tenant)


@dataclass(slots=True)
class Known(Generic[S, F]):
    """One register row in memory. `subject=None`: there is no such row, or it cannot be read."""

    subject: S | None
    revision: int
    service: bool
    checked: int
    derive: Callable[[S, int, Reference], F]
    derived: tuple[Reference, int, F] | None = None
    """Reference and instant with the facets then: one value, for threads ask about different instants at once."""

    def at(self, instant: int, reference: Reference) -> F:
        """Return the facets at the instant, derived anew only when they may have changed."""
        if (held := self.derived) is not None:
            under, begins, facets = held
            if under is reference and begins <= instant < facets.until:
                return facets
        if self.subject is None:
            raise LookupError("nothing is known of this subject")
        facets = self.derive(self.subject, instant, reference)
        self.derived = (reference, instant, facets)
        return facets


class FactCache:
    """Reads persons and tenants from the registers and keeps them."""

    def __init__(self, store: RegisterReader) -> None:
        self._store = store
        self._persons: dict[str, Known[Person, PersonFacets]] = {}
        self._tenants: dict[str, Known[Tenant, TenantFacets]] = {}
        self._alone = Lock()

    def person(self, id: str, facts_revision: int) -> Known[Person, PersonFacets]:
        """Return what is known of a person or service."""
        known = self._persons.get(id)
        if known is None or known.checked != facts_revision:
            known = self._read_person(id, facts_revision, known)
            self._keep(self._persons, id, known)
        return known

    def tenant(self, id: str, facts_revision: int) -> Known[Tenant, TenantFacets]:
        """Return what is known of a tenant."""
        known = self._tenants.get(id)
        if known is None or known.checked != facts_revision:
            known = self._read_tenant(id, facts_revision, known)
            self._keep(self._tenants, id, known)
        return known

    def learn(self, rows: Iterable[Row], facts_revision: int) -> None:
        """Take in rows of the register of persons that were read after this revision, all in one go."""
        for row in rows:
            self._keep(self._persons, row.id, _person_of(row, facts_revision, self._persons.get(row.id)))

    def provenance(self, register: str, id: str) -> Mapping[str, Provenance]:
        """Return where each fact of a row comes from, by name; empty when there is no such row."""
        row = self._store.row(register, id)
        return {} if row is None else split_provenance(row.document, register)[1]

    def _keep(self, kept: dict[str, Known[S, F]], id: str, known: Known[S, F]) -> None:
        with self._alone:  # two threads must not make room for the same newcomer
            kept.pop(id, None)
            while len(kept) >= _KEPT_COUNT:
                kept.pop(next(iter(kept)))
            kept[id] = known

    def _read_person(
        self, id: str, checked: int, old: Known[Person, PersonFacets] | None
    ) -> Known[Person, PersonFacets]:
        return _person_of(self._store.row("persons", id), checked, old)

    def _read_tenant(
        self, id: str, checked: int, old: Known[Tenant, TenantFacets] | None
    ) -> Known[Tenant, TenantFacets]:
        row = self._store.row("tenants", id)
        if old is not None and row is not None and row.revision == old.revision:
            old.checked = checked
            return old
        tenant = None if row is None else read_tenant(row)
        return Known(tenant, 0 if row is None else row.revision, False, checked, derive_tenant)


def _person_of(row: Row | None, checked: int, old: Known[Person, PersonFacets] | None) -> Known[Person, PersonFacets]:
    if old is not None and row is not None and row.revision == old.revision:
        old.checked = checked
        return old
    person, service = (None, False) if row is None else read_person(row)
    return Known(person, 0 if row is None else row.revision, service, checked, derive_person)


def read_person(row: Row) -> tuple[Person | None, bool]:
    """Return the person of a register row and whether it is a service; `None` when the row cannot be read."""
    try:
        values, provenance = split_provenance(row.document, "person")
        person = parse_person(row.id, values)
    except InputRefused:
        return None, False
    if any(p.expires_at is not None for p in provenance.values()):
        person = replace(person, provenance=provenance)
    return person, values.get("subject_type") == "service"


def read_tenant(row: Row) -> Tenant | None:
    """Return the tenant of a register row, or `None` when the row cannot be read."""
    try:
        values, provenance = split_provenance(row.document, "tenant")
        tenant = parse_tenant(row.id, values)
    except InputRefused:
        return None
    if any(p.expires_at is not None for p in provenance.values()):
        tenant = replace(tenant, provenance=provenance)
    return tenant
