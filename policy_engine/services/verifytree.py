"""Verifying the tree as a database holds it: leaves against batches and events, every tile, every checkpoint.

Rules: one pass over the leaves; memory grows with the logs and the right edge, not with the tree. A leaf whose bytes
are not those that its tile has the hash of is named, and so is the first leaf that may not follow. What is pending is
counted; it is a finding only when it could never be integrated.
The log's key comes out of the same database: whoever can replace both is seen by witnesses, receipts and bundles, not
here. Left to others: entries under their batches (`verify`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from policy_engine.errors import VerificationFailed
from policy_engine.ledger.chain import Logs, LogTip, unopened
from policy_engine.ledger.checkpoint import open_checkpoint
from policy_engine.ledger.compact import CompactRange
from policy_engine.ledger.leaves import Opened, parse_leaf
from policy_engine.ledger.merkle import leaf_hash
from policy_engine.ledger.note import VerifierKey, parse_key
from policy_engine.ledger.spelling import HASH_BYTES
from policy_engine.services.growth import TILE_HEIGHT, TILE_WIDTH, TreeRefused, read_range
from policy_engine.store.interfaces import LogView
from policy_engine.store.treeinterfaces import StoredCheckpoint, StoredLeaf

PENDING_COUNT = 100_000
"""Pending leaves that are looked at one by one; more of them are only counted."""

Find = Callable[[str, str], None]
"""Notes one thing that does not agree: where, and what."""


def verify_tree(view: LogView, find: Find) -> dict[str, int]:
    """Verify the tree in a view and return what was checked: `leaves`, `checkpoints`, `tiles`, `pending`."""
    check = _TreeCheck(view, find)
    check.leaves()
    check.beside()
    check.pending()
    return check.counts


def glance(view: LogView) -> tuple[StoredCheckpoint | None, int]:
    """Return the newest checkpoint and how many batches are pending, looking at the edge of the tree alone.

    Raises `VerificationFailed` when tiles, size, key and checkpoint do not fit each other.
    """
    state, newest = view.tree_state(), view.checkpoint()
    own = read_range(view, state.size, exact=True).range.root()
    if (newest.size if newest is not None else 0) != state.size:
        raise TreeRefused("the newest checkpoint is not of the size that the tree has")
    if newest is not None:
        opened = open_checkpoint(newest.note, state.origin, (parse_key(state.key),)).checkpoint
        if (opened.size, opened.root) != (state.size, own):
            raise TreeRefused("the tiles do not lead to the root of the newest checkpoint")
    there = {log_id: batches for log_id, _, batches, _ in view.logs_in_tree()}
    return newest, sum(head.next_batch - there.get(head.log_id, 0) for head in view.heads())


class _TreeCheck:
    """One run over one view."""

    def __init__(self, view: LogView, find: Find) -> None:
        self._view = view
        self._find = find
        self._state = view.tree_state()
        self._key = self._read_key()
        self._range = CompactRange()
        self._edge: dict[tuple[int, int], bytearray] = {}
        self._logs = Logs()
        self._broken: set[str] = set()
        self._events: dict[bytes, str] = {data: log_id for log_id, _, data in view.log_events()}
        self._in_tree: set[bytes] = set()
        self.counts = {"leaves": 0, "checkpoints": 0, "tiles": 0, "pending": 0}

    def _read_key(self) -> VerifierKey | None:
        if not self._state.key:
            return None
        try:
            return parse_key(self._state.key)
        except VerificationFailed as failed:
            self._find("tree", failed.message)
            return None

    def leaves(self) -> None:
        """Check every leaf in order, and each checkpoint where its tree ends."""
        checkpoints = self._view.scan_checkpoints()
        next_one = next(checkpoints, None)
        for leaf in self._view.scan_leaves(0, 2**62):
            if leaf.leaf != self.counts["leaves"]:
                self._find(f"leaf {self.counts['leaves']}", "the leaf is missing from the tree")
                break
            self._check_leaf(leaf)
            self.counts["leaves"] += 1
            while next_one is not None and next_one.size <= self.counts["leaves"]:
                self._check_checkpoint(next_one)
                next_one = next(checkpoints, None)
        for rest in self._rest(next_one, checkpoints):
            self._find(f"checkpoint {rest.size}", "the tree has fewer leaves than this checkpoint was signed over")

    def _rest(self, first: StoredCheckpoint | None, others: Iterator[StoredCheckpoint]) -> Iterator[StoredCheckpoint]:
        if first is not None:
            yield first
            yield from others

    def _check_leaf(self, leaf: StoredLeaf) -> None:
        place = f"leaf {leaf.leaf}" if leaf.batch is None else f"leaf {leaf.leaf} (batch {leaf.batch} of {leaf.log_id})"
        if not leaf.data:
            self._find(place, "the batch of the leaf is missing")
        elif leaf.log_id not in self._broken:
            try:
                self._follow(leaf)
            except VerificationFailed as failed:
                self._find(place, failed.message)
                self._broken.add(leaf.log_id)  # whatever follows it would be found too
        hash = leaf_hash(leaf.data)
        tile = self._view.tile(0, leaf.leaf // TILE_WIDTH) if leaf.leaf % TILE_WIDTH == 0 else self._row
        self._row = tile or b""
        offset = leaf.leaf % TILE_WIDTH * HASH_BYTES
        if self._row[offset : offset + HASH_BYTES] != hash:
            self._find(place, "its bytes are not those that the tree has the hash of")
        self._range.append(hash, self._complete)

    _row: bytes = b""

    def _follow(self, leaf: StoredLeaf) -> None:
        tip = self._logs.add(leaf.data)
        number = tip.batches - 1 if leaf.batch is not None else None
        if (tip.log_id, number) != (leaf.log_id, leaf.batch):
            raise VerificationFailed("the leaf lies under another log or number than it names")
        if leaf.batch is None:
            self._in_tree.add(leaf.data)
            if self._events.get(leaf.data) != leaf.log_id:
                raise VerificationFailed("the event is not among the events of its log")

    def _complete(self, level: int, index: int, hash: bytes) -> None:
        if level % TILE_HEIGHT:
            return
        place = (level // TILE_HEIGHT, index // TILE_WIDTH)
        data = self._edge.setdefault(place, bytearray())
        data.extend(hash)
        if len(data) == TILE_WIDTH * HASH_BYTES:
            self._check_tile(place, bytes(self._edge.pop(place)))

    def _check_tile(self, place: tuple[int, int], expected: bytes) -> None:
        self.counts["tiles"] += 1
        if (self._view.tile(*place) or b"") != expected:
            self._find(f"tile {place[0]}/{place[1]}", "it does not hold the hashes of the leaves under it")

    def _check_checkpoint(self, checkpoint: StoredCheckpoint) -> None:
        self.counts["checkpoints"] += 1
        place = f"checkpoint {checkpoint.size}"
        if self._key is None:
            self._find(place, "the tree does not name the key that signed it")
            return
        try:
            opened = open_checkpoint(checkpoint.note, self._state.origin, (self._key,)).checkpoint
        except VerificationFailed as failed:
            self._find(place, failed.message)
            return
        if (opened.size, opened.root) != (checkpoint.size, self._range.root()):
            self._find(place, "its root is not that of the leaves")

    def beside(self) -> None:
        """Check what is kept beside the leaves: the tiles at the edge, the size, the newest checkpoint, the logs."""
        for place, data in list(self._edge.items()):
            self._check_tile(place, bytes(data))
        extra = sum(1 for _ in self._view.scan_tiles()) - self.counts["tiles"]
        if extra:
            self._find("tiles", f"there are {abs(extra)} tiles {'more' if extra > 0 else 'fewer'} than the tree has")
        size, newest = self.counts["leaves"], self._view.checkpoint()
        if self._state.size != size:
            self._find("tree", f"the tree says that it has {self._state.size} leaves, and has {size}")
        if (0 if newest is None else newest.size) != size:
            self._find("tree", "the newest checkpoint is not of the whole tree")
        said = {log_id: (batches, ended is not None) for log_id, _, batches, ended in self._view.logs_in_tree()}
        found = {log_id: (tip.batches, tip.ended) for log_id, tip in self._logs.tips.items()}
        for log_id in sorted(said.keys() | found.keys()):
            if said.get(log_id) != found.get(log_id) and log_id not in self._broken:
                self._find(f"log {log_id}", "the tree holds other batches of it than it says")

    def pending(self) -> None:
        """Count the batches that are not in the tree, and see whether they could be integrated."""
        for head in self._view.heads():
            tip = self._logs.tips.get(head.log_id)
            in_tree = 0 if tip is None else tip.batches
            if head.next_batch < in_tree and head.log_id not in self._broken:
                self._find(
                    f"log {head.log_id}", "the tree holds more batches of it than there are; its end was cut off"
                )
            self.counts["pending"] += max(0, head.next_batch - in_tree)
        logs = Logs({**self._logs.tips, **self._adopted()})
        seen: set[bytes] = set()
        for leaf in self._view.pending(PENDING_COUNT):
            seen.add(leaf.data)
            if leaf.log_id in self._broken:
                continue
            try:
                logs.add(leaf.data)
            except VerificationFailed as failed:
                self._broken.add(leaf.log_id)
                what = "an event" if leaf.batch is None else f"batch {leaf.batch}"
                self._find(f"log {leaf.log_id}", f"{what} that is pending can never be integrated: {failed.message}")
        self._check_events(seen)

    def _adopted(self) -> dict[str, LogTip]:
        """Return the tips of logs that will be opened before they are integrated."""
        return {log_id: unopened(log_id) for log_id in self._view.unopened_logs()}

    def _check_events(self, pending: set[bytes]) -> None:
        """Find events that are neither in the tree nor pending: the tree goes on without them."""
        if self.counts["pending"] > PENDING_COUNT:
            return
        for data, log_id in self._events.items():
            if data in self._in_tree or data in pending or log_id in self._broken:
                continue
            kind = "beginning" if _opens(data) else "end"
            self._find(f"log {log_id}", f"its {kind} is not the one that the tree has")


def _opens(data: bytes) -> bool:
    try:
        return isinstance(parse_leaf(data), Opened)
    except VerificationFailed:
        return False
