"""Subtrees out of tiles: the same hashes as out of the leaves, and nothing where a tile is short."""

from __future__ import annotations

import pytest

from policy_engine.ledger.compact import CompactRange
from policy_engine.ledger.merkle import leaf_hash, root
from policy_engine.ledger.proofs import LeafNodes, make_consistency, make_inclusion, make_root
from policy_engine.ledger.tiles import TILE_HASHES, TileNodes

LEAVES = [leaf_hash(b"leaf %d" % number) for number in range(70_000)]


def tiles_of(count: int) -> dict[tuple[int, int], bytes]:
    """Return every tile of the tree of the first leaves."""
    tiles: dict[tuple[int, int], bytes] = {}

    def keep(level: int, index: int, hash: bytes) -> None:
        if level % 8 == 0:
            place = (level // 8, index // TILE_HASHES)
            tiles[place] = tiles.get(place, b"") + hash

    CompactRange().extend(LEAVES[:count], keep)
    return tiles


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 511, 1000, 65_536, 65_537, 70_000])
def test_proofs_out_of_tiles_are_those_out_of_leaves(size: int) -> None:
    """Roots, inclusion and consistency proofs agree, across tiles and across their levels."""
    nodes, leaves = TileNodes(lambda *place: tiles.get(place)), LeafNodes(LEAVES)
    tiles = tiles_of(size)
    assert make_root(size, nodes) == root(LEAVES[:size])
    for part in {1, size // 3 + 1, size // 2 + 1, size - 1, size} - {0}:
        assert make_consistency(part, size, nodes) == make_consistency(part, size, leaves)
        assert make_inclusion(part - 1, size, nodes) == make_inclusion(part - 1, size, leaves)


def test_a_tile_that_is_short_or_missing_is_no_hash() -> None:
    """A subtree whose hashes are not all there raises, whatever lies beside it; a tile is read once."""
    tiles, read = tiles_of(300), []
    tiles[0, 1] = tiles[0, 1][:-1]
    nodes = TileNodes(lambda *place: read.append(place) or tiles.get(place))
    assert nodes.hashes([(0, 256), (2, 64), (8, 0), (0, 257)])[0] == LEAVES[256]
    assert read == [(0, 1), (1, 0)]
    for place in ((0, 299), (2, 74), (8, 1), (16, 0)):
        with pytest.raises(LookupError):
            nodes.hashes([place])
