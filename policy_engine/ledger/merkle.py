"""Hashes of leaves, nodes and trees as RFC 6962 section 2.1 defines them. This module sees bytes and hashes only.

Rules: a leaf is hashed with a 0x00 before it and a node with a 0x01, so that neither can pass for the other; the root
of no leaves is the hash of nothing. Left to others: what the leaves say (`encoding`), trees that grow (`compact`),
proofs (`proofs`) and checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

EMPTY_ROOT = sha256(b"").digest()
"""The root of the tree without leaves."""


def leaf_hash(leaf: bytes) -> bytes:
    """Return the 32-byte hash of one leaf."""
    return sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the 32-byte hash of an inner node over the hashes of its two children."""
    return sha256(b"\x01" + left + right).digest()


def fold_right(subtrees: Sequence[bytes]) -> bytes:
    """Return the root over the hashes of subtrees that shrink from left to right; of none, the hash of nothing."""
    if not subtrees:
        return EMPTY_ROOT
    hash = subtrees[-1]
    for left in subtrees[-2::-1]:
        hash = node_hash(left, hash)
    return hash


def levels(leaves: Sequence[bytes]) -> list[list[bytes]]:
    """Return the hashes of every level over leaf *hashes*, the leaves first and the root last; of no leaves, none.

    Pairing level by level and lifting an odd last node unchanged gives RFC 6962's tree (split at the largest power of
    two below n) without recursion.
    """
    if not leaves:
        return []
    found = [list(leaves)]
    while len(found[-1]) > 1:
        found.append(_paired(found[-1]))
    return found


def root(leaves: Sequence[bytes]) -> bytes:
    """Return the root over leaf *hashes*, in order."""
    if not leaves:
        return EMPTY_ROOT
    level = list(leaves)
    while len(level) > 1:
        level = _paired(level)
    return level[0]


def paths(leaves: Sequence[bytes]) -> list[tuple[bytes, ...]]:
    """Return the inclusion path (RFC 6962 2.1.1) of every leaf hash, as receipts of one batch need them together."""
    below = levels(leaves)[:-1]
    found = []
    for index in range(len(leaves)):
        path = []
        for level in below:
            sibling = index ^ 1
            if sibling < len(level):
                path.append(level[sibling])
            index >>= 1
        found.append(tuple(path))
    return found


def _paired(level: list[bytes]) -> list[bytes]:
    paired = [node_hash(level[place], level[place + 1]) for place in range(0, len(level) - 1, 2)]
    if len(level) % 2:
        paired.append(level[-1])
    return paired
