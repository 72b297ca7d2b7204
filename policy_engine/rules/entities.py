"""`entities.jsonl` of a plain Casbin folder: attributes of subjects and resources, one JSON object a line.

Rules of the room: `{"type": "user", "id": "alice", "properties": {"role": "admin"}}`; unknown and duplicate members,
and an entity that stands twice, are refused with their line. Left to others: who wins over whom (`core.plain`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isinf
from typing import Any, Final

from policy_engine.errors import LoadRefused
from policy_engine.limits import Limits
from policy_engine.rules.sources import decode

ENTITIES_FILE: Final = "entities.jsonl"
_MEMBERS: Final = frozenset(("type", "id", "properties"))

Entities = Mapping[tuple[str, str], Mapping[str, Any]]
"""Properties by type and id."""


def read_entities(content: bytes, limits: Limits) -> Entities:
    """Return the properties of each entity, in order of the file. Raises `LoadRefused` with file, line and a fix."""
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for number, line in enumerate(decode(ENTITIES_FILE, content, limits.policy_bytes).split("\n"), 1):
        where = f"{ENTITIES_FILE}:{number}"
        if len(line) > limits.policy_line_characters:
            most = limits.policy_line_characters
            raise LoadRefused(f"the line is longer than {most} characters (policy_line_characters)", where=where)
        if not line.strip():
            continue
        key, properties = _entity(line, where, limits)
        if key in found:
            raise LoadRefused("an entity of this type and id stands on an earlier line; keep one of them", where=where)
        found[key] = properties
    return found


def _entity(line: str, where: str, limits: Limits) -> tuple[tuple[str, str], Mapping[str, Any]]:
    def number(text: str) -> float:
        found = float(text)
        if isinf(found):  # no log could hold it, so that each decision about the entity would be denied as an outage
            raise LoadRefused("a number is larger than JSON readers hold (1.8e308); write a smaller one", where=where)
        return found

    try:
        value = json.loads(line, object_pairs_hook=_once, parse_constant=_refuse, parse_float=number)
        line.encode()
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        message = "the line is no JSON object with unique names; write one object a line"
        raise LoadRefused(message, where=where) from None
    if not isinstance(value, dict) or value.keys() - _MEMBERS:
        raise LoadRefused("an entity is an object of type, id and properties; correct it", where=where)
    kind, id, properties = value.get("type"), value.get("id"), value.get("properties", {})
    for text in (kind, id):
        if not isinstance(text, str) or not 0 < len(text) <= limits.id_characters:
            raise LoadRefused(f"type and id are texts of 1 to {limits.id_characters} characters", where=where)
    if not isinstance(properties, dict):
        raise LoadRefused("the properties are an object; correct it", where=where)
    return (str(kind), str(id)), properties


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate name")
    return found


def _refuse(constant: str) -> Any:
    raise ValueError("no JSON number")
