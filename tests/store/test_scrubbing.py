"""Scrubbing an SQLite file: what it promises, and that it leaves a busy or large file alone."""

from __future__ import annotations

from pathlib import Path

import pysqlite3.dbapi2 as dbapi
import pytest
from structlog.testing import capture_logs

from policy_engine.limits import Limits
from policy_engine.store.scrubbing import scrub, scrubber
from tests.store.samples import Sample, SqliteDatabase, genesis

PLANTED = b"planted-in-a-free-page"


@pytest.fixture
def database(sqlite_database: SqliteDatabase) -> SqliteDatabase:
    """A file in whose unused pages something was left behind."""
    genesis(sqlite_database.open())
    connection = dbapi.connect(str(sqlite_database.path), isolation_level=None)
    connection.execute("PRAGMA secure_delete = OFF")
    connection.execute("CREATE TABLE scratch (a BLOB)")
    connection.executemany("INSERT INTO scratch VALUES (?)", [(PLANTED * 20,)] * 100)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.execute("DROP TABLE scratch")
    connection.close()
    assert PLANTED in files(sqlite_database.path)
    return sqlite_database


def files(path: Path) -> bytes:
    """Return every byte of the file and its write-ahead log."""
    return b"".join(Path(f"{path}{suffix}").read_bytes() for suffix in ("", "-wal") if Path(f"{path}{suffix}").exists())


def test_nothing_that_was_deleted_is_left(database: SqliteDatabase) -> None:
    """Beside an open store, which goes on in the same file."""
    store = database.opened[0]
    assert scrub(database.path, bytes_max=None, busy_seconds=1.0)
    assert PLANTED not in files(database.path)
    state = store.state()
    store.append([Sample(state, instant=store.now(), until=2**62)], state)


def test_a_large_file_waits(database: SqliteDatabase) -> None:
    """A file larger than the limit is not touched, and the log says what to do."""
    before = database.path.read_bytes()
    assert not scrub(database.path, bytes_max=len(before) - 1, busy_seconds=1.0)
    with capture_logs() as logged:
        scrubber(database.path, Limits(scrubbed_bytes=1))()
    assert database.path.read_bytes() == before
    assert [(line["event"], line["log_level"]) for line in logged] == [("database.not-scrubbed", "error")]
    scrubber(database.path, Limits())()
    assert PLANTED not in files(database.path)


@pytest.mark.parametrize("lock", ["BEGIN IMMEDIATE", "BEGIN"])
def test_a_busy_file_waits(database: SqliteDatabase, lock: str) -> None:
    """While somebody writes, or reads an older state, it says that it did not happen, and nothing is harmed."""
    connection = dbapi.connect(str(database.path), isolation_level=None)
    connection.execute(lock)
    connection.execute("SELECT count(*) FROM entries").fetchone()
    assert not scrub(database.path, bytes_max=None, busy_seconds=0.05)
    connection.execute("ROLLBACK")
    connection.close()
    assert scrub(database.path, bytes_max=None, busy_seconds=1.0)
