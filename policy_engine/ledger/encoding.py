"""Entries and batch headers as bytes, version 1. These bytes are permanent: what is written is never re-encoded.

How version 1 may grow: a new optional member whose absence means what was true before it existed. Anything else
(another meaning, another order, a member taken away) is a new version number beside this one.

Members of every entry: `v` 1, `kind`, `id` (32 hex digits), `log`, `seq`, `at` (microseconds, never before the entry
in front of it), `epoch` and `release` (a change's are those after it), `commit` and `sealed`. `sealed` is the hex
SHA-256 of the ciphertext in `bodies`, "" if there is none; `commit` the salted commitment to its plaintext.
A change has `rows` instead of `commit`: `[register, commitment]` for each row, in write order. Optional everywhere:
`clock` ("set" when the clock was given by a test, case or demo). Optional in a change: `activates`, `blobs`, `sample`,
`erases` (kind `erased`: `keys`, ids of data keys destroyed; `rows`, [register, key id, last revision] of register rows;
`bodies`, how many were emptied), `prunes` (kind `pruned`: `before`, an instant; `ranges`, [log, first, end]; `bodies`).
Left to others: the members of a decision (`decisions`), sealing (`sealing`), hashing (`merkle`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from policy_engine.errors import InputRefused, VerificationFailed
from policy_engine.ledger.canonical import canonical, parse
from policy_engine.ledger.merkle import leaf_hash

VERSION = 1

FIRST_PREVIOUS = "0" * 64
"""`prev` of the first header of a log, which has none before it."""

_HASH = re.compile(r"[0-9a-f]{64}")

COMMON = frozenset({"v", "kind", "id", "log", "seq", "at", "epoch", "release", "sealed"})
"""Members that every entry has; `commit` or `rows` comes with them."""

RESERVED = COMMON | {"commit", "rows", "clock", "activates", "blobs", "sample", "erases", "prunes"}
"""Members that a caller's own public members may not replace (`id` excepted)."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in which log an entry goes, and under what: fixed inside the committing transaction."""

    log_id: str
    seq: int
    at: int
    epoch: int
    release: str | None
    clock_set: bool = False


def note_public(kind: str, id: str, place: Place, members: Mapping[str, Any], *, commit: str, sealed: str) -> bytes:
    """Return the public bytes of an entry that changes no register (`search`, `read`, `gap`)."""
    return _public(kind, id, place, members, {"commit": commit, "sealed": sealed})


def change_public(
    kind: str,
    id: str,
    place: Place,
    members: Mapping[str, Any],
    *,
    rows: Sequence[tuple[str, str]],
    sealed: str,
    activates: str | None = None,
    blobs: Sequence[str] = (),
    sample: bool = False,
    removes: Mapping[str, Any] | None = None,
) -> bytes:
    """Return the public bytes of a change. `place` holds the epoch and release *after* it."""
    own: dict[str, Any] = {"rows": [list(row) for row in rows], "sealed": sealed}
    if activates is not None:
        own["activates"] = activates
    if blobs:
        own["blobs"] = sorted(blobs)
    if sample:
        own["sample"] = True
    own |= removes or {}
    return _public(kind, id, place, members, own)


def _public(kind: str, id: str, place: Place, members: Mapping[str, Any], own: Mapping[str, Any]) -> bytes:
    taken = RESERVED & set(members)
    if taken:
        raise InputRefused(f"`{sorted(taken)[0]}` is a member that the log itself writes", where="entry")
    whole = {
        **members,
        **own,
        "v": VERSION,
        "kind": kind,
        "id": id,
        "log": place.log_id,
        "seq": place.seq,
        "at": place.at,
        "epoch": place.epoch,
        "release": place.release,
    }
    if place.clock_set:
        whole["clock"] = "set"
    return canonical(whole)


def parse_public(public: bytes) -> dict[str, Any]:
    """Return the members of an entry. Raises `VerificationFailed` when it is no entry of a version we know."""
    entry = parse(public, "the entry")
    if not isinstance(entry, dict) or not entry.keys() >= COMMON:
        raise VerificationFailed("the entry lacks a member that every entry has")
    if not _is_version(entry["v"]):
        raise VerificationFailed("the entry has an unknown version; a newer program wrote it")
    return entry


@dataclass(frozen=True, slots=True)
class Header:
    """What one transaction committed: `n` entries from `first`, the root over their leaf hashes, and the chain.

    `prev` is the hash of the header before it in the same log; `epoch` and `release` are those after the batch.
    """

    log_id: str
    batch: int
    first: int
    n: int
    root: str
    prev: str
    epoch: int
    release: str | None
    at: int

    def encode(self) -> bytes:
        """Return the canonical bytes, which are the leaves of the global tree."""
        return canonical(
            {
                "v": VERSION,
                "log": self.log_id,
                "batch": self.batch,
                "first": self.first,
                "n": self.n,
                "root": self.root,
                "prev": self.prev,
                "epoch": self.epoch,
                "release": self.release,
                "at": self.at,
            }
        )


def _is_version(v: object) -> bool:
    """Return whether a `v` is this version as a number: in Python, true equals 1."""
    return type(v) is int and v == VERSION


def header_hash(header: bytes) -> str:
    """Return the hex hash of a header's bytes, as the next header's `prev` and `heads` hold it."""
    return leaf_hash(header).hex()


def parse_header(data: bytes) -> Header:
    """Return the header that bytes write. Raises `VerificationFailed` when they are no header of a known version."""
    members = parse(data, "the batch header")
    names = {"v", "log", "batch", "first", "n", "root", "prev", "epoch", "release", "at"}
    if not isinstance(members, dict) or set(members) != names or not _is_version(members["v"]):
        raise VerificationFailed("the batch header has other members or another version than this program knows")
    numbers = (members["batch"], members["first"], members["n"], members["epoch"], members["at"])
    texts = (members["log"], members["root"], members["prev"])
    release = members["release"]
    right = (
        all(type(number) is int for number in numbers)
        and all(type(text) is str for text in texts)
        and (release is None or type(release) is str)
    )
    if not right:
        raise VerificationFailed("a member of the batch header has the wrong type")
    hashes = (members["root"], members["prev"])
    if min(numbers) < 0 or members["n"] == 0 or not members["log"] or not all(map(_HASH.fullmatch, hashes)):
        raise VerificationFailed("the batch header counts below its least, names no log, or holds a hash that is none")
    return Header(
        log_id=members["log"],
        batch=members["batch"],
        first=members["first"],
        n=members["n"],
        root=members["root"],
        prev=members["prev"],
        epoch=members["epoch"],
        release=members["release"],
        at=members["at"],
    )
