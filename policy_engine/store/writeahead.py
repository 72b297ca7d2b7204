"""The write-ahead log of SQLite after a disk that failed: what was read back is made durable before it is built upon.

Rules of the room:
- When fsync fails, kernels count the pages that it should have written as clean: reading shows them, and a later fsync
  returns without writing them. A write-ahead log that is read back in that state may end in batches that only memory
  holds. Whatever is appended behind them, however durable, is lost with them when the power goes, because SQLite reads
  the log up to its first hole.
- So whoever opens a database first writes the same bytes to the same places again and waits for the disk. The write
  lock is held meanwhile, so that no other process appends. Equal bytes over equal bytes are safe to lose half way.
- A connection that could not do so stays open for the next try: closing the last one would carry pages from the log
  into the database.
Left to others: noticing that the disk failed, and opening again (`sqlite`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pysqlite3.dbapi2 as dbapi

PIECE_BYTES = 1 << 20

_lock = threading.Lock()

_unsettled: dict[tuple[int, int], Any] = {}
"""Connections whose log could not be written again yet, by the identity of the file; at most one each."""


def beside(database: Path, ending: str) -> Path:
    """Return where SQLite keeps a file of its own for a database: beside the file that a symbolic link leads to."""
    place = database.resolve()
    return place.with_name(place.name + ending)


def settle(database: Path, connect: Callable[[], Any]) -> None:
    """Make the write-ahead log durable as it reads, if there is one, over a connection of its own.

    Raises the driver's error when the lock or the disk refuses.
    """
    try:
        found = database.stat()
    except OSError:
        return  # opening it will say so
    log = beside(database, "-wal")
    file = found.st_dev, found.st_ino
    with _lock:
        if _has_content(log):
            _unsettled[file] = connection = _unsettled.get(file) or connect()
            connection.execute("BEGIN IMMEDIATE")
            try:
                write_again(log)
            except OSError as error:
                failed = dbapi.OperationalError("the write-ahead log cannot be made durable")
                failed.sqlite_errorname = "SQLITE_IOERR_FSYNC"
                raise failed from error
            finally:
                connection.execute("ROLLBACK")
        settled = _unsettled.pop(file, None)
    if settled is not None:
        settled.close()


def write_again(log: Path) -> None:
    """Write a file's own bytes over themselves and sync file and folder. Raises `OSError` when the disk refuses."""
    with open(log, "r+b", buffering=0) as file:
        at = 0
        while piece := os.pread(file.fileno(), PIECE_BYTES, at):
            at += os.pwrite(file.fileno(), piece, at)
        os.fsync(file.fileno())
    folder = os.open(log.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _has_content(log: Path) -> bool:
    try:
        return log.stat().st_size > 0
    except FileNotFoundError:
        return False
