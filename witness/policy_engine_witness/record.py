"""The record: the last cosigned checkpoint of each log, in an SQLite file of the witness's own.

Rules of the room:
- The comparison with the record and its replacement are one `BEGIN IMMEDIATE` transaction; a second thread, or a second
  process on the file, waits for it. A trigger refuses a record that shrinks, whoever asks.
- A cosignature is handed out only after `COMMIT` has returned. `synchronous=EXTRA` makes that last in the rollback
  journal: FULL alone may lose the removal of the journal, and with it the commit, when the power fails.
- Killed between commit and answer, the log asks again, is told the size (409), and gets a cosignature of the same tree.
- Two signed checkpoints of one size with different roots prove that a log forked; the second one is kept as evidence.
The standard library's `sqlite3` is enough here: the write-ahead log and its bugs are not used, and nothing of the
engine's is ever opened.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from policy_engine_witness.consistency import EMPTY_ROOT, grew
from policy_engine_witness.notes import Refused, Request

BUSY_SECONDS = 5.0
FORKS_MAX = 100
"""Forked checkpoints kept of one log: the first ones tell the story, the rest would fill the disk."""

_TABLES = """
CREATE TABLE IF NOT EXISTS heads (
    origin TEXT PRIMARY KEY, size INTEGER NOT NULL, root BLOB NOT NULL, note BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS forks (
    origin TEXT NOT NULL, size INTEGER NOT NULL, root BLOB NOT NULL, note BLOB NOT NULL, seconds INTEGER NOT NULL,
    PRIMARY KEY (origin, size, root)
);
CREATE TRIGGER IF NOT EXISTS heads_only_grow BEFORE UPDATE ON heads
WHEN new.size < old.size OR (new.size = old.size AND new.root <> old.root) OR new.origin <> old.origin
BEGIN SELECT RAISE(ABORT, 'the record of a log only grows'); END;
CREATE TRIGGER IF NOT EXISTS heads_stay BEFORE DELETE ON heads
BEGIN SELECT RAISE(ABORT, 'the record of a log stays'); END;
"""


class Record:
    """The file at a path; made when it is not there. Any number of threads and processes may use it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._connected() as connection:
            connection.executescript(_TABLES)

    def advance(self, request: Request, signed: str, cosign: Callable[[], str], seconds: int) -> str:
        """Make a checkpoint whose log signature is good the record, and return its cosignature line.

        `signed` are the good signature lines. Raises `Refused` (409 with the size of the record, 422).
        """
        with self._connected() as connection:
            connection.execute("BEGIN IMMEDIATE")
            row = connection.execute("SELECT size, root FROM heads WHERE origin = ?", (request.origin,)).fetchone()
            size, root = (0, EMPTY_ROOT) if row is None else row
            if request.old_size != size:
                raise Refused(409, "the old size is not that of the record", size)
            if request.size == size and request.root != root:
                self._keep_fork(connection, request, signed, seconds)
                raise Refused(409, "the log signed two trees of one size: it forked", size)
            if not grew(size, root, request.size, request.root, request.proof):
                raise Refused(422, "the consistency proof does not lead from the record to the checkpoint")
            line = cosign()
            note = f"{request.text}\n{signed}{line}".encode()
            connection.execute(
                "INSERT INTO heads (origin, size, root, note) VALUES (?, ?, ?, ?) ON CONFLICT (origin) "
                "DO UPDATE SET size = excluded.size, root = excluded.root, note = excluded.note",
                (request.origin, request.size, request.root, note),
            )
            connection.execute("COMMIT")
        return line

    def newest(self, origin: str) -> bytes | None:
        """Return the last cosigned checkpoint of a log with its cosignature, `None` before the first."""
        with self._connected() as connection:
            row = connection.execute("SELECT note FROM heads WHERE origin = ?", (origin,)).fetchone()
        return None if row is None else bytes(row[0])

    def _keep_fork(self, connection: sqlite3.Connection, request: Request, signed: str, seconds: int) -> None:
        (kept,) = connection.execute("SELECT count(*) FROM forks WHERE origin = ?", (request.origin,)).fetchone()
        if kept < FORKS_MAX:
            note = f"{request.text}\n{signed}".encode()
            row = (request.origin, request.size, request.root, note, seconds)
            connection.execute("INSERT OR IGNORE INTO forks VALUES (?, ?, ?, ?, ?)", row)
            connection.execute("COMMIT")

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """Open the file for one piece of work; closing rolls back whatever was not committed."""
        connection = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("PRAGMA synchronous = EXTRA")
            yield connection
        finally:
            connection.close()
