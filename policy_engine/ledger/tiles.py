"""Hashes of subtrees out of tiles (C2SP tlog-tiles): 256 hashes to a tile, every eighth level of the tree.

Rules: tile `number` of tile level L holds the hashes of the subtrees at level 8L whose indexes begin with
`number * 256`; what lies between two tile levels is folded. The owner of the tiles is not trusted (`proofs`).
Left to others: where tiles lie.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from policy_engine.ledger.compact import Place
from policy_engine.ledger.merkle import node_hash
from policy_engine.ledger.spelling import HASH_BYTES

TILE_LEVELS = 8
TILE_HASHES = 1 << TILE_LEVELS

ReadTile = Callable[[int, int], bytes | None]
"""Returns the bytes of a tile by its level and number, `None` where there is none."""


class TileNodes:
    """Reads subtrees for `proofs` out of tiles; a tile that was read is kept, so use one for each proof."""

    def __init__(self, read: ReadTile) -> None:
        self._read = read
        self._tiles: dict[tuple[int, int], bytes] = {}

    def hashes(self, places: Sequence[Place]) -> Sequence[bytes]:
        """Return the hash at each `(level, index)`. Raises `LookupError` when a tile does not hold one."""
        return [self._hash(level, index) for level, index in places]

    def _hash(self, level: int, index: int) -> bytes:
        within = level % TILE_LEVELS
        first = index << within
        place = (level // TILE_LEVELS, first // TILE_HASHES)
        tile = self._tiles.get(place)
        if tile is None:
            tile = self._tiles[place] = self._read(*place) or b""
        start = first % TILE_HASHES * HASH_BYTES
        part = tile[start : start + (HASH_BYTES << within)]
        if len(part) != HASH_BYTES << within:
            raise LookupError(f"the tiles do not hold the subtree ({level}, {index})")
        row = [part[at : at + HASH_BYTES] for at in range(0, len(part), HASH_BYTES)]
        while len(row) > 1:
            row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row), 2)]
        return row[0]
