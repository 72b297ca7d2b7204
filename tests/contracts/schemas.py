"""As much of JSON Schema as our own OpenAPI document uses, to compare answers with it.

Whatever keyword it does not know it refuses, so that no part of a schema is passed over in silence.
"""

from __future__ import annotations

from typing import Any

TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}
WORDS = {"title", "description", "default"}
KNOWN = {"$ref", "anyOf", "type", "properties", "required", "additionalProperties", "items", "enum", "const"}


def problems_of(value: Any, schema: Any, document: Any, where: str = "$") -> list[str]:
    """Return what is wrong with a value under a schema; nothing when it fits."""
    if schema is True or schema == {}:
        return []
    unknown = schema.keys() - KNOWN - WORDS
    if unknown:
        return [f"{where}: the schema uses {sorted(unknown)}, which this reader does not know"]
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/components/schemas/")
        return problems_of(value, document["components"]["schemas"][name], document, where)
    if "anyOf" in schema:
        tried = [problems_of(value, each, document, where) for each in schema["anyOf"]]
        return [] if [] in tried else [f"{where}: fits none of {tried}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{where}: is none of {schema['enum']}"]
    if "const" in schema and value != schema["const"]:
        return [f"{where}: is not {schema['const']}"]
    kind = schema.get("type")
    if kind and (not isinstance(value, TYPES[kind]) or (isinstance(value, bool) and kind not in ("boolean",))):
        return [f"{where}: is no {kind}"]
    if kind == "array":
        rule = schema.get("items", True)
        return [each for n, item in enumerate(value) for each in problems_of(item, rule, document, f"{where}[{n}]")]
    return _members(value, schema, document, where) if kind == "object" else []


def _members(value: dict[str, Any], schema: Any, document: Any, where: str) -> list[str]:
    found = [f"{where}: lacks {name}" for name in schema.get("required", []) if name not in value]
    properties = schema.get("properties", {})
    rest = schema.get("additionalProperties", True)
    for name, member in value.items():
        if name in properties:
            found += problems_of(member, properties[name], document, f"{where}.{name}")
        elif rest is False:
            found.append(f"{where}: has {name}, which the schema does not")
        elif rest is not True:
            found += problems_of(member, rest, document, f"{where}.{name}")
    return found
