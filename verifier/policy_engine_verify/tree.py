"""The Merkle tree of RFC 6962 (RFC 9162 section 2.1): hashes, roots, and a root that grows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from operator import add

from policy_engine_verify.formats import EMPTY_ROOT


def leaf_hash(leaf: bytes) -> bytes:
    """Return the hash of a leaf."""
    return sha256(b"\x00" + leaf).digest()


def hashes_behind(prefix: bytes, parts: Iterable[bytes]) -> list[bytes]:
    """Return the hash of each part behind a prefix; to copy what has read the prefix is faster than to join the two."""
    begun = sha256(prefix).copy
    found = []
    for part in parts:
        hash = begun()
        hash.update(part)
        found.append(hash.digest())
    return found


def root_of(level: Sequence[bytes]) -> bytes:
    """Return the root over leaf hashes, level by level; an odd last one is lifted unchanged."""
    while len(level) > 1:
        pairs = iter(level)
        level = hashes_behind(b"\x01", map(add, pairs, pairs)) + list(level[len(level) // 2 * 2 :])
    return level[0] if level else EMPTY_ROOT


class Growing:
    """The root of leaves that come one by one: the hashes of the perfect subtrees so far, the largest first."""

    def __init__(self) -> None:
        self.size = 0
        self._hashes: list[bytes] = []

    def add(self, hash: bytes) -> None:
        """Add the hash of the next leaf."""
        index = self.size
        while index & 1:
            hash = sha256(b"\x01" + self._hashes.pop() + hash).digest()
            index >>= 1
        self._hashes.append(hash)
        self.size += 1

    def root(self) -> bytes:
        """Return the root of the leaves so far."""
        hash = self._hashes[-1] if self._hashes else EMPTY_ROOT
        for left in self._hashes[-2::-1]:
            hash = sha256(b"\x01" + left + hash).digest()
        return hash
