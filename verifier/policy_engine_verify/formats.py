"""Bytes that have one spelling each: canonical JSON, base64, keys, signed notes, checkpoints, and cosignatures.

Written from the specifications (RFC 8785, RFC 4648, C2SP signed-note, tlog-checkpoint, tlog-cosignature). Whatever is
read here is returned, or refused with one sentence. Nothing is repaired, and no value of the input is repeated.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from policy_engine_verify import limits

EMPTY_ROOT = sha256(b"").digest()
LOG, WITNESS = 1, 4
"""Signature types: Ed25519 over the text, and the timestamped cosignature."""


class Refused(Exception):
    """What was given is not what it should be: one clear sentence."""


def _no(text: str) -> Any:
    raise ValueError(text)


def _whole(text: str) -> int:
    value = int(text)
    return value if abs(value) <= limits.WHOLE_NUMBER_MAX else _no("too large")


_read = json.JSONDecoder(parse_int=_whole, parse_float=_no, parse_constant=_no).decode
_write = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


def canonical(data: bytes, what: str) -> Any:
    """Return the value of canonical JSON: names in ASCII and sorted, whole numbers, no spaces, one spelling."""
    try:
        text = data.decode()
        value = _read(text)
        flat = text.isascii() and text.count("[") + text.count("{") <= limits.NESTING_LEVELS
        if _write(value) == text and (flat or _is_plain(value, limits.NESTING_LEVELS)):
            return value
    except (ValueError, RecursionError):
        pass  # refused below
    raise Refused(f"{what} is not canonical JSON")


def written(value: Any) -> bytes:
    """Return the canonical bytes of a value. Raises `ValueError` for a lone surrogate."""
    return _write(value).encode()


def _is_plain(value: Any, levels: int) -> bool:
    """Return whether names are ASCII and the nesting has an end."""
    if not isinstance(value, (dict, list)):
        return True
    named = isinstance(value, list) or all(name.isascii() for name in value)
    parts = value.values() if isinstance(value, dict) else value
    return levels > 0 and named and all(_is_plain(part, levels - 1) for part in parts)


def base64(text: str, what: str, size: int | None = None) -> bytes:
    """Return the bytes that base64 spells in its one way, `size` of them where that is given."""
    try:
        data = b64decode(text, validate=True)
    except ValueError:
        data = None
    if data is None or b64encode(data).decode() != text or (size is not None and len(data) != size):
        raise Refused(f"{what} is not base64{'' if size is None else f' of {size} bytes'}")
    return data


def decimal(text: str, what: str) -> int:
    """Return the number below 2**63 that digits without leading zeros spell."""
    if not re.fullmatch("0|[1-9][0-9]{0,18}", text) or int(text) > limits.SIZE_MAX:
        raise Refused(f"{what} is not a decimal number below 2**63")
    return int(text)


@dataclass(frozen=True)
class Key:
    """A public key with its name and signature type."""

    name: str
    kind: int
    public: bytes

    @property
    def id(self) -> bytes:
        """Return the four bytes that signature lines name it by."""
        return sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public).digest()[:4]

    def signed(self, text: str, payload: bytes) -> bool:
        """Return whether what follows the key id in a signature line is this key's for a text."""
        message = text.encode()
        if self.kind == WITNESS:
            time, payload = int.from_bytes(payload[:8], "big"), payload[8:]
            message = f"cosignature/v1\ntime {time}\n".encode() + message
            if time > limits.SIZE_MAX:
                return False
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(payload, message)
        except (InvalidSignature, ValueError):
            return False
        return True


def key(text: str) -> Key:
    """Return the key of a verifier key text, `name+id+base64(type || public key)`."""
    name, _, rest = text.partition("+")
    id, _, encoded = rest.partition("+")
    data = base64(encoded, "the last part of the key", 33)
    _check_name(name)
    found = Key(name, data[0], data[1:])
    if data[0] not in (LOG, WITNESS) or found.id.hex() != id:
        raise Refused("the key is of an unknown type, or its id is not that of its name and public key")
    return found


def _check_name(name: str) -> None:
    try:
        long = len(name.encode()) > limits.KEY_NAME_BYTES
    except UnicodeEncodeError:
        long = True
    if not name or long or "+" in name or any(letter.isspace() or letter < " " for letter in name):
        raise Refused("a key name is empty, too long, or holds a space, a plus or a control character")


Signatures = list[tuple[str, bytes, bytes]]


def note(data: bytes) -> tuple[str, Signatures]:
    """Return the text of a note and its signatures `(name, key id, payload)`: nobody has checked them."""
    if len(data) > limits.NOTE_BYTES:
        raise Refused(f"the signed note is longer than {limits.NOTE_BYTES} bytes")
    try:
        whole = data.decode()
    except UnicodeDecodeError:
        raise Refused("the signed note is not UTF-8") from None
    text, parted, tail = whole.rpartition("\n\n")
    if not parted or not tail.endswith("\n") or any(c < " " and c != "\n" for c in whole):
        raise Refused("the signed note is not a text, an empty line and signature lines")
    lines = tail[:-1].split("\n")
    if len(lines) > limits.NOTE_SIGNATURES_COUNT:
        raise Refused(f"the signed note has over {limits.NOTE_SIGNATURES_COUNT} signature lines")
    return text + "\n", [_signature(line) for line in lines]


def _signature(line: str) -> tuple[str, bytes, bytes]:
    name, space, encoded = line.removeprefix("\u2014 ").partition(" ")
    if not line.startswith("\u2014 ") or not space:
        raise Refused("a signature line is not a dash, a key name and base64")
    _check_name(name)
    data = base64(encoded, "a signature")
    if len(data) <= 4:
        raise Refused("a signature line holds no signature")
    return name, data[:4], data[4:]


def signers(data: bytes, keys: list[Key], what: str) -> tuple[str, list[tuple[Key, bytes]]]:
    """Return the text of a note, and which of the keys signed it. One bad line of a known key refuses it whole."""
    text, signatures = note(data)
    known = {(each.name, each.id): each for each in keys}
    found = [(known[name, id], payload) for name, id, payload in signatures if (name, id) in known]
    if not all(each.signed(text, payload) for each, payload in found):
        raise Refused(f"{what} was changed after it was signed, or its signature is forged")
    if not found:
        raise Refused(f"{what} is not signed by the key that was given for it")
    return text, found


@dataclass(frozen=True)
class Checkpoint:
    """The tree of a log at one size, as a log key signed it, with `(name, POSIX time)` of each known witness."""

    origin: str
    size: int
    root: bytes
    witnesses: tuple[tuple[str, int], ...]


def checkpoint(data: bytes, log: Key, witnesses: list[Key], quorum: int, what: str) -> Checkpoint:
    """Return the checkpoint that a log key signed and at least `quorum` different known witnesses cosigned."""
    text, found = signers(data, [log, *witnesses], what)
    if log.kind != LOG or log not in [each for each, _ in found]:
        raise Refused(f"{what} is not signed by the key of the log")
    lines = text[:-1].split("\n")
    if not 3 <= len(lines) <= limits.CHECKPOINT_LINES_COUNT or not all(lines):
        raise Refused(f"{what} is not an origin, a size and a root")
    size, root = decimal(lines[1], "the size"), base64(lines[2], "the root", 32)
    if lines[0] != log.name or (size == 0 and root != EMPTY_ROOT):
        raise Refused(f"{what} is of another log than the key, or has an impossible root")
    seen = {each: int.from_bytes(payload[:8], "big") for each, payload in found if each.kind == WITNESS}
    if len({each.public for each in seen}) < quorum:
        raise Refused(f"{what} is cosigned by fewer than {quorum} of the witnesses that were given")
    return Checkpoint(lines[0], size, root, tuple((each.name, time) for each, time in seen.items()))
