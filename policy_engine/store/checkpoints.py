"""Carrying pages from SQLite's write-ahead log into the database file, and noticing when the disk refuses.

SQLite's automatic checkpoint passes over errors. That is not harmless once a reader has split a checkpoint in two: the
first half counts as carried over without an fsync of its own; if the fsync of the second half fails, kernels count all
those pages as clean, nothing writes the first half again, and a later checkpoint lets the log be overwritten.
Rules of the room:
- No connection checkpoints by itself (`sessions`); the writer does so behind a commit, and sees every error.
- After an error the log counts as not carried over at all, so that the next checkpoint, whoever makes it, writes every
  page again. SQLite has no call for that: the counter is set in the WAL-index, under SQLite's own checkpoint lock.
- The last connection that closes checkpoints too and passes over errors, but keeps the log then; whoever opens the file
  next rebuilds the WAL-index from the log and starts at its first page.
Left to others: what a failed disk leaves in the log itself (`writeahead`), opening again (`sqlite`).
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from pathlib import Path
from typing import Any

import pysqlite3.dbapi2 as dbapi

from policy_engine.store.writeahead import beside

FRAMES_COUNT = 2_000
"""Pages in the log from which on they are carried over, as SQLite's own `wal_autocheckpoint` counts them."""

BACKFILL_AT = 96
"""Where the WAL-index counts the frames carried over, 4 bytes (SQLite, "WAL-mode File Format", 2.1: `nBackfill`)."""

CHECKPOINT_LOCK_AT = 121
"""The byte of the WAL-index that a checkpoint locks (the same, 2.3: `WAL_CKPT_LOCK`)."""

LOCK_SECONDS = 1.0
POLL_SECONDS = 0.001

_lock = threading.Lock()
"""Held around every checkpoint of this process: two threads of a process share their locks on a file."""

_indexes: dict[tuple[int, int], int] = {}
"""Open files on WAL-indexes, never closed: closing one would drop the locks that SQLite holds on it for us."""


def checkpoint_when_due(connection: Any, database: Path) -> None:
    """Carry the log over when it has `FRAMES_COUNT` pages. Raises the driver's error when the disk refuses."""
    _, frames, _ = connection.execute("PRAGMA wal_checkpoint(NOOP)").fetchone()
    if frames >= FRAMES_COUNT:
        checkpoint(connection, database)


def checkpoint(connection: Any, database: Path, mode: str = "PASSIVE") -> bool:
    """Carry the log over and return whether nobody was in the way; a reader may still keep back a part of it.

    Raises the driver's error when the disk refuses; then the whole log counts as not carried over.
    """
    with _lock:
        try:
            busy, *_ = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        except dbapi.Error:
            _forget_progress(database)
            raise
    return bool(busy == 0)


def _forget_progress(database: Path) -> None:
    """Set the count of frames carried over to none, while no other process makes a checkpoint."""
    file = _index_of(database)
    until = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, CHECKPOINT_LOCK_AT)
            break
        except OSError:
            if time.monotonic() > until:
                break  # it hangs in a disk that fails: better a counter that it may set again than none set back
            time.sleep(POLL_SECONDS)
    try:
        os.pwrite(file, bytes(4), BACKFILL_AT)
    finally:
        fcntl.lockf(file, fcntl.LOCK_UN, 1, CHECKPOINT_LOCK_AT)


def _index_of(database: Path) -> int:
    path = beside(database, "-shm")
    found = path.stat()
    identity = found.st_dev, found.st_ino
    if identity not in _indexes:
        _indexes[identity] = os.open(path, os.O_RDWR)
    return _indexes[identity]
