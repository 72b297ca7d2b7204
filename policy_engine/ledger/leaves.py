"""The leaves of the global tree, version 1: a writer log opens, commits batches, and closes or is abandoned.

A batch leaf *is* the header that the commit wrote (`encoding.Header`), byte for byte: headers that were written before
there was a tree are leaves as they are. The other three have a `kind`, which a header never has. These bytes are
permanent; the rule for growth is that of `encoding`. Members beside `v` 1, `kind`, `log`, `epoch` and `at`:
- `open`: `boot` (id of the process), `key` (verifier key text of its receipts, null when it signs none), `release`.
- `close` (the writer ends its log) and `abandoned` (the sequencer ends it, its lease being over): `batches`,
  `entries` and `head`: how many batches and entries the log has for ever, and the hash of its last header.
Rules: an ended log stays ended; a writer that comes back opens a new log (the one log of an SQLite file is never
ended). `at` is never before that of the leaf in front of it in the same log: whoever writes one takes the later of its
clock and that. The `open` of a log that had batches before there was a tree has `at` and `epoch` of its first header.
Left to others: whether a leaf may follow another (`chain`), hashing (`merkle`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from policy_engine.ledger.canonical import canonical, parse
from policy_engine.ledger.encoding import Header, parse_header
from policy_engine.ledger.refusals import EvidenceRefused, Reason

VERSION = 1

LEAF_BYTES_MAX = 65_535
"""The longest leaf that tiles can hold (C2SP tlog-tiles, "Log Entries")."""

_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Opened:
    """A writer log begins."""

    log_id: str
    boot: str
    key: str | None
    epoch: int
    release: str | None
    at: int

    def encode(self) -> bytes:
        """Return the canonical bytes of the leaf."""
        own = {"boot": self.boot, "key": self.key, "release": self.release}
        return _encode("open", self.log_id, self.epoch, self.at, own)


@dataclass(frozen=True, slots=True)
class Closed:
    """The writer says that its log ends here."""

    log_id: str
    batches: int
    entries: int
    head: str
    epoch: int
    at: int

    def encode(self) -> bytes:
        """Return the canonical bytes of the leaf."""
        own = {"batches": self.batches, "entries": self.entries, "head": self.head}
        return _encode("close", self.log_id, self.epoch, self.at, own)


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The sequencer says that the log of a writer that is gone ends here."""

    log_id: str
    batches: int
    entries: int
    head: str
    epoch: int
    at: int

    def encode(self) -> bytes:
        """Return the canonical bytes of the leaf."""
        own = {"batches": self.batches, "entries": self.entries, "head": self.head}
        return _encode("abandoned", self.log_id, self.epoch, self.at, own)


Leaf = Header | Opened | Closed | Abandoned

_ENDS: dict[str, type[Closed] | type[Abandoned]] = {"close": Closed, "abandoned": Abandoned}
_OPEN_NAMES = {"v", "kind", "log", "epoch", "at", "boot", "key", "release"}
_END_NAMES = {"v", "kind", "log", "epoch", "at", "batches", "entries", "head"}


def _encode(kind: str, log_id: str, epoch: int, at: int, own: dict[str, Any]) -> bytes:
    return canonical({"v": VERSION, "kind": kind, "log": log_id, "epoch": epoch, "at": at, **own})


def parse_leaf(data: bytes) -> Leaf:
    """Return what a leaf of the global tree says.

    Raises `VerificationFailed` (mostly `EvidenceRefused`: `TOO_LARGE`, `MALFORMED`, `VERSION`) when it is no leaf of a
    known version.
    """
    if len(data) > LEAF_BYTES_MAX:
        raise EvidenceRefused(Reason.TOO_LARGE, f"a leaf of the global tree has over {LEAF_BYTES_MAX} bytes")
    members = parse(data, "the leaf of the global tree")
    if not isinstance(members, dict) or "kind" not in members:
        return parse_header(data)
    if type(members.get("v")) is not int or members["v"] != VERSION:
        raise EvidenceRefused(Reason.VERSION, "the leaf has a version that this program does not know")
    kind = members["kind"]
    if kind == "open" and set(members) == _OPEN_NAMES:
        _check(members, numbers=("epoch", "at"), texts=("log", "boot"), optional=("key", "release"))
        return Opened(
            log_id=members["log"],
            boot=members["boot"],
            key=members["key"],
            epoch=members["epoch"],
            release=members["release"],
            at=members["at"],
        )
    if kind in ("close", "abandoned") and set(members) == _END_NAMES:
        _check(members, numbers=("epoch", "at", "batches", "entries"), texts=("log", "head"))
        if not _HASH.fullmatch(members["head"]):
            raise EvidenceRefused(Reason.MALFORMED, "the head in the leaf is not a hash")
        return _ENDS[kind](
            log_id=members["log"],
            batches=members["batches"],
            entries=members["entries"],
            head=members["head"],
            epoch=members["epoch"],
            at=members["at"],
        )
    raise EvidenceRefused(Reason.MALFORMED, "the leaf is of a kind, or has members, that this program does not know")


def _check(
    members: dict[str, Any], numbers: tuple[str, ...], texts: tuple[str, ...], optional: tuple[str, ...] = ()
) -> None:
    """Refuse members of the wrong type, negative numbers and an empty text."""
    right = (
        all(type(members[name]) is int and members[name] >= 0 for name in numbers)
        and all(type(members[name]) is str and members[name] for name in texts)
        and all(members[name] is None or (type(members[name]) is str and members[name]) for name in optional)
    )
    if not right:
        raise EvidenceRefused(Reason.MALFORMED, "a member of the leaf has the wrong type or is empty or negative")
