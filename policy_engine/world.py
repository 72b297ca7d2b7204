"""Reads a folder of sample persons, tenants and key holders (`policies/world/`) into register documents.

Rules of the room: JSON Lines, one object a line, ids unique, unknown members and duplicate names refused with file
and line; a date written `-30d` or `+335d` counts from the instant of loading, so that a sample never goes stale on
the shelf. Every fact is stamped with the source `sample-world`. Left to others: writing the registers and making the
keys (`bootstrap`), what the facts mean (`core.derive`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policy_engine.core.decision import PrincipalKind
from policy_engine.core.factparse import (
    items,
    members,
    optional_instant,
    optional_text,
    parse_person,
    parse_tenant,
    storable,
    text,
)
from policy_engine.core.instants import DAY, format_instant
from policy_engine.errors import InputRefused, LoadRefused
from policy_engine.limits import LIMITS

SOURCE = "sample-world"
"""Stamped as `source` and `verifier` of every fact that was loaded from a world."""

_RELATIVE = re.compile(r"[+-](\d{1,5})d")
_PROVENANCE = ("method", "assurance", "verified_at", "expires_at", "reference")
_DATES = frozenset(("acquired", "verified_on", "expires_on"))
_KEY = frozenset(("label", "principal", "scopes", "tenants", "supplies"))


@dataclass(frozen=True, slots=True)
class SampleKey:
    """A key to make for a sample principal; the secret is made by whoever loads the world, never read from it."""

    label: str
    id: str
    kind: PrincipalKind
    scopes: tuple[str, ...]
    tenants: tuple[str, ...] | None
    supplies: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class World:
    """Register documents by id, and the keys to make, in the order of the files."""

    persons: Mapping[str, Mapping[str, Any]]
    tenants: Mapping[str, Mapping[str, Any]]
    keys: tuple[SampleKey, ...]


def load_world(folder: Path, at: int) -> World:
    """Return the world in a folder as it stands when loaded at an instant.

    `persons.jsonl` and `tenants.jsonl` must be there; `keys.jsonl` may be absent. Raises `LoadRefused` naming file
    and line. A person may belong only to tenants of the same folder.
    """
    tenants = _facts(folder / "tenants.jsonl", at, parse_tenant)
    persons = _facts(folder / "persons.jsonl", at, parse_person)
    for id, document in persons.items():
        strangers = set(document["facts"].get("tenants", {"value": ()})["value"]) - tenants.keys()
        if strangers:
            raise LoadRefused(
                f"person `{id}` belongs to a tenant that tenants.jsonl does not name; add the tenant or mend the id",
                where=str(folder / "persons.jsonl"),
            )
    keys_file = folder / "keys.jsonl"
    keys = tuple(_key(value, where) for value, where in _lines(keys_file)) if keys_file.exists() else ()
    return World(persons, tenants, keys)


def _facts(file: Path, at: int, check: Callable[[str, Mapping[str, Any], str], object]) -> dict[str, dict[str, Any]]:
    """Return the documents of one file; `check` is the strict reader that the registers use as well."""
    documents: dict[str, dict[str, Any]] = {}
    for value, where in _lines(file):
        with _located(where):
            if not isinstance(value, dict):
                raise InputRefused("must be an object")
            id = text(value.pop("id", None), "id")
            stamp = _stamp(value.pop("provenance", {}), at)
            facts: dict[str, Any] = storable(_dated(value, at))
            check(id, facts, id)
        if id in documents:
            raise LoadRefused(f"id `{id}` is there twice; keep one line of it", where=where)
        documents[id] = {"facts": {name: {"value": item, **stamp} for name, item in facts.items()}}
    return documents


def _stamp(value: Any, at: int) -> dict[str, Any]:
    """Return the provenance of a line: what it says of method and dates, and the world as source and verifier."""
    known = members(value, frozenset(_PROVENANCE), "provenance")
    stamp: dict[str, Any] = {"source": SOURCE, "verifier": SOURCE}
    for name in _PROVENANCE:
        given = optional_text(known.get(name), f"provenance.{name}")
        if name.endswith("_at") and given is not None:
            moved = _shift(given)
            instant = optional_instant(given, f"provenance.{name}") if moved is None else at + moved
            given = None if instant is None else format_instant(instant)
        stamp[name] = given
    return stamp


def _dated(value: Any, at: int) -> Any:
    """Return the value with each relative date in it as the calendar date it means, in whole days from `at`."""
    if isinstance(value, list):
        return [_dated(item, at) for item in value]
    if not isinstance(value, dict):
        return value
    dated = {name: _dated(item, at) for name, item in value.items()}
    for name in _DATES & dated.keys():
        moved = _shift(dated[name])
        if moved is not None:
            dated[name] = format_instant(at + moved)[:10]
    return dated


def _shift(value: Any) -> int | None:
    if not isinstance(value, str) or not _RELATIVE.fullmatch(value):
        return None
    return int(value[:-1]) * DAY


def _key(value: Any, where: str) -> SampleKey:
    with _located(where):
        known = members(value, _KEY, "key")
        principal = members(known.get("principal"), frozenset(("id", "kind")), "principal")
        kind = principal.get("kind")
        if kind not in tuple(PrincipalKind):
            raise InputRefused("must be person or service", where="principal.kind")
        tenants = known.get("tenants")
        return SampleKey(
            label=text(known.get("label"), "label"),
            id=text(principal.get("id"), "principal.id"),
            kind=PrincipalKind(kind),
            scopes=items(known.get("scopes"), text, "scopes"),
            tenants=None if tenants is None else items(tenants, text, "tenants"),
            supplies=items(known.get("supplies", []), text, "supplies"),
        )


@contextmanager
def _located(where: str) -> Iterator[None]:
    """Turn a refusal of a value into a refusal of the file and line it stands in."""
    try:
        yield
    except InputRefused as refused:
        raise LoadRefused(str(refused), where=where) from None


def _lines(file: Path) -> Iterator[tuple[Any, str]]:
    """Yield each line's value with `file:line`; blank lines are passed over."""
    try:
        if file.stat().st_size > LIMITS.pack_bytes:
            raise LoadRefused(f"is larger than {LIMITS.pack_bytes} bytes", where=str(file))
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError):
        raise LoadRefused(
            "cannot be read as UTF-8 text; a world folder has persons and tenants", where=str(file)
        ) from None
    for number, line in enumerate(lines, start=1):
        where = f"{file}:{number}"
        if not line.strip():
            continue
        try:
            yield strict_json(line), where
        except ValueError:
            raise LoadRefused("is not one JSON object without duplicate names", where=where) from None


def strict_json(text: str) -> Any:
    """Return the value of a JSON text. Raises `ValueError` for duplicate names, `NaN`, and nesting without end."""
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate name")
    return found


def _refuse(constant: str) -> Any:
    raise ValueError("not a JSON number")
