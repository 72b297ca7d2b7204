"""The index of public columns, filled behind the commits in the order of the tree.

It is made from the log and can be made again, so nothing guards it but who may write. On PostgreSQL it is filled by a
function that reads the stored bytes itself, which is text beside this file.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Build the tables, and on PostgreSQL the function that fills them."""
    op.create_table(
        "labels",
        sa.Column("label", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("says", sa.Text, nullable=False),
        sa.UniqueConstraint("digest", name="uq_labels_digest"),
        sqlite_strict=True,
    )
    op.create_table(
        "columns",
        sa.Column("label", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("leaf", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("seq", NUMBER, primary_key=True, autoincrement=False),
        sqlite_with_rowid=False,
        sqlite_strict=True,
    )
    op.create_table(
        "spans",
        sa.Column("leaf", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("log_id", TEXT, nullable=False),
        sa.Column("first_seq", NUMBER, nullable=False),
        sa.Column("n", sa.Integer, nullable=False),
        sa.Column("at", NUMBER, nullable=False),
        sa.Column("top", NUMBER, nullable=False),
        sa.Column("late", NUMBER, nullable=False),
        sa.Column("ids", sa.LargeBinary, nullable=False),
        sa.Column("labels", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("log_id", "first_seq", name="uq_spans_first_seq"),
        sqlite_strict=True,
    )
    op.create_index("spans_by_log", "spans", ["log_id", "leaf"])
    op.create_table(
        "eras",
        sa.Column("epoch", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("release", sa.Text),
        sa.Column("leaf", NUMBER, nullable=False),
        sa.Column("at", NUMBER, nullable=False),
        sqlite_strict=True,
    )
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        text = Path(__file__).with_suffix(".sql").read_text()
        connection.connection.driver_connection.execute(text)  # many statements, and `%` is no parameter in them


def downgrade() -> None:
    """Refused, as everywhere: restore a verified copy instead."""
    raise NotImplementedError("restore a verified copy instead")
