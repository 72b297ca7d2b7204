"""When the disk is full, the file gone or replaced, or the lock held: nothing is lost and nothing is allowed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pysqlite3.dbapi2 as dbapi
import pytest

from policy_engine.errors import StartRefused, StoreUnavailable
from policy_engine.limits import LIMITS
from policy_engine.store import sessions
from policy_engine.store.interfaces import Committed
from policy_engine.store.migrate import prepare
from policy_engine.store.sqlite import SqliteStore
from tests.store.samples import VAULT, Clock, Sample, SqliteDatabase, genesis, put

ROOT = Path(__file__).parents[2]
QUICK = replace(LIMITS, answer_seconds=0.05)


@pytest.fixture
def database(sqlite_database: SqliteDatabase) -> SqliteDatabase:
    """A file: what is tested here is about files."""
    return sqlite_database


def child(*words: str) -> subprocess.Popen[str]:
    """Start a program of `children` on this machine."""
    command = [sys.executable, "-m", "tests.store.children", *words]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def append(store: SqliteStore, count: int = 1) -> Committed:
    """Append entries under the present state."""
    state = store.state()
    drafts = [Sample(state, instant=store.now(), until=2**62, clock_set=store.clock_set) for _ in range(count)]
    result = store.append(drafts, state)
    assert isinstance(result, Committed)
    return result


def check_filled(output: str, database: SqliteDatabase, sentence: str) -> None:
    """Compare what a filled child acknowledged with what the log holds."""
    lines = output.splitlines()
    assert lines[0].startswith("full: ")
    assert sentence in lines[0]
    written = int(lines[-1].removeprefix("written: "))
    head = database.open().head()
    assert head is not None
    assert head.next_seq == written + 1
    assert written > 20


def test_a_file_that_may_not_grow_refuses_and_heals(database: SqliteDatabase) -> None:
    """At a real limit on file size appends stop with a clear sentence; with space again they go on, none lost."""
    genesis(database.open())
    output, _ = child("fill", str(database.path), "100000").communicate(timeout=60)
    check_filled(output, database, "disk that holds the database")
    assert "still full" in output


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte; only an administrator can make one."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small disk needs an administrator; the limit on file size is tested above")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_refuses_and_heals(small_disk: Path) -> None:
    """On a disk that is really full appends stop and say so; with space again they go on, none lost."""
    database = SqliteDatabase(small_disk)
    genesis(database.open())
    output, _ = child("fill", str(database.path)).communicate(timeout=60)
    check_filled(output, database, "is full; free some space")
    database.close()
    assert database.verify().findings == ()


def test_a_removed_file_refuses_and_heals_when_put_back(database: SqliteDatabase) -> None:
    """Nothing is written to a file that lost its name, nothing is read from it, and putting it back is enough."""
    store = database.open()
    genesis(store)
    append(store)
    aside = database.path.with_name("aside.db")
    database.path.rename(aside)
    for attempt in (lambda: append(store), store.state, lambda: store.change(put("persons", "x", 0)), store.head):
        with pytest.raises(StoreUnavailable, match="gone"):
            attempt()
    assert not database.path.exists()
    aside.rename(database.path)
    assert append(store).seqs == (2,)


def test_a_file_removed_during_the_commit_is_not_acknowledged(
    database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit into a file that vanished meanwhile raises, whatever the database library said of it."""
    store = database.open()
    genesis(store)
    state = store.state()
    aside = database.path.with_name("aside.db")
    commit = sessions.Writer.commit_if_open

    def commit_and_lose(writer: sessions.Writer) -> None:
        commit(writer)
        database.path.rename(aside)

    monkeypatch.setattr(sessions.Writer, "commit_if_open", commit_and_lose)
    with pytest.raises(StoreUnavailable):
        store.append([Sample(state, instant=store.now(), until=2**62, clock_set=False)], state)
    monkeypatch.undo()
    aside.rename(database.path)
    assert append(store).seqs == (2,)


def test_a_file_with_two_names_is_refused_by_both(database: SqliteDatabase, tmp_path: Path) -> None:
    """Opened by a hard link, a file would have a second log, and what is acknowledged in one is lost in the other."""
    store = database.open()
    genesis(store)
    second = tmp_path / "second.db"
    os.link(database.path, second)
    for path in (second, database.path):
        with pytest.raises(StoreUnavailable, match="second name"):
            SqliteStore(path, VAULT)
        with pytest.raises(StartRefused, match="second name"):
            prepare(path)
    assert not second.with_name("second.db-wal").exists()
    append(store)
    second.unlink()
    assert append(database.open()).seqs == (2,)


def test_an_older_copy_is_never_served(tmp_path: Path) -> None:
    """A database put back to an earlier state under a running store is refused until somebody restarts it."""
    database = SqliteDatabase(tmp_path)
    store = database.open()
    genesis(store)
    older = tmp_path / "older.db"
    connection = dbapi.connect(str(database.path))
    connection.execute("VACUUM INTO ?", (str(older),))
    connection.close()
    append(store)
    for name in ("log.db", "log.db-wal", "log.db-shm"):
        (tmp_path / name).unlink()
    older.rename(database.path)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match=r"older copy|another file"):
            append(store)
        with pytest.raises(StoreUnavailable, match="older copy"):
            store.state()
    database.close()
    assert append(database.open()).seqs == (1,)


@pytest.mark.parametrize("more", [1, 4])
def test_an_older_copy_that_has_grown_since_is_never_served(tmp_path: Path, more: int) -> None:
    """A copy from before this store's last entries is refused however long it has become, and nothing is written."""
    database = SqliteDatabase(tmp_path)
    store = database.open()
    genesis(store)
    (tmp_path / "copy").mkdir()
    connection = dbapi.connect(str(database.path))
    connection.execute("VACUUM INTO ?", (str(tmp_path / "copy" / "log.db"),))
    connection.close()
    append(store, 2)
    grown = SqliteStore(tmp_path / "copy" / "log.db", VAULT)
    for _ in range(more):
        append(grown, 2)
    head = grown.head()
    grown.close()
    for name in ("log.db", "log.db-wal", "log.db-shm"):
        (tmp_path / name).unlink()
    (tmp_path / "copy" / "log.db").rename(database.path)
    for attempt in (lambda: append(store), store.state, lambda: store.change(put("persons", "x", 0)), store.state):
        with pytest.raises(StoreUnavailable, match=r"older copy|another file"):
            attempt()
    database.close()
    assert database.open().head() == head


ROLLED_BACK = """
    DROP TRIGGER entries_no_delete; DROP TRIGGER batches_no_delete; DROP TRIGGER state_only_grows;
    DELETE FROM entries WHERE seq > 0;
    DELETE FROM batches WHERE batch_no > 0;
    UPDATE heads SET next_seq = 1, next_batch = 1, head_hash = (SELECT hash FROM batches);
"""
GROWN_SINCE = ROLLED_BACK.replace("SET next_seq = 1, next_batch = 1", "SET next_seq = 9, next_batch = 5, last_at = 2")


@pytest.mark.parametrize(
    "damage",
    [
        ROLLED_BACK,
        GROWN_SINCE,
        "DROP TRIGGER state_only_grows; UPDATE state SET epoch = 0",
        "UPDATE heads SET log_id = 'a'",
    ],
)
def test_a_log_rolled_back_in_place_is_never_written(tmp_path: Path, damage: str) -> None:
    """A head, log or epoch behind what the store has seen stops it at the next batch, until somebody restarts it."""
    database = SqliteDatabase(tmp_path)
    store = database.open()
    genesis(store)
    state = store.state()
    append(store, 2)
    connection = dbapi.connect(str(database.path))
    connection.executescript(damage)
    connection.close()
    draft = Sample(state, instant=store.now(), until=2**62, clock_set=False)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="holds less"):
            store.append([draft], state)
        with pytest.raises(StoreUnavailable, match="holds less"):
            store.change(put("persons", "x", 0))
    database.close()


def test_another_database_is_never_served(tmp_path: Path) -> None:
    """Another log under the same name is refused, however long it is."""
    database = SqliteDatabase(tmp_path)
    store = database.open()
    genesis(store)
    (tmp_path / "other").mkdir()
    other = SqliteDatabase(tmp_path / "other")
    longer = other.open()
    genesis(longer)
    append(longer, 5)
    other.close()
    for name in ("log.db-wal", "log.db-shm"):
        (tmp_path / name).unlink()
    other.path.rename(database.path)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            append(store)


def test_a_locked_database_refuses_in_time_and_goes_on(database: SqliteDatabase) -> None:
    """While another process holds the write lock, writing is refused within the limit and reading goes on."""
    store = database.open(limits=QUICK)
    genesis(store)
    other = dbapi.connect(str(database.path), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for attempt in (lambda: append(store), lambda: store.change(put("persons", "x", 0))):
        with pytest.raises(StoreUnavailable, match="locked by another process"):
            attempt()
    assert store.state().epoch == 1
    other.execute("ROLLBACK")
    assert append(store).seqs == (1,)
    other.close()


def test_a_second_process_writes_to_the_same_log(database: SqliteDatabase) -> None:
    """Changes of a command line beside a busy service: one log, no gap, nothing written twice."""
    store = database.open()
    genesis(store)
    process = child("change", str(database.path), "40")
    written = 0
    while process.poll() is None:
        written += len(append(store, 3).seqs)
    process.communicate()
    assert process.returncode == 0
    head = store.head()
    assert head is not None
    assert head.next_seq == 1 + 40 + written
    assert store.state().facts_revision == 41
    assert len(store.rows("persons")) == 41


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE heads SET head_hash = 'x'",
        "UPDATE heads SET next_seq = next_seq + 1",
        "UPDATE heads SET next_batch = next_batch + 1",
        "DROP TRIGGER entries_no_update; UPDATE entries SET leaf = x'00' WHERE seq = 2",
        "DROP TRIGGER batches_no_update; UPDATE batches SET header = x'00' WHERE batch_no = 1",
        "DROP TRIGGER entries_no_delete; DELETE FROM entries WHERE seq = 2",
        "INSERT INTO entries SELECT log_id, 9, public, leaf FROM entries WHERE seq = 2",
        "INSERT INTO heads SELECT 'other', 0, 0, '', 0, 0",
        "DROP TRIGGER state_no_delete; DELETE FROM state",
    ],
)
def test_a_damaged_end_is_not_opened(tmp_path: Path, damage: str) -> None:
    """A log whose end does not agree with its head is refused at opening."""
    database = SqliteDatabase(tmp_path)
    store = database.open(Clock())
    genesis(store)
    append(store, 2)
    database.close()
    connection = dbapi.connect(str(database.path))
    connection.executescript(damage)
    connection.close()
    with pytest.raises(StoreUnavailable):
        database.open()


def test_a_missing_database_is_not_made(tmp_path: Path) -> None:
    """Opening a file that is not there is an error and leaves none behind."""
    with pytest.raises(StoreUnavailable, match="gone"):
        SqliteStore(tmp_path / "log.db", VAULT)
    assert os.listdir(tmp_path) == []
