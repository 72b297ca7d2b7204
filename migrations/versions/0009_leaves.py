"""On PostgreSQL the functions write down what a leaf and a header must be, and take no other bytes.

Before, a stolen writer's login could append bytes that nobody can integrate, and none of them goes away again. SQLite
has no such logins, and nothing to change.
"""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Replace the functions, on PostgreSQL."""
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        text = Path(__file__).with_suffix(".sql").read_text()
        connection.connection.driver_connection.execute(text)  # many statements, and `%` is no parameter in them


def downgrade() -> None:
    """Refused: the log is append-only, and going back would lose evidence."""
    raise NotImplementedError("restore a verified copy instead")
