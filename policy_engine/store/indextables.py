"""The tables of the index of public columns, and the statements that fill and read it.

What many entries say alike (kind, outcome, model, rules, reasons, tenant, ...) is one *label*; the index keeps for each
label the positions `(leaf, seq)` of its entries, in the order of the tree. A question picks the labels that fit it, and
their lists are merged: a page costs the same however many entries there are. The index is made from the log and can be
made again; nothing is proved by it. Left to others: what a label says (`indexing`), reading (`indexreading`).
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, Table, Text, UniqueConstraint

from policy_engine.store.tables import metadata

_Number = BigInteger().with_variant(Integer, "sqlite")
_Text = Text().with_variant(Text(collation="C"), "postgresql")

labels = Table(
    "labels",
    metadata,
    Column("label", Integer, primary_key=True, autoincrement=False),
    Column("digest", LargeBinary, nullable=False),
    Column("says", Text, nullable=False),
    UniqueConstraint("digest", name="uq_labels_digest"),
    sqlite_strict=True,
)
"""What entries say alike, as JSON; `digest` is its SHA-256."""

columns = Table(
    "columns",
    metadata,
    Column("label", Integer, primary_key=True, autoincrement=False),
    Column("leaf", _Number, primary_key=True, autoincrement=False),
    Column("seq", _Number, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
    sqlite_strict=True,
)
"""For each label, where the entries are that bear it."""

spans = Table(
    "spans",
    metadata,
    Column("leaf", _Number, primary_key=True, autoincrement=False),
    Column("log_id", _Text, nullable=False),
    Column("first_seq", _Number, nullable=False),
    Column("n", Integer, nullable=False),
    Column("at", _Number, nullable=False),
    Column("top", _Number, nullable=False),
    Column("late", _Number, nullable=False),
    Column("ids", LargeBinary, nullable=False),
    Column("labels", LargeBinary, nullable=False),
    UniqueConstraint("log_id", "first_seq", name="uq_spans_first_seq"),
    Index("spans_by_log", "log_id", "leaf"),
    sqlite_strict=True,
)
"""The entries of each batch leaf. `top` is the latest instant of this leaf and those before it, `late` by how much any
of them was ever behind it; `ids` are the first four bytes of each entry's id, `labels` four bytes of each one's label.
"""

eras = Table(
    "eras",
    metadata,
    Column("epoch", _Number, primary_key=True, autoincrement=False),
    Column("release", Text),
    Column("leaf", _Number, nullable=False),
    Column("at", _Number, nullable=False),
    sqlite_strict=True,
)
"""For each epoch its release, and the first leaf in which an entry names it."""
