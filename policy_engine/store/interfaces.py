"""What every store promises, in prose and types. One suite (`tests/store`) runs on every implementation.

Words: a *draft* is an entry before it has a place in the log; a *row* is one line of a register; a *batch* is what
one transaction commits. A store is trusted to keep bytes and to be honest about durability; what its owner could do
by cheating (edit, delete, reorder) is what `services.evidence.verify` and, later, checkpoints are for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from policy_engine.store.erasureinterfaces import Erasure, MarkReader, Pruning
from policy_engine.store.indexinterfaces import FilledStore, FindingStore, IndexViewer
from policy_engine.store.replicainterfaces import ReplicaViewer
from policy_engine.store.treeinterfaces import TreeReader, WholeTree

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

    `reason` per position is `epoch`, `facts`, `boundary` (an instant has come) or `clock` (an allow's instant differs
    from the store's clock by more than `limits.stale_seconds`, or the clock ran backwards). `state` is what holds now.
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
    the active one. `expect_release`, when given, must be the active one. `expects` are rows, `(register, id,
    revision)` with 0 for no such row, that the change rests on without touching them. `blobs` are contents by their
    SHA-256 in hex. `removes` is what goes for good (`erased`, `pruned`), `beyond` a lost epoch (`epoch.recovered`).
    """

    kind: str
    public: Mapping[str, Any]
    writes: tuple[Write, ...]
    raises_epoch: bool
    activate: str | None = None
    expect_release: str | None = None
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


class LogView(WholeTree, MarkReader, IndexViewer, ReplicaViewer, Protocol):
    """Everything a store holds, at one moment, for verifying: nothing written later is seen. Streams in order."""

    one_log: bool  # as `ReadStore.one_log`

    def state(self) -> State:
        """Return the state row."""

    def heads(self) -> list[Head]:
        """Return where each log ends."""

    def scan_entries(self, *, by_instant: bool = False) -> Iterator[StoredEntry]:
        """Yield every entry, by log and sequence number, or where there are several logs by its instant first."""

    def scan_batches(self) -> Iterator[StoredBatch]:
        """Yield every batch header, by log and number."""

    def scan_rows(self, register: str) -> Iterator[StoredRow]:
        """Yield every row of a register, those taken away included, by id."""

    def scan_blobs(self) -> Iterator[tuple[str, bytes]]:
        """Yield `(hash, content)` of every blob."""

    def scan_tags(self) -> Iterator[tuple[bytes, str, int]]:
        """Yield `(tag, log_id, seq)` of the index of tags, in its order."""

    def last_cosignature(self, cosigner: str) -> tuple[int, str] | None:
        """Return the size of the newest checkpoint that a witness (its key's text) cosigned, and its line."""
        ...

    def bodies_without_entry(self) -> list[tuple[str, int]]:
        """Return places that have a body and no entry."""
        ...

    def tags_count(self) -> int:
        """Return how many tags the index has."""
        ...

    def has_tag(self, tag: bytes, log_id: str, seq: int) -> bool:
        """Return whether the index has a tag."""
        ...

    def data_key(self, key_id: str) -> bytes | None:
        """Return a wrapped data key."""
        ...


class ReadStore(TreeReader, FindingStore, Protocol):
    """Reading: always the last committed state of any process; raises `StoreUnavailable` when it cannot know."""

    @property
    def one_log(self) -> bool:
        """Whether all entries are in one log, in the order of their numbers; else each writer has a log."""
        ...

    @property
    def clock_set(self) -> bool:
        """Whether the clock was given (a test, a case, a demo): entries say `clock: set`."""
        ...

    def now(self) -> int:
        """Return the store's clock as an instant."""
        ...

    def state(self) -> State:
        """Return the state row."""
        ...

    def head(self) -> Head | None:
        """Return where this store's own log ends; `None` before the first entry."""
        ...

    def row(self, register: str, id: str) -> Row | None:
        """Return a row, `None` when there is none."""
        ...

    def rows(self, register: str, *, after: str = "", limit: int | None = None) -> list[Row]:
        """Return rows in order of id, keyset-paged by `after`."""
        ...

    def rows_by(self, register: str, column: str, value: str) -> list[Row]:
        """Return the rows whose typed column (`keys.hash`, `approvals.status`, ...) has a value, in order of id."""
        ...

    def blob(self, hash: str) -> bytes | None:
        """Return stored release content by its hash."""
        ...

    def data_key(self, key_id: str) -> bytes | None:
        """Return a wrapped data key."""
        ...

    def entry(self, log_id: str, seq: int) -> StoredEntry | None:
        """Return one entry with its sealed part."""
        ...

    def entries(
        self, *, after: int = -1, before: int | None = None, limit: int = 1_000, newest_first: bool = False
    ) -> Iterator[tuple[str, int, bytes]]:
        """Yield `(log_id, seq, public)` of the entries with `after < seq < before`, in commit order or from its end."""
        ...

    def tagged(self, tags: Sequence[bytes]) -> list[tuple[str, int]]:
        """Return the places `(log_id, seq)` of the entries that carry any of the tags, in order, indexed or not."""
        ...

    def view(self) -> AbstractContextManager[LogView]:
        """Return everything at one moment. Close it soon: while it is open, the log cannot be compacted."""
        ...

    def close(self) -> None:
        """Close every connection. Closing twice is no error."""
        ...


class Store(ReadStore, FilledStore, Protocol):
    """Writing. Both calls are one transaction; on return what they report is durable (`synchronous=FULL`).

    When a call raises `StoreUnavailable` the outcome may be unknown: nobody may be allowed on it. A store that met an
    error at a commit verifies its head again before it serves the next call.
    """

    def append(self, batch: Sequence[Draft], snapshot: State) -> Committed | Moved:
        """Write a batch of entries evaluated under `snapshot` if nothing they rest on has moved; else write none.

        Epoch and release are compared with the snapshot's, and per draft the fact revisions, the boundaries and the
        clock, inside the inserting transaction. Raises `StoreUnavailable` when the outcome is not known to be durable.
        """
        ...

    def try_stage(self, batch: Sequence[Draft], snapshot: State) -> Staged | None:
        """Write a batch without committing it, if that needs no waiting and nothing has moved; else do nothing.

        For an event loop that must not wait: `None` sends it to `append`. What is staged must be handed to `commit`,
        from any thread. Raises as `append`; nothing was written then.
        """
        ...

    def commit(self, staged: Staged) -> Committed:
        """Commit what was staged. Raises `StoreUnavailable` when the outcome is not known to be durable."""
        ...

    def change(self, change: Change) -> Committed:
        """Apply a change and its entry together, and raise the epoch where the change says so.

        Raises `Conflict` when a row, or the active release, is not as expected; `InputRefused` for a document outside
        the values of the log; `StoreUnavailable` as above.
        """
        ...

    def index_tags(self, count: int) -> int:
        """Put the tags of up to `count` further entries into the index, for speed; return how many are left."""
        ...

    def change_all(self, changes: Sequence[Change]) -> Committed:
        """Apply several changes in one transaction, each with its own entry: all of them or none.

        For an import of more rows than one entry holds. Each is compared with what the ones before it left.
        """
        ...
