"""Entries and headers: their permanent bytes, and the refusal of everything else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from policy_engine.errors import InputRefused, VerificationFailed
from policy_engine.ledger.canonical import canonical, parse
from policy_engine.ledger.encoding import (
    FIRST_PREVIOUS,
    RESERVED,
    Header,
    Place,
    change_public,
    header_hash,
    note_public,
    parse_header,
    parse_public,
)
from policy_engine.ledger.merkle import leaf_hash

PLACE = Place("00f1e2d3c4b5a697", 7, 1_795_219_200_000_000, 3, "sha256:ab")
HEADER = Header("00f1e2d3c4b5a697", 2, 5, 3, "11" * 32, FIRST_PREVIOUS, 3, "sha256:ab", 1_795_219_200_000_000)

NOTE = (
    b'{"at":1795219200000000,"by":"key-1","commit":"cc","count":2,"epoch":3,"id":"0123","kind":"search",'
    b'"log":"00f1e2d3c4b5a697","release":"sha256:ab","sealed":"dd","seq":7,"v":1}'
)
CHANGE = (
    b'{"activates":"sha256:ab","at":1795219200000000,"blobs":["b0","b1"],"by":"key-1","clock":"set","epoch":3,'
    b'"id":"0123","kind":"genesis","log":"00f1e2d3c4b5a697","release":"sha256:ab",'
    b'"rows":[["persons","c0"],["keys","c1"]],"sample":true,"sealed":"dd","seq":7,"v":1}'
)
HEADER_BYTES = (
    b'{"at":1795219200000000,"batch":2,"epoch":3,"first":5,"log":"00f1e2d3c4b5a697","n":3,"prev":"'
    + b"0" * 64
    + b'","release":"sha256:ab","root":"'
    + b"11" * 32
    + b'","v":1}'
)


def change(**more: Any) -> bytes:
    """Encode the sample change."""
    return change_public(
        "genesis",
        "0123",
        replace(PLACE, clock_set=True),
        {"by": "key-1", **more},
        rows=[("persons", "c0"), ("keys", "c1")],
        sealed="dd",
        activates="sha256:ab",
        blobs=["b1", "b0"],
        sample=True,
    )


def test_golden_vectors_never_change() -> None:
    """A note, a change and a header have exactly the bytes and hash written here, for ever."""
    note = note_public("search", "0123", PLACE, {"by": "key-1", "count": 2}, commit="cc", sealed="dd")
    assert note == NOTE
    assert change() == CHANGE
    assert HEADER.encode() == HEADER_BYTES
    assert header_hash(HEADER_BYTES) == "bbf2e04a541953d374e147676f7ed1bb9299ab2975585863cd62592f8577751a"
    assert leaf_hash(NOTE).hex() == "8f1aa74d643d0365dd5385e4269281a2c4b0dce1aaa2dd2d3316ed7a5873d2c1"


def test_optional_members_are_left_out() -> None:
    """A change that activates, stores and marks nothing has none of the optional members."""
    public = change_public("facts.set", "0123", PLACE, {}, rows=[], sealed="")
    assert set(parse_public(public)) == {
        "at", "epoch", "id", "kind", "log", "release", "rows", "sealed", "seq", "v",
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_callers_cannot_replace_members_of_the_log(name: str) -> None:
    """A public member under a name that the log writes itself is refused, so nothing can be forged with it."""
    with pytest.raises(InputRefused, match=name):
        change(**{name: "x"})


def test_entries_are_read_as_they_were_written() -> None:
    """Reading gives the members; a missing member, another version and other bytes are refused."""
    assert parse_public(NOTE)["count"] == 2
    for public in (
        NOTE.replace(b'"v":1', b'"v":2'),
        NOTE.replace(b'"v":1', b'"w":1'),
        NOTE + b" ",
        b"[]",
        b"{}",
    ):
        with pytest.raises(VerificationFailed):
            parse_public(public)


def test_headers_are_read_as_they_were_written() -> None:
    """Reading gives the header; another member, version, type or spelling is refused."""
    assert parse_header(HEADER_BYTES) == HEADER
    members = parse(HEADER_BYTES, "it")
    wrong: list[bytes] = [HEADER_BYTES + b"\n", canonical([]), canonical({**members, "x": 1})]
    wrong += [canonical({**members, "v": 2}), canonical({k: v for k, v in members.items() if k != "prev"})]
    for name, value in members.items():
        other: Any = str(value) if isinstance(value, int) else 1
        if name != "release":
            wrong.append(canonical({**members, name: other}))
    wrong.append(canonical({**members, "n": True}))
    for data in wrong:
        with pytest.raises(VerificationFailed):
            parse_header(data)
