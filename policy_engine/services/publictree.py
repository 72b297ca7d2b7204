"""The tree as its readers get it: checkpoint, key, tiles of hashes and bundles of leaves, in C2SP's tlog-tiles layout.

Rules: only what the newest durable checkpoint covers; a tile of a given width is the same bytes for ever. Leaves are
headers and events, which say nothing about a person. Left to others: who may read (the doors), growing (`sequencer`).
"""

from __future__ import annotations

import re

from policy_engine.errors import InputRefused, NotFound
from policy_engine.ledger.spelling import HASH_BYTES
from policy_engine.services.growth import TILE_HEIGHT, TILE_WIDTH
from policy_engine.store.treeinterfaces import TreeReader

LEVELS_COUNT = 8
"""Levels of tiles that a tree of 2**63 leaves has."""

_PLACE = re.compile(r"((?:x[0-9]{3}/)*)([0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?", re.ASCII)
_PLACE_CHARACTERS = 64


class PublicTree:
    """Reads one store's tree. Raises `NotFound` for what the tree does not have (yet)."""

    def __init__(self, tree: TreeReader) -> None:
        self._tree = tree

    def checkpoint(self) -> bytes:
        """Return the newest checkpoint with its cosignatures."""
        found = self._tree.checkpoint()
        if found is None:
            raise NotFound("nothing is in the tree yet; there is a checkpoint within a second of the first entry")
        return found.note

    def key(self) -> str:
        """Return the log's verifier key text."""
        key = self._tree.tree_state().key
        if not key:
            raise NotFound("the log has no key yet; it is named with the first checkpoint")
        return key

    def tile(self, level: int, place: str) -> bytes:
        """Return the hashes of a tile; `place` as C2SP writes number and width."""
        number, width = read_place(place)
        data = self._tree.tile(level, number) if level < LEVELS_COUNT else None
        available = len(data or b"") // HASH_BYTES
        covered = (self._tree.tree_state().size >> (TILE_HEIGHT * level)) - number * TILE_WIDTH
        if data is None or width > min(available, covered):
            raise NotFound("the tree has no such tile, or not so many hashes in it yet")
        return data[: width * HASH_BYTES]

    def entries(self, place: str) -> bytes:
        """Return the leaves under a tile of level 0, each behind its length in two bytes."""
        number, width = read_place(place)
        first = number * TILE_WIDTH
        if first + width > self._tree.tree_state().size:
            raise NotFound("the tree has no such leaves yet")
        leaves = [leaf.data for leaf in self._tree.scan_leaves(first, first + width)]
        if len(leaves) != width or not all(leaves):
            raise NotFound("a leaf is missing in the database; verify the log")
        return b"".join(len(leaf).to_bytes(2, "big") + leaf for leaf in leaves)


def read_place(text: str) -> tuple[int, int]:
    """Return number and width of a tile. Raises `InputRefused` for any but the one spelling of a number."""
    found = _PLACE.fullmatch(text) if len(text) <= _PLACE_CHARACTERS else None
    if found is not None:
        number = int(found[1].replace("x", "").replace("/", "") + found[2])
        width = TILE_WIDTH if found[3] is None else int(found[3])
        if width < TILE_WIDTH + (found[3] is None) and write_place(number) == text.partition(".")[0] and number < 2**55:
            return number, width
    raise InputRefused("a tile is named as 000, x001/234, or x001/234.p/5 for its first 5 hashes", where="tile")


def write_place(number: int) -> str:
    """Return a tile's number as C2SP writes it: digits in threes, an `x` before all but the last."""
    parts = [f"{number % 1_000:03}"]
    while number >= 1_000:
        number //= 1_000
        parts.append(f"x{number % 1_000:03}")
    return "/".join(reversed(parts))
