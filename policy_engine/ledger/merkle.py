"""Hashes of leaves, nodes and trees as RFC 6962 section 2.1 defines them. This module sees bytes and hashes only.

Rules: a leaf is hashed with a 0x00 before it and a node with a 0x01, so that neither can pass for the other; the root
of no leaves is the hash of nothing. Left to others: what the leaves say (`encoding`), proofs and checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256


def leaf_hash(leaf: bytes) -> bytes:
    """Return the 32-byte hash of one leaf."""
    return sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the 32-byte hash of an inner node over the hashes of its two children."""
    return sha256(b"\x01" + left + right).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """Return the root over leaf *hashes*, in order.

    Pairing level by level and lifting an odd last node unchanged gives RFC 6962's tree (split at the largest power of
    two below n) without recursion.
    """
    if not leaves:
        return sha256(b"").digest()
    level = list(leaves)
    while len(level) > 1:
        paired = [node_hash(level[place], level[place + 1]) for place in range(0, len(level) - 1, 2)]
        if len(level) % 2:
            paired.append(level[-1])
        level = paired
    return level[0]
