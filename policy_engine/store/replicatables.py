"""The table of replicas: which processes serve now, and the epoch that each has acknowledged.

Rules of the room: it is about the present and no part of the log; a row is changed by its own process, and ended by it
or by whoever saw its heartbeat stand still. Left to others: who counts as gone (`services.replica`), PostgreSQL's
functions (`migrations`).
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Integer,
    Table,
    Text,
    bindparam,
    case,
    delete,
    insert,
    literal_column,
    or_,
    select,
    update,
)

from policy_engine.store.sessions import command, query
from policy_engine.store.tables import metadata

_Number = BigInteger().with_variant(Integer, "sqlite")
_Text = Text().with_variant(Text(collation="C"), "postgresql")

replicas = Table(
    "replicas",
    metadata,
    Column("id", _Text, primary_key=True),
    Column("label", Text, nullable=False),
    Column("started", _Number, nullable=False),
    Column("heartbeat", _Number, nullable=False),
    Column("epoch", _Number, nullable=False),
    Column("acknowledged", _Number, nullable=False),
    Column("valid_for_ms", _Number, nullable=False),
    Column("ended", _Number),
    sqlite_strict=True,
)
"""Each process that serves, or did: instants of the database's clock; `acknowledged` is when it did so last."""

_row = replicas.c

READ_REPLICAS = query(
    select(
        _row.id, _row.label, _row.started, _row.heartbeat, _row.epoch, _row.acknowledged, _row.valid_for_ms, _row.ended
    ).order_by(_row.epoch, _row.acknowledged.desc(), _row.id)
)
BEAT = command(
    update(replicas)
    .values(
        acknowledged=case((_row.epoch == bindparam("same"), _row.acknowledged), else_=bindparam("at")),
        heartbeat=bindparam("now"),
        epoch=bindparam("to"),
        label=bindparam("words"),
        valid_for_ms=bindparam("budget"),
    )
    .where(_row.id == bindparam("own"), _row.ended.is_(None)),
    "words",
    "now",
    "to",
    "same",
    "at",
    "budget",
    "own",
)
ADD = command(insert(replicas), "id", "label", "started", "heartbeat", "epoch", "acknowledged", "valid_for_ms", "ended")
DROP = command(
    delete(replicas).where(or_(_row.id == bindparam("own"), _row.ended < bindparam("before"))), "own", "before"
)
END = command(
    update(replicas)
    .values(ended=bindparam("now"))
    .where(
        _row.id == bindparam("own"),
        _row.ended.is_(None),
        or_(bindparam("any") == literal_column("1"), _row.heartbeat == bindparam("seen")),
    ),
    "now",
    "own",
    "any",
    "seen",
)
