"""Facts of persons and tenants: set and imported by one person, shown on the record.

Rules of the room:
- Who writes a fact is stamped into it: `verifier` is the person, `source` their key. Both are refused from outside.
- Facts need one person with `facts:write`, and never about themselves: not their own row, and not an individual tenant
  that they are a member of.
- An import is checked whole before anything is written, and written in one transaction: all of it or nothing.
- Reading a person's facts is itself recorded, before they are shown.
Left to others: what a fact may say (`core.factparse`), what it means (`core.derive`), erasing (a later issue).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from policy_engine.core.decision import Principal
from policy_engine.core.facts import TenantType
from policy_engine.core.instants import DAY
from policy_engine.errors import Conflict, InputRefused, NotFound, NotPermitted, TooLarge
from policy_engine.limits import LIMITS, Limits
from policy_engine.services.factdocuments import (
    Expiring,
    endings,
    members_of,
    merged,
    read_row_document,
    subject_register,
)
from policy_engine.services.permissions import Caller, acting_person, require_tenants
from policy_engine.services.record import Recorder
from policy_engine.services.vocabulary import VocabularyOf, require_id
from policy_engine.store.interfaces import FACT_REGISTERS, Change, Committed, Row, Store, Write

READERS: Final = ("facts:write", "audit:unseal")
"""Scopes of which a person needs one to read facts of a person; those of a company are also open to `audit:read`."""


@dataclass(frozen=True, slots=True)
class FactRow:
    """What the register holds of a person or tenant: each fact with its provenance."""

    register: str
    id: str
    facts: Mapping[str, Mapping[str, Any]]
    revision: int


@dataclass(frozen=True, slots=True)
class Imported:
    """How many rows an import changed and how many it found as they were; `committed=None` when it changed none."""

    changed_count: int
    unchanged_count: int
    committed: Committed | None


class Facts:
    """The registers of persons and tenants."""

    def __init__(
        self,
        store: Store,
        recorder: Recorder,
        vocabulary: VocabularyOf,
        *,
        limits: Limits = LIMITS,
        new_id: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self._store = store
        self._recorder = recorder
        self._vocabulary = vocabulary
        self._limits = limits
        self._new_id = new_id

    def set_facts(
        self,
        principal: Principal,
        register: str,
        id: str,
        fields: Mapping[str, Any],
        *,
        provenance: Mapping[str, Any] | None = None,
    ) -> Committed:
        """Set facts of one person or tenant; those not named stay as they are.

        A field is a plain value, or `{"value": …, "method", "assurance", "verified_at", "expires_at", "reference"}`;
        `provenance` holds the same members for every plain value. Raises `InputRefused` for what is malformed,
        `NotPermitted` for facts about the caller.
        """
        caller = acting_person(self._store, principal, "facts:write")
        if not fields:
            raise InputRefused("names no fact", where="facts")
        write = self._write(caller, register, id, fields, provenance or {}, where=register, tenants=frozenset())
        if write is None:
            raise Conflict("the register holds exactly these facts already; nothing was written")
        return self._store.change(
            Change(
                kind="facts.set",
                public={"by": caller.key_id, "register": register},
                writes=(write,),
                raises_epoch=False,
                expects=(caller.basis,),
            )
        )

    def import_rows(
        self,
        principal: Principal,
        rows: Iterable[Any],
        progress: Callable[[int, int], None] | None = None,
        *,
        register: str | None = None,
    ) -> Imported:
        """Import many rows, all or none.

        A row is `{"register": "persons", "id": …, "provenance": {…}, <fact>: …}`; `register` here stands for rows
        without one. Rows that say what the register holds already are passed over, so an import may be repeated.
        Nothing else is written meanwhile, so a large import is for a quiet hour: decisions wait for it, and deny when
        they wait too long.
        `progress(checked, total)` is called now and then. Raises as `set_facts`, naming the row by its number from 1.
        """
        caller = acting_person(self._store, principal, "facts:write")
        documents = self._gather(rows)
        coming = frozenset(str(row.get("id")) for row in documents if row.get("register", register) == "tenants")
        writes: list[Write] = []
        seen: set[tuple[str, str]] = set()
        for number, document in enumerate(documents, start=1):
            where = f"row {number}"
            into, id, fields, provenance = read_row_document(document, register, where)
            if (into, id) in seen:
                raise InputRefused("names a person or tenant that an earlier row names", where=where)
            seen.add((into, id))
            write = self._write(caller, into, id, fields, provenance, where=where, tenants=coming)
            if write is not None:
                writes.append(write)
            if progress is not None and number % self._limits.rows_per_entry_count == 0:
                progress(number, len(documents))
        committed = self._store.change_all(self._parts(caller, writes)) if writes else None
        if progress is not None:
            progress(len(documents), len(documents))
        return Imported(len(writes), len(documents) - len(writes), committed)

    def show(self, principal: Principal, register: str, id: str) -> FactRow:
        """Return the facts of a person or tenant. Of a person, or an individual tenant, the read is recorded first.

        Raises `NotFound` when the register holds no such row.
        """
        subject_register(register)
        row = self._store.row(register, id)
        personal = register == "persons" or (row is not None and _is_individual(row))
        caller = acting_person(self._store, principal, *READERS, *(() if personal else ("audit:read",)))
        if row is None:
            raise NotFound(f"the register of {register} holds no such row")
        if caller.tenants is not None and caller.tenants.isdisjoint(_tenants_of(row)):
            raise NotPermitted("this concerns a tenant that the caller's key does not cover")
        if personal:
            self._record_read(principal, register, {"register": register, "row": id}, subject=id)
        return FactRow(register, id, row.document["facts"], row.revision)

    def expiring(self, principal: Principal, days: int) -> tuple[Expiring, ...]:
        """Return the facts that have expired or will within some days, soonest first. The read is recorded first."""
        caller = acting_person(self._store, principal, *READERS)
        if not 0 <= days <= 36_500:
            raise InputRefused("must be a number of days from 0 to 36500", where="days")
        self._record_read(principal, "persons", {"expiring_days": days})
        release = self._store.state().release
        evidence_days = 365 if release is None else self._vocabulary(release).evidence_days
        found: list[Expiring] = []
        for register in FACT_REGISTERS:
            for row in self._store.rows(register):
                if caller.tenants is None or not caller.tenants.isdisjoint(_tenants_of(row)):
                    found += endings(row, caller.at + days * DAY, evidence_days)
        return tuple(sorted(found, key=lambda item: (item.expires_at, item.register, item.id, item.field)))

    def _record_read(self, principal: Principal, register: str, body: Mapping[str, Any], subject: str = "") -> None:
        """Write the entry of a read; what was read is sealed, and found again by its subject."""
        members = {"register": register}
        self._recorder.record(
            lambda state: self._recorder.note("read", members, principal, state, body=body, subject=subject)
        )

    def _gather(self, rows: Iterable[Any]) -> list[Mapping[str, Any]]:
        documents: list[Mapping[str, Any]] = []
        for number, row in enumerate(rows, start=1):
            if not isinstance(row, Mapping):
                raise InputRefused("must be an object", where=f"row {number}")
            if number > self._limits.import_rows_count:
                raise TooLarge(f"an import has at most {self._limits.import_rows_count} rows; split it")
            documents.append(row)
        if not documents:
            raise InputRefused("holds no row", where="import")
        return documents

    def _write(
        self,
        caller: Caller,
        register: str,
        id: str,
        fields: Mapping[str, Any],
        provenance: Mapping[str, Any],
        *,
        where: str,
        tenants: frozenset[str],
    ) -> Write | None:
        """Return the write that sets the fields, or `None` when nothing would change.

        `tenants` will exist once the whole import is written.
        """
        subject_register(register, where)
        require_id(id, f"{where}.id", self._limits)
        row = self._store.row(register, id)
        document = merged(register, id, row, fields, provenance, caller, where)
        self._require_others(caller, register, id, (row.document if row else {}, document))
        covered = frozenset((id,)) if register == "tenants" else members_of(document)
        require_tenants(caller, covered | (frozenset() if row is None else _tenants_of(row)))
        if register == "persons":
            for tenant in members_of(document) - (frozenset() if row is None else members_of(row.document)):
                if tenant not in tenants and self._store.row("tenants", tenant) is None:
                    raise InputRefused("names a tenant that the register does not hold", where=f"{where}.tenants")
        if row is not None and row.document == document:
            return None
        return Write(register, id, document, expect=0 if row is None else row.revision)

    def _require_others(self, caller: Caller, register: str, id: str, documents: tuple[Mapping[str, Any], ...]) -> None:
        """Raise `NotPermitted` for facts about the caller: their own row, or the individual tenant they are behind."""
        about_self = register == "persons" and id.casefold() == caller.person.casefold()
        if register == "tenants" and any(_type_of(document) == TenantType.INDIVIDUAL for document in documents):
            own = self._store.row("persons", caller.person)
            about_self = id.casefold() == caller.person.casefold() or (own is not None and id in _tenants_of(own))
        if about_self:
            raise NotPermitted("nobody sets facts about themselves; another person with `facts:write` must")

    def _parts(self, caller: Caller, writes: list[Write]) -> list[Change]:
        """Return the entries of an import, each with as many rows as one entry may hold."""
        most, name = self._limits.rows_per_entry_count, self._new_id()
        starts = range(0, len(writes), most)
        return [
            Change(
                kind="facts.imported",
                public={"by": caller.key_id, "import": name, "part": part, "parts": len(starts)},
                writes=tuple(writes[start : start + most]),
                raises_epoch=False,
                expects=(caller.basis,),
            )
            for part, start in enumerate(starts, start=1)
        ]


def _type_of(document: Mapping[str, Any]) -> Any:
    return document.get("facts", {}).get("type", {}).get("value")


def _is_individual(row: Row) -> bool:
    return row.register == "tenants" and _type_of(row.document) == TenantType.INDIVIDUAL


def _tenants_of(row: Row) -> frozenset[str]:
    """Return the tenants a row concerns: a tenant itself, a person's memberships."""
    return frozenset((row.id,)) if row.register == "tenants" else members_of(row.document)
