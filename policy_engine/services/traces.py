"""What a database holds of one subject: entries by their tags, and the rows of registers that are about the subject.

Rules of the room:
- Theirs are: their row; an individual tenant that nobody else is a member of; a licence or grant for them and a hold on
  them; proposals that name them. Not theirs, and kept: the keys they hold, what they proposed, decided or entered for
  others, and orders and tenants that merely mention them; those rows are counted, so that nobody is promised more.
- What names such a tenant names them: reads, proposals and holds on it are theirs too, and other rows are counted,
  unless a person of the register bears its id.
- Every year's tag is looked for, from the first entry on; data keys are looked for under every tenant of the register.
Left to others: holds, who may ask, taking it away (`erasure`, `store.erasing`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from policy_engine.core.facts import TenantType
from policy_engine.core.instants import parse_instant
from policy_engine.errors import Conflict
from policy_engine.ledger.encoding import parse_public
from policy_engine.ledger.sealing import KeyVault, data_key_id, tag
from policy_engine.services.datakeys import year_of
from policy_engine.services.factdocuments import members_of
from policy_engine.services.holdrules import KIND as HOLD
from policy_engine.services.orderdocuments import IN_FORCE
from policy_engine.store.interfaces import FACT_REGISTERS, REGISTERS, ReadStore, Row

_PAGE_COUNT = 500

_ABOUT_KEYS = "key.create"
"""Proposals of this kind are about somebody's rights as one who acts, and stay with the keys."""


@dataclass(frozen=True, slots=True)
class Traces:
    """Everything about one subject: entries by place, rows that are theirs, and how many other rows name them."""

    epoch: int
    tags: tuple[bytes, ...]
    places: tuple[tuple[str, int], ...]
    keys: tuple[str, ...]
    rows: tuple[Row, ...]
    kept: Mapping[str, int]

    def counts(self) -> dict[str, int]:
        """Return how many rows of each register are theirs."""
        found: dict[str, int] = {}
        for row in self.rows:
            found[row.register] = found.get(row.register, 0) + 1
        return found


def traces_of(store: ReadStore, vault: KeyVault, subject: str, at: int) -> Traces:
    """Return what there is of a subject. Raises `Conflict` while a licence or grant for them is in force."""
    epoch = store.state().epoch
    alone = _own_tenants(store, subject)
    names = (subject, *sorted(id for id in alone - {subject} if store.row("persons", id) is None))
    tags = tuple(tag for name in names for tag in subject_tags(store, vault, "subject", name, at))
    theirs, kept = _rows(store, subject, alone, names, at)
    tenants = [None, *(row.id for row in _all(store, "tenants"))]
    return Traces(
        epoch=epoch,
        tags=tags,
        places=tuple(store.tagged(tags)),
        keys=tuple(data_key_id(vault.index_key(), tenant, name) for name in names for tenant in tenants),
        rows=theirs,
        kept=kept,
    )


def subject_tags(store: ReadStore, vault: KeyVault, name: str, value: str, at: int) -> tuple[bytes, ...]:
    """Return the tags of a value in every year that the log may have entries of."""
    first = next(iter(store.entries(limit=1)), None)
    start = at if first is None else min(at, int(parse_public(first[2])["at"]))
    return tuple(tag(vault.period_key(str(year)), name, value) for year in range(year_of(start), year_of(at) + 2))


def mentions(document: Any, subject: str) -> bool:
    """Return whether a text anywhere in a document is the subject's id."""
    if isinstance(document, Mapping):
        return any(mentions(value, subject) for value in document.values())
    if isinstance(document, list):
        return any(mentions(value, subject) for value in document)
    return bool(document == subject)


def _rows(
    store: ReadStore, subject: str, alone: frozenset[str], names: tuple[str, ...], at: int
) -> tuple[tuple[Row, ...], dict[str, int]]:
    """Return the rows that are the subject's, and how many others name them, by register."""
    theirs: list[Row] = []
    kept: dict[str, int] = {}
    for register in REGISTERS:
        for row in _all(store, register):
            if _is_theirs(row, subject, alone, names):
                _require_over(row, at)
                theirs.append(row)
            elif any(row.id == name or mentions(row.document, name) for name in names):
                kept[register] = kept.get(register, 0) + 1
    return tuple(theirs), kept


def _is_theirs(row: Row, subject: str, tenants: frozenset[str], names: tuple[str, ...]) -> bool:
    document = row.document
    if row.register == "persons":
        return row.id == subject
    if row.register == "tenants":
        return row.id in tenants
    if row.register == "orders":
        body = document.get("body") or {}
        if document.get("kind") == HOLD:
            return bool(body.get("subject") == subject) or (
                body.get("subject") is None and body.get("tenant") in tenants
            )
        return body.get("person_id") == subject or (body.get("person_id") is None and body.get("tenant_id") in tenants)
    if row.register == "approvals":
        return document["kind"] != _ABOUT_KEYS and (
            any(mentions(document["payload"], name) for name in names)
            or any(register in FACT_REGISTERS and id in names for register, id, _ in document["base"])
        )
    return False


def _own_tenants(store: ReadStore, subject: str) -> frozenset[str]:
    """Return the individual tenants that are the subject, and nobody else's."""
    person = store.row("persons", subject)
    named = {subject} if person is None else {subject, *members_of(person.document)}
    own = {id for id in named if is_individual(store.row("tenants", id))}
    if own:
        for row in _all(store, "persons"):
            if row.id != subject:
                own -= members_of(row.document)
    return frozenset(own)


def is_individual(row: Row | None) -> bool:
    """Return whether a row of `tenants` is a person's own."""
    facts = {} if row is None else row.document.get("facts", {})
    return bool(facts.get("type", {}).get("value") == TenantType.INDIVIDUAL)


def _require_over(row: Row, at: int) -> None:
    """Raise `Conflict` for a licence or grant that still counts: it is ended first, which one person may."""
    document = row.document
    if row.register != "orders" or document["kind"] == HOLD or document["status"] != IN_FORCE:
        return
    until = document["body"].get("until")
    if until is None or at < parse_instant(until):
        raise Conflict(f"the order {row.id} is for this subject and in force; end it first")


def _all(store: ReadStore, register: str) -> Iterator[Row]:
    after = ""
    while rows := store.rows(register, after=after, limit=_PAGE_COUNT):
        yield from rows
        after = rows[-1].id
