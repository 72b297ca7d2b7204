"""Who is stopped on PostgreSQL, not dead, holds nobody up: a replica in the middle of its batch, the whole server."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from policy_engine.errors import StoreUnavailable
from policy_engine.store.interfaces import Committed, Encoded, Moved
from tests.attacks.expending import draft, expendable_database, places
from tests.store.samples import PostgresDatabase, Sample, put


@pytest.fixture
def database() -> Iterator[PostgresDatabase]:
    """A database on a server that may be stopped; whatever happened to it, its logs verify."""
    with expendable_database() as made:
        yield made


class Stopped(Sample):
    """A draft whose process is stopped while its batch holds the fence."""

    reached: threading.Event
    goes_on: threading.Event

    def encode(self, log_id: str, seq: int, at: int) -> Encoded:
        self.reached.set()
        assert self.goes_on.wait(20)
        return super().encode(log_id, seq, at)


def test_a_replica_that_is_stopped_holding_the_fence(database: PostgresDatabase) -> None:
    """It keeps nobody from engaging a switch, and what it goes on with afterwards is fenced and not written."""
    store, other = database.open(), database.open()
    state = store.state()
    stopped = Stopped(state, instant=store.now(), until=2**62, clock_set=False)
    stopped.reached, stopped.goes_on = threading.Event(), threading.Event()
    found: list[Committed | Moved] = []
    thread = threading.Thread(target=lambda: found.append(store.append([stopped], state)))
    thread.start()
    assert stopped.reached.wait(20)
    engaged = other.change(put("switches", "stop", 0))
    stopped.goes_on.set()
    thread.join()
    (moved,) = found
    assert isinstance(moved, Moved)
    assert set(moved.stale.values()) == {"epoch"}
    assert places(database)[-1:] == [(other.log_id, engaged.seqs[0])]
    assert store.head() is None


def test_a_server_that_hangs_holds_nobody_up(database: PostgresDatabase) -> None:
    """Stopped (SIGSTOP), the server makes a read fail within its time, then at once, until it runs."""
    server = database.server
    assert server.folder is not None
    store = database.open()
    state = store.state()
    with database.server.admin(database.name) as session:
        row = session.execute(
            "SELECT array_agg(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchone()
    assert row is not None
    postmaster = int((server.folder / "data" / "postmaster.pid").read_text().split()[0])
    stopped = [postmaster, *row[0]]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        for most in (3.0, 0.2, 0.2):
            began = time.monotonic()
            with pytest.raises(StoreUnavailable):
                store.state()
            assert time.monotonic() - began < most
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    until = time.monotonic() + 20
    while True:
        try:
            assert store.state() == state
            break
        except StoreUnavailable:
            assert time.monotonic() < until
            time.sleep(0.1)
    assert isinstance(store.append([draft(store)], state), Committed)
