"""The global tree: its leaves, tiles, checkpoints and cosignatures, and how each log begins and ends.

Guards are triggers, as before: against mistakes, not against the owner. A leaf has the next number, a tile keeps what
it has, and an ended log stays ended. PostgreSQL's functions and rights are text beside this file.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

APPEND_ONLY = {
    "tree_leaves": "leaf = NEW.leaf OR (log_id = NEW.log_id AND batch_no = NEW.batch_no)",
    "checkpoints": "size = NEW.size",
    "cosignatures": "size = NEW.size AND cosigner = NEW.cosigner",
    "log_events": "log_id = NEW.log_id AND (kind = NEW.kind OR (kind <> 'open' AND NEW.kind <> 'open'))",
}
"""Tables of which no row is changed or taken away, with what makes a row one that is there already."""

TRIGGERS = (
    "CREATE TRIGGER tree_leaves_next BEFORE INSERT ON tree_leaves "
    "WHEN NEW.leaf <> coalesce((SELECT max(leaf) + 1 FROM tree_leaves), 0) "
    "BEGIN SELECT RAISE(ABORT, 'a leaf has the next number'); END",
    "CREATE TRIGGER tree_tiles_no_insert BEFORE INSERT ON tree_tiles "
    "WHEN EXISTS (SELECT 1 FROM tree_tiles WHERE level = NEW.level AND number = NEW.number) "
    "BEGIN SELECT RAISE(ABORT, 'a tile only grows'); END",
    "CREATE TRIGGER tree_tiles_only_grow BEFORE UPDATE ON tree_tiles "
    "WHEN NEW.level IS NOT OLD.level OR NEW.number IS NOT OLD.number"
    " OR substr(NEW.data, 1, length(OLD.data)) IS NOT OLD.data "
    "BEGIN SELECT RAISE(ABORT, 'a tile only grows'); END",
    "CREATE TRIGGER tree_tiles_no_delete BEFORE DELETE ON tree_tiles "
    "BEGIN SELECT RAISE(ABORT, 'a tile only grows'); END",
    "CREATE TRIGGER tree_no_delete BEFORE DELETE ON tree BEGIN SELECT RAISE(ABORT, 'the row of the tree stays'); END",
    "CREATE TRIGGER tree_only_grows BEFORE UPDATE ON tree "
    "WHEN NEW.size < OLD.size OR NEW.horizon < OLD.horizon OR NEW.rising < OLD.rising"
    " OR (OLD.origin <> '' AND (NEW.origin <> OLD.origin OR NEW.key <> OLD.key)) "
    "BEGIN SELECT RAISE(ABORT, 'the tree never becomes smaller, nor another'); END",
    "CREATE TRIGGER tree_logs_no_insert BEFORE INSERT ON tree_logs "
    "WHEN EXISTS (SELECT 1 FROM tree_logs WHERE log_id = NEW.log_id) "
    "BEGIN SELECT RAISE(ABORT, 'a log in the tree only grows'); END",
    "CREATE TRIGGER tree_logs_only_grow BEFORE UPDATE ON tree_logs "
    "WHEN NEW.log_id IS NOT OLD.log_id OR NEW.opened IS NOT OLD.opened OR NEW.batches < OLD.batches"
    " OR (OLD.ended IS NOT NULL AND (NEW.ended IS NOT OLD.ended OR NEW.batches <> OLD.batches)) "
    "BEGIN SELECT RAISE(ABORT, 'a log in the tree only grows'); END",
    "CREATE TRIGGER tree_logs_no_delete BEFORE DELETE ON tree_logs "
    "BEGIN SELECT RAISE(ABORT, 'a log in the tree only grows'); END",
)


def upgrade() -> None:
    """Build the tables, their guards, and on PostgreSQL the functions that write them."""
    tree()
    beside()
    op.execute("INSERT INTO tree (id, size, origin, key, indexed, horizon, rising) VALUES (1, 0, '', '', 0, 0, 0)")
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        text = Path(__file__).with_suffix(".sql").read_text()
        connection.connection.driver_connection.execute(text)  # many statements, and `%` is no parameter in them
        return
    for table, there in APPEND_ONLY.items():
        refuse = f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        op.execute(
            f"CREATE TRIGGER {table}_no_insert BEFORE INSERT ON {table} "
            f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {there}) {refuse}"
        )
        op.execute(f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} {refuse}")
        op.execute(f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} {refuse}")
    for trigger in TRIGGERS:
        op.execute(trigger)


def tree() -> None:
    """The row about the tree, its leaves and its tiles."""
    op.create_table(
        "tree",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("size", NUMBER, nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("indexed", NUMBER, nullable=False),
        sa.Column("horizon", NUMBER, nullable=False),
        sa.Column("rising", NUMBER, nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_tree_one_row")),
        sa.CheckConstraint("indexed <= size", name=op.f("ck_tree_indexed_in_tree")),
        sqlite_strict=True,
    )
    op.create_table(
        "tree_leaves",
        sa.Column("leaf", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("log_id", TEXT, nullable=False),
        sa.Column("batch_no", NUMBER),
        sa.Column("data", sa.LargeBinary),
        sa.UniqueConstraint("log_id", "batch_no", name="uq_tree_leaves_batch"),
        sa.CheckConstraint("(batch_no IS NULL) <> (data IS NULL)", name=op.f("ck_tree_leaves_batch_or_event")),
        sqlite_strict=True,
    )
    op.create_table(
        "tree_tiles",
        sa.Column("level", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("number", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.CheckConstraint("length(data) BETWEEN 32 AND 8192", name=op.f("ck_tree_tiles_hashes")),
        sqlite_strict=True,
    )


def beside() -> None:
    """Checkpoints and cosignatures, the events of logs, and how far each log is in the tree."""
    op.create_table(
        "checkpoints",
        sa.Column("size", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("note", sa.LargeBinary, nullable=False),
        sa.Column("at", NUMBER, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "cosignatures",
        sa.Column("size", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("cosigner", TEXT, primary_key=True),
        sa.Column("line", sa.Text, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "log_events",
        sa.Column("log_id", TEXT, primary_key=True),
        sa.Column("kind", TEXT, primary_key=True),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.CheckConstraint("kind IN ('open', 'close', 'abandoned')", name=op.f("ck_log_events_known_kind")),
        sqlite_strict=True,
    )
    op.create_table(
        "tree_logs",
        sa.Column("log_id", TEXT, primary_key=True),
        sa.Column("opened", NUMBER, nullable=False),
        sa.Column("batches", NUMBER, nullable=False),
        sa.Column("ended", NUMBER),
        sqlite_strict=True,
    )


def downgrade() -> None:
    """Refused: the log is append-only, and going back would lose evidence."""
    raise NotImplementedError("restore a verified copy instead")
