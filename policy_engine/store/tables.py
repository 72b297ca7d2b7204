"""The tables, as SQLAlchemy metadata. `migrations/` builds them; a drift test holds the two equal.

Rules of the room: the schema itself refuses what must never be (an entry that is not new, an approval by its own
proposer, two keys with one hash). Triggers that keep the log append-only are text in the migrations, because metadata
cannot hold them.
Tables are strict: SQLite otherwise keeps a value of any type in any column.
Left to others: statements (`statements`), what rows mean (`registers`, `entries`).
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={"ck": "ck_%(table_name)s_%(constraint_name)s", "uq": "uq_%(table_name)s_%(column_0_name)s"}
)

_Number = BigInteger().with_variant(Integer, "sqlite")
_Text = Text().with_variant(Text(collation="C"), "postgresql")
"""Text in the order of its code points everywhere, which SQLite has by itself: rows are paged in that order."""

state = Table(
    "state",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("epoch", _Number, nullable=False),
    Column("release", Text),
    Column("facts_revision", _Number, nullable=False),
    Column("sample", Integer, nullable=False),
    CheckConstraint("id = 1", name="one_row"),
    CheckConstraint("sample IN (0, 1)", name="sample_flag"),
    sqlite_strict=True,
)
"""The one row that every decision reads."""

heads = Table(
    "heads",
    metadata,
    Column("log_id", _Text, primary_key=True),
    Column("next_seq", _Number, nullable=False),
    Column("next_batch", _Number, nullable=False),
    Column("head_hash", Text, nullable=False),
    Column("last_at", _Number, nullable=False),
    Column("tagged", _Number, nullable=False),
    sqlite_strict=True,
)
"""Where each log ends: one row per log, moved with every batch. Entries before `tagged` are in the index `tags`."""

entries = Table(
    "entries",
    metadata,
    Column("log_id", _Text, primary_key=True),
    Column("seq", _Number, primary_key=True, autoincrement=False),
    Column("public", LargeBinary, nullable=False),
    Column("leaf", LargeBinary, nullable=False),
    sqlite_strict=True,
)
"""Public bytes of each entry and their leaf hash. Append-only."""

bodies = Table(
    "bodies",
    metadata,
    Column("log_id", _Text, primary_key=True),
    Column("seq", _Number, primary_key=True, autoincrement=False),
    Column("data_key", Text),
    Column("sealed", LargeBinary, nullable=False),
    Column("tags", LargeBinary, nullable=False),
    sqlite_strict=True,
)
"""Sealed parts and the keyed tags that find them, one after another. Both may only be emptied, together.

`data_key` is null for a change, whose rows name their own keys.
"""

tags = Table(
    "tags",
    metadata,
    Column("tag", LargeBinary, primary_key=True),
    Column("log_id", _Text, primary_key=True),
    Column("seq", _Number, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
    sqlite_strict=True,
)
"""The tags of the bodies as an index, filled behind the commits (`heads.tagged`). They go with their body."""

data_keys = Table(
    "data_keys",
    metadata,
    Column("id", _Text, primary_key=True),
    Column("wrapped", LargeBinary, nullable=False),
    sqlite_strict=True,
)
"""Data keys, each wrapped by the vault."""

batches = Table(
    "batches",
    metadata,
    Column("log_id", _Text, primary_key=True),
    Column("batch_no", _Number, primary_key=True, autoincrement=False),
    Column("first_seq", _Number, nullable=False),
    Column("n", Integer, nullable=False),
    Column("header", LargeBinary, nullable=False),
    Column("hash", _Text, nullable=False),
    UniqueConstraint("log_id", "first_seq", name="uq_batches_first_seq"),
    CheckConstraint("n > 0", name="not_empty"),
    sqlite_strict=True,
)
"""One chained header per commit. Append-only."""

blobs = Table(
    "blobs",
    metadata,
    Column("hash", _Text, primary_key=True),
    Column("content", LargeBinary, nullable=False),
    sqlite_strict=True,
)
"""Content of releases by its hash."""


tree = Table(
    "tree",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("size", _Number, nullable=False),
    Column("origin", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("indexed", _Number, nullable=False),
    Column("horizon", _Number, nullable=False),
    Column("rising", _Number, nullable=False),
    CheckConstraint("id = 1", name="one_row"),
    CheckConstraint("indexed <= size", name="indexed_in_tree"),
    sqlite_strict=True,
)
"""The one row about the global tree; `rising` is where the horizon goes once all who began before it are done."""

tree_leaves = Table(
    "tree_leaves",
    metadata,
    Column("leaf", _Number, primary_key=True, autoincrement=False),
    Column("log_id", _Text, nullable=False),
    Column("batch_no", _Number),
    Column("data", LargeBinary),
    UniqueConstraint("log_id", "batch_no", name="uq_tree_leaves_batch"),
    CheckConstraint("(batch_no IS NULL) <> (data IS NULL)", name="batch_or_event"),
    sqlite_strict=True,
)
"""The leaves in order. A batch leaf is the header in `batches`; an event has its bytes here. Append-only."""

tree_tiles = Table(
    "tree_tiles",
    metadata,
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("number", _Number, primary_key=True, autoincrement=False),
    Column("data", LargeBinary, nullable=False),
    CheckConstraint("length(data) BETWEEN 32 AND 8192", name="hashes"),
    sqlite_strict=True,
)
"""The hashes of the tree, 256 to a tile (C2SP tlog-tiles). A tile only grows."""

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("size", _Number, primary_key=True, autoincrement=False),
    Column("note", LargeBinary, nullable=False),
    Column("at", _Number, nullable=False),
    sqlite_strict=True,
)
"""Every signed checkpoint. Append-only."""

cosignatures = Table(
    "cosignatures",
    metadata,
    Column("size", _Number, primary_key=True, autoincrement=False),
    Column("cosigner", _Text, primary_key=True),
    Column("line", Text, nullable=False),
    sqlite_strict=True,
)
"""Signature lines of witnesses under a checkpoint. Append-only."""

log_events = Table(
    "log_events",
    metadata,
    Column("log_id", _Text, primary_key=True),
    Column("kind", _Text, primary_key=True),
    Column("data", LargeBinary, nullable=False),
    CheckConstraint("kind IN ('open', 'close', 'abandoned')", name="known_kind"),
    sqlite_strict=True,
)
"""How each log began and ended, as durable as its batches and before it is in the tree. Append-only."""

tree_logs = Table(
    "tree_logs",
    metadata,
    Column("log_id", _Text, primary_key=True),
    Column("opened", _Number, nullable=False),
    Column("batches", _Number, nullable=False),
    Column("ended", _Number),
    sqlite_strict=True,
)
"""How far each log is in the tree: the leaf that opened it, its batches there, and the leaf that ended it."""


def _register(name: str, *typed: Column[str] | CheckConstraint | UniqueConstraint) -> Table:
    """Return the table of a register. `document` is canonical JSON text; null when the row was taken away.

    A row that was taken away stays with its revision, so that no revision of an id is ever given twice.
    """
    return Table(
        name,
        metadata,
        Column("id", _Text, primary_key=True),
        Column("revision", _Number, nullable=False),
        Column("document", Text),
        Column("salt", LargeBinary, nullable=False),
        Column("log_id", _Text, nullable=False),
        Column("seq", _Number, nullable=False),
        Column("item", Integer, nullable=False),
        *typed,
        sqlite_strict=True,
    )


registers: dict[str, Table] = {
    "persons": _register("persons"),
    "tenants": _register("tenants"),
    "orders": _register("orders"),
    "switches": _register("switches"),
    "keys": _register("keys", Column("hash", _Text), UniqueConstraint("hash")),
    "approvals": _register(
        "approvals",
        Column("status", Text),
        Column("proposed_by", Text),
        Column("decided_by", Text),
        CheckConstraint(
            "status IS NULL OR status <> 'approved' OR"
            " (proposed_by IS NOT NULL AND decided_by IS NOT NULL AND decided_by <> proposed_by)",
            name="two_persons",
        ),
    ),
    "releases": _register("releases"),
}
"""The registers, each a projection of the log."""

TYPED: dict[str, tuple[str, ...]] = {"keys": ("hash",), "approvals": ("status", "proposed_by", "decided_by")}
"""Columns that repeat a text member of the document, so that the schema can enforce something about it."""
