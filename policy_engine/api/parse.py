"""Strict JSON for every body that enters by HTTP: bytes in, one object out, or `InputRefused`.

Rules of the room:
- UTF-8 without a byte order mark; no NaN, Infinity, number beyond a double, or lone surrogate (orjson refuses them).
- A member name stands once in its object, at every depth: two `subject` members would let a second subject through.
- Size, depth and number of members are bounded by `Limits`; the answer to a hostile body costs no more than reading it.
- Sentences name positions and limits, never what the caller wrote.
Left to others: what the members mean (`authzen`, the models of `routes`).
"""

from __future__ import annotations

import json
from typing import Any

import orjson

from policy_engine.errors import InputRefused, TooLarge
from policy_engine.limits import LIMITS, Limits

_SENTENCES = (
    ("byte order mark", "the body starts with a byte order mark; send plain UTF-8"),
    ("depth limit", "the body is nested too deeply"),
    ("surrogate in string", "a string holds half of a surrogate pair, which no text can be made of"),
    ("UTF-8", "the body is not valid UTF-8"),
    ("infinity", "a number is too large for a double"),
    ("end of data", "the JSON of the body ends too early"),
)


def parse_object(body: bytes, *, limits: Limits = LIMITS, bytes_max: int | None = None) -> dict[str, Any]:
    """Return the object that `body` holds.

    `bytes_max` replaces `limits.body_bytes` for documents that may be longer. Raises `TooLarge` for a body that is too
    long, `InputRefused` for everything else that is not one strict JSON object within the limits.
    """
    bound = limits.body_bytes if bytes_max is None else bytes_max
    if len(body) > bound:
        raise TooLarge(f"the body is longer than {bound} bytes")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InputRefused(_sentence(body, error)) from None
    if type(value) is not dict:
        raise InputRefused("the body must be a JSON object, in braces")
    members = _measure(value, limits)
    if _members_written(body, members) != members:
        _refuse_duplicates(body)
    return value


def _members_written(body: bytes, members: int) -> int:
    """Return at least the number of members that the text of a valid document writes: exactly that, if `members`.

    Each member written has one colon outside of strings, and orjson keeps the last member of a name. So as many colons
    as members kept leaves none for a second member of a name. Colons in strings are left out where that is cheap:
    without a backslash in the body, every other piece between quotation marks is a string.
    """
    colons = body.count(b":")
    if colons != members and b"\\" not in body:
        colons = b"".join(body.split(b'"')[::2]).count(b":")
    return colons


def _measure(value: dict[str, Any], limits: Limits) -> int:
    """Return the number of members at all depths, walking level by level so that the depth is known on the way."""
    members = 0
    depth = 0
    level: list[Any] = [value]
    while level:
        depth += 1
        if depth > limits.json_depth_levels:
            raise InputRefused(f"the body is nested deeper than {limits.json_depth_levels} levels")
        below: list[Any] = []
        for node in level:
            if type(node) is dict:
                members += len(node)
                node = node.values()
            for child in node:
                if type(child) is dict or type(child) is list:
                    below.append(child)
        if members > limits.json_members_count:
            raise InputRefused(f"the body has more than {limits.json_members_count} members")
        level = below
    return members


def _refuse_duplicates(body: bytes) -> None:
    """Raise `InputRefused` if any object of the (already valid, shallow) body names a member twice."""
    json.loads(body, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise InputRefused("an object of the body names one of its members twice; each name may stand once")
    return members


def _sentence(body: bytes, error: orjson.JSONDecodeError) -> str:
    """Return one clear sentence for what orjson refused."""
    if not body.strip():
        return "the body is empty; send a JSON object"
    for sign, sentence in _SENTENCES:
        if sign in error.msg:
            return sentence
    return f"the body is not valid JSON at character {error.pos}"
