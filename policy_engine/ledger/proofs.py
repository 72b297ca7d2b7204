"""Inclusion and consistency proofs: making them out of stored subtrees, and checking them.

Rules of the room:
- Making: a proof first names the perfect subtrees it needs, then reads them all in one call of `NodeReader.hashes`,
  then folds. So a database answers a proof over any tree with one query of at most some 130 rows.
- Checking follows RFC 9162 sections 2.1.3.2 and 2.1.4.2 to the letter, on nothing but its arguments. A check returns
  nothing, or raises `EvidenceRefused` with the reason. A proof that is too long is never read to its end.
- An empty tree proves nothing: size 0 is refused on both sides. (A witness that has seen nothing yet accepts a first
  checkpoint with an empty proof by its own rule, C2SP tlog-witness; it does not ask here.)
Left to others: what the leaves say, and whether the root is anybody's word (`checkpoint`).
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Protocol

from policy_engine.ledger.compact import Place, tile
from policy_engine.ledger.merkle import fold_right, node_hash
from policy_engine.ledger.refusals import EvidenceRefused, Reason
from policy_engine.ledger.spelling import HASH_BYTES, SIZE_MAX


class NodeReader(Protocol):
    """Where the hashes of perfect subtrees lie: a table, tiles, or leaf hashes in memory (`LeafNodes`).

    Its owner is not trusted: a proof made out of wrong hashes does not verify.
    """

    def hashes(self, places: Sequence[Place]) -> Sequence[bytes]:
        """Return the hash at each `(level, index)`, in order. Every place lies inside the tree that was asked about.

        Raises `LookupError` when one is missing.
        """
        ...


class LeafNodes:
    """A reader that has leaf hashes only, and works out each subtree that is asked for: right for a batch.

    `first` is the index of the first leaf held; a subtree with leaves outside of those held raises `IndexError`.
    """

    def __init__(self, leaves: Sequence[bytes], first: int = 0) -> None:
        self._leaves = leaves
        self._first = first

    def hashes(self, places: Sequence[Place]) -> Sequence[bytes]:
        """Return the hash of each subtree."""
        return [self._hash(level, index) for level, index in places]

    def _hash(self, level: int, index: int) -> bytes:
        start = (index << level) - self._first
        row = self._leaves[max(start, 0) : start + (1 << level)]
        if start < 0 or len(row) != 1 << level:
            raise IndexError(f"the subtree ({level}, {index}) is not within the leaves at hand")
        while len(row) > 1:
            row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row), 2)]
        return row[0]


# Making


def make_root(size: int, nodes: NodeReader) -> bytes:
    """Return the root of the tree of the first `size` leaves; of none, the hash of nothing."""
    _check_size(size)
    return fold_right(nodes.hashes(tile(0, size)))


def make_inclusion(index: int, size: int, nodes: NodeReader) -> list[bytes]:
    """Return the proof that leaf `index` is in the tree of `size` leaves (RFC 6962 2.1.1), leaf side first.

    Raises `EvidenceRefused` (`TREE_EMPTY`, `INDEX_BEYOND_SIZE`) where there is none.
    """
    _check_index(index, size)
    return _read(_path(0, index, size), nodes)


def make_consistency(old_size: int, size: int, nodes: NodeReader) -> list[bytes]:
    """Return the proof that the tree of `old_size` leaves is the beginning of that of `size` (RFC 6962 2.1.2).

    Between equal sizes it is empty. Raises `EvidenceRefused` (`TREE_EMPTY`, `SIZES_OUT_OF_ORDER`).
    """
    _check_sizes(old_size, size)
    if old_size == size:
        return []
    level = (old_size & -old_size).bit_length() - 1  # the last subtree of the old tree; the path of it shows the rest
    index = (old_size - 1) >> level
    path = _path(level, index, size)
    return _read([[(level, index)], *path] if index else path, nodes)


def _path(level: int, index: int, size: int) -> list[list[Place]]:
    """Return the siblings from a perfect subtree up to the root; each is the subtrees that tile it."""
    siblings: list[list[Place]] = []
    while index or (index + 1) << level < size:
        if index & 1:
            siblings.append([(level, index - 1)])
        elif (index + 1) << level < size:
            siblings.append(tile((index + 1) << level, min((index + 2) << level, size)))
        level, index = level + 1, index >> 1
    return siblings


def _read(siblings: list[list[Place]], nodes: NodeReader) -> list[bytes]:
    """Read the subtrees of all siblings at once, and fold each sibling to its hash."""
    found = list(nodes.hashes([place for sibling in siblings for place in sibling]))
    proof, start = [], 0
    for sibling in siblings:
        proof.append(fold_right(found[start : start + len(sibling)]))
        start += len(sibling)
    return proof


# Checking


def check_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check that the leaf with this *hash* is at `index` of the tree of this size and root (RFC 9162 2.1.3.2).

    Raises `EvidenceRefused`: `TREE_EMPTY`, `INDEX_BEYOND_SIZE`, `HASH_LENGTH`, `PROOF_SHORT`, `PROOF_LONG`,
    `OTHER_ROOT`.
    """
    _check_index(index, size)
    _check_hashes(leaf, root)
    fn, sn, hash = index, size - 1, leaf
    for sibling in proof:
        _check_step(sn, sibling)
        if fn & 1 or fn == sn:
            hash = node_hash(sibling, hash)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            hash = node_hash(hash, sibling)
        fn, sn = fn >> 1, sn >> 1
    if sn:
        raise EvidenceRefused(Reason.PROOF_SHORT, "the proof ends below the root")
    _check_same(hash, root, "the inclusion proof does not lead to the root")


def check_consistency(old_size: int, size: int, proof: Sequence[bytes], old_root: bytes, root: bytes) -> None:
    """Check that the old tree is the beginning of the new one (RFC 9162 2.1.4.2).

    Raises `EvidenceRefused`: `TREE_EMPTY`, `SIZES_OUT_OF_ORDER`, `HASH_LENGTH`, `PROOF_SHORT`, `PROOF_LONG`,
    `OTHER_ROOT`.
    """
    _check_sizes(old_size, size)
    _check_hashes(old_root, root)
    if old_size == size:
        if proof:
            raise EvidenceRefused(Reason.PROOF_LONG, "between equal sizes a consistency proof is empty")
        _check_same(old_root, root, "two trees of one size have different roots")
        return
    if not proof:
        raise EvidenceRefused(Reason.PROOF_SHORT, "the consistency proof is empty, and the sizes differ")
    fn, sn = old_size - 1, size - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    if fn:
        first, rest = proof[0], proof[1:]
        _check_step(sn, first)
    else:  # the old tree is perfect, so its root is itself a node of the new one
        first, rest = old_root, proof
    old_hash = new_hash = first
    for sibling in rest:
        _check_step(sn, sibling)
        if fn & 1 or fn == sn:
            old_hash, new_hash = node_hash(sibling, old_hash), node_hash(sibling, new_hash)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            new_hash = node_hash(new_hash, sibling)
        fn, sn = fn >> 1, sn >> 1
    if sn:
        raise EvidenceRefused(Reason.PROOF_SHORT, "the proof ends below the root")
    _check_same(old_hash, old_root, "the consistency proof does not lead to the older root")
    _check_same(new_hash, root, "the consistency proof does not lead to the newer root")


def _check_size(size: int) -> None:
    if not 0 <= size <= SIZE_MAX:
        raise EvidenceRefused(Reason.TOO_LARGE, "a tree has from 0 to 2**63 - 1 leaves")


def _check_index(index: int, size: int) -> None:
    _check_size(size)
    if size == 0:
        raise EvidenceRefused(Reason.TREE_EMPTY, "an empty tree holds no leaf")
    if not 0 <= index < size:
        raise EvidenceRefused(Reason.INDEX_BEYOND_SIZE, "the index is not below the size of the tree")


def _check_sizes(old_size: int, size: int) -> None:
    _check_size(size)
    if old_size > size or old_size < 0:
        raise EvidenceRefused(Reason.SIZES_OUT_OF_ORDER, "the older tree is larger than the newer one")
    if old_size == 0:
        raise EvidenceRefused(Reason.TREE_EMPTY, "an empty tree is the beginning of every tree; that proves nothing")


def _check_hashes(*hashes: bytes) -> None:
    if any(len(hash) != HASH_BYTES for hash in hashes):
        raise EvidenceRefused(Reason.HASH_LENGTH, f"a leaf hash or root has not {HASH_BYTES} bytes")


def _check_step(sn: int, sibling: bytes) -> None:
    """Refuse a further hash when the root is already reached, and a hash that is none."""
    if sn == 0:
        raise EvidenceRefused(Reason.PROOF_LONG, "the proof goes on above the root")
    if len(sibling) != HASH_BYTES:
        raise EvidenceRefused(Reason.HASH_LENGTH, f"a hash of the proof has not {HASH_BYTES} bytes")


def _check_same(found: bytes, wanted: bytes, message: str) -> None:
    if not hmac.compare_digest(found, wanted):
        raise EvidenceRefused(Reason.OTHER_ROOT, message)
