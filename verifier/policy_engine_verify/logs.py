"""Writer logs: which leaf of the global tree may follow which, and whether entries are those that a batch committed.

A leaf is a batch header, or says that a log opens, closes, or was abandoned. Each leaf and entry is parsed and written
again, so that it has the one spelling; those of the usual form are only compared with it (`forms`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from policy_engine_verify import limits
from policy_engine_verify.formats import Refused, canonical
from policy_engine_verify.forms import DECISION, HEADER, all_decisions, matched
from policy_engine_verify.tree import hashes_behind, root_of

FIRST_PREVIOUS = "0" * 64
_FITS: dict[str, Callable[[Any], bool]] = {
    "count": lambda value: type(value) is int and value >= 0,
    "some": lambda value: type(value) is int and value >= 1,
    "text": lambda value: isinstance(value, str) and value != "",
    "text?": lambda value: value is None or isinstance(value, str),
    "name?": lambda value: value is None or (isinstance(value, str) and value != ""),
    "hash": lambda value: isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None,
}
_EVERY = {"v": "some", "log": "text", "epoch": "count", "at": "count"}
_BATCH = {"batch": "count", "first": "count", "n": "some", "root": "hash", "prev": "hash", "release": "text?"}
_END = {"kind": "text", "batches": "count", "entries": "count", "head": "hash"}
_OPEN = {"kind": "text", "boot": "text", "key": "name?", "release": "name?"}
_EVENTS = {"open": _OPEN, "close": _END, "abandoned": _END}
_COMMON = {"v", "kind", "id", "log", "seq", "at", "epoch", "release", "sealed"}


class Header(NamedTuple):
    """What one commit wrote."""

    log: str
    batch: int
    first: int
    n: int
    root: str
    prev: str
    epoch: int
    release: str | None
    at: int


class Entry(NamedTuple):
    """What the checks need of an entry; `members` are all of them, where it had to be parsed."""

    log: str
    seq: int
    at: int
    epoch: int
    release: str | None
    sealed: str
    commit: str
    members: dict[str, Any] | None


def parse_leaf(data: bytes, plain: bool = False) -> Header | dict[str, Any]:
    """Return the header, or the members of an event, that a leaf holds. `plain`: it is known to need no escape."""
    usual = matched(HEADER, data, plain)
    if usual and len(data) <= limits.LEAF_BYTES:
        at, batch, epoch, first, log, n, prev, release, root = usual.groups()
        places = log.decode(), int(batch), int(first), int(n), root.decode(), prev.decode(), int(epoch)
        return Header(*places, None if release == b"null" else release[1:-1].decode(), int(at))
    if len(data) > limits.LEAF_BYTES:
        raise Refused(f"the leaf is longer than {limits.LEAF_BYTES} bytes")
    members = canonical(data, "the leaf")
    kind = members.get("kind") if isinstance(members, dict) else None
    shape = _EVERY | (_BATCH if kind is None else _EVENTS.get(kind, {}) if isinstance(kind, str) else {})
    if not isinstance(members, dict) or members.keys() != shape.keys() or members["v"] != 1:
        raise Refused("the leaf is no batch header and no event of version 1")
    if not all(_FITS[shape[name]](value) for name, value in members.items()):
        raise Refused("a member of the leaf has the wrong type, counts below its least, or is a hash that is none")
    return members if kind else Header(**{name: members[name] for name in Header._fields})


@dataclass
class Tip:
    """Where a log stands: how much it has, the hash of its last header, and the key of its receipts."""

    log: str
    key: str | None
    epoch: int
    at: int
    batches: int = 0
    entries: int = 0
    head: str = FIRST_PREVIOUS
    ended: str | None = None
    shown: int = 0
    entry_epoch: int = 0


def follow(tip: Tip | None, leaf: Header | dict[str, Any], hash: bytes) -> Tip:
    """Return the tip behind a leaf. Raises `Refused` when the leaf may not follow; the tip is then as it was."""
    if isinstance(leaf, dict) and leaf["kind"] == "open":
        if tip is not None:
            raise Refused("the log is opened a second time")
        return Tip(leaf["log"], leaf["key"], leaf["epoch"], leaf["at"])
    if tip is None:
        raise Refused("the log has a leaf before it is opened")
    if tip.ended:
        raise Refused("a leaf follows the end of its log")
    epoch, at = (leaf.epoch, leaf.at) if isinstance(leaf, Header) else (leaf["epoch"], leaf["at"])
    if epoch < tip.epoch or at < tip.at:
        raise Refused("the leaf has an older time or epoch than the one in front of it")
    if isinstance(leaf, Header):
        if leaf.batch != tip.batches:
            where = "is there already, or is a second history" if leaf.batch < tip.batches else "has a gap before it"
            raise Refused(f"batch {tip.batches} of the log comes next, and this one {where}")
        if leaf.prev != tip.head:
            raise Refused("the header follows another header than the one in front of it: either was changed")
        if leaf.first != tip.entries:
            raise Refused(f"entry {tip.entries} comes next, and the batch begins with another")
        tip.batches, tip.entries, tip.head = leaf.batch + 1, leaf.first + leaf.n, hash.hex()
    else:
        if (leaf["batches"], leaf["entries"], leaf["head"]) != (tip.batches, tip.entries, tip.head):
            raise Refused("the log ends with other batches or entries than there are")
        tip.ended = leaf["kind"]
    tip.epoch, tip.at = epoch, at
    return tip


def parse_entry(data: bytes, plain: bool = False) -> Entry:
    """Return what the checks need of an entry. Raises `Refused` when it is no canonical entry of version 1."""
    usual = matched(DECISION, data, plain)
    if usual:
        at, commit, epoch, log, release, sealed, seq = usual.groups()
        named = None if release == b"null" else release[1:-1].decode()
        return Entry(log.decode(), int(seq), int(at), int(epoch), named, sealed.decode(), commit.decode(), None)
    members = canonical(data, "the entry")
    if not isinstance(members, dict) or not members.keys() >= _COMMON or type(members["v"]) is not int:
        raise Refused("the entry lacks a member that every entry has")
    log, seq, at, epoch = (members[name] for name in ("log", "seq", "at", "epoch"))
    sealed, commit = members["sealed"], members.get("commit", "")
    types = [type(value) for value in (log, seq, at, epoch, sealed, commit)]
    if members["v"] != 1 or types != [str, int, int, int, str, str]:
        raise Refused("the entry has an unknown version or a member of the wrong type")
    return Entry(log, seq, at, epoch, members["release"], sealed, commit, members)


@lru_cache(64)
def _written(text: str | None) -> bytes:
    return json.dumps(text, ensure_ascii=False).encode()


def check_batch(
    header: Header, lines: list[bytes], plain: bool = False, epoch: int = 0, every: bool = True
) -> tuple[bool, list[Entry], list[tuple[int | None, str]]]:
    """Return whether lines are the entries that a header committed, the entries, and what is wrong at which number.

    `plain`: they are known to need no escape. `epoch` is that of the entry in front. Without `every`, a batch of
    decisions of the usual form, all at their place, is left out of what is returned.
    """
    own = root_of(hashes_behind(b"\x00", lines)).hex() == header.root and len(lines) == header.n
    entries: list[Entry] = []
    wrong: list[tuple[int | None, str]] = []
    log, release = header.log.encode(), _written(header.release)
    if plain and not every and all_decisions(lines, header.first, header.at, header.epoch, log, release):
        return own, entries, wrong
    last = state = (header.epoch, header.release)
    for seq, line in enumerate(lines, header.first):
        try:
            entry = parse_entry(line, plain)
            if (entry.log, entry.seq, entry.at) != (header.log, seq, header.at) or not epoch <= entry.epoch <= state[0]:
                raise Refused("the entry was written for another place, time or epoch than it has in its batch")
            entries.append(entry)
            epoch, last = entry.epoch, (entry.epoch, entry.release)
        except Refused as refused:
            wrong.append((seq, str(refused)))
            last = state  # one finding is enough
    if last != state:
        wrong.append((None, "its last entry has another epoch or release than the header"))
    return own, entries, wrong
