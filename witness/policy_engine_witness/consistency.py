"""Consistency of two trees, straight from the definition of the proof (RFC 6962 section 2.1.2).

A second reading of the standard beside the engine's own (which follows the loop of RFC 9162 2.1.4.2): both must agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256

EMPTY_ROOT = sha256(b"").digest()
PROOF_HASHES_MAX = 63
SIZE_MAX = 2**63 - 1


def grew(old_size: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> bool:
    """Return whether the proof shows the old tree to be the beginning of the new one.

    Everything begins with the empty tree, and a tree with itself: both need an empty proof.
    """
    if not 0 <= old_size <= size <= SIZE_MAX or len(proof) > PROOF_HASHES_MAX:
        return False
    if old_size == 0:
        return not proof and old_root == EMPTY_ROOT
    hashes = iter(proof)
    try:
        found = _roots(old_size, size, old_root, hashes)
    except StopIteration:  # too short
        return False
    return next(hashes, None) is None and found == (old_root, root)


def _roots(old_size: int, size: int, old_root: bytes | None, hashes: Iterator[bytes]) -> tuple[bytes, bytes]:
    """Return the roots of the first `old_size` and of all `size` leaves as the hashes give them.

    `old_root` is that of the old tree where this subtree still begins with the whole of it; the proof leaves it out.
    """
    if old_size == size:
        whole = next(hashes) if old_root is None else old_root
        return whole, whole
    split = 1 << ((size - 1).bit_length() - 1)  # the largest power of two below size
    if old_size <= split:
        old, new = _roots(old_size, split, old_root, hashes)
        return old, _node(new, next(hashes))
    old, new = _roots(old_size - split, size - split, None, hashes)
    left = next(hashes)
    return _node(left, old), _node(left, new)


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()
