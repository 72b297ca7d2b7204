"""Two connections on PostgreSQL that fill the index of columns at once: the one that comes late finds nothing to do.

SQLite has one writer at a time, and nothing to change.
"""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Replace the function, on PostgreSQL."""
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        text = Path(__file__).with_suffix(".sql").read_text()
        connection.connection.driver_connection.execute(text)  # many statements, and `%` is no parameter in them


def downgrade() -> None:
    """Refused: the log is append-only, and going back would lose evidence."""
    raise NotImplementedError("restore a verified copy instead")
