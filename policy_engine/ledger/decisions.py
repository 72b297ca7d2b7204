"""The entry of a decision, version 1: its public members, its sealed body, and the flat tuple given to the rules.

A service writes thousands of these a second, so they are put together by hand in canonical order instead of by
`canonical`; a property test holds the two equal for every input. The rule of `encoding` for growth holds here too.

Public members beside those of every entry: `outcome`, `action` and `tenant` (null when they are not known words: what
a caller made up stays sealed), `model` (catalogue id or null), `tier`, `reasons` ([rule, code, [order ids]]), `rules`
(ids of all matching rows), `lifted`, `licences`, `missing`, `until` (null: no boundary ahead), `instant`, `by` (key id
or "local"), `reached` (whether the rules were reached). Optional: `asked` (the alias asked for), `flags`, `clock`.
Sealed body: `action`, `model`, `subject`, `subject_type`, `resource_type`, `tenant`, `location`, `serving_region`,
`revisions` ([register, id, revision] of what was used), `values` (the flat tuple, null when not reached), and
optional `raw` (the request as JSON text, for rules that read it) and `tagged` (the facets that the entry is found by:
an object of lists of texts; its tags are made from these, the subject and, where it is sealed, the tenant).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from policy_engine.errors import InputRefused, VerificationFailed
from policy_engine.ledger.canonical import INTEGER_MAX, canonical, quote, to_bytes

KIND = "decision"

_FRAGMENTS_COUNT = 8_192
"""How many encoded lists and sets are remembered; each is a few hundred bytes at most in practice."""

Tagged = tuple[tuple[str, tuple[str, ...]], ...]
"""Facets and their values, `(name, values)`; values of a set are sorted."""

Reasons = tuple[tuple[str | None, str, tuple[str, ...]], ...]


class DecisionMembers(NamedTuple):
    """The public members that are known before the entry has its place."""

    id: str
    outcome: str
    action: str | None
    model: str | None
    asked: str | None
    tier: int | None
    tenant: str | None
    reasons: Reasons
    rules: tuple[str, ...]
    lifted: tuple[str, ...]
    licences: tuple[str, ...]
    missing: tuple[str, ...]
    flags: tuple[str, ...]
    until: int | None
    instant: int
    by: str
    reached: bool
    epoch: int
    release: str | None
    clock_set: bool = False


def decision_public(members: DecisionMembers, log_id: str, seq: int, at: int, commit: str, sealed: str) -> bytes:
    """Return the public bytes of a decision at its place in the log."""
    m = members
    asked = "" if m.asked is None else f'"asked":{quote(m.asked)},'
    clock = '"clock":"set",' if m.clock_set else ""
    flags = f'"flags":{_texts(m.flags)},' if m.flags else ""
    return to_bytes(
        f'{{"action":{_text(m.action)},{asked}"at":{at},"by":{quote(m.by)},{clock}"commit":"{commit}",'
        f'"epoch":{m.epoch},{flags}"id":"{m.id}","instant":{m.instant},"kind":"decision",'
        f'"licences":{_texts(m.licences)},"lifted":{_texts(m.lifted)},"log":"{log_id}","missing":{_texts(m.missing)},'
        f'"model":{_text(m.model)},"outcome":"{m.outcome}","reached":{"true" if m.reached else "false"},'
        f'"reasons":{_reasons(m.reasons)},"release":{_text(m.release)},"rules":{_texts(m.rules)},'
        f'"sealed":"{sealed}","seq":{seq},"tenant":{_text(m.tenant)},"tier":{_number(m.tier)},'
        f'"until":{_number(m.until)},"v":1}}'
    )


_NONE: Final = type(None)
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "outcome": (str,),
    "action": (str, _NONE),
    "model": (str, _NONE),
    "tier": (int, _NONE),
    "tenant": (str, _NONE),
    "reasons": (list,),
    "rules": (list,),
    "lifted": (list,),
    "licences": (list,),
    "missing": (list,),
    "until": (int, _NONE),
    "instant": (int,),
    "at": (int,),
    "epoch": (int,),
    "by": (str,),
    "reached": (bool,),
    "release": (str, _NONE),
}


def require_decision(public: Mapping[str, Any]) -> None:
    """Raise `VerificationFailed` for a decision that lacks a public member, or has one of another type."""
    whole = all(name in public and type(public[name]) in types for name, types in _TYPES.items())
    if not whole or not all(type(reason) is list and len(reason) == 3 for reason in public["reasons"]):
        raise VerificationFailed("a member of the decision is missing or has the wrong type")


class DecisionBody(NamedTuple):
    """The sealed members: who asked for whom from where, and every input of the decision that is personal."""

    action: str
    model: str
    subject: str
    subject_type: str
    resource_type: str
    tenant: str | None
    location: tuple[str | None, str | None, bool] | None
    serving_region: str | None
    revisions: tuple[tuple[str, str, int], ...]
    values: tuple[Any, ...] | None
    raw: str | None = None
    tagged: Tagged | None = None

    def encode(self) -> bytes:
        """Return the canonical bytes. Raises `InputRefused` for a lone surrogate."""
        location = "null" if self.location is None else _location(self.location)
        raw = "" if self.raw is None else f'"raw":{quote(self.raw)},'
        values = "null" if self.values is None else flat_text(self.values)
        tagged = "" if self.tagged is None else _tagged(self.tagged)
        return to_bytes(
            f'{{"action":{quote(self.action)},"location":{location},"model":{quote(self.model)},{raw}'
            f'"resource_type":{quote(self.resource_type)},"revisions":{_revisions(self.revisions)},'
            f'"serving_region":{_text(self.serving_region)},"subject":{quote(self.subject)},'
            f'"subject_type":{quote(self.subject_type)},{tagged}"tenant":{_text(self.tenant)},"values":{values}}}'
        )


def flat_text(values: Sequence[Any]) -> str:
    """Return the flat tuple as canonical JSON text.

    Text, whole numbers, true, false and null are themselves; a set or tuple of texts is a sorted list; whatever else
    a rule may have read (a fraction, an object, a list, a large number) is `{"json": text}`. Raises `InputRefused`
    for a set of anything else and for what is no JSON value.
    """
    found = [
        quote(value) if type(value) is str else _sorted_texts(value) if type(value) is frozenset else _flat(value)
        for value in values
    ]
    return "[" + ",".join(found) + "]"


def flat_values(recorded: Sequence[Any]) -> tuple[Any, ...]:
    """Return the flat tuple that `flat_text` recorded, sets as sorted tuples. The opposite of `flat_text`."""
    return tuple(
        tuple(value) if isinstance(value, list) else json.loads(value["json"]) if isinstance(value, dict) else value
        for value in recorded
    )


def _flat(value: Any) -> str:
    if value is None or value is True or value is False:
        return "null" if value is None else "true" if value else "false"
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, int) and -INTEGER_MAX <= value <= INTEGER_MAX:
        return int.__repr__(value)
    if isinstance(value, set | tuple):
        return _sorted_texts(frozenset(value))
    return _json(value)


def _json(value: Any) -> str:
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise InputRefused(
            "a value given to the rules is no JSON value and cannot be recorded", where="values"
        ) from None
    return f'{{"json":{quote(text)}}}'


@lru_cache(_FRAGMENTS_COUNT)
def _sorted_texts(value: frozenset[str]) -> str:
    if not all(isinstance(item, str) for item in value):
        raise InputRefused("a set given to the rules holds something else than texts", where="values")
    return "[" + ",".join([quote(item) for item in sorted(value)]) + "]"


@lru_cache(_FRAGMENTS_COUNT)
def _texts(items: tuple[str, ...]) -> str:
    return "[" + ",".join([quote(item) for item in items]) + "]"


@lru_cache(_FRAGMENTS_COUNT)
def _reasons(reasons: Reasons) -> str:
    return canonical([[rule, code, list(orders)] for rule, code, orders in reasons]).decode()


@lru_cache(_FRAGMENTS_COUNT)
def _tagged(tagged: Tagged) -> str:
    return '"tagged":' + canonical({name: list(values) for name, values in tagged}).decode() + ","


def _location(location: tuple[str | None, str | None, bool]) -> str:
    country, region, anonymiser = location
    flag = "true" if anonymiser else "false"
    return f'{{"anonymiser":{flag},"country":{_text(country)},"region":{_text(region)}}}'


def _revisions(revisions: tuple[tuple[str, str, int], ...]) -> str:
    return "[" + ",".join([f'["{register}",{quote(id)},{revision}]' for register, id, revision in revisions]) + "]"


def _text(text: str | None) -> str:
    return "null" if text is None else quote(text)


def _number(number: int | None) -> str:
    return "null" if number is None else int.__repr__(number)
