"""Inclusion and consistency proofs against the twin, for every size up to 70 and at random beyond."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.ledger.compact import CompactRange, Place
from policy_engine.ledger.merkle import leaf_hash, levels, paths
from policy_engine.ledger.proofs import (
    LeafNodes,
    check_consistency,
    check_inclusion,
    make_consistency,
    make_inclusion,
    make_root,
)
from policy_engine.ledger.refusals import EvidenceRefused, Reason
from tests.ledger import twin

LEAVES = [leaf_hash(f"leaf {number}".encode()) for number in range(700)]
PAIRS = st.tuples(st.integers(1, 700), st.integers(1, 700)).map(sorted)


class StoredNodes:
    """Stands for a table of perfect subtrees: what a growing tree told, and how often it was asked."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self.rows: dict[Place, bytes] = {}
        self.reads = 0
        CompactRange().extend(leaves, lambda level, index, hash: self.rows.__setitem__((level, index), hash))

    def hashes(self, places: Sequence[Place]) -> list[bytes]:
        """Read rows."""
        self.reads += 1
        return [self.rows[place] for place in places]


STORED = StoredNodes(LEAVES)


@pytest.mark.parametrize("size", range(1, 71))
def test_every_proof_of_a_small_tree(size: int) -> None:
    """For every index and every older size the proof is the definition's, and it is accepted."""
    nodes, root = LeafNodes(LEAVES[:size]), twin.mth(LEAVES[:size])
    assert make_root(size, nodes) == root
    for index in range(size):
        proof = make_inclusion(index, size, nodes)
        assert proof == twin.path(index, LEAVES[:size])
        check_inclusion(LEAVES[index], index, size, proof, root)
    for old in range(1, size + 1):
        proof = make_consistency(old, size, nodes)
        assert proof == twin.proof(old, LEAVES[:size])
        check_consistency(old, size, proof, twin.mth(LEAVES[:old]), root)


@given(PAIRS, st.data())
def test_proofs_out_of_stored_subtrees(sizes: list[int], data: st.DataObject) -> None:
    """A table that only has perfect subtrees, also of a larger tree, gives each proof in one read."""
    old, size = sizes
    index = data.draw(st.integers(0, size - 1))
    before = STORED.reads
    assert make_inclusion(index, size, STORED) == twin.path(index, LEAVES[:size])
    assert make_consistency(old, size, STORED) == twin.proof(old, LEAVES[:size])
    assert STORED.reads <= before + 2


@given(st.integers(0, 130))
def test_paths_of_a_whole_batch(size: int) -> None:
    """The paths that receipts of one batch need are, all together, the definition's."""
    leaves = LEAVES[:size]
    assert paths(leaves) == [tuple(twin.path(index, leaves)) for index in range(size)]
    assert levels(leaves)[-1:] == ([[twin.mth(leaves)]] if size else [])


@given(PAIRS, st.data())
def test_a_fork_is_not_consistent(sizes: list[int], data: st.DataObject) -> None:
    """When any leaf of the older tree was another one, no honest proof of the newer tree leads to its root."""
    old, size = sizes
    changed = data.draw(st.integers(0, old - 1))
    forked = [*LEAVES[:changed], leaf_hash(b"other"), *LEAVES[changed + 1 : old]]
    with pytest.raises(EvidenceRefused) as caught:
        check_consistency(old, size, make_consistency(old, size, STORED), twin.mth(forked), twin.mth(LEAVES[:size]))
    assert caught.value.reason == Reason.OTHER_ROOT


def test_what_cannot_be_proved_is_refused() -> None:
    """There is no proof in an empty tree, beyond its size, backwards, or of more leaves than 63 bits count."""
    root = twin.mth(LEAVES[:5])
    for reason, act in (
        (Reason.TREE_EMPTY, lambda: make_inclusion(0, 0, STORED)),
        (Reason.INDEX_BEYOND_SIZE, lambda: make_inclusion(5, 5, STORED)),
        (Reason.TREE_EMPTY, lambda: make_consistency(0, 5, STORED)),
        (Reason.TREE_EMPTY, lambda: check_consistency(0, 0, [], root, root)),
        (Reason.SIZES_OUT_OF_ORDER, lambda: make_consistency(6, 5, STORED)),
        (Reason.TOO_LARGE, lambda: make_root(2**63, STORED)),
        (Reason.TOO_LARGE, lambda: check_inclusion(LEAVES[0], 0, 2**63, [], root)),
        (Reason.TOO_LARGE, lambda: make_root(-1, STORED)),
        (Reason.HASH_LENGTH, lambda: check_inclusion(LEAVES[0], 0, 5, [], root[:31])),
        (Reason.HASH_LENGTH, lambda: check_consistency(1, 5, [], b"", root)),
    ):
        with pytest.raises(EvidenceRefused) as caught:
            act()
        assert caught.value.reason == reason


def test_a_proof_too_long_is_not_read_to_its_end() -> None:
    """A proof of ten million hashes is refused at the first one above the root."""

    class Endless(Sequence[bytes]):
        read = 0

        def __len__(self) -> int:
            return 10_000_000

        def __getitem__(self, place):
            Endless.read += 1
            return LEAVES[0]

    with pytest.raises(EvidenceRefused) as caught:
        check_inclusion(LEAVES[0], 0, 4, Endless(), LEAVES[0])
    assert (caught.value.reason, Endless.read) == (Reason.PROOF_LONG, 3)


def test_the_largest_trees_can_be_checked() -> None:
    """A proof in a tree of 2**63 - 1 leaves is checked; the last leaf of it needs the fewest right turns."""
    size = 2**63 - 1
    for index in (0, 2**62, size - 1):
        siblings = [LEAVES[number] for number in range(70)]
        hash, proof, fn, sn = LEAVES[0], [], index, size - 1
        while sn:
            if fn & 1 or fn < sn:
                sibling = siblings.pop()
                proof.append(sibling)
                hash = twin.node(sibling, hash) if fn & 1 else twin.node(hash, sibling)
            fn, sn = fn >> 1, sn >> 1
        check_inclusion(LEAVES[0], index, size, proof, hash)


def test_leaf_nodes_give_only_what_they_hold() -> None:
    """A subtree with a leaf outside of those held raises, and never comes from a part of it."""
    nodes = LeafNodes(LEAVES[4:10], first=4)
    assert list(nodes.hashes([(2, 1), (0, 9)])) == [twin.mth(LEAVES[4:8]), LEAVES[9]]
    for place in ((0, 3), (0, 10), (2, 0), (2, 2), (3, 0)):
        with pytest.raises(IndexError):
            nodes.hashes([place])
