"""What the next leaves make of the tree: tiles, places of logs, and the checkpoint over them. Nothing is written here.

Rules of the room:
- The tree is taken from its tiles and believed only when their root is that of the newest checkpoint, which this log's
  own key signed. A tile that holds more than the tree has is a tree that somebody cut.
- Every leaf is checked against the one before it in its log (`ledger.chain`), that one against the hash the tree has of
  it, and every batch against the public bytes of its entries as they lie in the store. What does not agree is refused,
  and nothing after it is signed.
Left to others: the key and its origin (`logkey`), when to integrate, and what was seen before (`sequencer`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from policy_engine.errors import VerificationFailed
from policy_engine.ledger.chain import LogTip, behind, tip_at
from policy_engine.ledger.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from policy_engine.ledger.compact import CompactRange
from policy_engine.ledger.encoding import Header
from policy_engine.ledger.leaves import Leaf, parse_leaf
from policy_engine.ledger.merkle import leaf_hash, root
from policy_engine.ledger.note import Signer
from policy_engine.ledger.spelling import HASH_BYTES
from policy_engine.store.treeinterfaces import TreeReader
from policy_engine.store.treewriting import Growth, LogPlace, StoredCheckpoint, StoredLeaf, TreeView

TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
"""Hashes in a full tile (C2SP tlog-tiles)."""

REST_LEAVES_COUNT = 16
REST_SECONDS = 0.001
"""After so many leaves the thread rests, so that one that decides in this process need not wait for its turn."""


class TreeRefused(VerificationFailed):
    """The stored tree, or its next leaf, is not what it must be. Nothing is signed until somebody has looked."""


@dataclass(slots=True)
class Edge:
    """The right edge of a tree: its compact range, and the tiles that have room, as they are in the store."""

    range: CompactRange
    tiles: dict[tuple[int, int], bytearray] = field(default_factory=dict)

    def append(self, hash: bytes) -> None:
        """Add a leaf hash, and to the tiles every hash that it completes."""
        self.range.append(hash, self._complete)

    def _complete(self, level: int, index: int, hash: bytes) -> None:
        if level % TILE_HEIGHT == 0:
            place = (level // TILE_HEIGHT, index // TILE_WIDTH)
            self.tiles.setdefault(place, bytearray()).extend(hash)


def tiles_of(size: int) -> Iterator[tuple[int, int, int]]:
    """Yield level, number and width of the tiles at the right edge of a tree that are not full."""
    level = 0
    while size:
        size, width = divmod(size, TILE_WIDTH)
        if width:
            yield level, size, width
        level += 1


def read_range(view: TreeReader, size: int, *, exact: bool) -> Edge:
    """Return the edge of the tree of the first `size` leaves, from its tiles.

    Raises `TreeRefused` when a tile is missing or too short, and with `exact` when it holds more than the tree has.
    """
    tiles: dict[tuple[int, int], bytearray] = {}
    parts: list[tuple[int, int, list[bytes]]] = []
    for level, number, width in tiles_of(size):
        data = view.tile(level, number) or b""
        whole = len(data) // HASH_BYTES
        if whole < width or len(data) % HASH_BYTES or (exact and whole != width):
            raise TreeRefused("a tile of the tree does not hold what the tree's size says")
        data = data[: width * HASH_BYTES]
        tiles[level, number] = bytearray(data)
        hashes = [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]
        parts.append((level * TILE_HEIGHT, number * TILE_WIDTH, hashes))
    return Edge(CompactRange(0, size, _subtrees(parts)), tiles)


def _subtrees(parts: Sequence[tuple[int, int, list[bytes]]]) -> list[bytes]:
    """Return the hashes of a compact range from the loose hashes of each tile level, the highest level first."""
    found: list[bytes] = []
    for _, first, hashes in reversed(parts):
        # Within a tile the hashes are leaves of a small tree of their own, from a multiple of its width on.
        loose = CompactRange(first, first)
        loose.extend(hashes)
        found += loose.hashes
    return found


def check_newest(view: TreeView, newest: StoredCheckpoint | None, edge: Edge, signer: Signer) -> bytes:
    """Return the root of the tree, which the newest checkpoint must state. Raises `TreeRefused` when it does not."""
    size = edge.range.end
    own = edge.range.root()
    if newest is None and size == 0:
        return own
    if newest is None or newest.size != size:
        raise TreeRefused("the newest checkpoint is not of the size that the tree has")
    opened = open_checkpoint(newest.note, signer.key.name, (signer.key,)).checkpoint
    if (opened.size, opened.root) != (size, own):
        raise TreeRefused("the tiles do not lead to the root of the newest checkpoint")
    return own


def grow(
    view: TreeView, edge: Edge, pending: Sequence[StoredLeaf], signer: Signer, at: int, horizon: int | None
) -> tuple[Growth, Checkpoint]:
    """Return what the tree is with the pending leaves behind it, signed. `edge` grows in place.

    `horizon` is where the horizon may go when these leaves are everything; `None`: to the instant of the last one.
    Raises `TreeRefused` or `VerificationFailed` for a leaf that may not come next.
    """
    size = edge.range.end
    tips: dict[str, LogTip | None] = {}
    logs: dict[str, LogPlace] = {}
    last_at = 0
    for count, leaf in enumerate(pending):
        if count % REST_LEAVES_COUNT == REST_LEAVES_COUNT - 1:
            time.sleep(REST_SECONDS)
        if leaf.log_id not in tips:
            place = view.log_in_tree(leaf.log_id)
            tips[leaf.log_id] = None if place is None else _tip(view, leaf.log_id, place)
            if place is not None:
                logs[leaf.log_id] = place
        parsed = parse_leaf(leaf.data)
        tip = tips[leaf.log_id] = behind(tips[leaf.log_id], parsed, leaf.data)
        if tip.log_id != leaf.log_id:
            raise TreeRefused("a leaf lies under another log than the one it names")
        logs[leaf.log_id] = _moved(logs.get(leaf.log_id), leaf, size + count, tip)
        _check_entries(view, leaf, parsed)
        edge.append(leaf_hash(leaf.data))
        last_at = max(last_at, tip.at)
    checkpoint = Checkpoint(signer.key.name, edge.range.end, edge.range.root())
    growth = Growth(
        size=size,
        leaves=pending,
        tiles={place: bytes(data) for place, data in edge.tiles.items()},
        logs=logs,
        note=sign_checkpoint(checkpoint, (signer,)),
        at=at,
        origin=signer.key.name,
        key=str(signer.key),
        horizon=last_at if horizon is None else horizon,
    )
    return growth, checkpoint


def _moved(place: LogPlace | None, leaf: StoredLeaf, index: int, tip: LogTip) -> LogPlace:
    opened, _, ended = (index, 0, None) if place is None else place
    return opened, tip.batches, index if tip.ended else ended


def _tip(view: TreeView, log_id: str, place: LogPlace) -> LogTip:
    """Return where a log stands in the tree. Its last leaf must be the one that the tree has the hash of."""
    opened, batches, ended = place
    if batches and ended is None:
        last = view.leaf_of_batch(log_id, batches - 1)
    else:
        index = opened if ended is None else ended
        last = next(iter(view.scan_leaves(index, index + 1)), None)
    if last is None or last.log_id != log_id or view.leaf_of_batch(log_id, batches) is not None:
        raise TreeRefused("the last leaf of a log is not where the tree has it")
    level, number, offset = 0, last.leaf // TILE_WIDTH, last.leaf % TILE_WIDTH
    hashes = view.tile(level, number) or b""
    if hashes[offset * HASH_BYTES : (offset + 1) * HASH_BYTES] != leaf_hash(last.data):
        raise TreeRefused("a stored batch or event is not the one whose hash the tree has")
    return tip_at(last.data)


def _check_entries(view: TreeView, leaf: StoredLeaf, parsed: Leaf) -> None:
    """Read the entries of a batch once more: only what lies there, and is what the header says, is signed for."""
    if not isinstance(parsed, Header):
        if leaf.batch is not None:
            raise TreeRefused("a batch has the bytes of an event")
        return
    if leaf.batch != parsed.batch:
        raise TreeRefused("a batch lies under another number than the one it names")
    hashes = [leaf_hash(public) for public in view.public_parts(leaf.log_id, parsed.first, parsed.first + parsed.n)]
    if len(hashes) != parsed.n or root(hashes).hex() != parsed.root:
        raise TreeRefused("the entries of a batch are not those that its header was written over")
