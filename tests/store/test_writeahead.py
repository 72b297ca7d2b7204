"""What lies in the write-ahead log when a database is opened is written once more before anything is built upon it."""

from __future__ import annotations

import errno
import shutil
from dataclasses import replace
from pathlib import Path

import pysqlite3.dbapi2 as dbapi
import pytest

from policy_engine.errors import StoreUnavailable
from policy_engine.limits import LIMITS
from policy_engine.store import checkpoints, writeahead
from policy_engine.store.interfaces import Committed
from policy_engine.store.sqlite import SqliteStore
from tests.store.samples import VAULT, Sample, SqliteDatabase, genesis


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """A database whose last process died: three batches of one entry are in its write-ahead log alone."""
    database = SqliteDatabase(tmp_path)
    store = database.open()
    genesis(store)
    for _ in range(3):
        state = store.state()
        result = store.append([Sample(state, instant=store.now(), until=2**62, clock_set=False)], state)
        assert isinstance(result, Committed)
    folder = tmp_path / "left"
    folder.mkdir()
    for name in ("log.db", "log.db-wal"):
        shutil.copyfile(tmp_path / name, folder / name)
    database.close()
    return folder / "log.db"


def count(store: SqliteStore) -> int:
    """Return how many entries there are, and close the store."""
    with store.view() as view:
        found = len(list(view.scan_entries()))
    store.close()
    return found


def test_it_is_written_again_byte_for_byte(left: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening writes the log's own bytes over themselves and syncs file and folder; nothing in it changes."""
    log = left.with_name("log.db-wal")
    before = log.read_bytes()
    synced: list[int] = []
    monkeypatch.setattr(writeahead.os, "fsync", synced.append)
    writeahead.write_again(log)
    assert log.read_bytes() == before
    assert len(synced) == 2


def test_opening_does_it_once_and_first(left: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first connection of a store waits for it; without a log there is nothing to do."""
    done: list[Path] = []
    again = writeahead.write_again
    monkeypatch.setattr(writeahead, "write_again", lambda log: (done.append(log), again(log)))
    assert count(SqliteStore(left, VAULT)) == 4
    assert done == [left.with_name("log.db-wal")]
    assert count(SqliteStore(left, VAULT)) == 4
    assert len(done) == 1


def test_a_symbolic_link_is_opened_as_what_it_leads_to(left: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite keeps its log and its index beside the file itself, so they are looked for there."""
    done: list[Path] = []
    again = writeahead.write_again
    monkeypatch.setattr(writeahead, "write_again", lambda log: (done.append(log), again(log)))
    link = left.parent.parent / "link.db"
    link.symlink_to(left)
    store = SqliteStore(link, VAULT)
    assert done == [left.with_name("log.db-wal")]
    checkpoints._forget_progress(link)
    assert count(store) == 4


def test_a_disk_that_cannot_is_not_built_upon(left: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the log cannot be made durable nothing opens, and it stays as it is; afterwards all of it is there."""

    def broken(log: Path) -> None:
        raise OSError(errno.EIO, "the disk failed")

    before = left.read_bytes(), left.with_name("log.db-wal").read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(writeahead, "write_again", broken)
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="failed to read or write"):
                SqliteStore(left, VAULT)
            assert len(writeahead._unsettled) == 1
    assert (left.read_bytes(), left.with_name("log.db-wal").read_bytes()) == before
    assert count(SqliteStore(left, VAULT)) == 4
    assert writeahead._unsettled == {}


def test_another_process_that_writes_is_waited_for(left: Path) -> None:
    """It is done under the write lock: while another process holds it, opening is refused in time."""
    other = dbapi.connect(str(left), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked by another process"):
        SqliteStore(left, VAULT, limits=replace(LIMITS, answer_seconds=0.05))
    other.execute("ROLLBACK")
    assert count(SqliteStore(left, VAULT)) == 4
    other.close()
