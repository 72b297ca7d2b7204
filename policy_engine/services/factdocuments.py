"""The documents that the registers of persons and tenants hold: facts with their provenance. Pure.

Rules of the room: a document is checked by the same strict readers that decisions use; fields that are not named stay;
a plain value takes the provenance given for the whole row. Left to others: who may write (`facts`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from policy_engine.core.factparse import (
    members,
    optional_instant,
    optional_text,
    parse_person,
    parse_tenant,
    split_provenance,
    storable,
)
from policy_engine.core.facts import EvidenceLevel
from policy_engine.core.instants import DAY, format_instant
from policy_engine.errors import InputRefused
from policy_engine.services.permissions import Caller
from policy_engine.store.interfaces import FACT_REGISTERS, Row

GIVEN: Final = ("method", "assurance", "verified_at", "expires_at", "reference")
"""Provenance that the caller may give; `source` and `verifier` are stamped."""

_FACT: Final = frozenset(("value", *GIVEN))
_STAMPED: Final = ("source", "verifier")


@dataclass(frozen=True, slots=True)
class Expiring:
    """A fact that stops counting at an instant (it may have passed)."""

    register: str
    id: str
    field: str
    expires_at: int


def subject_register(register: str, where: str = "register") -> None:
    """Raise `InputRefused` for a register that holds no facts."""
    if register not in FACT_REGISTERS:
        raise InputRefused(f"must be one of {', '.join(FACT_REGISTERS)}", where=where)


def read_row_document(
    document: Mapping[str, Any], register: str | None, where: str
) -> tuple[str, str, Mapping[str, Any], Mapping[str, Any]]:
    """Return register, id, fields and provenance of one row of an import."""
    fields = dict(document)
    into = fields.pop("register", register)
    id = fields.pop("id", None)
    provenance = fields.pop("provenance", {})
    if into not in FACT_REGISTERS:
        raise InputRefused(f"must be one of {', '.join(FACT_REGISTERS)}", where=f"{where}.register")
    if not isinstance(id, str):
        raise InputRefused("must be a text", where=f"{where}.id")
    return into, id, fields, provenance


def merged(
    register: str,
    id: str,
    row: Row | None,
    fields: Mapping[str, Any],
    provenance: Mapping[str, Any],
    caller: Caller,
    where: str,
) -> dict[str, Any]:
    """Return the row's document with the fields set and stamped, checked whole."""
    common = {**dict.fromkeys(GIVEN), **_provenance(provenance, f"{where}.provenance")}
    facts: dict[str, Any] = {} if row is None else dict(row.document["facts"])
    for name, field in fields.items():
        at = f"{where}.{name}"
        if isinstance(field, Mapping) and "value" in field:
            _refuse_stamped(field, at)
            own = {name: item for name, item in members(field, _FACT, at).items() if name != "value"}
            value, given = field["value"], {**common, **_provenance(own, at)}
        else:
            value, given = field, common
        facts[name] = {"value": storable(value), **given, "source": caller.key_id, "verifier": caller.person}
    document = {"facts": facts}
    values, _ = split_provenance(document, where)
    if register == "persons":
        parse_person(id, values, where)
    else:
        parse_tenant(id, values, where)
    return document


def members_of(document: Mapping[str, Any]) -> frozenset[str]:
    """Return the tenants that a person's document names."""
    return frozenset(document["facts"].get("tenants", {}).get("value") or ())


def endings(row: Row, horizon: int, evidence_days: int) -> list[Expiring]:
    """Return the facts of a row that stop counting up to the horizon, verified evidence of nationality among them.

    A row that cannot be read has no endings here; deciding denies on it and verifying the log reports it.
    """
    try:
        values, provenance = split_provenance(row.document, row.register)
        person = parse_person(row.id, values) if row.register == "persons" else None
    except InputRefused:
        return []
    ends = {name: p.expires_at for name, p in provenance.items() if p.expires_at is not None}
    if person is not None and person.evidence.level is EvidenceLevel.VERIFIED:
        evidence, name = person.evidence, "nationality_evidence"
        dates = [ends.get(name), evidence.expires_on]
        dates.append(None if evidence.verified_on is None else evidence.verified_on + evidence_days * DAY)
        known = [date for date in dates if date is not None]
        if known:
            ends[name] = min(known)
    return [Expiring(row.register, row.id, name, end) for name, end in ends.items() if end <= horizon]


def _provenance(given: Any, where: str) -> dict[str, Any]:
    """Return the members that the caller gave in the form of the register: instants as RFC 3339 text."""
    if isinstance(given, Mapping):
        _refuse_stamped(given, where)
    found: dict[str, Any] = {}
    for name, value in members(given, frozenset(GIVEN), where).items():
        if name in ("verified_at", "expires_at"):
            instant = optional_instant(value, f"{where}.{name}")
            found[name] = None if instant is None else format_instant(instant)
        else:
            found[name] = optional_text(value, f"{where}.{name}")
    return found


def _refuse_stamped(given: Mapping[str, Any], where: str) -> None:
    for name in _STAMPED:
        if name in given:
            raise InputRefused("is stamped by the engine from the caller's key; leave it out", where=f"{where}.{name}")
