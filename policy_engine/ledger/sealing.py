"""Sealing of the personal part of an entry, the commitments that prove it, and the tags that find it.

Rules:
- The commitment is SHA-256(salt || canonical plaintext) and the salt lies inside the ciphertext: whoever destroys the
  data key destroys text and salt together, and the commitment left in public says nothing. AES-GCM alone does not
  commit to its key; the salted commitment does, so `open_body` checks both.
- Every ciphertext is bound to its place (log and sequence number, and the item within a change) as associated data.
- One data key per (tenant, subject) or per register row, wrapped by the vault; its id is a keyed hash, so the id alone
  names nobody. Tags are keyed per year: destroying a year's key unlinks it.
- Randomness comes in as parameters. Left to others: where keys are kept (`services.keyfile`), when to seal (`store`,
  `services.record`).
"""

from __future__ import annotations

import hmac
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from policy_engine.errors import VerificationFailed
from policy_engine.ledger.canonical import canonical, parse

SALT_BYTES = 32
NONCE_BYTES = 12
KEY_BYTES = 32
TAG_BYTES = 16


_BEFORE = b'{"body":'
_BEHIND = len(b',"salt":""}') + 2 * SALT_BYTES
_SALT = re.compile(rb',"salt":"([0-9a-f]{64})"}')


class KeyVault(Protocol):
    """Holds the keys that never lie in the database: a key file, or a KMS. Raises `StoreUnavailable` when away."""

    def wrap(self, key_id: str, data_key: bytes) -> bytes:
        """Return the data key encrypted under the master key, bound to `key_id`."""
        ...

    def unwrap(self, key_id: str, wrapped: bytes) -> bytes:
        """Return the data key. Raises `VerificationFailed` when this vault did not wrap it under this id."""
        ...

    def index_key(self) -> bytes:
        """Return the key under which ids of data keys are hashed; it never changes."""
        ...

    def period_key(self, period: str) -> bytes:
        """Return the key for tags of a period (a year, such as "2026")."""
        ...


@dataclass(frozen=True, slots=True)
class SealedBody:
    """A sealed body and the two public hashes that fix it."""

    ciphertext: bytes
    commit: str
    sealed: str


@dataclass(frozen=True, slots=True)
class RowBody:
    """One register row as a change records it; `document=None` says the row was taken away."""

    register: str
    id: str
    revision: int
    document: Mapping[str, Any] | None

    def encode(self) -> bytes:
        """Return the canonical bytes that the row's commitment covers."""
        return canonical(
            {"register": self.register, "id": self.id, "revision": self.revision, "document": self.document}
        )


def commitment(salt: bytes, body: bytes) -> str:
    """Return the hex commitment to canonical bytes under a 32-byte salt."""
    return sha256(salt + body).hexdigest()


def seal_body(cipher: AESGCM, nonce: bytes, salt: bytes, place: str, body: bytes) -> SealedBody:
    """Seal canonical bytes at a place (`place_of`). The nonce is 12 random bytes, never used twice with one key."""
    plaintext = _BEFORE + body + b',"salt":"' + salt.hex().encode() + b'"}'
    ciphertext = nonce + cipher.encrypt(nonce, plaintext, place.encode())
    return SealedBody(ciphertext, commitment(salt, body), sha256(ciphertext).hexdigest())


def open_body(cipher: AESGCM, place: str, ciphertext: bytes, commit: str) -> tuple[dict[str, Any], bytes]:
    """Return the body and its salt. Raises `VerificationFailed` if key, place, bytes or commitment do not agree."""
    try:
        plaintext = cipher.decrypt(ciphertext[:NONCE_BYTES], ciphertext[NONCE_BYTES:], place.encode())
    except (InvalidTag, ValueError):
        raise VerificationFailed("the sealed body does not open with its data key at this place") from None
    body, salt_text = plaintext[len(_BEFORE) : -_BEHIND], plaintext[-_BEHIND:]
    found = _SALT.fullmatch(salt_text)
    if not plaintext.startswith(_BEFORE) or found is None:
        raise VerificationFailed("the sealed body has other members than this program knows")
    salt = bytes.fromhex(found[1].decode())
    if not hmac.compare_digest(commitment(salt, body), commit):
        raise VerificationFailed("the sealed body is not the one that the entry committed to")
    members = parse(body, "the sealed body")
    if not isinstance(members, dict):
        raise VerificationFailed("the sealed body is no object")
    return members, salt


def place_of(log_id: str, seq: int, item: int | None = None) -> str:
    """Return the associated data of a body; `item` counts the rows of a change from 0."""
    return f"{log_id}:{seq}" if item is None else f"{log_id}:{seq}:{item}"


def join_rows(rows: Sequence[tuple[str, bytes]]) -> bytes:
    """Return the sealed part of a change from `(data key id, ciphertext)` of each row, in write order.

    Each row keeps its own key, so that one person's row can be erased out of an import of many.
    """
    return canonical([[key_id, b64encode(ciphertext).decode()] for key_id, ciphertext in rows])


def split_rows(sealed: bytes) -> list[tuple[str, bytes]]:
    """Return `(data key id, ciphertext)` of each row of a change. Raises `VerificationFailed` for other bytes."""
    rows = parse(sealed, "the sealed part of the change")
    try:
        if isinstance(rows, list) and all(isinstance(key_id, str) for key_id, _ in rows):
            return [(key_id, b64decode(text, validate=True)) for key_id, text in rows]
    except (ValueError, TypeError):
        pass  # refused below
    raise VerificationFailed("the sealed part of the change is not a list of sealed rows")


def data_key_id(index_key: bytes, tenant: str | None, subject: str) -> str:
    """Return the id of the data key of a subject within a tenant: a keyed hash that names nobody.

    The pair is hashed as a JSON list, so that no two pairs share an id whatever characters they hold.
    """
    return hmac.digest(index_key, canonical([tenant or "", subject]), "sha256")[:16].hex()


def row_key_id(index_key: bytes, register: str, id: str) -> str:
    """Return the id of the data key under which the history of one register row is sealed."""
    return hmac.digest(index_key, canonical(["row", register, id]), "sha256")[:16].hex()


def tag(period_key: bytes, name: str, value: str) -> bytes:
    """Return the 16-byte keyed tag of a facet's value. Names are our own words and hold no NUL."""
    return hmac.digest(period_key, f"{name}\0{value}".encode(), "sha256")[:TAG_BYTES]


def period_key(tag_root: bytes, period: str) -> bytes:
    """Return the key for the tags of one period."""
    return hmac.digest(tag_root, period.encode(), "sha256")


def wrap(master: bytes, key_id: str, nonce: bytes, data_key: bytes) -> bytes:
    """Return the data key encrypted under the master key, bound to its id."""
    return nonce + AESGCM(master).encrypt(nonce, data_key, key_id.encode())


def unwrap(master: bytes, key_id: str, wrapped: bytes) -> bytes:
    """Return the data key. Raises `VerificationFailed` when another master key, or another id, wrapped it."""
    try:
        return AESGCM(master).decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], key_id.encode())
    except (InvalidTag, ValueError):
        raise VerificationFailed("a data key does not open under this key file") from None
