"""Strict reading of facts from plain JSON values into the types of `facts`.

Rules of the room: unknown members and values outside a vocabulary are refused with the path of the field and what it
may hold, never with the value; a place code may be any short text (one that resolves to nothing is unknown later);
absent is unknown. Left to others: provenance stamps and storage (`services.facts`), meaning (`derive`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from fractions import Fraction
from typing import Any, TypeVar

from policy_engine.core.facts import (
    BIRTH,
    Evidence,
    EvidenceLevel,
    ListMatch,
    Location,
    Owner,
    OwnerList,
    Person,
    Provenance,
    Tenant,
    TenantType,
    Tie,
    UsStatus,
)
from policy_engine.core.instants import parse_instant
from policy_engine.errors import InputRefused, TooLarge
from policy_engine.limits import LIMITS

E = TypeVar("E", bound=StrEnum)
T = TypeVar("T")

PERSON_FIELDS = frozenset(
    (
        "citizenships",
        "permanent_residencies",
        "birth_country",
        "us_status",
        "us_status_detail",
        "residence_country",
        "residence_region",
        "nationality_evidence",
        "lab_employee",
        "list_match",
        "tenants",
        "subject_type",
    )
)
"""Fact names of a person; `birth_country` and `us_status_detail` are kept and never looked at by a rule."""

TENANT_FIELDS = frozenset(
    (
        "type",
        "incorporated_in",
        "incorporated_in_region",
        "headquarters",
        "headquarters_region",
        "ultimate_parent_headquarters",
        "owners",
        "list_match",
        "vetted_partner",
        "denied_by_lab",
        "end_customer",
        "end_customer_identified",
    )
)
"""Fact names of a tenant."""

_PROVENANCE_FIELDS = frozenset(
    ("value", "method", "source", "assurance", "verified_at", "expires_at", "verifier", "reference")
)

_SHARE = re.compile(r"[0-9]{1,3}([.][0-9]{1,20})?(e-[0-9]{1,3})?")
"""A share as JSON or `repr` writes it. Bounded, so that no exponent is ever worked out at length."""


def members(value: Any, known: frozenset[str], where: str) -> Mapping[str, Any]:
    """Return the value as an object whose members are all among `known`; raise `InputRefused` otherwise."""
    if not isinstance(value, Mapping):
        raise InputRefused("must be an object", where=where)
    if not known.issuperset(value):
        raise InputRefused(f"has a member that is not one of {', '.join(sorted(known))}", where=where)
    return value


def text(value: Any, where: str) -> str:
    """Return a non-empty text within the limits."""
    if not isinstance(value, str) or not value:
        raise InputRefused("must be a non-empty text", where=where)
    if len(value) > LIMITS.text_characters:
        raise TooLarge(f"is longer than {LIMITS.text_characters} characters", where=where)
    return value


def optional_text(value: Any, where: str) -> str | None:
    """Return a text or `None`."""
    return None if value is None else text(value, where)


def flag(value: Any, where: str) -> bool:
    """Return true or false; nothing else stands for them."""
    if not isinstance(value, bool):
        raise InputRefused("must be true or false", where=where)
    return value


def items(
    value: Any, read: Callable[[Any, str], T], where: str, *, most: int = LIMITS.list_items_count
) -> tuple[T, ...]:
    """Return a list read item by item."""
    if not isinstance(value, list | tuple):
        raise InputRefused("must be a list", where=where)
    if len(value) > most:
        raise TooLarge(f"has more than {most} items", where=where)
    return tuple(read(item, f"{where}[{place}]") for place, item in enumerate(value))


def texts(value: Any, where: str, *, most: int = LIMITS.list_items_count) -> frozenset[str]:
    """Return the texts of a list, none where it is absent; an empty text, false or 0 is no list."""
    return frozenset() if value is None else frozenset(items(value, text, where, most=most))


def choice(kind: type[E], value: Any, where: str) -> E:
    """Return the member of a vocabulary that a text names."""
    try:
        return kind(value)
    except ValueError:
        raise InputRefused(f"must be one of {', '.join(kind)}", where=where) from None


def instant(value: Any, where: str) -> int:
    """Return an instant from RFC 3339 text or a bare date."""
    try:
        return parse_instant(text(value, where))
    except ValueError:
        raise InputRefused("must be a date (2026-06-12) or an instant (2026-06-12T21:21:00Z)", where=where) from None


def optional_instant(value: Any, where: str) -> int | None:
    """Return an instant or `None`."""
    return None if value is None else instant(value, where)


def parse_person(id: str, facts: Mapping[str, Any], where: str = "person") -> Person:
    """Return a person from plain fact values (absent: unknown)."""
    known = members(facts, PERSON_FIELDS, where)
    for name in ("birth_country", "us_status_detail"):
        optional_text(known.get(name), f"{where}.{name}")
    if known.get("subject_type") not in (None, "person", "service"):
        raise InputRefused("must be person or service", where=f"{where}.subject_type")
    status = known.get("us_status")
    return Person(
        id=id,
        citizenships=_ties(known.get("citizenships"), f"{where}.citizenships"),
        permanent_residencies=_ties(known.get("permanent_residencies"), f"{where}.permanent_residencies"),
        us_status=UsStatus.UNKNOWN if status is None else choice(UsStatus, status, f"{where}.us_status"),
        residence_country=optional_text(known.get("residence_country"), f"{where}.residence_country"),
        residence_region=optional_text(known.get("residence_region"), f"{where}.residence_region"),
        evidence=_evidence(known.get("nationality_evidence"), f"{where}.nationality_evidence"),
        lab_employee=_flag_or_false(known, "lab_employee", where),
        list_match=_list_match(known, where),
        tenants=texts(known.get("tenants"), f"{where}.tenants"),
    )


def parse_tenant(id: str, facts: Mapping[str, Any], where: str = "tenant", *, depth: int = 1) -> Tenant:
    """Return a tenant from plain fact values (absent: unknown; `vetted_partner`, `denied_by_lab`: false)."""
    known = members(facts, TENANT_FIELDS, where)
    if depth > LIMITS.chain_entities_count:
        raise TooLarge(f"the chain of end customers is longer than {LIMITS.chain_entities_count}", where=where)
    kind = known.get("type")

    def code(name: str) -> str | None:
        return optional_text(known.get(name), f"{where}.{name}")

    owners = known.get("owners")
    return Tenant(
        id=id,
        type=None if kind is None else choice(TenantType, kind, f"{where}.type"),
        incorporated_in=code("incorporated_in"),
        incorporated_in_region=code("incorporated_in_region"),
        headquarters=code("headquarters"),
        headquarters_region=code("headquarters_region"),
        ultimate_parent_headquarters=code("ultimate_parent_headquarters"),
        owners=None if owners is None else items(owners, _owner, f"{where}.owners"),
        list_match=_list_match(known, where),
        vetted_partner=_flag_or_false(known, "vetted_partner", where),
        denied_by_lab=_flag_or_false(known, "denied_by_lab", where),
        end_customer=_end_customer(known.get("end_customer"), f"{where}.end_customer", depth),
        end_customer_identified=_flag_or_false(known, "end_customer_identified", where),
    )


def parse_location(value: Any, where: str = "location") -> Location | None:
    """Return a location from `"US"`, `"UA-43"` or `{country, region, anonymiser}`; `None` stays `None`."""
    if value is None:
        return None
    if isinstance(value, str):
        code = text(value, where)
        country, dash, _ = code.partition("-")
        return Location(country=country, region=code if dash else None)
    known = members(value, frozenset(("country", "region", "anonymiser")), where)
    anonymiser = known.get("anonymiser")
    return Location(
        country=optional_text(known.get("country"), f"{where}.country"),
        region=optional_text(known.get("region"), f"{where}.region"),
        anonymiser=False if anonymiser is None else flag(anonymiser, f"{where}.anonymiser"),
    )


def split_provenance(document: Mapping[str, Any], where: str) -> tuple[dict[str, Any], dict[str, Provenance]]:
    """Return plain values and provenance from a register document `{"facts": {name: {"value": …, …}}}`."""
    facts = members(document, frozenset(("facts",)), where).get("facts", {})
    if not isinstance(facts, Mapping):
        raise InputRefused("must be an object", where=f"{where}.facts")
    values: dict[str, Any] = {}
    provenance: dict[str, Provenance] = {}
    for name, fact in facts.items():
        known = members(fact, _PROVENANCE_FIELDS, f"{where}.{name}")
        values[name] = known.get("value")
        provenance[name] = Provenance(
            method=optional_text(known.get("method"), f"{where}.{name}.method"),
            source=optional_text(known.get("source"), f"{where}.{name}.source"),
            assurance=optional_text(known.get("assurance"), f"{where}.{name}.assurance"),
            verified_at=optional_instant(known.get("verified_at"), f"{where}.{name}.verified_at"),
            expires_at=optional_instant(known.get("expires_at"), f"{where}.{name}.expires_at"),
            verifier=optional_text(known.get("verifier"), f"{where}.{name}.verifier"),
            reference=optional_text(known.get("reference"), f"{where}.{name}.reference"),
        )
    return values, provenance


def storable(value: Any) -> Any:
    """Return the value with every float as its shortest decimal text, so that it has one canonical encoding."""
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Mapping):
        return {name: storable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [storable(item) for item in value]
    return value


def _flag_or_false(known: Mapping[str, Any], name: str, where: str) -> bool:
    value = known.get(name)
    return False if value is None else flag(value, f"{where}.{name}")


def _list_match(known: Mapping[str, Any], where: str) -> ListMatch | None:
    value = known.get("list_match")
    return None if value is None else choice(ListMatch, value, f"{where}.list_match")


def _ties(value: Any, where: str) -> tuple[Tie, ...] | None:
    return None if value is None else items(value, _tie, where)


def _tie(value: Any, where: str) -> Tie:
    known = members(value, frozenset(("country", "acquired", "current")), where)
    acquired = known.get("acquired")
    current = known.get("current")
    return Tie(
        country=optional_text(known.get("country"), f"{where}.country"),
        acquired=BIRTH if acquired == "birth" else optional_instant(acquired, f"{where}.acquired"),
        current=True if current is None else flag(current, f"{where}.current"),
    )


def _evidence(value: Any, where: str) -> Evidence:
    if value is None:
        return Evidence()
    known = members(value, frozenset(("level", "verified_on", "expires_on")), where)
    level = known.get("level")
    return Evidence(
        level=EvidenceLevel.NONE if level is None else choice(EvidenceLevel, level, f"{where}.level"),
        verified_on=optional_instant(known.get("verified_on"), f"{where}.verified_on"),
        expires_on=optional_instant(known.get("expires_on"), f"{where}.expires_on"),
    )


def _owner(value: Any, where: str) -> Owner:
    known = members(value, frozenset(("name", "country", "percent", "list")), where)
    optional_text(known.get("name"), f"{where}.name")
    listed = known.get("list")
    return Owner(
        country=optional_text(known.get("country"), f"{where}.country"),
        percent=_percent(known.get("percent"), f"{where}.percent"),
        listed=None if listed is None else choice(OwnerList, listed, f"{where}.list"),
    )


def _percent(value: Any, where: str) -> Fraction | None:
    """Return an exact share: 49.9 is 499/10, not its binary neighbour."""
    if value is None:
        return None
    share: Fraction | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        share = Fraction(value)
    elif isinstance(value, float | str) and _SHARE.fullmatch(str(value)):
        share = Fraction(str(value))
    if share is None or not 0 <= share <= 100:
        raise InputRefused("must be a number from 0 to 100", where=where)
    return share


def _end_customer(value: Any, where: str, depth: int) -> Tenant | None:
    if value is None:
        return None
    known = members(value, TENANT_FIELDS | {"id"}, where)
    id = text(known.get("id"), f"{where}.id")
    return parse_tenant(id, {name: item for name, item in known.items() if name != "id"}, where, depth=depth + 1)
