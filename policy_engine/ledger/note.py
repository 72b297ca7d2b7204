"""Signed notes: text, an empty line, and signature lines (C2SP signed-note; the `note` package of Go).

Rules of the room:
- The text ends in a newline; the *last* empty line parts it from the lines `— <name> base64(key id || signature)`.
- A key is its name and its four-byte id together: SHA-256(name || 0x0A || type || public key), the first four bytes.
  Types known here: 0x01 Ed25519 over the text, and 0x04 the timestamped cosignature of C2SP tlog-cosignature, "Ed25519
  signed message".
- A line of an unknown key is ignored, also under a known name. *Every* line of a known key must be good, or the note is
  refused whole; at least one must be there. `open_note` is the only way to a text that somebody signed.
- Strict reading: UTF-8, no control character but newline, one spelling of base64, limits before any work.
- Keys come in as parameters; a verifier key (`name+hash+base64`) is pinned by whoever checks.
Left to others: what the text says (`checkpoint`, `receipts`), and where private keys lie.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from policy_engine.errors import InputRefused
from policy_engine.ledger.refusals import EvidenceRefused, Reason
from policy_engine.ledger.spelling import SIZE_MAX, read_base64, write_base64
from policy_engine.limits import LIMITS, Limits

ED25519 = 0x01
COSIGNATURE = 0x04
"""Signature types (C2SP signed-note, "Signature types")."""

KEY_BYTES = 32
KEY_ID_BYTES = 4
SIGNATURE_BYTES = 64
TIME_BYTES = 8

_DASH = "— "
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_HEX_ID = re.compile(r"[0-9a-f]{8}")
_PRIVATE = "PRIVATE+KEY+"


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key with its name and signature type: whom to believe, and for which kind of statement.

    Raises `EvidenceRefused` (`MALFORMED`) for a bad name, an unknown type, or a public key of the wrong length.
    """

    name: str
    public: bytes
    algorithm: int = ED25519

    def __post_init__(self) -> None:
        _check_name(self.name)
        if self.algorithm not in (ED25519, COSIGNATURE) or len(self.public) != KEY_BYTES:
            raise EvidenceRefused(Reason.MALFORMED, "the verifier key is of a type or length that is not known here")

    @property
    def id(self) -> bytes:
        """Return the four bytes by which signature lines name this key beside its name."""
        return sha256(self.name.encode() + b"\n" + bytes((self.algorithm,)) + self.public).digest()[:KEY_ID_BYTES]

    def __str__(self) -> str:
        """Return the verifier key text, `name+hash+base64(type || key)`."""
        return f"{self.name}+{self.id.hex()}+{write_base64(bytes((self.algorithm,)) + self.public)}"

    def verifies(self, text: str, payload: bytes) -> bool:
        """Return whether the part of a signature line behind the key id is this key's for this note text."""
        message, signature = text.encode(), payload
        if self.algorithm == COSIGNATURE:
            if len(payload) != TIME_BYTES + SIGNATURE_BYTES:
                return False
            time = int.from_bytes(payload[:TIME_BYTES], "big")
            message, signature = cosigned_message(text, time), payload[TIME_BYTES:]
            if time > SIZE_MAX:
                return False
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


class Signer(Protocol):
    """Whoever signs: a key in memory (`Ed25519Signer`), or a KMS behind an adapter of its own."""

    @property
    def key(self) -> VerifierKey:
        """Return the key that verifies what this signer signs."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte Ed25519 signature (RFC 8032) of the message."""
        ...


class Ed25519Signer:
    """A private key held in memory. `text` is the only way out for it, and `repr` shows the public key."""

    def __init__(self, name: str, seed: bytes, algorithm: int = ED25519) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.key = VerifierKey(name, self._private.public_key().public_bytes_raw(), algorithm)

    def __repr__(self) -> str:
        return f"Ed25519Signer({self.key})"

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature; the same message gives the same signature."""
        return self._private.sign(message)

    def text(self) -> str:
        """Return the private key as Go's `note` writes it, `PRIVATE+KEY+name+hash+base64(type || seed)`."""
        seed = bytes((self.key.algorithm,)) + self._private.private_bytes_raw()
        return f"{_PRIVATE}{self.key.name}+{self.key.id.hex()}+{write_base64(seed)}"


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line; `payload` is what follows the key id."""

    name: str
    key_id: bytes
    payload: bytes

    def line(self) -> str:
        """Return the line with its newline."""
        return f"{_DASH}{self.name} {write_base64(self.key_id + self.payload)}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A note as it lies there: *nobody has checked a signature*. Use `open_note` for what somebody signed."""

    text: str
    signatures: tuple[Signature, ...]

    def format(self) -> bytes:
        """Return the bytes of the note."""
        return (self.text + "\n" + "".join(signature.line() for signature in self.signatures)).encode()


@dataclass(frozen=True, slots=True)
class SignedNote:
    """A text, and the known keys that signed it with the signature of each. There is at least one."""

    text: str
    signed_by: tuple[tuple[VerifierKey, Signature], ...]


def parse_key(text: str) -> VerifierKey:
    """Return the key of a verifier key text. Raises `EvidenceRefused` (`MALFORMED`, `KEY_ID` for another's id)."""
    name, id, data = _split_key(text, "the verifier key")
    key = VerifierKey(name, data[1:], data[0])
    if key.id.hex() != id:
        raise EvidenceRefused(Reason.KEY_ID, "the id in the verifier key is not that of its name and public key")
    return key


def parse_signer(text: str) -> Ed25519Signer:
    """Return the signer of a private key text. Raises as `parse_key` does; no message holds any part of the text."""
    if not text.startswith(_PRIVATE):
        raise EvidenceRefused(Reason.MALFORMED, f"a private key text begins with {_PRIVATE}")
    name, id, data = _split_key(text.removeprefix(_PRIVATE), "the private key")
    if len(data) != 1 + KEY_BYTES:
        raise EvidenceRefused(Reason.MALFORMED, "the private key is not a type and 32 bytes")
    signer = Ed25519Signer(name, data[1:], data[0])
    if signer.key.id.hex() != id:
        raise EvidenceRefused(Reason.KEY_ID, "the id in the private key text is not that of its name and key")
    return signer


def sign_note(text: str, signers: Iterable[Signer]) -> bytes:
    """Return the note of a text signed by Ed25519 signers, in order (cosigners sign with `checkpoint.cosign`).

    Raises `InputRefused` for a text that no note can hold, for no signer, and for a signer of another type.
    """
    if not text.endswith("\n") or _CONTROL.search(text) or not _is_unicode(text):
        raise InputRefused("the text of a note ends in a newline and holds no other control character", where="note")
    lines = []
    for signer in signers:
        if signer.key.algorithm != ED25519:
            raise InputRefused("a cosigner's key signs checkpoints with a time, never a plain note", where="note")
        lines.append(Signature(signer.key.name, signer.key.id, signer.sign(text.encode())))
    if not lines:
        raise InputRefused("a note needs at least one signer", where="note")
    return Note(text, tuple(lines)).format()


def cosigned_message(text: str, time_seconds: int) -> bytes:
    """Return the bytes that a cosigner signs for a checkpoint text at a POSIX time (C2SP tlog-cosignature)."""
    return f"cosignature/v1\ntime {time_seconds}\n{text}".encode()


def parse_note(data: bytes, limits: Limits = LIMITS) -> Note:
    """Return a note without checking any signature. Raises `EvidenceRefused` (`TOO_LARGE`, `MALFORMED`)."""
    if len(data) > limits.note_bytes:
        raise EvidenceRefused(Reason.TOO_LARGE, f"the note has more than {limits.note_bytes} bytes")
    try:
        whole = data.decode()
    except UnicodeDecodeError:
        raise EvidenceRefused(Reason.MALFORMED, "the note is not UTF-8") from None
    if _CONTROL.search(whole):
        raise EvidenceRefused(Reason.MALFORMED, "the note holds a control character other than newline")
    end = whole.rfind("\n\n")
    if end < 0 or not whole.endswith("\n") or end + 2 == len(whole):
        raise EvidenceRefused(Reason.MALFORMED, "the note is not a text, an empty line and signature lines")
    lines = whole[end + 2 : -1].split("\n")
    if len(lines) > limits.note_signatures_count:
        raise EvidenceRefused(
            Reason.TOO_LARGE, f"the note has more than {limits.note_signatures_count} signature lines"
        )
    return Note(whole[: end + 1], tuple(parse_signature(line) for line in lines))


def parse_signature(line: str) -> Signature:
    """Return the signature of a line without its newline. Raises `EvidenceRefused` (`MALFORMED`)."""
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not space:
        raise EvidenceRefused(Reason.MALFORMED, "a signature line is not an em dash, a key name and base64")
    _check_name(name)
    data = read_base64(encoded, "a signature")
    if len(data) <= KEY_ID_BYTES:
        raise EvidenceRefused(Reason.MALFORMED, "a signature line holds no signature behind the key id")
    return Signature(name, data[:KEY_ID_BYTES], data[KEY_ID_BYTES:])


def open_note(data: bytes, keys: Sequence[VerifierKey], limits: Limits = LIMITS) -> SignedNote:
    """Return the text that known keys signed.

    Raises `EvidenceRefused`: what `parse_note` raises, `BAD_SIGNATURE` when any line of a known key is not good, and
    `NOT_SIGNED` when no line is of a known key.
    """
    note = parse_note(data, limits)
    known = {(key.name, key.id): key for key in keys}
    signed = []
    for signature in note.signatures:
        key = known.get((signature.name, signature.key_id))
        if key is None:
            continue
        if not key.verifies(note.text, signature.payload):
            raise EvidenceRefused(Reason.BAD_SIGNATURE, "a known key's signature is not of this text")
        signed.append((key, signature))
    if not signed:
        raise EvidenceRefused(Reason.NOT_SIGNED, "no known key signed the note")
    return SignedNote(note.text, tuple(signed))


def _split_key(text: str, what: str) -> tuple[str, str, bytes]:
    parts = text.split("+", 2)  # base64 may hold a plus; a name may not
    if len(parts) != 3 or not _HEX_ID.fullmatch(parts[1]):
        raise EvidenceRefused(Reason.MALFORMED, f"{what} is not name+hash+base64")
    data = read_base64(parts[2], what)
    if not data:
        raise EvidenceRefused(Reason.MALFORMED, f"{what} holds no key")
    return parts[0], parts[1], data


def _check_name(name: str) -> None:
    """Refuse a key name that is empty, too long, not UTF-8, or holds a space, a plus or a control character."""
    bad = not name or "+" in name or any(letter.isspace() for letter in name) or _CONTROL.search(name)
    if bad or not _is_unicode(name):
        raise EvidenceRefused(Reason.MALFORMED, "a key name is empty or holds a space, a plus or a control character")
    if len(name.encode()) > LIMITS.key_name_bytes:
        raise EvidenceRefused(Reason.TOO_LARGE, f"a key name has more than {LIMITS.key_name_bytes} bytes")


def _is_unicode(text: str) -> bool:
    """Return whether UTF-8 can write a text (a lone surrogate it cannot)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
