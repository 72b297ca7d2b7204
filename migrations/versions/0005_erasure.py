"""Erasure and retention: marks of what is gone, and data keys that only the erasure of somebody destroys.

A mark of an entry that is yet to be written is what lets a data key go, in the same transaction. PostgreSQL's functions
and rights are text beside this file.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

APPEND_ONLY = {
    "erased_keys": "key = NEW.key AND log_id = NEW.log_id AND seq = NEW.seq",
    "pruned_ranges": "by_log = NEW.by_log AND by_seq = NEW.by_seq AND log_id = NEW.log_id AND"
    " first_seq = NEW.first_seq",
}
"""Tables of which no row is changed or taken away, with what makes a row one that is there already."""

TRIGGERS = (
    "CREATE TRIGGER data_keys_no_insert BEFORE INSERT ON data_keys "
    "WHEN EXISTS (SELECT 1 FROM data_keys WHERE id = NEW.id) "
    "BEGIN SELECT RAISE(ABORT, 'a data key goes only with an erasure'); END",
    "CREATE TRIGGER data_keys_no_update BEFORE UPDATE ON data_keys "
    "BEGIN SELECT RAISE(ABORT, 'a data key goes only with an erasure'); END",
    "CREATE TRIGGER data_keys_only_erased BEFORE DELETE ON data_keys "
    "WHEN NOT EXISTS (SELECT 1 FROM erased_keys WHERE key = OLD.id"
    " AND seq >= coalesce((SELECT next_seq FROM heads WHERE heads.log_id = erased_keys.log_id), 0)) "
    "BEGIN SELECT RAISE(ABORT, 'a data key goes only with an erasure'); END",
)


def upgrade() -> None:
    """Build the tables of marks and the guards, and on PostgreSQL the functions that erase and prune."""
    op.create_table(
        "erased_keys",
        sa.Column("key", TEXT, primary_key=True),
        sa.Column("log_id", TEXT, primary_key=True),
        sa.Column("seq", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("at", NUMBER, nullable=False),
        sa.Column("register", TEXT),
        sa.Column("revision", NUMBER),
        sa.CheckConstraint("(register IS NULL) = (revision IS NULL)", name=op.f("ck_erased_keys_row_or_subject")),
        sqlite_strict=True,
    )
    op.create_table(
        "pruned_ranges",
        sa.Column("by_log", TEXT, primary_key=True),
        sa.Column("by_seq", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("log_id", TEXT, primary_key=True),
        sa.Column("first_seq", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("end_seq", NUMBER, nullable=False),
        sa.Column("at", NUMBER, nullable=False),
        sa.CheckConstraint("first_seq < end_seq", name=op.f("ck_pruned_ranges_not_empty")),
        sqlite_strict=True,
    )
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


def downgrade() -> None:
    """Refused: the log is append-only, and going back would lose evidence."""
    raise NotImplementedError("restore a verified copy instead")
