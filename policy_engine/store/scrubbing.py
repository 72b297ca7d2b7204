"""Writing an SQLite file anew, so that what was taken out of it is in none of its bytes.

Deleted cells are overwritten (`secure_delete`), but a page that was split or joined may keep a stale copy of a cell
outside its content, and the write-ahead log keeps pages as they were. `VACUUM` copies what is there into fresh pages;
a truncating checkpoint then empties the write-ahead log.
Rules: nothing else is written meanwhile, so a large file is for a quiet hour. What the file system or the disk keeps of
overwritten blocks, and backups, are beyond any program's reach. PostgreSQL has its own `VACUUM FULL`.
Left to others: when to scrub (`services.erasure`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from policy_engine.limits import Limits
from policy_engine.store import faults
from policy_engine.store.checkpoints import checkpoint
from policy_engine.store.sessions import make_engine

ATTEMPTS_COUNT = 3

log = structlog.get_logger(__name__)


def scrubber(path: Path, limits: Limits) -> Callable[[], None]:
    """Return what scrubs a file of moderate size, and says of one that is left that it waits for `--scrub`."""

    def scrub_file() -> None:
        if not scrub(path, bytes_max=limits.scrubbed_bytes, busy_seconds=limits.answer_seconds):
            log.error("database.not-scrubbed", message="run `policy-engine audit erase --scrub` in a quiet hour")

    return scrub_file


def no_scrub() -> None:
    """Do nothing: a database server keeps its files itself."""


def scrub(path: Path, *, bytes_max: int | None, busy_seconds: float) -> bool:
    """Write the file anew and return whether nothing deleted is left in it and its write-ahead log.

    False when the file is larger than `bytes_max`, when somebody else kept it busy, or when the disk has no room for a
    copy: then it is as it was, and may be scrubbed later.
    """
    if bytes_max is not None and path.stat().st_size > bytes_max:
        return False
    engine = make_engine(path, busy_seconds=busy_seconds)
    try:
        with closing(engine.raw_connection()) as connection:
            return any(_scrubbed(connection.dbapi_connection, path) for _ in range(ATTEMPTS_COUNT))
    except (faults.DatabaseError, SQLAlchemyError):
        return False  # a file that is being written cannot even be opened
    finally:
        engine.dispose()


def _scrubbed(connection: Any, path: Path) -> bool:
    try:
        connection.execute("VACUUM")
        return checkpoint(connection, path, "TRUNCATE")
    except (faults.DatabaseError, OSError):
        return False  # busy, or no room for the copy: the file is as it was
