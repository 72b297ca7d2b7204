"""Entries and their batches, inside a transaction that somebody else began and commits.

Rules: what a draft rests on is compared here, inside the inserting transaction, so nothing can move in between; one
transaction is one batch with one chained header; the store's clock in the log never runs backwards (`at` is the
latest the log has seen, while allows are refused until the clock has caught up).
Left to others: beginning, committing and the doubt about a commit (`sqlite`), rows of registers (`registers`).
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from policy_engine.errors import StoreDamaged, StoreUnavailable, VerificationFailed
from policy_engine.ledger.encoding import FIRST_PREVIOUS, Header, header_hash, parse_header
from policy_engine.ledger.merkle import leaf_hash, root
from policy_engine.ledger.sealing import TAG_BYTES
from policy_engine.limits import Limits
from policy_engine.store import statements
from policy_engine.store.interfaces import Committed, Draft, Encoded, Head, State
from policy_engine.store.registers import revision_of
from policy_engine.store.sessions import Reader, Writer

LOG_ID_BYTES = 8
"""A log's id is this many random bytes in hex: it names a file or writer, and nothing else."""


def read_state(reader: Reader) -> State:
    """Return the state row. Raises `StoreDamaged` when it is missing: then nothing is known."""
    row = reader.one(statements.READ_STATE)
    if row is None:
        raise StoreDamaged("the state row is missing; the database is damaged", where="database")
    return State(row[0], row[1], row[2], bool(row[3]))


def read_heads(reader: Reader) -> list[Head]:
    """Return where each log ends."""
    return [Head(*row) for row in reader.all(statements.READ_HEADS)]


def read_head(reader: Reader) -> Head | None:
    """Return where the one log of this file ends; `None` before its first entry."""
    heads = read_heads(reader)
    if len(heads) > 1:
        raise StoreUnavailable("the database holds more than one log; a SQLite file has exactly one", where="database")
    return heads[0] if heads else None


def head_or_new(reader: Reader) -> Head:
    """Return the head, or the head of a new log with a fresh id."""
    return read_head(reader) or Head(secrets.token_hex(LOG_ID_BYTES), 0, 0, FIRST_PREVIOUS, 0, 0)


@dataclass(frozen=True, slots=True)
class Moment:
    """What the transaction found: the state, the head, and the clock."""

    state: State
    head: Head
    now: int

    @property
    def at(self) -> int:
        """The instant that entries get."""
        return max(self.now, self.head.last_at)


def find_stale(
    reader: Reader, batch: Sequence[Draft], snapshot: State, moment: Moment, limits: Limits
) -> dict[int, str]:
    """Return, by position, why drafts may not be written; empty when all may."""
    state, now = moment.state, moment.now
    passed = overtaken(batch, moment.at)
    if state.epoch != snapshot.epoch or state.release != snapshot.release:
        return dict.fromkeys(range(len(batch)), "epoch")
    window = int(limits.stale_seconds * 1_000_000)
    backwards = now < moment.head.last_at - window
    stale: dict[int, str] = {}
    for position, draft in enumerate(batch):
        if draft.until <= now or position in passed:
            stale[position] = "boundary"
        elif draft.allows and (backwards or not -window <= now - draft.instant <= window):
            stale[position] = "clock"
        elif draft.facts_revision != state.facts_revision and any(
            revision_of(reader, register, id) != revision for register, id, revision in draft.revisions
        ):
            stale[position] = "facts"
    return stale


def overtaken(batch: Sequence[Draft], at: int) -> dict[int, str]:
    """Return the allows that went stale before the instant that entries get now.

    What has come once has come: a clock that was set back, by however little, brings back no licence that was revoked
    and no time before a scheduled deny.
    """
    return {position: "boundary" for position, draft in enumerate(batch) if draft.allows and draft.until <= at}


def encode_batch(writer: Writer, batch: Sequence[Draft], moment: Moment) -> list[Encoded]:
    """Store the data keys that drafts bring and return the drafts' bytes at their places."""
    head, at = moment.head, moment.at
    encoded: list[Encoded] = []
    seq = head.next_seq
    for draft in batch:
        for key_id, wrapped in draft.new_keys():
            stored = add_data_key(writer, key_id, wrapped)
            if stored != wrapped:
                draft.adopt(key_id, stored)
        encoded.append(draft.encode(head.log_id, seq, at))
        seq += 1
    return encoded


def add_data_key(writer: Writer, key_id: str, wrapped: bytes) -> bytes:
    """Store a wrapped data key unless its id is taken, and return the one that is stored."""
    row = writer.one(statements.READ_DATA_KEY, key_id)
    if row is not None:
        return bytes(row[0])
    writer.run(statements.ADD_DATA_KEY, key_id, wrapped)
    return wrapped


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as it was written: the head after it, its header, and the leaf hashes of its entries."""

    head: Head
    header: bytes
    leaves: tuple[bytes, ...]

    def committed(self) -> Committed:
        """Return what will be so once the commit has returned."""
        head, count = self.head, len(self.leaves)
        seqs = tuple(range(head.next_seq - count, head.next_seq))
        return Committed(head.log_id, seqs, head.last_at, self.header, self.leaves)


def write_batch(writer: Writer, encoded: Sequence[Encoded], moment: Moment, after: State) -> Batch:
    """Insert entries, bodies and the batch header, move the head, and return them.

    `after` is the state after the batch. Raises `StoreUnavailable` when the head is not the one that was read.
    """
    head, at = moment.head, moment.at
    log_id, first = head.log_id, head.next_seq
    leaves = [leaf_hash(entry.public) for entry in encoded]
    writer.insert_many(
        statements.ADD_ENTRY,
        [(log_id, first + n, entry.public, leaves[n]) for n, entry in enumerate(encoded)],
    )
    bodies = [
        (log_id, first + n, entry.data_key, entry.sealed, b"".join(entry.tags))
        for n, entry in enumerate(encoded)
        if entry.sealed
    ]
    if bodies:
        writer.insert_many(statements.ADD_BODY, bodies)
    header = Header(
        log_id=log_id,
        batch=head.next_batch,
        first=first,
        n=len(encoded),
        root=root(leaves).hex(),
        prev=head.head_hash,
        epoch=after.epoch,
        release=after.release,
        at=at,
    ).encode()
    hash = header_hash(header)
    writer.run(statements.ADD_BATCH, log_id, head.next_batch, first, len(encoded), header, hash)
    moved = Head(log_id, first + len(encoded), head.next_batch + 1, hash, at, head.tagged)
    if head.next_batch == 0:
        writer.run(statements.ADD_HEAD, log_id, moved.next_seq, moved.next_batch, hash, at, 0)
    elif writer.run(statements.MOVE_HEAD, moved.next_seq, moved.next_batch, hash, at, log_id, head.head_hash) != 1:
        raise StoreUnavailable("the head of the log is not the one that was read", where="database")
    return Batch(moved, header, tuple(leaves))


def index_tags(writer: Writer, head: Head, count: int) -> int:
    """Put the tags of up to `count` further entries into the index and return how many entries are still to do.

    An index entry for each tag costs several times what the entry itself does when it is written one by one, because
    each subject's tags lie in a page of their own; in sorted bulk, behind the commits, neighbours share pages.
    """
    end = min(head.tagged + count, head.next_seq)
    if end > head.tagged:
        rows = writer.all(statements.UNINDEXED_TAGS, head.log_id, head.tagged, end)
        tags = sorted({(tag, head.log_id, seq) for seq, joined in rows for tag in split_tags(joined)})
        if tags:
            writer.insert_many(statements.ADD_TAG, tags)
        writer.run(statements.MOVE_TAGGED, end, head.log_id)
    return head.next_seq - end


def split_tags(joined: bytes) -> list[bytes]:
    """Return the tags of a body, which lie one after another."""
    return [joined[start : start + TAG_BYTES] for start in range(0, len(joined), TAG_BYTES)]


def find_tagged(reader: Reader, head: Head, tags: Sequence[bytes]) -> list[int]:
    """Return the sequence numbers of entries with any of the tags: from the index, and behind it from the bodies."""
    found = {int(seq) for tag in tags for (seq,) in reader.all(statements.TAGGED_SEQS, tag, head.log_id)}
    wanted = set(tags)
    for seq, joined in reader.stream(statements.UNINDEXED_TAGS, head.log_id, head.tagged, head.next_seq):
        if not wanted.isdisjoint(split_tags(joined)):
            found.add(seq)
    return sorted(found)


def find_tagged_of_all(reader: Reader, tags: Sequence[bytes]) -> list[tuple[str, int]]:
    """Return the places, in whichever log, of entries with any of the tags: from the index, and behind it."""
    found = {(str(log), int(seq)) for tag in tags for log, seq in reader.all(statements.TAGGED_PLACES, tag)}
    wanted = set(tags)
    for log_id, seq, joined in reader.stream(statements.UNINDEXED_OF_ALL):
        if not wanted.isdisjoint(split_tags(joined)):
            found.add((log_id, seq))
    return sorted(found)


def verify_head(reader: Reader, head: Head | None) -> None:
    """Check that the log ends where its head says: the last header, its entries, and nothing behind them.

    Raises `StoreUnavailable` when it does not. The whole log is `services.evidence.verify`.
    """
    if head is None:
        return
    row = reader.one(statements.READ_BATCH, head.log_id, head.next_batch - 1)
    if row is None:
        raise StoreUnavailable("the last batch header of the log is missing", where="database")
    first, n, data, hash = row
    try:
        header = parse_header(bytes(data))
    except VerificationFailed as failed:
        raise StoreUnavailable(failed.message, where="the last batch header") from None
    leaves = [bytes(leaf) for (leaf,) in reader.all(statements.READ_LEAVES, head.log_id, first)]
    honest = (
        hash == head.head_hash == header_hash(bytes(data))
        and first + n == head.next_seq
        and (header.first, header.n) == (first, n)
        and len(leaves) == n
        and header.root == root(leaves).hex()
    )
    if not honest:
        raise StoreUnavailable("the end of the log does not agree with its head; verify the log", where="database")
