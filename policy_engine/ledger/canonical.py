"""Canonical JSON: one byte string per value, as RFC 8785 writes it for the values that the log knows.

Rules:
- Values are text, whole numbers within 2**53 - 1 either way, true, false, null, lists, and objects with ASCII names.
  For these the standard library's encoder, with names sorted and no spaces, writes exactly RFC 8785.
- Everything else is refused: fractions (write them as text), larger numbers, names that are not ASCII (their order
  in UTF-16 differs from Python's), lone surrogates, and nesting deeper than `DEPTH_LEVELS`.
- Reading refuses whatever writing would not have written, so equal values have equal bytes and no others.
Left to others: what the members mean (`encoding`, `decisions`).
"""

from __future__ import annotations

import json
import re
from json.encoder import encode_basestring as quote
from typing import Any

from policy_engine.errors import InputRefused, VerificationFailed

INTEGER_MAX = 2**53 - 1
"""The largest whole number that RFC 8785 writes exactly, and the negative of the smallest."""

DEPTH_LEVELS = 64
"""Nesting beyond this is refused: the encoder recurses."""

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode

__all__ = ["DEPTH_LEVELS", "INTEGER_MAX", "canonical", "parse", "quote", "to_bytes"]


def canonical(value: object) -> bytes:
    """Return the canonical bytes of a value. Raises `InputRefused` for a value outside the rules above."""
    _check(value, "value", DEPTH_LEVELS)
    return to_bytes(_encode(value))


def to_bytes(text: str) -> bytes:
    """Return canonical text as UTF-8. Raises `InputRefused` for a lone surrogate, which UTF-8 cannot write."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InputRefused("text holds a lone surrogate; send well-formed Unicode", where="value") from None


def parse(data: bytes, what: str) -> Any:
    """Return the value that canonical bytes write; `what` names them in the error.

    Raises `VerificationFailed` for bytes that are not canonical JSON: other spacing or order, a repeated name, a
    fraction, or no JSON at all.
    """
    if _FLAT.fullmatch(data):
        members: dict[str, Any] = _read(data.decode("ascii"))
        if list(members) == sorted(members) and data.count(b'":') == len(members):
            return members
    try:
        text = data.decode()
        value = _decode(text)
        if not text.isascii() or text.count("[") + text.count("{") > DEPTH_LEVELS:
            _check(value, what, DEPTH_LEVELS)  # only then can a name or the nesting be wrong
        exact: bool = _encode(value) == text
    except (ValueError, RecursionError, InputRefused):
        exact = False
    if not exact:
        raise VerificationFailed(f"{what} is not canonical JSON")
    return value


def _lists_of(item: bytes) -> bytes:
    return rb"\[(?:%b(?:,%b)*)?\]" % (item, item)


_SCALAR = rb'(?:"[ !#-\[\]-~]*+"|[1-8][0-9]{0,15}+|9[0-9]{0,14}+|0|true|false|null)'
_ITEM = rb"(?:%b|%b)" % (_SCALAR, _lists_of(_SCALAR))
_MEMBER = rb'"[a-z_]++":(?:%b|%b)' % (_SCALAR, _lists_of(rb"(?:%b|%b)" % (_SCALAR, _lists_of(_ITEM))))
_FLAT = re.compile(rb"\{%b(?:,%b)*\}" % (_MEMBER, _MEMBER))
"""An object of plain ASCII texts, small whole numbers and lists of them, without a space: as most entries are.

Each value has one spelling here, so only the order of the names, and that none is there twice, is left to look at:
a quote and a colon side by side end a name, since no text holds a quote. Nothing else need be written again.
Only single characters are repeated possessively: before Python 3.11.5 a group that is (`)*+`) may match what it does
not (gh-106052).
"""
_read = json.JSONDecoder().decode


def _whole(text: str) -> int:
    value = int(text)
    if not -INTEGER_MAX <= value <= INTEGER_MAX:
        raise ValueError("too large")
    return value


def _no_fraction(text: str) -> float:
    raise ValueError("a fraction")


_decode = json.JSONDecoder(parse_int=_whole, parse_float=_no_fraction, parse_constant=_no_fraction).decode


def _check(value: object, where: str, levels: int) -> None:
    """Refuse what RFC 8785 and the standard encoder could write differently, naming the place and not the value."""
    if isinstance(value, str) or value is None or isinstance(value, bool):
        return
    if isinstance(value, int):
        if not -INTEGER_MAX <= value <= INTEGER_MAX:
            raise InputRefused("a whole number beyond 2**53 - 1 has no canonical form; write it as text", where=where)
        return
    if levels == 0:
        raise InputRefused(f"nested deeper than {DEPTH_LEVELS} levels", where="value")
    if isinstance(value, list | tuple):
        for place, item in enumerate(value):
            _check(item, f"{where}[{place}]", levels - 1)
    elif isinstance(value, dict):
        for name, member in value.items():
            if not isinstance(name, str) or not name.isascii():
                raise InputRefused("a member name that is not ASCII text has no place in the log", where=where)
            _check(member, f"{where}.member", levels - 1)
    elif isinstance(value, float):
        raise InputRefused("a fraction has no canonical form; write it as text", where=where)
    else:
        raise InputRefused("only text, whole numbers, true, false, null, lists and objects are recorded", where=where)
