"""The tables of marks: which entry destroyed a data key, and which emptied a range of bodies. Append-only.

Left to others: the guards (`migrations`), what the marks mean (`erasureinterfaces`).
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Integer,
    Table,
    Text,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    select,
    update,
)

from policy_engine.store.sessions import Command, command, query
from policy_engine.store.tables import bodies, data_keys, entries, heads, metadata, registers, tags

_Number = BigInteger().with_variant(Integer, "sqlite")
_Text = Text().with_variant(Text(collation="C"), "postgresql")

erased_keys = Table(
    "erased_keys",
    metadata,
    Column("key", _Text, primary_key=True),
    Column("log_id", _Text, primary_key=True),
    Column("seq", _Number, primary_key=True, autoincrement=False),
    Column("at", _Number, nullable=False),
    Column("register", _Text),
    Column("revision", _Number),
    CheckConstraint("(register IS NULL) = (revision IS NULL)", name="row_or_subject"),
    sqlite_strict=True,
)
"""Each data key that was destroyed, with the entry that did it; of a register row also its last revision."""

pruned_ranges = Table(
    "pruned_ranges",
    metadata,
    Column("by_log", _Text, primary_key=True),
    Column("by_seq", _Number, primary_key=True, autoincrement=False),
    Column("log_id", _Text, primary_key=True),
    Column("first_seq", _Number, primary_key=True, autoincrement=False),
    Column("end_seq", _Number, nullable=False),
    Column("at", _Number, nullable=False),
    CheckConstraint("first_seq < end_seq", name="not_empty"),
    sqlite_strict=True,
)
"""Each range of bodies that was emptied because of its age, with the entry that did it."""

_key, _mark = erased_keys.c, pruned_ranges.c

READ_ERASED_KEYS = query(
    select(_key.key, _key.log_id, _key.seq, _key.at, _key.register, _key.revision).order_by(
        _key.key, _key.at, _key.log_id, _key.seq
    )
)
READ_PRUNED_RANGES = query(
    select(_mark.by_log, _mark.by_seq, _mark.at, _mark.log_id, _mark.first_seq, _mark.end_seq).order_by(
        _mark.at, _mark.by_log, _mark.by_seq, _mark.log_id, _mark.first_seq
    )
)
READ_LAST_REVISIONS = query(
    select(_key.key, func.max(_key.revision)).where(_key.register.is_not(None)).group_by(_key.key)
)
_there = (bodies.c.data_key.is_not(None), func.length(bodies.c.sealed) > literal_column("0"))
BODIES_BY_TAG = query(
    select(bodies.c.log_id, bodies.c.seq, bodies.c.data_key)
    .select_from(tags.join(bodies, (bodies.c.log_id == tags.c.log_id) & (bodies.c.seq == tags.c.seq)))
    .where(tags.c.tag == bindparam("key"), *_there),
    "key",
)
UNINDEXED_BODIES = query(
    select(bodies.c.log_id, bodies.c.seq, bodies.c.data_key, bodies.c.tags)
    .select_from(heads.join(bodies, (bodies.c.log_id == heads.c.log_id) & (bodies.c.seq >= heads.c.tagged)))
    .where(heads.c.tagged < heads.c.next_seq, *_there)
)
READ_TAGS = query(
    select(bodies.c.tags).where(bodies.c.log_id == bindparam("log"), bodies.c.seq == bindparam("number")),
    "log",
    "number",
)
READ_BODIES = query(
    select(bodies.c.seq, bodies.c.tags)
    .where(
        bodies.c.log_id == bindparam("log"),
        bodies.c.seq >= bindparam("first"),
        bodies.c.seq < bindparam("end"),
        *_there,
    )
    .order_by(bodies.c.seq),
    "log",
    "first",
    "end",
)

SCAN_BODIES = query(
    select(bodies.c.seq, entries.c.public)
    .select_from(bodies.join(entries, (entries.c.log_id == bodies.c.log_id) & (entries.c.seq == bodies.c.seq)))
    .where(
        bodies.c.log_id == bindparam("log"),
        bodies.c.seq < bindparam("end"),
        *_there,
    )
    .order_by(bodies.c.seq),
    "log",
    "end",
)

ADD_ERASED_KEY = command(insert(erased_keys), "key", "log_id", "seq", "at", "register", "revision")
ADD_PRUNED_RANGE = command(insert(pruned_ranges), "by_log", "by_seq", "log_id", "first_seq", "end_seq", "at")
EMPTY_BODY = command(
    update(bodies)
    .where(bodies.c.log_id == bindparam("log"), bodies.c.seq == bindparam("number"))
    .values(sealed=literal_column("x''"), tags=literal_column("x''")),
    "log",
    "number",
)
DROP_TAG = command(
    delete(tags).where(
        tags.c.tag == bindparam("key"), tags.c.log_id == bindparam("log"), tags.c.seq == bindparam("number")
    ),
    "key",
    "log",
    "number",
)
DROP_DATA_KEY = command(delete(data_keys).where(data_keys.c.id == bindparam("key")), "key")
DROP_ROW: dict[str, Command] = {
    name: command(
        delete(table).where(table.c.id == bindparam("key"), table.c.revision == bindparam("last")), "key", "last"
    )
    for name, table in registers.items()
}
