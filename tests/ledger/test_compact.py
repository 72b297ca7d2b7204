"""Compact ranges: they grow, join and are stored, and their root is always the twin's."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.errors import VerificationFailed
from policy_engine.ledger.canonical import canonical, parse
from policy_engine.ledger.compact import CompactRange, parse_range, tile
from policy_engine.ledger.merkle import EMPTY_ROOT, leaf_hash
from policy_engine.ledger.refusals import EvidenceRefused, Reason
from tests.ledger import twin

LEAVES = [leaf_hash(f"leaf {number}".encode()) for number in range(200)]
SIZES = st.integers(0, 200)
BOUNDS = st.tuples(SIZES, SIZES).map(sorted)


def built(begin: int, end: int) -> CompactRange:
    """Return the range over some of the leaves, built leaf by leaf."""
    grown = CompactRange(begin)
    grown.extend(LEAVES[begin:end])
    return grown


@given(BOUNDS)
def test_tiles_are_perfect_adjacent_and_as_large_as_can_be(bounds: list[int]) -> None:
    """Tiles lie side by side from begin to end, and no two neighbours are the halves of one subtree."""
    begin, end = bounds
    tiles = tile(begin, end)
    at = begin
    for level, index in tiles:
        assert index << level == at
        at += 1 << level
    assert at == end
    halves = [(a, b) for a, b in pairwise(tiles) if a[0] == b[0] and a[1] ^ 1 == b[1] and b[1] & 1]
    assert halves == []


@given(BOUNDS)
def test_each_hash_is_the_subtree_that_its_tile_names(bounds: list[int]) -> None:
    """The hashes of a range are the twin's roots over the leaves of each tile."""
    begin, end = bounds
    expected = [twin.mth(LEAVES[i << level : (i + 1) << level]) for level, i in tile(begin, end)]
    assert list(built(begin, end).hashes) == expected


@given(SIZES)
def test_root_is_that_of_the_definition(size: int) -> None:
    """A range from the first leaf on has the root of the recursive definition, and of nothing the hash of nothing."""
    assert built(0, size).root() == twin.mth(LEAVES[:size])
    assert CompactRange().root() == EMPTY_ROOT


@given(SIZES, SIZES, SIZES)
def test_joining_equals_growing_wherever_the_seams_are(one: int, two: int, three: int) -> None:
    """Three touching ranges joined from either side are the range that grew leaf by leaf."""
    a, b, c = sorted((one, two, three))
    left, middle = built(0, a), built(a, b)
    left.merge(middle)
    left.merge(built(b, c))
    middle.merge(built(b, c))
    whole = built(0, a)
    whole.merge(middle)
    assert left == whole == built(0, c)


@given(SIZES, SIZES)
def test_every_subtree_is_told_once_when_it_is_complete(first: int, more: int) -> None:
    """Growing or joining tells each perfect subtree exactly once, with its hash: what a store of nodes must hold."""
    told: dict[tuple[int, int], bytes] = {}

    def tell(level: int, index: int, hash: bytes) -> None:
        assert (level, index) not in told
        told[level, index] = hash

    first, size = sorted((first, more))
    grown = CompactRange()
    grown.extend(LEAVES[:first], tell)
    for leaf in LEAVES[first:size]:
        grown.append(leaf, tell)
    expected = {(level, i) for level in range(9) for i in range(size >> level)}
    assert told.keys() == expected
    assert all(hash == twin.mth(LEAVES[i << level : (i + 1) << level]) for (level, i), hash in told.items())


@given(BOUNDS)
def test_state_comes_back_and_grows_on(bounds: list[int]) -> None:
    """A stored range is the same when read, and a copy grows by itself."""
    grown = built(*bounds)
    back = parse_range(grown.encode())
    copy = grown.copy()
    assert back == copy == grown
    copy.append(LEAVES[0])
    assert copy != grown
    assert (len(copy), len(grown)) == (len(grown) + 1, bounds[1] - bounds[0])


def test_state_has_these_bytes_for_ever() -> None:
    """The state of a small tree is exactly what is written here."""
    state = CompactRange(0, 3, [b"\x00" * 32, b"\xff" * 32]).encode()
    assert state == (
        b'{"begin":0,"end":3,"hashes":["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",'
        b'"//////////////////////////////////////////8="],"v":1}'
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"end": 4}, Reason.MALFORMED),
        ({"end": -1}, Reason.MALFORMED),
        ({"begin": 4}, Reason.MALFORMED),
        ({"end": "3"}, Reason.MALFORMED),
        ({"begin": False}, Reason.MALFORMED),
        ({"hashes": None}, Reason.MALFORMED),
        ({"hashes": [1, 2]}, Reason.MALFORMED),
        ({"hashes": ["AA==", "AA=="]}, Reason.HASH_LENGTH),
        ({"v": 2}, Reason.VERSION),
        ({"v": True}, Reason.VERSION),
        ({"more": 1}, Reason.MALFORMED),
    ],
)
def test_other_states_are_refused(change: dict[str, object], reason: Reason) -> None:
    """A state that no range has is refused with its reason, before anything is built on it."""
    members = parse(built(0, 3).encode(), "state")
    with pytest.raises(EvidenceRefused) as caught:
        parse_range(canonical({**members, **change}))
    assert caught.value.reason == reason


def test_the_largest_tree_has_a_state() -> None:
    """A tree of 2**63 - 1 leaves is held by 63 hashes, and one leaf more is refused."""
    largest = CompactRange(0, 2**63 - 1, [LEAVES[0]] * 63)
    assert len(largest.root()) == 32
    with pytest.raises(EvidenceRefused) as caught:
        CompactRange(0, 2**63, [LEAVES[0]])
    assert caught.value.reason == Reason.MALFORMED


def test_what_no_range_can_do_is_refused() -> None:
    """A hash of another length, a gap between ranges, the root of a later part, and other bytes are refused."""
    for reason, act in (
        (Reason.HASH_LENGTH, lambda: CompactRange().append(b"short")),
        (Reason.HASH_LENGTH, lambda: CompactRange(0, 1, [b"short"])),
        (Reason.SIZES_OUT_OF_ORDER, lambda: built(0, 3).merge(built(4, 5))),
        (Reason.SIZES_OUT_OF_ORDER, lambda: built(1, 3).root()),
    ):
        with pytest.raises(EvidenceRefused) as caught:
            act()
        assert caught.value.reason == reason
    with pytest.raises(VerificationFailed):
        parse_range(b"[]")
    with pytest.raises(TypeError):
        hash(CompactRange())
    assert CompactRange() != "range"
