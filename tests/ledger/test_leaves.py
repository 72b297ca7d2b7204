"""Leaves of the global tree: their permanent bytes, and the refusal of everything else."""

from __future__ import annotations

from typing import Any

import pytest

from policy_engine.errors import VerificationFailed
from policy_engine.ledger.canonical import canonical, parse
from policy_engine.ledger.encoding import FIRST_PREVIOUS, Header
from policy_engine.ledger.leaves import LEAF_BYTES_MAX, Abandoned, Closed, Leaf, Opened, parse_leaf
from policy_engine.ledger.merkle import leaf_hash
from policy_engine.ledger.refusals import EvidenceRefused, Reason

LOG = "00f1e2d3c4b5a697"
AT = 1_795_219_200_000_000
OPENED = Opened(LOG, "b0", "w+00000000+AQ==", 3, "sha256:ab", AT)
HEADER = Header(LOG, 2, 5, 3, "11" * 32, FIRST_PREVIOUS, 3, "sha256:ab", AT)
CLOSED = Closed(LOG, 3, 8, "22" * 32, 4, AT)
ABANDONED = Abandoned(LOG, 0, 0, FIRST_PREVIOUS, 4, AT)
LEAVES: list[Leaf] = [OPENED, HEADER, CLOSED, ABANDONED]

GOLDEN = {
    "open": (
        b'{"at":1795219200000000,"boot":"b0","epoch":3,"key":"w+00000000+AQ==","kind":"open",'
        b'"log":"00f1e2d3c4b5a697","release":"sha256:ab","v":1}',
        "10a4188ef6b2c6bfe864458c1fda7092eef94535d12170fffb616b807825e96c",
    ),
    "close": (
        b'{"at":1795219200000000,"batches":3,"entries":8,"epoch":4,"head":"' + b"22" * 32 + b'","kind":"close",'
        b'"log":"00f1e2d3c4b5a697","v":1}',
        "f2497386e59f3d3d0d9a5ca387d3afbec5acf59606fb0aecefc040e7cc9acfd6",
    ),
    "abandoned": (
        b'{"at":1795219200000000,"batches":0,"entries":0,"epoch":4,"head":"' + b"00" * 32 + b'","kind":"abandoned",'
        b'"log":"00f1e2d3c4b5a697","v":1}',
        "1da214c8f4c8e3894e871b1d6d0ba06159564af878a4916d358b93449fc556ef",
    ),
}


def test_golden_vectors_never_change() -> None:
    """An opening, a closing and an abandonment have exactly the bytes and hashes written here, for ever."""
    for leaf, kind in ((OPENED, "open"), (CLOSED, "close"), (ABANDONED, "abandoned")):
        data, hash = GOLDEN[kind]
        assert leaf.encode() == data
        assert leaf_hash(data).hex() == hash


@pytest.mark.parametrize("leaf", [*LEAVES, Opened(LOG, "b0", None, 0, None, 0)], ids=lambda leaf: type(leaf).__name__)
def test_leaves_are_read_as_they_were_written(leaf: Leaf) -> None:
    """Reading a leaf gives what was written; a header is a leaf as the commit wrote it."""
    assert parse_leaf(leaf.encode()) == leaf


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: type(leaf).__name__)
def test_other_members_types_and_versions_are_refused(leaf: Leaf) -> None:
    """A member too many, too few, of another type, empty or negative, another version or spelling: all refused."""
    members = parse(leaf.encode(), "leaf")
    wrong: list[dict[str, Any]] = [{**members, "x": 1}, {**members, "v": 2}, {**members, "v": True}]
    wrong += [{name: value for name, value in members.items() if name != left_out} for left_out in members]
    for name, value in members.items():
        others: list[Any] = [[], {}, False]
        others += [-1, str(value)] if isinstance(value, int) else [1]
        if name not in ("release", "key"):
            others.append(None)
        if name in ("root", "prev", "head"):
            others += [value[:-1], value + "0", "AA" * 32]
        if name == "n":
            others.append(0)
        if name in ("log", "boot", "key"):
            others.append("")
        wrong += [{**members, name: other} for other in others]
    for bad in wrong:
        with pytest.raises(VerificationFailed):
            parse_leaf(canonical(bad))
    for data in (leaf.encode() + b"\n", b" " + leaf.encode(), b"[]", b"{}", b'"open"', b"", b"\xff"):
        with pytest.raises(VerificationFailed):
            parse_leaf(data)


def test_kinds_do_not_pass_for_each_other() -> None:
    """An end with the members of an opening, and a header with a kind, are refused."""
    for base, kind in ((OPENED, "close"), (CLOSED, "open"), (HEADER, "close"), (CLOSED, "batch"), (CLOSED, ["close"])):
        with pytest.raises(EvidenceRefused) as caught:
            parse_leaf(canonical({**parse(base.encode(), "leaf"), "kind": kind}))
        assert caught.value.reason == Reason.MALFORMED


def test_leaves_fit_into_tiles() -> None:
    """A leaf of the largest size is read, and one byte more is refused."""
    room = LEAF_BYTES_MAX - len(Opened(LOG, "", None, 0, None, 0).encode())
    largest = Opened(LOG, "b" * room, None, 0, None, 0)
    assert parse_leaf(largest.encode()) == largest
    with pytest.raises(EvidenceRefused) as caught:
        parse_leaf(Opened(LOG, "b" * (room + 1), None, 0, None, 0).encode())
    assert caught.value.reason == Reason.TOO_LARGE
