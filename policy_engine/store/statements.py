"""Every statement of the store, as SQLAlchemy expressions compiled once. The order of parameters is named with each."""

from __future__ import annotations

from sqlalchemy import bindparam, func, insert, literal_column, select, true, update

from policy_engine.store.sessions import Command, Query, command, query
from policy_engine.store.tables import (
    TYPED,
    batches,
    blobs,
    bodies,
    data_keys,
    entries,
    heads,
    registers,
    state,
    tags,
)

READ_STATE = query(select(state.c.epoch, state.c.release, state.c.facts_revision, state.c.sample))
READ_HEADS = query(
    select(
        heads.c.log_id, heads.c.next_seq, heads.c.next_batch, heads.c.head_hash, heads.c.last_at, heads.c.tagged
    ).order_by(heads.c.log_id)
)
READ_HEAD = query(
    select(
        heads.c.log_id, heads.c.next_seq, heads.c.next_batch, heads.c.head_hash, heads.c.last_at, heads.c.tagged
    ).where(heads.c.log_id == bindparam("log")),
    "log",
)
READ_ENTRY = query(
    select(entries.c.public, entries.c.leaf, bodies.c.data_key, bodies.c.sealed, bodies.c.tags)
    .select_from(
        entries.outerjoin(bodies, (bodies.c.log_id == entries.c.log_id) & (bodies.c.seq == entries.c.seq)),
    )
    .where(entries.c.log_id == bindparam("log"), entries.c.seq == bindparam("number")),
    "log",
    "number",
)
READ_LEAVES = query(
    select(entries.c.leaf)
    .where(entries.c.log_id == bindparam("log"), entries.c.seq >= bindparam("first"))
    .order_by(entries.c.seq),
    "log",
    "first",
)
READ_BATCH = query(
    select(batches.c.first_seq, batches.c.n, batches.c.header, batches.c.hash).where(
        batches.c.log_id == bindparam("log"), batches.c.batch_no == bindparam("number")
    ),
    "log",
    "number",
)
READ_BLOB = query(select(blobs.c.content).where(blobs.c.hash == bindparam("key")), "key")
READ_DATA_KEY = query(select(data_keys.c.wrapped).where(data_keys.c.id == bindparam("key")), "key")
READ_ANY_DATA_KEY = query(
    select(data_keys.c.id, data_keys.c.wrapped).limit(literal_column("1")).offset(literal_column("0"))
)

_span = (entries.c.seq > bindparam("after"), entries.c.seq < bindparam("before"))
_public = select(entries.c.log_id, entries.c.seq, entries.c.public).where(*_span).limit(bindparam("count"))
OLDEST_ENTRIES = query(
    _public.order_by(entries.c.log_id, entries.c.seq).offset(literal_column("0")), "after", "before", "count"
)
NEWEST_ENTRIES = query(
    _public.order_by(entries.c.log_id, entries.c.seq.desc()).offset(literal_column("0")), "after", "before", "count"
)
TAGGED_SEQS = query(
    select(tags.c.seq)
    .where(
        tags.c.tag == bindparam("key"),
        tags.c.log_id == bindparam("log"),
    )
    .order_by(tags.c.seq),
    "key",
    "log",
)

TAGGED_PLACES = query(
    select(tags.c.log_id, tags.c.seq).where(tags.c.tag == bindparam("key")).order_by(tags.c.log_id, tags.c.seq), "key"
)

# Where there are several logs (PostgreSQL). `header_at` is a function of that database, with an index on it.
_batch_at = func.policy_engine.header_at(batches.c.header)
_entries_of_batches = batches.join(
    entries,
    (entries.c.log_id == batches.c.log_id)
    & (entries.c.seq >= batches.c.first_seq)
    & (entries.c.seq < batches.c.first_seq + batches.c.n),
)
_public_of_all = (
    select(entries.c.log_id, entries.c.seq, entries.c.public)
    .select_from(_entries_of_batches)
    .where(*_span)
    .limit(bindparam("count"))
    .offset(literal_column("0"))
)
OLDEST_ENTRIES_OF_ALL = query(
    _public_of_all.order_by(_batch_at, batches.c.log_id, entries.c.seq), "after", "before", "count"
)
NEWEST_ENTRIES_OF_ALL = query(
    _public_of_all.order_by(_batch_at.desc(), batches.c.log_id.desc(), entries.c.seq.desc()),
    "after",
    "before",
    "count",
)
UNINDEXED_OF_ALL = query(
    select(bodies.c.log_id, bodies.c.seq, bodies.c.tags)
    .select_from(heads.join(bodies, (bodies.c.log_id == heads.c.log_id) & (bodies.c.seq >= heads.c.tagged)))
    .where(heads.c.tagged < heads.c.next_seq)
)

_own_body = (bodies.c.log_id == entries.c.log_id) & (bodies.c.seq == entries.c.seq)
_whole = select(
    entries.c.log_id,
    entries.c.seq,
    entries.c.public,
    entries.c.leaf,
    bodies.c.data_key,
    bodies.c.sealed,
    bodies.c.tags,
)
SCAN_ENTRIES = query(_whole.select_from(entries.outerjoin(bodies, _own_body)).order_by(entries.c.log_id, entries.c.seq))
_in_batch = (
    _whole.select_from(entries.outerjoin(bodies, _own_body))
    .where(
        entries.c.log_id == batches.c.log_id,
        entries.c.seq >= batches.c.first_seq,
        entries.c.seq < batches.c.first_seq + batches.c.n,
    )
    .limit(literal_column("NULL"))
    .offset(literal_column("0"))  # a fence: joined otherwise, every batch is compared with every entry of its log
    .lateral("whole")
)
SCAN_ENTRIES_OF_ALL = query(
    select(*_in_batch.c)
    .select_from(batches.join(_in_batch, true()))
    .order_by(_batch_at, batches.c.log_id, _in_batch.c.seq)
)
SCAN_BATCHES = query(
    select(
        batches.c.log_id, batches.c.batch_no, batches.c.first_seq, batches.c.n, batches.c.header, batches.c.hash
    ).order_by(batches.c.log_id, batches.c.batch_no)
)
SCAN_TAGS = query(select(tags.c.tag, tags.c.log_id, tags.c.seq))
SCAN_BLOBS = query(select(blobs.c.hash, blobs.c.content).order_by(blobs.c.hash))
SCAN_BODIES_ALONE = query(
    select(bodies.c.log_id, bodies.c.seq)
    .select_from(
        bodies.outerjoin(entries, (bodies.c.log_id == entries.c.log_id) & (bodies.c.seq == entries.c.seq)),
    )
    .where(entries.c.seq.is_(None))
    .order_by(bodies.c.log_id, bodies.c.seq)
)
UNINDEXED_TAGS = query(
    select(bodies.c.seq, bodies.c.tags)
    .where(bodies.c.log_id == bindparam("log"), bodies.c.seq >= bindparam("first"), bodies.c.seq < bindparam("end"))
    .order_by(bodies.c.seq),
    "log",
    "first",
    "end",
)
COUNT_TAGS = query(select(func.count()).select_from(tags))
HAS_TAG = query(
    select(literal_column("1")).where(
        tags.c.tag == bindparam("key"), tags.c.log_id == bindparam("log"), tags.c.seq == bindparam("number")
    ),
    "key",
    "log",
    "number",
)

ADD_ENTRY = command(insert(entries), "log_id", "seq", "public", "leaf")
ADD_BODY = command(insert(bodies), "log_id", "seq", "data_key", "sealed", "tags")
ADD_TAG = command(insert(tags), "tag", "log_id", "seq")
ADD_DATA_KEY = command(insert(data_keys), "id", "wrapped")
ADD_BATCH = command(insert(batches), "log_id", "batch_no", "first_seq", "n", "header", "hash")
ADD_BLOB = command(insert(blobs), "hash", "content")
ADD_HEAD = command(insert(heads), "log_id", "next_seq", "next_batch", "head_hash", "last_at", "tagged")
MOVE_HEAD = command(
    update(heads)
    .where(heads.c.log_id == bindparam("log"), heads.c.head_hash == bindparam("was"))
    .values(
        next_seq=bindparam("next_seq"),
        next_batch=bindparam("next_batch"),
        head_hash=bindparam("head_hash"),
        last_at=bindparam("last_at"),
    ),
    "next_seq",
    "next_batch",
    "head_hash",
    "last_at",
    "log",
    "was",
)
MOVE_TAGGED = command(
    update(heads).where(heads.c.log_id == bindparam("log")).values(tagged=bindparam("tagged")), "tagged", "log"
)
MOVE_STATE = command(
    update(state).values(
        epoch=bindparam("epoch"),
        release=bindparam("release"),
        facts_revision=bindparam("facts_revision"),
        sample=bindparam("sample"),
    ),
    "epoch",
    "release",
    "facts_revision",
    "sample",
)

_COLUMNS = ("id", "revision", "document", "salt", "log_id", "seq", "item")


class RegisterStatements:
    """The statements of one register."""

    def __init__(self, name: str) -> None:
        table = registers[name]
        columns = [table.c[column] for column in _COLUMNS]
        alive = table.c.document.is_not(None)
        typed = TYPED.get(name, ())
        self.read: Query = query(select(*columns).where(table.c.id == bindparam("key"), alive), "key")
        self.revision: Query = query(select(table.c.revision, alive).where(table.c.id == bindparam("key")), "key")
        self.page: Query = query(
            select(*columns)
            .where(table.c.id > bindparam("after"), alive)
            .order_by(table.c.id)
            .limit(bindparam("count"))
            .offset(literal_column("0")),
            "after",
            "count",
        )
        self.scan: Query = query(select(*columns, *(table.c[column] for column in typed)).order_by(table.c.id))
        self.by: dict[str, Query] = {
            column: query(
                select(*columns).where(table.c[column] == bindparam("key"), alive).order_by(table.c.id), "key"
            )
            for column in typed
        }
        self.add: Command = command(insert(table), *_COLUMNS, *typed)
        self.put: Command = command(
            update(table)
            .where(table.c.id == bindparam("key"))
            .values({column: bindparam(f"new_{column}") for column in (*_COLUMNS[1:], *typed)}),
            *(f"new_{column}" for column in (*_COLUMNS[1:], *typed)),
            "key",
        )


REGISTERS: dict[str, RegisterStatements] = {name: RegisterStatements(name) for name in registers}
