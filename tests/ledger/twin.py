"""The obvious twin: RFC 6962 section 2.1 written down as its recursive definitions, and notes put together by hand.

Nothing here imports the product, so that agreement says something. It is slow and has no checks.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def leaf(data: bytes) -> bytes:
    """Hash a leaf (2.1)."""
    return sha256(b"\x00" + data).digest()


def node(left: bytes, right: bytes) -> bytes:
    """Hash a node (2.1)."""
    return sha256(b"\x01" + left + right).digest()


def split(n: int) -> int:
    """Return the largest power of two below n, for n > 1."""
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def mth(leaves: list[bytes]) -> bytes:
    """Return MTH(D[n]) over leaf hashes (2.1)."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return node(mth(leaves[:k]), mth(leaves[k:]))


def path(m: int, leaves: list[bytes]) -> list[bytes]:
    """Return PATH(m, D[n]) (2.1.1)."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return [*path(m, leaves[:k]), mth(leaves[k:])]
    return [*path(m - k, leaves[k:]), mth(leaves[:k])]


def proof(m: int, leaves: list[bytes]) -> list[bytes]:
    """Return PROOF(m, D[n]) (2.1.2)."""
    return subproof(m, leaves, True)


def subproof(m: int, leaves: list[bytes], whole: bool) -> list[bytes]:
    """Return SUBPROOF(m, D[n], b) (2.1.2)."""
    if m == len(leaves):
        return [] if whole else [mth(leaves)]
    k = split(len(leaves))
    if m <= k:
        return [*subproof(m, leaves[:k], whole), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], False), mth(leaves[:k])]


def key_id(name: str, kind: int, public: bytes) -> bytes:
    """Return the key id of a name and a public key of a signature type."""
    return sha256(name.encode() + b"\n" + bytes([kind]) + public).digest()[:4]


def signature_line(name: str, seed: bytes, text: str, time: int | None = None) -> str:
    """Return a signature line over a text; with a time, that of a witness."""
    private = Ed25519PrivateKey.from_private_bytes(seed)
    id = key_id(name, 1 if time is None else 4, private.public_key().public_bytes_raw())
    if time is None:
        payload = private.sign(text.encode())
    else:
        payload = time.to_bytes(8, "big") + private.sign(f"cosignature/v1\ntime {time}\n{text}".encode())
    return f"\u2014 {name} {b64encode(id + payload).decode()}\n"
