"""The functions of the database as Python calls: the only way in which anything is written on PostgreSQL.

Rules of the room: each call is one statement with binary arrays; what a batch rests on travels with it, because the
function compares it, not this program. Left to others: what the functions do (`migrations`), when to call
(`postgres`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

from policy_engine.ledger.encoding import FIRST_PREVIOUS, Header, Place, header_hash
from policy_engine.ledger.merkle import leaf_hash, root
from policy_engine.store.entries import Moment
from policy_engine.store.erasing import Removal
from policy_engine.store.erasureinterfaces import Pruning
from policy_engine.store.indexinterfaces import Backlog
from policy_engine.store.interfaces import Committed, Draft, Encoded, Head, State
from policy_engine.store.pgrows import CollectedRows
from policy_engine.store.pgsessions import Connection

_BEGIN_BATCH: LiteralString = "SELECT * FROM policy_engine.begin_batch(%b, %b::bigint, %b::text[], %b::bytea[])"
_APPEND: LiteralString = (
    "SELECT * FROM policy_engine.append(%b::bigint, %b::bigint, %b, %b::bytea[],"
    " %b::bigint[], %b::text[], %b::bytea[], %b::bytea[], %b::boolean[], %b::bigint[], %b::bigint[], %b::bigint[],"
    " %b::integer[], %b::text[], %b::text[], %b::bigint[])"
)
_BEGIN_CHANGE: LiteralString = "SELECT * FROM policy_engine.begin_change(%b, %b::bigint)"
_CHANGE: LiteralString = (
    "SELECT policy_engine.change(%b::bigint, %b, %b::bytea[], %b::bigint[], %b::text[], %b::bytea[], %b::bytea[],"
    " %b::bigint, %b::bigint, %b::integer, %b::text[], %b::bytea[], %b::text[], %b::bytea[],"
    " %b::text[], %b::text[], %b::bigint[], %b::bigint[], %b::text[], %b::bytea[], %b::bigint[], %b::integer[])"
)
_ERASE: LiteralString = (
    "SELECT policy_engine.erase(%b, %b::bigint, %b::bigint, %b::text[], %b::bigint[], %b::text[], %b::text[],"
    " %b::bigint[], %b::text[], %b::bytea[])"
)
_PRUNE: LiteralString = "SELECT policy_engine.prune(%b, %b::bigint)"
_SETTLE: LiteralString = "SELECT * FROM policy_engine.settle(%b)"
_OPEN_LOG: LiteralString = "SELECT policy_engine.open_log(%b)"
_CLOSE_LOG: LiteralString = "SELECT policy_engine.close_log(%b)"
_LEASE: LiteralString = "SELECT pg_advisory_lock_shared(28775, hashtext(%s))"
_BOUND_IDLING: LiteralString = "SELECT set_config('idle_in_transaction_session_timeout', %s, false)"
_INDEX_COLUMNS: LiteralString = "SELECT * FROM policy_engine.index_columns(%b::bigint)"
_INDEX_TAGS: LiteralString = "SELECT policy_engine.index_tags(%b, %b::bigint)"


@dataclass(frozen=True, slots=True)
class Found:
    """What a transaction found behind its locks: the moment, the instant its entries get, and stored data keys."""

    moment: Moment
    at: int
    stored: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Written:
    """A batch as it is sent: its header, the head when it is committed, and the leaf hashes of its entries."""

    header: bytes
    head: Head
    leaves: tuple[bytes, ...]

    def committed(self) -> Committed:
        """Return what is so once the batch is durable."""
        head, count = self.head, len(self.leaves)
        seqs = tuple(range(head.next_seq - count, head.next_seq))
        return Committed(head.log_id, seqs, head.last_at, self.header, self.leaves)


def begin_batch(connection: Connection, log_id: str, given: int | None, keys: Sequence[tuple[str, bytes]]) -> Found:
    """Start a transaction behind the shared lock, store data keys whose ids are free, and return what is there."""
    ids, wrapped = [id for id, _ in keys], [key for _, key in keys]
    with connection.pipeline():
        connection.execute("BEGIN")
        row = connection.execute(_BEGIN_BATCH, (log_id, given, ids, wrapped)).fetchone()
    return _found(log_id, row)


def begin_change(connection: Connection, log_id: str, given: int | None) -> Found:
    """Start a transaction behind the exclusive lock and return what is there."""
    with connection.pipeline():
        connection.execute("BEGIN")
        row = connection.execute(_BEGIN_CHANGE, (log_id, given)).fetchone()
    return _found(log_id, row)


def _found(log_id: str, row: tuple[Any, ...] | None) -> Found:
    if row is None:
        raise LookupError("the function answered nothing")
    epoch, release, facts_revision, sample, now, at, next_seq, next_batch, head_hash, last_at, tagged, *stored = row
    head = Head(log_id, next_seq, next_batch, head_hash, last_at, tagged)
    moment = Moment(State(epoch, release, facts_revision, bool(sample)), head, now)
    return Found(moment, at, tuple(bytes(key) for key in stored[0]) if stored else ())


def written(encoded: Sequence[Encoded], found: Found, after: State) -> Written:
    """Return the header of a batch and the head after it. `after` is the state after the batch."""
    head = found.moment.head
    leaves = tuple([leaf_hash(entry.public) for entry in encoded])
    header = Header(
        log_id=head.log_id,
        batch=head.next_batch,
        first=head.next_seq,
        n=len(encoded),
        root=root(leaves).hex(),
        prev=head.head_hash,
        epoch=after.epoch,
        release=after.release,
        at=found.at,
    ).encode()
    moved = Head(
        head.log_id, head.next_seq + len(encoded), head.next_batch + 1, header_hash(header), found.at, head.tagged
    )
    return Written(header, moved, leaves)


def _bodies(encoded: Sequence[Encoded], first: int) -> tuple[list[Any], ...]:
    bodies = [(first + n, entry) for n, entry in enumerate(encoded) if entry.sealed]
    return (
        [seq for seq, _ in bodies],
        [entry.data_key for _, entry in bodies],
        [entry.sealed for _, entry in bodies],
        [b"".join(entry.tags) for _, entry in bodies],
    )


def append(
    connection: Connection,
    given: int | None,
    window: int,
    batch: Sequence[Draft],
    encoded: Sequence[Encoded],
    sent: Written,
) -> dict[int, str]:
    """Write a batch behind the fence and return, by position, why drafts may not be written; empty when all were."""
    rests = [(n, *rest) for n, draft in enumerate(batch) for rest in draft.revisions if "\0" not in rest[1]]
    parameters = (
        given,
        window,
        sent.header,
        [entry.public for entry in encoded],
        *_bodies(encoded, sent.head.next_seq - len(encoded)),
        [draft.allows for draft in batch],
        [draft.instant for draft in batch],
        [draft.until for draft in batch],
        [draft.facts_revision for draft in batch],
        *([rest[place] for rest in rests] for place in range(4)),
    )
    return dict(connection.execute(_APPEND, parameters).fetchall())


def change(
    connection: Connection,
    given: int | None,
    encoded: Sequence[Encoded],
    sent: Written,
    before: State,
    after: State,
    rows: CollectedRows,
) -> None:
    """Write a change: its entries, rows, keys and contents, the state after it, and what it erases or prunes."""
    removal = rows.removal.keys if isinstance(rows.removal, Removal) else {}
    keys = {id: wrapped for id, wrapped in rows.keys.items() if id not in removal}
    parameters = (
        given,
        sent.header,
        [entry.public for entry in encoded],
        *_bodies(encoded, sent.head.next_seq - len(encoded)),
        before.epoch,
        after.facts_revision if rows.touches_facts else before.facts_revision,
        int(after.sample),
        list(keys),
        list(keys.values()),
        list(rows.blobs),
        list(rows.blobs.values()),
        *rows.columns(),
    )
    connection.execute(_CHANGE, parameters)
    if rows.removal is not None and rows.removed_by is not None:
        _remove(connection, rows.removal, rows, rows.removed_by, after)


def _remove(
    connection: Connection, removal: Removal | Pruning, rows: CollectedRows, place: Place, after: State
) -> None:
    """Let go what the entry at a place says; the function reads it there."""
    if isinstance(removal, Pruning):
        connection.execute(_PRUNE, (place.log_id, place.seq))
        return
    renewed = {id: wrapped for id, wrapped in rows.keys.items() if id in removal.keys}
    parameters = (
        place.log_id,
        place.seq,
        after.facts_revision,
        *([part[n] for part in removal.places] for n in range(2)),
        *([row[n] for row in removal.rows] for n in range(3)),
        list(renewed),
        list(renewed.values()),
    )
    connection.execute(_ERASE, parameters)


def open_log(connection: Connection, leaf: bytes) -> None:
    """Open a log, in the transaction of its first batch."""
    connection.execute(_OPEN_LOG, (leaf,))


def close_log(connection: Connection, leaf: bytes) -> None:
    """End a log. Raises when it has ended already, or does not end where the leaf says."""
    connection.execute(_CLOSE_LOG, (leaf,))


def lease(connection: Connection, log_id: str) -> None:
    """Hold a log's lease for as long as this session lasts: nobody calls its writer gone."""
    connection.execute(_LEASE, (log_id,))


def bound_idling(connection: Connection, seconds: float) -> None:
    """Have the server undo a transaction of this session, and end it, that is not heard of for so long."""
    connection.execute(_BOUND_IDLING, (f"{round(seconds * 1_000)}ms",))


def settle(connection: Connection, log_id: str) -> Head | None:
    """Wait for whoever wrote to a log last and return where it ends, durably; `None` when it never began."""
    row = connection.execute(_SETTLE, (log_id,)).fetchone()
    return None if row is None else Head(log_id, *row)


def index_tags(connection: Connection, log_id: str, count: int) -> int:
    """Put tags into the index and return how many entries are still to do."""
    row = connection.execute(_INDEX_TAGS, (log_id, count)).fetchone()
    return 0 if row is None else int(row[0])


def index_columns(connection: Connection, count: int) -> Backlog:
    """Fill the index of columns and return what is left."""
    row = connection.execute(_INDEX_COLUMNS, (count,)).fetchone()
    return Backlog(0, 0) if row is None else Backlog(*row)


def new_head(log_id: str) -> Head:
    """Return the head of a log that has not begun."""
    return Head(log_id, 0, 0, FIRST_PREVIOUS, 0, 0)
