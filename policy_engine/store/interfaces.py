"""What every store promises, in prose and types. One suite (`tests/store`) runs on every implementation.

Words: a *draft* is an entry before it has a place in the log; a *row* is one line of a register; a *batch* is what
one transaction commits. A store is trusted to keep bytes and to be honest about durability; what its owner could do
by cheating (edit, delete, reorder) is what `services.evidence.verify` and, later, checkpoints are for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

REGISTERS = ("persons", "tenants", "orders", "switches", "keys", "approvals", "releases")
"""The registers, each a projection of the log."""


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

    `revision` counts changes of this id from 1. `(log_id, seq, item)` names the entry, and the place in it, that
    made the row; `salt` is the salt of that commitment.
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
    """An entry as bytes: `public` is the leaf; `sealed` is the ciphertext of the personal part (may be empty)."""

    public: bytes
    sealed: bytes
    data_key: str | None
    tags: tuple[bytes, ...] = ()


class Draft(Protocol):
    """An entry waiting for its place. `encode` is called inside the committing transaction, at most once a try.

    `at` is the store's clock. `new_keys()` are the wrapped data keys `(id, wrapped)` that the batch must also store.
    `revisions` are the `(register, id, revision)` the evaluation used; `until` the instant at which it goes stale;
    `allows` is true when an allow leaves on it; `instant` is the one it was evaluated at.
    """

    allows: bool
    instant: int
    until: int
    facts_revision: int
    revisions: tuple[tuple[str, str, int], ...]

    def encode(self, log_id: str, seq: int, at: int) -> Encoded: ...

    def new_keys(self) -> Sequence[tuple[str, bytes]]: ...


@dataclass(frozen=True, slots=True)
class Committed:
    """The batch is durable. `seqs` are in the order of the drafts; `at` is the store's clock at the commit."""

    log_id: str
    seqs: tuple[int, ...]
    at: int


@dataclass(frozen=True, slots=True)
class Moved:
    """Nothing was written: the state moved under at least one draft, named by its position in `stale`.

    `reason` per position is `epoch`, `facts`, `boundary` (an instant has come) or `clock` (an allow's instant differs
    from the store's clock by more than `limits.stale_seconds`, or the clock ran backwards).
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

    `kind` is the entry kind, such as `switch.engaged`. `public` are members of the entry that anyone may read;
    the rows themselves are sealed with per-row commitments. `raises_epoch` is false for facts and proposals only.
    `activate` names the release that becomes the active one. `expect_release`, when given, must be the active one.
    `expects` are `(register, id, revision)` of rows that the change rests on without writing them, such as the key of
    the person who makes it; they are compared in the same transaction, and a difference raises `Conflict`.
    """

    kind: str
    public: Mapping[str, Any]
    writes: tuple[Write, ...]
    raises_epoch: bool
    activate: str | None = None
    expect_release: str | None = None
    blobs: Mapping[str, bytes] = field(default_factory=dict)
    mark_sample: bool = False
    expects: tuple[tuple[str, str, int], ...] = ()


class ReadStore(Protocol):
    """Reading: always the last committed state; raises `StoreUnavailable` when it cannot know."""

    def now(self) -> int:
        """Return the store's clock as an instant."""
        ...

    def state(self) -> State: ...

    def row(self, register: str, id: str) -> Row | None: ...

    def rows(self, register: str, *, after: str = "", limit: int | None = None) -> list[Row]:
        """Return rows in order of id, keyset-paged by `after`."""
        ...

    def blob(self, hash: str) -> bytes | None:
        """Return stored release content by its hash."""
        ...

    def entry(self, log_id: str, seq: int) -> tuple[bytes, bytes] | None:
        """Return `(public, sealed)` of one entry."""
        ...

    def entries(self, *, after: int = -1, limit: int = 1_000, newest_first: bool = False) -> Iterator[tuple[str, int, bytes]]:
        """Yield `(log_id, seq, public)` in commit order."""
        ...

    def close(self) -> None: ...


class Store(ReadStore, Protocol):
    """Writing. Both calls are one transaction; on return what they report is durable (`synchronous=FULL`)."""

    def append(self, batch: Sequence[Draft], snapshot: State) -> Committed | Moved:
        """Write a batch of entries evaluated under `snapshot` if nothing they rest on has moved; else write none.

        Epoch and release are compared with the snapshot's, and per draft the fact revisions, the boundaries and the clock are compared inside the
        inserting transaction. Raises `StoreUnavailable` when the outcome is not known to be durable.
        """
        ...

    def change(self, change: Change) -> Committed:
        """Apply a change and its entry together, and raise the epoch where the change says so.

        Raises `Conflict` when a row, or the active release, is not as expected; `StoreUnavailable` as above.
        """
        ...
