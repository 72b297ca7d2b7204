"""What every store promises, in prose and types. One suite (`tests/store`) runs on every implementation.

Drafts, rows, batches and the rest of what goes in and comes out are in `records`, and are named here for whoever uses
a store. A store is trusted to keep bytes and to be honest about durability; what its owner could do by cheating (edit,
delete, reorder) is what `services.evidence.verify` and, later, checkpoints are for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from policy_engine.store.erasureinterfaces import MarkReader
from policy_engine.store.indexinterfaces import FilledStore, FindingStore, IndexViewer
from policy_engine.store.records import (
    EPOCH_REGISTERS,
    FACT_REGISTERS,
    REGISTERS,
    Change,
    Committed,
    Draft,
    Encoded,
    Head,
    Moved,
    Row,
    Staged,
    State,
    StoredBatch,
    StoredEntry,
    StoredRow,
    Write,
)
from policy_engine.store.replicainterfaces import ReplicaViewer
from policy_engine.store.treeinterfaces import TreeReader, WholeTree

__all__ = [
    "EPOCH_REGISTERS",
    "FACT_REGISTERS",
    "REGISTERS",
    "Change",
    "Committed",
    "Draft",
    "Encoded",
    "Head",
    "LogView",
    "Moved",
    "ReadStore",
    "Row",
    "Staged",
    "State",
    "Store",
    "StoredBatch",
    "StoredEntry",
    "StoredRow",
    "Write",
]


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
