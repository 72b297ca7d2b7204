"""A Merkle tree as a compact range: the few hashes from which it grows and from which its root follows.

A range `[begin, end)` of leaves is held as the hashes of the largest perfect subtrees that tile it, from left to
right: at most two for each power of two. Appending costs one node hash on average, and the root at most one for each
subtree held. Ranges that touch are joined by `merge`. The tree is that of RFC 6962 section 2.1 (RFC 9162 2.1.1).
Rules: a place `(level, index)` names the subtree over leaves `[index * 2**level, (index + 1) * 2**level)`; bytes and
hashes only. Left to others: where subtrees are stored (`on_complete` tells each one), proofs (`proofs`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from policy_engine.ledger.canonical import canonical, parse
from policy_engine.ledger.merkle import fold_right, node_hash
from policy_engine.ledger.refusals import EvidenceRefused, Reason
from policy_engine.ledger.spelling import HASH_BYTES, SIZE_MAX, read_hash, write_base64

VERSION = 1

Place = tuple[int, int]
"""Level and index of a perfect subtree; level 0 holds the leaves."""

OnComplete = Callable[[int, int, bytes], None]
"""Called with level, index and hash of each perfect subtree as soon as its last leaf is there, leaves included."""


def tile(begin: int, end: int) -> list[Place]:
    """Return the largest perfect subtrees that tile the leaves `[begin, end)`, from left to right."""
    places: list[Place] = []
    while begin < end:
        room = (end - begin).bit_length() - 1
        level = room if begin == 0 else min((begin & -begin).bit_length() - 1, room)
        places.append((level, begin >> level))
        begin += 1 << level
    return places


class CompactRange:
    """The leaves `[begin, end)` of a tree. It grows in place; `copy` gives one that grows by itself.

    Raises `EvidenceRefused` (`MALFORMED`, `HASH_LENGTH`) for bounds and hashes that are no compact range.
    """

    __slots__ = ("_hashes", "begin", "end")

    def __init__(self, begin: int = 0, end: int | None = None, hashes: Sequence[bytes] = ()) -> None:
        self.begin = begin
        self.end = begin if end is None else end
        self._hashes = list(hashes)
        if not 0 <= self.begin <= self.end <= SIZE_MAX or len(self._hashes) != len(tile(self.begin, self.end)):
            raise EvidenceRefused(Reason.MALFORMED, "the bounds and the number of hashes are not of a compact range")
        if any(len(hash) != HASH_BYTES for hash in self._hashes):
            raise EvidenceRefused(Reason.HASH_LENGTH, f"a hash of the compact range has not {HASH_BYTES} bytes")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CompactRange):
            return NotImplemented
        return (self.begin, self.end, self._hashes) == (other.begin, other.end, other._hashes)

    __hash__ = None  # type: ignore[assignment]  # it grows, so it has no lasting hash

    def __len__(self) -> int:
        return self.end - self.begin

    @property
    def hashes(self) -> tuple[bytes, ...]:
        """Return the hashes of the subtrees that `tile(begin, end)` names."""
        return tuple(self._hashes)

    def copy(self) -> CompactRange:
        """Return a range that is the same now and grows by itself."""
        return CompactRange(self.begin, self.end, self._hashes)

    def append(self, leaf: bytes, on_complete: OnComplete | None = None) -> None:
        """Add one leaf *hash* at `end`."""
        self._add(0, self.end, leaf, on_complete)

    def extend(self, leaves: Iterable[bytes], on_complete: OnComplete | None = None) -> None:
        """Add leaf *hashes* in order."""
        for leaf in leaves:
            self._add(0, self.end, leaf, on_complete)

    def merge(self, right: CompactRange, on_complete: OnComplete | None = None) -> None:
        """Add the range that begins where this one ends; `on_complete` is told what the joining completes.

        Raises `EvidenceRefused` (`SIZES_OUT_OF_ORDER`) when the two do not touch.
        """
        if right.begin != self.end:
            raise EvidenceRefused(Reason.SIZES_OUT_OF_ORDER, "the second range does not begin where the first one ends")
        for (level, index), hash in zip(tile(right.begin, right.end), right.hashes, strict=True):
            self._add(level, index, hash, on_complete)

    def _add(self, level: int, index: int, hash: bytes, on_complete: OnComplete | None) -> None:
        """Add a perfect subtree at `end`, and join it with its left neighbour for as long as both make a larger one."""
        if len(hash) != HASH_BYTES:
            raise EvidenceRefused(Reason.HASH_LENGTH, f"a leaf is added by its hash of {HASH_BYTES} bytes")
        self.end += 1 << level
        if on_complete is not None:
            on_complete(level, index, hash)
        while index & 1 and (index - 1) << level >= self.begin:
            hash = node_hash(self._hashes.pop(), hash)
            level, index = level + 1, index >> 1
            if on_complete is not None:
                on_complete(level, index, hash)
        self._hashes.append(hash)

    def root(self) -> bytes:
        """Return the root of the tree of `end` leaves; of no leaves it is the hash of nothing (RFC 6962 2.1).

        Raises `EvidenceRefused` (`SIZES_OUT_OF_ORDER`) for a range that does not begin with the first leaf.
        """
        if self.begin:
            raise EvidenceRefused(Reason.SIZES_OUT_OF_ORDER, "only a range from the first leaf on has a root")
        return fold_right(self._hashes)

    def encode(self) -> bytes:
        """Return the state as canonical bytes, version 1."""
        hashes = [write_base64(hash) for hash in self._hashes]
        return canonical({"v": VERSION, "begin": self.begin, "end": self.end, "hashes": hashes})


def parse_range(data: bytes) -> CompactRange:
    """Return the range whose state bytes hold. Raises `VerificationFailed` when they hold none of a known version."""
    members = parse(data, "the state of the tree")
    if not isinstance(members, dict) or set(members) != {"v", "begin", "end", "hashes"}:
        raise EvidenceRefused(Reason.MALFORMED, "the state of the tree has other members than this program knows")
    if members["v"] != VERSION or isinstance(members["v"], bool):
        raise EvidenceRefused(Reason.VERSION, "the state of the tree has a version that this program does not know")
    begin, end, hashes = members["begin"], members["end"], members["hashes"]
    texts = isinstance(hashes, list) and all(type(text) is str for text in hashes)
    if type(begin) is not int or type(end) is not int or not texts:
        raise EvidenceRefused(Reason.MALFORMED, "a member of the state of the tree has the wrong type")
    return CompactRange(begin, end, [read_hash(text, "a hash of the state of the tree") for text in hashes])
