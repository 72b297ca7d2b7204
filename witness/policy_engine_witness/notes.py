"""What a witness reads and writes: keys, checkpoints, add-checkpoint requests and cosignatures (C2SP formats).

Rules: each text has one spelling, and any other is refused with 400. `read_request` checks no signature;
`Request.check_signature` does. The private key leaves this module in the text of its own file alone.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from policy_engine_witness.consistency import EMPTY_ROOT, PROOF_HASHES_MAX, SIZE_MAX

LOG_KEY = 0x01
COSIGNER_KEY = 0x04
"""Types of keys (C2SP signed-note): Ed25519 over the text, and Ed25519 cosignatures with a time."""

SIGNATURE_LINES_MAX = 64
CHECKPOINT_LINES_MAX = 32
NAME_BYTES_MAX = 255

_PRIVATE = "PRIVATE+KEY+"
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")


class Refused(Exception):
    """A request that is answered with another status than 200; `size` is that of the record for 409."""

    def __init__(self, status: int, sentence: str, size: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.size = size


@dataclass(frozen=True, slots=True)
class Key:
    """A public key by its name and type."""

    name: str
    type: int
    public: bytes

    @property
    def id(self) -> bytes:
        """Return the four bytes that stand for this key in a signature line."""
        return sha256(self.name.encode() + b"\n" + bytes([self.type]) + self.public).digest()[:4]

    def __str__(self) -> str:
        """Return the verifier key text, as configurations hold it."""
        return f"{self.name}+{self.id.hex()}+{_base64(bytes([self.type]) + self.public)}"


class Cosigner:
    """The witness's private key."""

    def __init__(self, name: str, seed: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.key = Key(name, COSIGNER_KEY, self._private.public_key().public_bytes_raw())

    def cosign(self, text: str, seconds: int) -> str:
        """Return the signature line for a checkpoint text at a POSIX time (C2SP tlog-cosignature, Ed25519)."""
        signature = self._private.sign(f"cosignature/v1\ntime {seconds}\n{text}".encode())
        return f"— {self.key.name} {_base64(self.key.id + seconds.to_bytes(8, 'big') + signature)}\n"

    def private_text(self) -> str:
        """Return the private key as its file holds it (the form of Go's `note` package)."""
        seed = bytes([COSIGNER_KEY]) + self._private.private_bytes_raw()
        return f"{_PRIVATE}{self.key.name}+{self.key.id.hex()}+{_base64(seed)}"


@dataclass(frozen=True, slots=True)
class Request:
    """An add-checkpoint request; *nobody has checked a signature yet*."""

    old_size: int
    proof: tuple[bytes, ...]
    text: str
    signatures: tuple[tuple[str, bytes], ...]
    """Name, and key id with what follows it."""
    origin: str
    size: int
    root: bytes

    def check_signature(self, keys: Sequence[Key]) -> str:
        """Return the good signature lines, one of each known key. Raises `Refused` (403): one is bad, or there is none.

        Whoever has seen a checkpoint can send its line again and again; a record full of them nobody would read.
        """
        known = {(key.name, key.id): key for key in keys if key.type == LOG_KEY}
        good: dict[Key, str] = {}
        for name, data in self.signatures:
            key = known.get((name, data[:4]))
            if key is None:
                continue
            try:
                Ed25519PublicKey.from_public_bytes(key.public).verify(data[4:], self.text.encode())
            except (InvalidSignature, ValueError):
                raise Refused(403, "a signature of a known key is not of this checkpoint") from None
            good.setdefault(key, f"— {name} {_base64(data)}\n")
        if not good:
            raise Refused(403, "no key that this witness knows for the log signed the checkpoint")
        return "".join(good.values())


def read_request(body: bytes) -> Request:
    """Return an add-checkpoint request. Raises `Refused`: 400, or 422 for the root of an empty tree that is none."""
    try:
        whole = body.decode()
    except UnicodeDecodeError:
        raise Refused(400, "the body is not UTF-8") from None
    head, gap, note = whole.partition("\n\n")
    old, *lines = head.split("\n")
    if _CONTROL.search(whole) or not gap or not old.startswith("old ") or not whole.endswith("\n"):
        raise Refused(400, "the body is not an old size, proof lines, an empty line and a checkpoint")
    if len(lines) > PROOF_HASHES_MAX:
        raise Refused(400, f"a consistency proof has at most {PROOF_HASHES_MAX} lines")
    proof = tuple(_hash(line) for line in lines)
    text, gap, signed = note.rpartition("\n\n")
    if not gap or not signed:
        raise Refused(400, "the checkpoint is not a text, an empty line and signature lines")
    signatures = signed[:-1].split("\n")
    members = text.split("\n")
    if not 3 <= len(members) <= CHECKPOINT_LINES_MAX or not all(members) or len(signatures) > SIGNATURE_LINES_MAX:
        raise Refused(400, "the checkpoint has too few, empty or too many lines")
    size, root = _number(members[1]), _hash(members[2])
    if size == 0 and root != EMPTY_ROOT:
        raise Refused(422, "the root of an empty tree is the hash of nothing")
    read = tuple(_signature(line) for line in signatures)
    return Request(_number(old[4:]), proof, text + "\n", read, members[0], size, root)


def read_key(text: str) -> Key:
    """Return the key of a verifier key text. Raises `ValueError`."""
    name, type, public = _split_key(text)
    return Key(name, type, public)


def read_cosigner(text: str) -> Cosigner:
    """Return the cosigner of a private key text. Raises `ValueError`; no message holds any part of the text."""
    name, type, seed = _split_key(text.removeprefix(_PRIVATE), private=True)
    if not text.startswith(_PRIVATE) or type != COSIGNER_KEY:
        raise ValueError("the file holds no private key of a cosigner")
    return Cosigner(name, seed)


def _split_key(text: str, private: bool = False) -> tuple[str, int, bytes]:
    name, _, rest = text.partition("+")
    id, _, encoded = rest.partition("+")  # base64 may hold a plus; a name may not
    data = _bytes(encoded)
    if not is_name(name) or data is None or len(data) != 33 or data[0] not in (LOG_KEY, COSIGNER_KEY):
        raise ValueError("a key is name+id+base64, of Ed25519")
    public = data[1:] if not private else Cosigner(name, data[1:]).key.public
    if Key(name, data[0], public).id.hex() != id:
        raise ValueError("the id in a key is not that of its name and public key")
    return name, data[0], data[1:]


def is_name(name: str) -> bool:
    """Return whether a key may have this name: UTF-8, not empty, no space, plus or control character, not too long."""
    odd = any(letter.isspace() or letter == "+" or "\ud800" <= letter <= "\udfff" for letter in name)
    odd = odd or _CONTROL.search(name) is not None
    return bool(name) and not odd and len(name.encode(errors="replace")) <= NAME_BYTES_MAX


def _signature(line: str) -> tuple[str, bytes]:
    name, _, encoded = line.removeprefix("— ").partition(" ")
    data = _bytes(encoded)
    if not line.startswith("— ") or not is_name(name) or data is None or len(data) <= 4:
        raise Refused(400, "a signature line is not an em dash, a key name and base64")
    return name, data


def _number(text: str) -> int:
    number = int(text) if _DECIMAL.fullmatch(text) else -1
    if not 0 <= number <= SIZE_MAX:
        raise Refused(400, "a size is a decimal number without leading zeros below 2**63")
    return number


def _hash(text: str) -> bytes:
    data = _bytes(text)
    if data is None or len(data) != 32:
        raise Refused(400, "a hash is the base64 of 32 bytes")
    return data


def _bytes(text: str) -> bytes | None:
    """Return what base64 spells, `None` for any other spelling than the one it would be written with."""
    try:
        data = b64decode(text, validate=True)
    except ValueError:  # also for a character that is not ASCII
        return None
    return data if _base64(data) == text else None


def _base64(data: bytes) -> str:
    return b64encode(data).decode()
