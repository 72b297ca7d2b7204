"""One decision explained from the log: what was asked and known, from where and how old, every rule, and the law cited.

Rules of the room: everything is as it was at the decision: rows of then, the release of then, the table editions in
force at its instant. Values of facts are shown: whoever reads this reads what is sealed (`services.asof` sees to it).
Left to others: the live explanation, which shows no values (`services.explain`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from policy_engine.core.factparse import optional_instant
from policy_engine.core.instants import DAY, format_instant
from policy_engine.core.plain import AnyRelease
from policy_engine.core.release import Release
from policy_engine.errors import InputRefused
from policy_engine.services.past import Past
from policy_engine.services.questions import entry_name
from policy_engine.services.rejudge import Recorded
from policy_engine.services.switchreasons import ids_named

_ASKED = ("subject", "subject_type", "tenant", "model", "resource_type", "action", "location", "serving_region")
_SAID = ("id", "outcome", "instant", "release", "epoch", "by", "missing", "flags", "lifted", "licences", "reached")


def explained(recorded: Recorded, past: Past, release: AnyRelease | None, *, one_log: bool) -> dict[str, Any]:
    """Return everything that a decision rested on, as plain data."""
    public, body = recorded.public, recorded.body
    at = int(public["instant"])
    matched = set(public["rules"])
    deciding = {label for label, _, _ in public["reasons"]}
    return {
        "entry": entry_name(recorded.log_id, recorded.seq, one_log=one_log),
        **{name: public.get(name) for name in _SAID},
        "asked": {name: body.get(name) for name in _ASKED},
        "reasons": [{"rule": rule, "code": code, "orders": orders} for rule, code, orders in public["reasons"]],
        "rules": [_rule(rule, public, deciding) for rule in _rules(release) if rule.id in matched],
        "facts": [fact for basis in body["revisions"] for fact in _facts(past, basis, at, one_log=one_log)],
        "orders": list(_orders(past, public, one_log=one_log)),
        "tables": _tables(release, at),
        "values": _values(release, body["values"]),
    }


def _rules(release: AnyRelease | None) -> Iterable[Any]:
    return () if release is None else release.rules


def _rule(rule: Any, public: Mapping[str, Any], deciding: set[str | None]) -> dict[str, Any]:
    lifted = rule.id in public["lifted"]
    return {
        "id": rule.id,
        "label": rule.label,
        "effect": rule.effect,
        "code": rule.code,
        "authority": rule.authority,
        "lifted": lifted,
        "decided": not lifted and rule.effect == public["outcome"] and rule.label in deciding,
        "pack": getattr(rule, "pack", None),
        "line": rule.line,
    }


def _facts(past: Past, basis: tuple[str, str, int], at: int, *, one_log: bool) -> Iterable[dict[str, Any]]:
    """Yield each fact of a row that the decision was evaluated on, with where it came from and how old it was."""
    register, id, revision = basis
    row = past.row(register, id)
    if row is None:
        return
    for name, fact in sorted(row.document["facts"].items()):
        verified, expires = (_instant(fact.get(end)) for end in ("verified_at", "expires_at"))
        yield {
            "register": register,
            "id": id,
            "revision": revision,
            "entry": entry_name(row.log_id, row.seq, one_log=one_log),
            "fact": name,
            "value": fact.get("value"),
            **{given: fact.get(given) for given in ("method", "assurance", "source", "verifier", "reference")},
            "verified_at": verified,
            "age_days": None if verified is None else (at - verified) // DAY,
            "expires_at": expires,
            "stale": expires is not None and expires <= at,
        }


def _instant(text: Any) -> int | None:
    try:
        return optional_instant(text, "fact")
    except InputRefused:
        return None


def _orders(past: Past, public: Mapping[str, Any], *, one_log: bool) -> Iterable[dict[str, Any]]:
    """Yield the switches, directives and licences that the decision names, as they stood."""
    directives = ids_named(public["reasons"], switches=False)
    named = {"switches": ids_named(public["reasons"], switches=True), "orders": directives.union(public["licences"])}
    for register, ids in named.items():
        for id in sorted(ids):
            row = past.row(register, id)
            if row is not None:
                entry = entry_name(row.log_id, row.seq, one_log=one_log)
                yield {"id": id, "register": register, "revision": row.revision, "entry": entry, **row.document}


def _tables(release: AnyRelease | None, at: int) -> list[dict[str, Any]]:
    """Return the edition of each table in force at an instant, with its age then."""
    if not isinstance(release, Release):
        return []
    found = []
    for name, editions in sorted(release.reference.groups.tables.items()):
        begun = [edition for edition in editions if edition.start <= at]
        edition = begun[-1] if begun else editions[0]
        found.append(
            {
                "table": name,
                "edition": edition.domain,
                "in_force_from": format_instant(edition.start),
                "age_days": (at - edition.start) // DAY if begun else None,
            }
        )
    return found


def _values(release: AnyRelease | None, values: Any) -> Any:
    """Return what the rules were given, by token where the release names them."""
    if values is None or not isinstance(release, Release) or len(values) != len(release.tokens):
        return values
    return {token.name: value for token, value in zip(release.tokens, values, strict=True)}
