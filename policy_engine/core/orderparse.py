"""Strict reading of orders from plain JSON values into the types of `orders` and `switches`.

Rules of the room: unknown members are refused with the path; on receipt (`strict=True`) so are orders that cannot
mean anything, such as a directive without blocks or an end before its start. Reading back what is in the register
is not strict: there a doubtful directive must block more, not vanish. Left to others: known models (`services`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policy_engine.core.factparse import items, members, optional_instant, optional_text, text, texts
from policy_engine.core.instants import ENDLESS
from policy_engine.core.orders import (
    ANNEX,
    BLOCKS,
    EXEMPT_WHO,
    FOREIGN_PERSON,
    LAB_EMPLOYEES,
    LIFT_KEYS,
    Directive,
    Exempt,
    Grant,
    Licence,
    Override,
)
from policy_engine.core.switches import DIMENSIONS
from policy_engine.errors import InputRefused
from policy_engine.limits import LIMITS

_DIRECTIVE = frozenset(("id", "from", "until", "reconfirm_by", "models", "blocks", "exempts"))
_EXEMPT = frozenset(("id", "from", "until", "models", "who", "annex_a"))
_LICENCE = frozenset(
    (
        "id",
        "from",
        "until",
        "revoked_at",
        "person_id",
        "tenant_id",
        "models",
        "actions",
        "nationalities",
        "destinations",
        "lifts",
        "conditions",
    )
)
_GRANT = frozenset(("id", "person_id", "tenant_id", "models", "actions", "by", "from", "until"))
_OVERRIDE = frozenset(("id", "by", "approved_by", "reason", "from", "until"))
_SWITCH = frozenset(("id", "from", "until", *DIMENSIONS))


def parse_directive(value: Any, where: str = "directive", *, strict: bool = True) -> Directive:
    """Return a directive. Strict: names models, has known blocks, ends after it starts."""
    known = members(value, _DIRECTIVE, where)
    models = known.get("models")
    blocks = _texts(known, "blocks", where)
    if strict and (not blocks or not blocks <= BLOCKS):
        raise InputRefused(f"must name at least one of {', '.join(sorted(BLOCKS))}", where=f"{where}.blocks")
    if strict and not models:
        raise InputRefused('must name the models, or be "all"', where=f"{where}.models")
    start, until = _interval(known, where, strict=strict)
    if strict:
        _require_coming(known, start, until, f"{where}.reconfirm_by")
    given = known.get("exempts")
    exempts = items(() if given is None else given, lambda item, at: _exempt(item, at, strict), f"{where}.exempts")
    directive = Directive(
        id=text(known.get("id"), f"{where}.id"),
        start=start,
        until=until,
        models=None if models is None or models == "all" else _texts(known, "models", where) or None,
        blocks=blocks,
        exempts=exempts,
    )
    if strict:
        _require_easing(directive, f"{where}.exempts")
    return directive


def _require_easing(directive: Directive, where: str) -> None:
    """Refuse an exemption that contradicts its directive, so that nobody approves one that can ease nothing."""
    for place, exempt in enumerate(directive.exempts):
        if exempt.until <= directive.start or directive.until <= exempt.start:
            raise InputRefused("is never in force while the directive is; mend its dates", where=f"{where}[{place}]")
        if exempt.who == LAB_EMPLOYEES and FOREIGN_PERSON not in directive.blocks:
            raise InputRefused(
                f"lifts {FOREIGN_PERSON} alone, which the directive does not block", where=f"{where}[{place}].who"
            )


def _require_coming(known: Mapping[str, Any], start: int, until: int, where: str) -> None:
    """Refuse a date of confirmation that is not within the time in which the directive is in force.

    The date changes no decision (`services.suspensions`), so the directive itself does not hold it.
    """
    by = optional_instant(known.get("reconfirm_by"), where)
    if by is not None and not start < by < until:
        raise InputRefused("must be later than the start and before the end", where=where)


def parse_licence(value: Any, where: str = "licence", *, strict: bool = True) -> Licence:
    """Return a licence. Lift keys outside the vocabulary are always refused."""
    known = members(value, _LICENCE, where)
    lifts = _texts(known, "lifts", where)
    if not lifts <= LIFT_KEYS:
        raise InputRefused(f"may name only {', '.join(sorted(LIFT_KEYS))}", where=f"{where}.lifts")
    person, tenant = (optional_text(known.get(name), f"{where}.{name}") for name in ("person_id", "tenant_id"))
    if strict and person is None and tenant is None:
        raise InputRefused("must name a person_id, a tenant_id or both; else it is nobody's", where=where)
    if strict and known.get("from") is None:
        raise InputRefused("must say from when it is in force", where=f"{where}.from")
    _, until = _interval(known, where, strict=strict)
    revoked = optional_instant(known.get("revoked_at"), f"{where}.revoked_at")
    return Licence(
        id=text(known.get("id"), f"{where}.id"),
        start=optional_instant(known.get("from"), f"{where}.from"),
        until=until,
        revoked_at=ENDLESS if revoked is None else revoked,
        person_id=person,
        tenant_id=tenant,
        models=_texts(known, "models", where),
        actions=_texts(known, "actions", where),
        nationalities=_texts(known, "nationalities", where),
        destinations=_texts(known, "destinations", where),
        lifts=lifts,
        conditions=_texts(known, "conditions", where),
    )


def parse_grant(value: Any, where: str = "grant", *, strict: bool = True) -> Grant:
    """Return a grant; it is recorded and lifts nothing."""
    known = members(value, _GRANT, where)
    start, until = _interval(known, where, strict=strict)
    person, tenant, by = (optional_text(known.get(n), f"{where}.{n}") for n in ("person_id", "tenant_id", "by"))
    models, actions = _texts(known, "models", where), _texts(known, "actions", where)
    return Grant(text(known.get("id"), f"{where}.id"), person, tenant, models, actions, by, start, until)


def parse_override(value: Any, where: str = "override", *, strict: bool = True) -> Override:
    """Return an override; it is recorded and lifts nothing."""
    known = members(value, _OVERRIDE, where)
    start, until = _interval(known, where, strict=strict)
    by, approved_by, reason = (
        optional_text(known.get(name), f"{where}.{name}") for name in ("by", "approved_by", "reason")
    )
    return Override(text(known.get("id"), f"{where}.id"), by, approved_by, reason, start, until)


def parse_switch_scope(value: Any, where: str = "switch", *, strict: bool = True) -> dict[str, Any]:
    """Return the scope of a switch as its register holds it: each named dimension a sorted list.

    The mark of a drill is no dimension, and nobody's to give (`services.drills` sets it).

    Strict: at least one dimension is named (`models="all"` stands for everything, said on purpose), none is empty.
    """
    known = members(value, _SWITCH, where)
    scope: dict[str, Any] = {}
    for name in DIMENSIONS:
        given = known.get(name)
        if given is None:
            continue
        if given == "all":
            scope[name] = "all"
            continue
        found = items(given, _tier if name == "tiers" else text, f"{where}.{name}")
        if strict and not found:
            raise InputRefused('must not be empty; say "all" for everything', where=f"{where}.{name}")
        if found:
            scope[name] = sorted(set(found), key=str)
    if strict and not scope:
        raise InputRefused(f"names no scope; give at least one of {', '.join(DIMENSIONS)}", where=where)
    _interval(known, where, strict=strict)
    return scope


def _tier(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 5:
        raise InputRefused("must be a tier from 1 to 5", where=where)
    return value


def _texts(known: Mapping[str, Any], name: str, where: str) -> frozenset[str]:
    return texts(known.get(name), f"{where}.{name}")


def _interval(known: Mapping[str, Any], where: str, *, strict: bool) -> tuple[int, int]:
    start = optional_instant(known.get("from"), f"{where}.from")
    until = optional_instant(known.get("until"), f"{where}.until")
    if strict and start is not None and until is not None and until <= start:
        raise InputRefused("ends before it starts", where=f"{where}.until")
    return -ENDLESS if start is None else start, ENDLESS if until is None else until


def _exempt(value: Any, where: str, strict: bool) -> Exempt:
    known = members(value, _EXEMPT, where)
    who = text(known.get("who"), f"{where}.who")
    if who not in EXEMPT_WHO:
        raise InputRefused(f"must be one of {', '.join(sorted(EXEMPT_WHO))}", where=f"{where}.who")
    models = _texts(known, "models", where)
    if strict and not models:
        raise InputRefused("must name the models it eases", where=f"{where}.models")
    start, until = _interval(known, where, strict=strict)
    annex = texts(known.get("annex_a"), f"{where}.annex_a", most=LIMITS.annex_names_count)
    if strict and (who == ANNEX) != bool(annex):
        problem = "must name the entities that are exempt" if who == ANNEX else f"belongs to {ANNEX} alone"
        raise InputRefused(problem, where=f"{where}.annex_a")
    id = optional_text(known.get("id"), f"{where}.id") or ""
    return Exempt(id, start, until, models, who, annex)
