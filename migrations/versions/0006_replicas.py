"""Replicas: which processes serve, the epoch that each has acknowledged, and an epoch that a recovery may leap to.

The table is about the present: it is no part of the log, and rows of the past go. PostgreSQL's functions and rights are
text beside this file.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Build the table, and on PostgreSQL the functions that write it and what announces an epoch."""
    op.create_table(
        "replicas",
        sa.Column("id", TEXT, primary_key=True),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("started", NUMBER, nullable=False),
        sa.Column("heartbeat", NUMBER, nullable=False),
        sa.Column("epoch", NUMBER, nullable=False),
        sa.Column("acknowledged", NUMBER, nullable=False),
        sa.Column("valid_for_ms", NUMBER, nullable=False),
        sa.Column("ended", NUMBER),
        sqlite_strict=True,
    )
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        text = Path(__file__).with_suffix(".sql").read_text()
        connection.connection.driver_connection.execute(text)  # many statements, and `%` is no parameter in them


def downgrade() -> None:
    """Refused: the log is append-only, and going back would lose evidence."""
    raise NotImplementedError("restore a verified copy instead")
