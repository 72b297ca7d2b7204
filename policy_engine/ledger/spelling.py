"""Numbers, hashes and base64 as text, each with exactly one spelling.

Rules: what is read here would be written by the same program as the same characters (no leading zero, no sign, no
missing padding, no stray bits in the last base64 character: RFC 4648 sections 3.3 to 3.5), so a proof has one form.
Left to others: what the values mean.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode

from policy_engine.ledger.refusals import EvidenceRefused, Reason

HASH_BYTES = 32
SIZE_MAX = 2**63 - 1
"""The largest tree size, index and time that other programs read (a signed 64-bit number)."""

_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")


def write_base64(data: bytes) -> str:
    """Return the base64 of bytes (RFC 4648 section 4)."""
    return b64encode(data).decode()


def read_base64(text: str, what: str) -> bytes:
    """Return the bytes that base64 spells. Raises `EvidenceRefused` (`MALFORMED`) for any other spelling of them."""
    try:
        data = b64decode(text, validate=True)
    except ValueError:
        data = None
    if data is None or b64encode(data).decode() != text:
        raise EvidenceRefused(Reason.MALFORMED, f"{what} is not base64 in its one spelling")
    return data


def read_hash(text: str, what: str) -> bytes:
    """Return the 32-byte hash that base64 spells. Raises `EvidenceRefused` (`MALFORMED`, `HASH_LENGTH`)."""
    data = read_base64(text, what)
    if len(data) != HASH_BYTES:
        raise EvidenceRefused(Reason.HASH_LENGTH, f"{what} is not a hash of {HASH_BYTES} bytes")
    return data


def read_decimal(text: str, what: str) -> int:
    """Return the number from 0 to `SIZE_MAX` that ASCII digits spell. Raises `EvidenceRefused` (`MALFORMED`)."""
    number = int(text) if _DECIMAL.fullmatch(text) else -1
    if not 0 <= number <= SIZE_MAX:
        raise EvidenceRefused(Reason.MALFORMED, f"{what} is not a decimal number without leading zeros below 2**63")
    return number
