"""What goes into a store and what comes out of it: state, rows, drafts and their places, changes, entries as they lie.

Words: a *draft* is an entry before it has a place in the log; a *row* is one line of a register; a *batch* is what
one transaction commits.
Rules of the room: values only, without a word of how a store keeps them. Left to others: what a store promises about
them (`interfaces`), the bytes of an entry (`ledger.encoding`), rows that go for good (`erasureinterfaces`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from policy_engine.store.erasureinterfaces import Erasure, Pruning

REGISTERS = ("persons", "tenants", "orders", "switches", "keys", "approvals", "releases")
"""The registers, each a projection of the log."""

FACT_REGISTERS = ("persons", "tenants")
"""Registers whose changes raise the facts revision and not the epoch."""

EPOCH_REGISTERS = ("orders", "switches", "keys")
"""Registers that a change may touch only when it raises the epoch."""


@dataclass(frozen=True, slots=True)
class State:
    """The one row that every decision reads: epoch, active release, and the counter of fact changes.

    `facts_revision` grows with every change of any person or tenant. `sample` is true when a `world/` was loaded.
    """

    epoch: int
    release: str | None
    facts_revision: int
    sample: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One register row: `document` is what the log committed to (JSON values only; instants as RFC 3339 text).

    `revision` counts changes of this id from 1 and never repeats, even after the row was taken away. `(log_id, seq,
    item)` names the entry, and the place in it, that made the row; `salt` is the salt of that commitment.
    """

    register: str
    id: str
    revision: int
    document: Mapping[str, Any]
    salt: bytes
    log_id: str
    seq: int
    item: int


@dataclass(frozen=True, slots=True)
class Encoded:
    """An entry as bytes: `public` is the leaf; `sealed` is the ciphertext of the personal part (may be empty).

    `data_key` names the key it is sealed under; `tags` find it again.
    """

    public: bytes
    sealed: bytes
    data_key: str | None
    tags: tuple[bytes, ...] = ()


class Draft(Protocol):
    """An entry waiting for its place. `encode` is called inside the committing transaction, at most once a try.

    `allows` is true when an allow leaves on it; `instant` is the one it was evaluated at; `until` the instant at
    which it goes stale; `facts_revision` and `revisions` (`(register, id, revision)`, 0: no such row) the facts it
    was evaluated on.
    """

    @property
    def allows(self) -> bool:
        """Whether an allow leaves on it."""

    @property
    def instant(self) -> int:
        """The instant it was evaluated at."""

    @property
    def until(self) -> int:
        """The instant at which it goes stale."""

    @property
    def facts_revision(self) -> int:
        """The facts revision of the state it was evaluated under."""

    @property
    def revisions(self) -> tuple[tuple[str, str, int], ...]:
        """The rows it was evaluated on, `(register, id, revision)`, 0 for no such row."""

    def encode(self, log_id: str, seq: int, at: int) -> Encoded:
        """Return the entry for its place; `at` is the store's clock. Called after `new_keys` and `adopt`."""

    def new_keys(self) -> Sequence[tuple[str, bytes]]:
        """Return the wrapped data keys `(id, wrapped)` that this draft made and nobody has stored yet."""

    def adopt(self, key_id: str, wrapped: bytes) -> None:
        """Take the stored data key instead of the one just made: another process stored it first."""


@dataclass(frozen=True, slots=True)
class Committed:
    """The batch is durable. `seqs` are in the order of the drafts; `at` is the store's clock at the commit.

    `header` are the header's bytes as committed and `leaves` the leaf hashes of its entries, for receipts.
    """

    log_id: str
    seqs: tuple[int, ...]
    at: int
    header: bytes = b""
    leaves: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Moved:
    """Nothing was written: the state moved under at least one draft, named by its position in `stale`.

    `reason` per position is `epoch`, `facts`, `boundary` (an instant has come; for an allow also one that the log has
    passed, when the clock was set back since) or `clock` (an allow's instant differs from the store's clock by more
    than `limits.stale_seconds`, or the clock ran backwards). `state` is what holds now.
    """

    stale: Mapping[int, str]
    state: State
    at: int


@dataclass(frozen=True, slots=True)
class Write:
    """One register row to put, or to take away (`document=None`), in a change.

    `expect` is the revision the row must have now (0: must not exist); a difference raises `Conflict`.
    """

    register: str
    id: str
    document: Mapping[str, Any] | None
    expect: int


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the registers, applied with its entry or not at all.

    `kind` is the entry kind, such as `switch.engaged`. `public` are members of the entry that anyone may read (an
    `id` among them becomes the entry's, 32 hex digits); the rows are sealed, each with its own commitment and key.
    `raises_epoch` is false for facts, proposals and stored releases only. `activate` names the release that becomes
    the active one. `expect_release`, when given, must be the active one, and `expect_epoch` the epoch before it (else
    `Overtaken`: what was looked at is looked at anew). `expects` are rows, `(register, id,
    revision)` with 0 for no such row, that the change rests on without touching them. `blobs` are contents by their
    SHA-256 in hex. `removes` is what goes for good (`erased`, `pruned`), `beyond` a lost epoch (`epoch.recovered`).
    """

    kind: str
    public: Mapping[str, Any]
    writes: tuple[Write, ...]
    raises_epoch: bool
    activate: str | None = None
    expect_release: str | None = None
    expect_epoch: int | None = None
    expects: tuple[tuple[str, str, int], ...] = ()
    blobs: Mapping[str, bytes] = field(default_factory=dict)
    mark_sample: bool = False
    removes: Erasure | Pruning | None = None
    beyond: int | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """Where a log ends: the next sequence and batch numbers, the hash of the last header, and its clock.

    No entry is written earlier than `last_at`, the latest instant seen. Entries before `tagged` are in the index.
    """

    log_id: str
    next_seq: int
    next_batch: int
    head_hash: str
    last_at: int
    tagged: int


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """One entry as it lies there. `sealed` is `None` without a body, and empty once erased; `tags` are joined."""

    log_id: str
    seq: int
    public: bytes
    leaf: bytes
    data_key: str | None
    sealed: bytes | None
    tags: bytes | None


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """One batch header as it lies there, with the columns that repeat its members."""

    log_id: str
    batch: int
    first: int
    n: int
    header: bytes
    hash: str


@dataclass(frozen=True, slots=True)
class StoredRow:
    """One register row as it lies there: `document` is text (`None`: taken away), `typed` the columns beside it."""

    register: str
    id: str
    revision: int
    document: str | None
    salt: bytes
    log_id: str
    seq: int
    item: int
    typed: Mapping[str, str | None]


class Staged(Protocol):
    """A batch that is written and not committed: nobody else writes until it is handed to `Store.commit`."""

    @property
    def committed(self) -> Committed:
        """What will be so once the commit has returned, and not before."""
        ...
