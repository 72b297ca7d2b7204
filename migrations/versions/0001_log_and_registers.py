"""The log, its batches and keys, the registers, and the state row.

Triggers guard against mistakes, not against the owner of the file. `INSERT OR REPLACE` deletes without firing delete
triggers (unless `recursive_triggers` is on), so an append-only table also aborts an insert whose key exists.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

TRIGGERS = (
    "CREATE TRIGGER entries_no_insert BEFORE INSERT ON entries "
    "WHEN EXISTS (SELECT 1 FROM entries WHERE log_id = NEW.log_id AND seq = NEW.seq) "
    "BEGIN SELECT RAISE(ABORT, 'entries is append-only'); END",
    "CREATE TRIGGER entries_no_update BEFORE UPDATE ON entries "
    "BEGIN SELECT RAISE(ABORT, 'entries is append-only'); END",
    "CREATE TRIGGER entries_no_delete BEFORE DELETE ON entries "
    "BEGIN SELECT RAISE(ABORT, 'entries is append-only'); END",
    "CREATE TRIGGER batches_no_insert BEFORE INSERT ON batches "
    "WHEN EXISTS (SELECT 1 FROM batches WHERE log_id = NEW.log_id AND"
    " (batch_no = NEW.batch_no OR first_seq = NEW.first_seq)) "
    "BEGIN SELECT RAISE(ABORT, 'batches is append-only'); END",
    "CREATE TRIGGER batches_no_update BEFORE UPDATE ON batches "
    "BEGIN SELECT RAISE(ABORT, 'batches is append-only'); END",
    "CREATE TRIGGER batches_no_delete BEFORE DELETE ON batches "
    "BEGIN SELECT RAISE(ABORT, 'batches is append-only'); END",
    "CREATE TRIGGER bodies_no_insert BEFORE INSERT ON bodies "
    "WHEN EXISTS (SELECT 1 FROM bodies WHERE log_id = NEW.log_id AND seq = NEW.seq) "
    "BEGIN SELECT RAISE(ABORT, 'bodies may only be emptied'); END",
    "CREATE TRIGGER bodies_only_emptied BEFORE UPDATE ON bodies "
    "WHEN NEW.log_id IS NOT OLD.log_id OR NEW.seq IS NOT OLD.seq OR NEW.data_key IS NOT OLD.data_key"
    " OR length(NEW.sealed) <> 0 OR length(NEW.tags) <> 0 "
    "BEGIN SELECT RAISE(ABORT, 'bodies may only be emptied'); END",
    "CREATE TRIGGER bodies_no_delete BEFORE DELETE ON bodies "
    "BEGIN SELECT RAISE(ABORT, 'bodies may only be emptied'); END",
    "CREATE TRIGGER tags_no_update BEFORE UPDATE ON tags "
    "BEGIN SELECT RAISE(ABORT, 'tags go only with their body'); END",
    "CREATE TRIGGER tags_no_delete BEFORE DELETE ON tags "
    "WHEN EXISTS (SELECT 1 FROM bodies WHERE log_id = OLD.log_id AND seq = OLD.seq AND length(sealed) > 0) "
    "BEGIN SELECT RAISE(ABORT, 'tags go only with their body'); END",
    "CREATE TRIGGER state_no_delete BEFORE DELETE ON state BEGIN SELECT RAISE(ABORT, 'the state row stays'); END",
    "CREATE TRIGGER state_only_grows BEFORE UPDATE ON state "
    "WHEN NEW.epoch < OLD.epoch OR NEW.facts_revision < OLD.facts_revision "
    "BEGIN SELECT RAISE(ABORT, 'the epoch never decreases'); END",
)


def upgrade() -> None:
    """Build the schema of the first version."""
    log()
    evidence()
    for name in ("persons", "tenants", "orders", "switches"):
        register(name)
    register("keys", sa.Column("hash", TEXT), sa.UniqueConstraint("hash", name="uq_keys_hash"))
    register(
        "approvals",
        sa.Column("status", sa.Text),
        sa.Column("proposed_by", sa.Text),
        sa.Column("decided_by", sa.Text),
        sa.CheckConstraint(
            "status IS NULL OR status <> 'approved' OR"
            " (proposed_by IS NOT NULL AND decided_by IS NOT NULL AND decided_by <> proposed_by)",
            name=op.f("ck_approvals_two_persons"),
        ),
    )
    register("releases")
    if op.get_bind().dialect.name == "sqlite":
        for trigger in TRIGGERS:
            op.execute(trigger)
    op.execute("INSERT INTO state (id, epoch, release, facts_revision, sample) VALUES (1, 0, NULL, 0, 0)")


def log() -> None:
    """The state row, the heads, the entries and their batch headers."""
    op.create_table(
        "state",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("epoch", NUMBER, nullable=False),
        sa.Column("release", sa.Text),
        sa.Column("facts_revision", NUMBER, nullable=False),
        sa.Column("sample", sa.Integer, nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_state_one_row")),
        sa.CheckConstraint("sample IN (0, 1)", name=op.f("ck_state_sample_flag")),
        sqlite_strict=True,
    )
    op.create_table(
        "heads",
        sa.Column("log_id", TEXT, primary_key=True),
        sa.Column("next_seq", NUMBER, nullable=False),
        sa.Column("next_batch", NUMBER, nullable=False),
        sa.Column("head_hash", sa.Text, nullable=False),
        sa.Column("last_at", NUMBER, nullable=False),
        sa.Column("tagged", NUMBER, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "entries",
        sa.Column("log_id", TEXT, primary_key=True),
        sa.Column("seq", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("public", sa.LargeBinary, nullable=False),
        sa.Column("leaf", sa.LargeBinary, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "batches",
        sa.Column("log_id", TEXT, primary_key=True),
        sa.Column("batch_no", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("first_seq", NUMBER, nullable=False),
        sa.Column("n", sa.Integer, nullable=False),
        sa.Column("header", sa.LargeBinary, nullable=False),
        sa.Column("hash", TEXT, nullable=False),
        sa.UniqueConstraint("log_id", "first_seq", name="uq_batches_first_seq"),
        sa.CheckConstraint("n > 0", name=op.f("ck_batches_not_empty")),
        sqlite_strict=True,
    )


def evidence() -> None:
    """The sealed parts, their tags and keys, and the content of releases."""
    op.create_table(
        "bodies",
        sa.Column("log_id", TEXT, primary_key=True),
        sa.Column("seq", NUMBER, primary_key=True, autoincrement=False),
        sa.Column("data_key", sa.Text),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("tags", sa.LargeBinary, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "tags",
        sa.Column("tag", sa.LargeBinary, primary_key=True),
        sa.Column("log_id", TEXT, primary_key=True),
        sa.Column("seq", NUMBER, primary_key=True, autoincrement=False),
        sqlite_with_rowid=False,
        sqlite_strict=True,
    )
    op.create_table(
        "data_keys",
        sa.Column("id", TEXT, primary_key=True),
        sa.Column("wrapped", sa.LargeBinary, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "blobs",
        sa.Column("hash", TEXT, primary_key=True),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sqlite_strict=True,
    )


def register(name: str, *typed: sa.schema.SchemaItem) -> None:
    """One register; `document` is null when the row was taken away."""
    op.create_table(
        name,
        sa.Column("id", TEXT, primary_key=True),
        sa.Column("revision", NUMBER, nullable=False),
        sa.Column("document", sa.Text),
        sa.Column("salt", sa.LargeBinary, nullable=False),
        sa.Column("log_id", TEXT, nullable=False),
        sa.Column("seq", NUMBER, nullable=False),
        sa.Column("item", sa.Integer, nullable=False),
        *typed,
        sqlite_strict=True,
    )


def downgrade() -> None:
    """Refused: the log is append-only, and going back would lose evidence."""
    raise NotImplementedError("restore a verified copy instead")
