"""The statements of the index of columns, as SQLAlchemy expressions compiled once (see `statements`)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Integer, Select, bindparam, cast, func, insert, literal_column, or_, select, tuple_, update
from sqlalchemy.sql.elements import ColumnElement

from policy_engine.store.indextables import columns, eras, labels, spans
from policy_engine.store.sessions import command, query
from policy_engine.store.tables import batches, bodies, entries, heads, tags, tree, tree_leaves, tree_logs

_ONE: ColumnElement[Any] = literal_column("1")
_NONE: ColumnElement[Any] = literal_column("0")


def _first(statement: Select[Any]) -> Select[Any]:
    """Limit to one row, with no parameter for it."""
    return statement.limit(_ONE).offset(_NONE)


def _count(statement: Select[Any]) -> Select[Any]:
    return statement.limit(bindparam("count")).offset(_NONE)


# Filling, on SQLite; PostgreSQL fills by its function.

_batch_of_leaf = (batches.c.log_id == tree_leaves.c.log_id) & (batches.c.batch_no == tree_leaves.c.batch_no)
LEAVES_TO_INDEX = query(
    _count(
        select(tree_leaves.c.leaf, batches.c.log_id, batches.c.first_seq, batches.c.n)
        .select_from(tree_leaves.outerjoin(batches, _batch_of_leaf))
        .where(tree_leaves.c.leaf >= bindparam("first"))
        .order_by(tree_leaves.c.leaf)
    ),
    "first",
    "count",
)
FIND_LABEL = query(select(labels.c.label).where(labels.c.digest == bindparam("digest")), "digest")
LAST_LABEL = query(select(func.coalesce(func.max(labels.c.label), _NONE)))
LAST_SPAN = query(_first(select(spans.c.top, spans.c.late).order_by(spans.c.leaf.desc())))
FIND_ERA = query(select(eras.c.epoch).where(eras.c.epoch == bindparam("epoch")), "epoch")
ADD_LABEL = command(insert(labels), "label", "digest", "says")
ADD_COLUMN = command(insert(columns), "label", "leaf", "seq")
ADD_SPAN = command(insert(spans), "leaf", "log_id", "first_seq", "n", "at", "top", "late", "ids", "labels")
ADD_ERA = command(insert(eras), "epoch", "release", "leaf", "at")
MOVE_INDEXED = command(update(tree).values(indexed=bindparam("indexed")), "indexed")

# Reading.

COUNT_PENDING = query(
    select(func.coalesce(func.sum(heads.c.next_batch - func.coalesce(tree_logs.c.batches, _NONE)), _NONE)).select_from(
        heads.outerjoin(tree_logs, tree_logs.c.log_id == heads.c.log_id)
    )
)
UNTAGGED_HEADS = query(select(heads.c.log_id, heads.c.tagged).where(heads.c.tagged < heads.c.next_seq))
FIRST_ENTRY = query(
    _first(
        select(entries.c.public)
        .select_from(
            batches.join(entries, (entries.c.log_id == batches.c.log_id) & (entries.c.seq == batches.c.first_seq))
        )
        .where(batches.c.batch_no == _NONE)
        .order_by(batches.c.log_id)
    )
)
READ_LABELS = query(
    select(labels.c.label, labels.c.says).where(labels.c.label > bindparam("after")).order_by(labels.c.label), "after"
)
READ_ERAS = query(select(eras.c.epoch, eras.c.release, eras.c.leaf, eras.c.at).order_by(eras.c.epoch))
TOP_FROM = query(
    _first(select(spans.c.leaf, spans.c.top).where(spans.c.leaf >= bindparam("leaf")).order_by(spans.c.leaf)),
    "leaf",
)
SPAN_OF_ENTRY = query(
    _first(
        select(spans.c.leaf, spans.c.first_seq + spans.c.n)
        .where(spans.c.log_id == bindparam("log"), spans.c.first_seq <= bindparam("seq"))
        .order_by(spans.c.first_seq.desc())
    ),
    "log",
    "seq",
)
BATCH_OF_ENTRY = query(
    _first(
        select(batches.c.batch_no, batches.c.first_seq + batches.c.n)
        .where(batches.c.log_id == bindparam("log"), batches.c.first_seq <= bindparam("seq"))
        .order_by(batches.c.first_seq.desc())
    ),
    "log",
    "seq",
)
LEAF_OF_BATCH = query(
    select(tree_leaves.c.leaf).where(
        tree_leaves.c.log_id == bindparam("log"), tree_leaves.c.batch_no == bindparam("batch")
    ),
    "log",
    "batch",
)
FIRST_PENDING = query(
    select(tree_logs.c.log_id, batches.c.first_seq + batches.c.n)
    .select_from(
        tree_logs.outerjoin(
            batches, (batches.c.log_id == tree_logs.c.log_id) & (batches.c.batch_no == tree_logs.c.batches - _ONE)
        )
    )
    .where(tree_logs.c.log_id == bindparam("log")),
    "log",
)


def _between(one: ColumnElement[Any], two: ColumnElement[Any]) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Return that a pair lies between two bounds, neither included."""
    pair = tuple_(one, two)
    return (
        pair > tuple_(bindparam("after_leaf"), bindparam("after_seq")),
        pair < tuple_(bindparam("before_leaf"), bindparam("before_seq")),
    )


_BOUNDS = ("after_leaf", "after_seq", "before_leaf", "before_seq")
_listed = select(columns.c.leaf, columns.c.seq).where(
    columns.c.label == bindparam("label"), *_between(columns.c.leaf, columns.c.seq)
)
LISTED_OLDEST = query(_count(_listed.order_by(columns.c.leaf, columns.c.seq)), "label", *_BOUNDS, "count")
LISTED_NEWEST = query(_count(_listed.order_by(columns.c.leaf.desc(), columns.c.seq.desc())), "label", *_BOUNDS, "count")

LOGS_BETWEEN = query(
    select(tree_logs.c.log_id)
    .where(
        tree_logs.c.opened < bindparam("before"),
        or_(tree_logs.c.ended.is_(None), tree_logs.c.ended > bindparam("after")),
    )
    .order_by(tree_logs.c.opened),
    "before",
    "after",
)
FIRST_SPAN = query(
    _first(
        select(spans.c.leaf, spans.c.first_seq, spans.c.n)
        .where(spans.c.log_id == bindparam("log"), spans.c.leaf >= bindparam("leaf"))
        .order_by(spans.c.leaf)
    ),
    "log",
    "leaf",
)
LAST_SPAN_OF = query(
    _first(
        select(spans.c.leaf, spans.c.first_seq, spans.c.n)
        .where(spans.c.log_id == bindparam("log"), spans.c.leaf <= bindparam("leaf"))
        .order_by(spans.c.leaf.desc())
    ),
    "log",
    "leaf",
)

_inner = spans.alias("inner_spans")
_span_start = (
    select(func.max(_inner.c.first_seq))
    .where(_inner.c.log_id == tags.c.log_id, _inner.c.first_seq <= tags.c.seq)
    .scalar_subquery()
)
_tagged = (
    select(
        spans.c.leaf,
        tags.c.seq,
        func.substr(
            spans.c.labels,
            cast((tags.c.seq - spans.c.first_seq) * literal_column("4") + _ONE, Integer),
            literal_column("4"),
        ),
    )
    .select_from(tags.join(spans, (spans.c.log_id == tags.c.log_id) & (spans.c.first_seq == _span_start)))
    .where(
        tags.c.tag == bindparam("tag"),
        tags.c.log_id == bindparam("log"),
        tags.c.seq >= bindparam("first"),
        tags.c.seq <= bindparam("last"),
    )
)
TAGGED_OLDEST = query(_count(_tagged.order_by(tags.c.seq)), "tag", "log", "first", "last", "count")
TAGGED_NEWEST = query(_count(_tagged.order_by(tags.c.seq.desc())), "tag", "log", "first", "last", "count")
_asked = func.json_each(bindparam("seqs")).table_valued("value")
HAVING_TAG = query(
    select(tags.c.seq).where(
        tags.c.tag == bindparam("tag"), tags.c.log_id == bindparam("log"), tags.c.seq.in_(select(_asked.c.value))
    ),
    "tag",
    "log",
    "seqs",
)
"""On SQLite."""

_body = (bodies.c.log_id == entries.c.log_id) & (bodies.c.seq == entries.c.seq)
_of_span = entries.c.log_id == spans.c.log_id
_of_positions = (
    spans.c.leaf == bindparam("leaf"),
    entries.c.seq >= bindparam("first"),
    entries.c.seq <= bindparam("last"),
)
FETCH = query(
    select(entries.c.seq, spans.c.log_id, entries.c.public)
    .select_from(spans.join(entries, _of_span))
    .where(*_of_positions),
    "leaf",
    "first",
    "last",
)
FETCH_WITH_TAGS = query(
    select(entries.c.seq, spans.c.log_id, entries.c.public, bodies.c.tags)
    .select_from(spans.join(entries, _of_span).outerjoin(bodies, _body))
    .where(*_of_positions),
    "leaf",
    "first",
    "last",
)
FETCH_TAGS = query(
    select(bodies.c.tags).where(bodies.c.log_id == bindparam("log"), bodies.c.seq == bindparam("seq")), "log", "seq"
)

_of_batch = (
    (entries.c.log_id == batches.c.log_id)
    & (entries.c.seq >= batches.c.first_seq)
    & (entries.c.seq < batches.c.first_seq + batches.c.n)
)
_in_tree = (
    select(tree_leaves.c.leaf, entries.c.log_id, entries.c.seq, entries.c.public)
    .select_from(tree_leaves.join(batches, _batch_of_leaf).join(entries, _of_batch))
    .where(
        tree_leaves.c.leaf >= bindparam("low"),
        tree_leaves.c.leaf <= bindparam("high"),
        *_between(tree_leaves.c.leaf, entries.c.seq),
    )
)
_SPAN_BOUNDS = ("low", "high", *_BOUNDS, "count")
READ_OLDEST = query(_count(_in_tree.order_by(tree_leaves.c.leaf, entries.c.seq)), *_SPAN_BOUNDS)
READ_NEWEST = query(_count(_in_tree.order_by(tree_leaves.c.leaf.desc(), entries.c.seq.desc())), *_SPAN_BOUNDS)

_pending = select(entries.c.log_id, entries.c.seq, entries.c.public).where(
    entries.c.log_id == bindparam("log"), entries.c.seq > bindparam("after"), entries.c.seq < bindparam("before")
)
PENDING_OLDEST = query(_count(_pending.order_by(entries.c.seq)), "log", "after", "before", "count")
PENDING_NEWEST = query(_count(_pending.order_by(entries.c.seq.desc())), "log", "after", "before", "count")

SCAN_SPANS = query(
    select(
        spans.c.leaf,
        spans.c.log_id,
        spans.c.first_seq,
        spans.c.n,
        spans.c.at,
        spans.c.top,
        spans.c.late,
        spans.c.ids,
        spans.c.labels,
    ).order_by(spans.c.leaf)
)
COUNT_COLUMNS = query(select(func.count()).select_from(columns))
HAS_COLUMN = query(
    select(_ONE).where(
        columns.c.label == bindparam("label"), columns.c.leaf == bindparam("leaf"), columns.c.seq == bindparam("seq")
    ),
    "label",
    "leaf",
    "seq",
)
SPANS_OF_IDS = query(select(spans.c.leaf, spans.c.first_seq, spans.c.ids).order_by(spans.c.leaf))
