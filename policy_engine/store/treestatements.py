"""The statements about the global tree, as SQLAlchemy expressions compiled once (see `statements`)."""

from __future__ import annotations

from sqlalchemy import (
    ColumnElement,
    LargeBinary,
    and_,
    bindparam,
    cast,
    exists,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)

from policy_engine.store.sessions import command, query
from policy_engine.store.tables import (
    batches,
    checkpoints,
    cosignatures,
    entries,
    heads,
    log_events,
    tree,
    tree_leaves,
    tree_logs,
    tree_tiles,
)

READ_TREE = query(select(tree.c.size, tree.c.origin, tree.c.key, tree.c.indexed, tree.c.horizon))

_header = and_(batches.c.log_id == tree_leaves.c.log_id, batches.c.batch_no == tree_leaves.c.batch_no)
_leaf = select(
    tree_leaves.c.leaf,
    tree_leaves.c.log_id,
    tree_leaves.c.batch_no,
    func.coalesce(tree_leaves.c.data, batches.c.header),
).select_from(tree_leaves.outerjoin(batches, _header))
SCAN_LEAVES = query(
    _leaf.where(tree_leaves.c.leaf >= bindparam("first"), tree_leaves.c.leaf < bindparam("end")).order_by(
        tree_leaves.c.leaf
    ),
    "first",
    "end",
)
READ_LEAF_OF_BATCH = query(
    _leaf.where(tree_leaves.c.log_id == bindparam("log"), tree_leaves.c.batch_no == bindparam("number")),
    "log",
    "number",
)
READ_BATCH_OF_ENTRY = query(
    select(batches.c.batch_no, batches.c.first_seq + batches.c.n)
    .where(batches.c.log_id == bindparam("log"), batches.c.first_seq <= bindparam("seq"))
    .order_by(batches.c.first_seq.desc())
    .limit(literal_column("1"))
    .offset(literal_column("0")),
    "log",
    "seq",
)
READ_TILE = query(
    select(tree_tiles.c.data).where(tree_tiles.c.level == bindparam("level"), tree_tiles.c.number == bindparam("n")),
    "level",
    "n",
)
SCAN_TILES = query(
    select(tree_tiles.c.level, tree_tiles.c.number, tree_tiles.c.data).order_by(tree_tiles.c.level, tree_tiles.c.number)
)
_checkpoint = select(checkpoints.c.size, checkpoints.c.note, checkpoints.c.at)
READ_CHECKPOINT = query(_checkpoint.where(checkpoints.c.size == bindparam("size")), "size")
READ_NEWEST_CHECKPOINT = query(
    _checkpoint.order_by(checkpoints.c.size.desc()).limit(literal_column("1")).offset(literal_column("0"))
)
SCAN_CHECKPOINTS = query(_checkpoint.order_by(checkpoints.c.size))
READ_COSIGNATURES = query(
    select(cosignatures.c.line).where(cosignatures.c.size == bindparam("size")).order_by(cosignatures.c.cosigner),
    "size",
)
READ_COSIGNATURE = query(
    select(cosignatures.c.line).where(
        cosignatures.c.size == bindparam("size"), cosignatures.c.cosigner == bindparam("cosigner")
    ),
    "size",
    "cosigner",
)
READ_LAST_COSIGNATURE = query(
    select(cosignatures.c.size, cosignatures.c.line)
    .where(cosignatures.c.cosigner == bindparam("cosigner"))
    .order_by(cosignatures.c.size.desc())
    .limit(literal_column("1"))
    .offset(literal_column("0")),
    "cosigner",
)

_zero: ColumnElement[int] = literal_column("0")
_open: ColumnElement[str] = literal_column("'open'")
_in_tree = func.coalesce(tree_logs.c.batches, _zero)
_progress = heads.outerjoin(tree_logs, tree_logs.c.log_id == heads.c.log_id)
PENDING_BATCHES = query(
    select(batches.c.log_id, batches.c.batch_no, batches.c.header)
    .select_from(_progress.join(batches, (batches.c.log_id == heads.c.log_id) & (batches.c.batch_no >= _in_tree)))
    .where(heads.c.next_batch > _in_tree)
    .order_by(batches.c.log_id, batches.c.batch_no)
    .limit(bindparam("count"))
    .offset(literal_column("0")),
    "count",
)
PENDING_EVENTS = query(
    select(log_events.c.log_id, log_events.c.kind, log_events.c.data)
    .select_from(log_events.outerjoin(tree_logs, tree_logs.c.log_id == log_events.c.log_id))
    .where(
        or_(
            and_(log_events.c.kind == _open, tree_logs.c.log_id.is_(None)),
            and_(log_events.c.kind != _open, tree_logs.c.ended.is_(None)),
        )
    )
    .order_by(log_events.c.log_id, log_events.c.kind),
)
COUNT_PENDING = query(
    select(func.coalesce(func.sum(heads.c.next_batch - _in_tree), _zero))
    .select_from(_progress)
    .where(heads.c.next_batch > _in_tree)
)
UNOPENED_LOGS = query(
    select(heads.c.log_id)
    .where(~exists().where(log_events.c.log_id == heads.c.log_id, log_events.c.kind == _open))
    .order_by(heads.c.log_id)
)
SCAN_EVENTS = query(
    select(log_events.c.log_id, log_events.c.kind, log_events.c.data).order_by(log_events.c.log_id, log_events.c.kind)
)
SCAN_LOGS = query(
    select(tree_logs.c.log_id, tree_logs.c.opened, tree_logs.c.batches, tree_logs.c.ended).order_by(tree_logs.c.log_id)
)
READ_LOG = query(
    select(tree_logs.c.opened, tree_logs.c.batches, tree_logs.c.ended).where(tree_logs.c.log_id == bindparam("log")),
    "log",
)
READ_PUBLIC_PARTS = query(
    select(entries.c.public)
    .where(entries.c.log_id == bindparam("log"), entries.c.seq >= bindparam("first"), entries.c.seq < bindparam("end"))
    .order_by(entries.c.seq),
    "log",
    "first",
    "end",
)
_parts = (
    select(entries.c.public)
    .where(entries.c.log_id == bindparam("log"), entries.c.seq >= bindparam("first"), entries.c.seq < bindparam("end"))
    .order_by(entries.c.seq)
    .subquery()
)
JOIN_PUBLIC_PARTS = query(
    select(func.count(), cast(func.group_concat(_parts.c.public, func.char(literal_column("10"))), LargeBinary)),
    "log",
    "first",
    "end",
)
"""On SQLite: how many, and all of them as lines."""

# Writing, on SQLite; PostgreSQL writes through its functions.
ADD_LEAF = command(insert(tree_leaves), "leaf", "log_id", "batch_no", "data")
ADD_TILE = command(insert(tree_tiles), "level", "number", "data")
GROW_TILE = command(
    update(tree_tiles)
    .where(tree_tiles.c.level == bindparam("at_level"), tree_tiles.c.number == bindparam("at_number"))
    .values(data=bindparam("data")),
    "data",
    "at_level",
    "at_number",
)
ADD_CHECKPOINT = command(insert(checkpoints), "size", "note", "at")
ADD_COSIGNATURE = command(insert(cosignatures), "size", "cosigner", "line")
ADD_EVENT = command(insert(log_events), "log_id", "kind", "data")
ADD_LOG = command(insert(tree_logs), "log_id", "opened", "batches", "ended")
MOVE_LOG = command(
    update(tree_logs)
    .where(tree_logs.c.log_id == bindparam("log"))
    .values(batches=bindparam("batches"), ended=bindparam("ended")),
    "batches",
    "ended",
    "log",
)
MOVE_TREE = command(
    update(tree)
    .where(tree.c.size == bindparam("was"))
    .values(
        size=bindparam("now"),
        origin=bindparam("origin"),
        key=bindparam("key"),
        horizon=func.max(tree.c.horizon, bindparam("horizon")),
    ),
    "now",
    "origin",
    "key",
    "horizon",
    "was",
)
