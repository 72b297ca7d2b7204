"""How logs begin and end: opened with the first batch, closed by their writer, ended for a writer that is gone."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import psycopg
import pysqlite3.dbapi2 as dbapi
import pytest

from policy_engine.errors import StartRefused
from policy_engine.ledger.leaves import Abandoned, Closed, Opened, parse_leaf
from policy_engine.limits import LIMITS
from policy_engine.services.receipts import ReceiptKey
from policy_engine.store.pgtree import PostgresSequencing
from policy_engine.store.sqlite import SqliteStore
from policy_engine.store.tree import Opening
from tests.store.samples import VAULT, Clock, Database, PostgresDatabase, SqliteDatabase, genesis
from tests.store.trees import append, check_tree, sequencer, tree_store

SOON = replace(LIMITS, abandon_seconds=0.3, answer_seconds=2.0)


def until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_store_that_only_reads_leaves_nothing(database: Database, clock: Clock) -> None:
    """Opening, reading and closing opens no log; neither does a batch that moved."""
    genesis(database.open(clock))
    reader = database.open(clock)
    assert reader.state().epoch == 1
    reader.close()
    sequencer(database, clock).integrate()
    opened = [leaf for leaf in check_tree(database.open(clock)) if isinstance(parse_leaf(leaf.data), Opened)]
    assert len(opened) == 1


def test_the_open_leaf_names_the_key_of_receipts(sqlite_database: SqliteDatabase, clock: Clock) -> None:
    """Key, epoch, release and instant are those of the moment in which the log began."""
    receipts = ReceiptKey(bytes(32), 2_000)
    store = SqliteStore(sqlite_database.path, VAULT, clock=clock, opening=Opening(receipt_key=receipts.text))
    genesis(store)
    (first, *_) = store.pending(10)
    opened = parse_leaf(first.data)
    assert isinstance(opened, Opened)
    assert opened.key == receipts.text(first.log_id)
    assert (opened.epoch, opened.release, opened.at) == (0, None, clock.now)
    store.close()


def test_a_log_that_began_before_the_tree_is_adopted(sqlite_database: SqliteDatabase, clock: Clock) -> None:
    """A file without its `open` event, as an older program left it, gets one dated as its first header."""
    store = sqlite_database.open(clock)
    genesis(store)
    append(store, 2, clock)
    connection = dbapi.connect(str(sqlite_database.path))
    connection.execute("DROP TRIGGER log_events_no_delete")
    connection.execute("DELETE FROM log_events")
    connection.commit()
    connection.close()
    assert store.pending(10)[0].batch == 0
    sequencer(sqlite_database, clock).integrate()
    opened = parse_leaf(check_tree(store)[0].data)
    assert isinstance(opened, Opened)
    assert (opened.at, opened.epoch) == (clock.now, 1)


def test_a_log_of_a_server_that_began_before_the_tree_is_adopted(
    postgres_database: PostgresDatabase, clock: Clock
) -> None:
    """The sequencer opens it without a key: whoever signed its receipts is gone."""
    store = postgres_database.open(clock)
    genesis(store)
    with postgres_database.server.admin(postgres_database.name) as admin:
        admin.execute("ALTER TABLE policy_engine.log_events DISABLE TRIGGER USER")
        admin.execute("DELETE FROM policy_engine.log_events")
        admin.execute("ALTER TABLE policy_engine.log_events ENABLE TRIGGER USER")
    sequencer(postgres_database, clock).integrate()
    opened = parse_leaf(check_tree(store)[0].data)
    assert isinstance(opened, Opened)
    assert opened.key is None


def test_a_writer_closes_its_log(postgres_database: PostgresDatabase, clock: Clock) -> None:
    """The last leaf of a closed log says how much of it there is, and the function takes no batch any more."""
    store = postgres_database.open(clock)
    genesis(store)
    committed = append(store, 2, clock)
    store.close()
    sequencer(postgres_database, clock).integrate()
    leaves = check_tree(postgres_database.open(clock))
    closed = parse_leaf(leaves[-1].data)
    assert isinstance(closed, Closed)
    assert (closed.log_id, closed.batches, closed.entries) == (committed.log_id, 2, 3)
    with psycopg.connect(postgres_database.writer, autocommit=True) as login, pytest.raises(psycopg.Error) as refused:
        login.execute("SELECT * FROM policy_engine.begin_batch(%s, NULL, '{}', '{}')", (committed.log_id,))
    assert refused.value.sqlstate == "PE005"


def test_the_log_of_a_file_never_ends(sqlite_database: SqliteDatabase, clock: Clock) -> None:
    """Closing and opening a file goes on with the same log."""
    store = sqlite_database.open(clock)
    genesis(store)
    store.close()
    again = sqlite_database.open(clock)
    append(again, 1, clock)
    sequencer(sqlite_database, clock).integrate()
    assert [leaf.batch for leaf in check_tree(again)] == [None, 0, 1]


def test_the_log_of_a_writer_that_is_gone_is_abandoned(postgres_database: PostgresDatabase) -> None:
    """After the grace period, not before, and never while the writer is connected."""
    alive, gone = postgres_database.open(), postgres_database.open()
    genesis(alive)
    append(gone, 2)
    lost = gone.log_id
    through = tree_store(postgres_database, limits=SOON)
    assert isinstance(through, PostgresSequencing)
    assert through.leads()
    through.look_after_logs()
    _end_sessions(postgres_database, lost)
    through.look_after_logs()
    assert _events(postgres_database, lost) == ["open"]
    time.sleep(0.4)
    through.look_after_logs()
    assert _events(postgres_database, lost) == ["abandoned", "open"]
    assert _events(postgres_database, alive.log_id) == ["open"]
    through.close()
    sequencer(postgres_database).integrate()
    ended = [parse_leaf(leaf.data) for leaf in check_tree(alive) if leaf.log_id == lost][-1]
    assert isinstance(ended, Abandoned)
    assert (ended.batches, ended.entries) == (1, 2)


def test_a_writer_that_was_cut_off_goes_on_in_a_new_log(postgres_database: PostgresDatabase) -> None:
    """Whose log was abandoned meanwhile opens another with its next entry, and loses none."""
    store = postgres_database.open()
    genesis(store)
    before = append(store, 1)
    through = tree_store(postgres_database, limits=SOON)
    assert isinstance(through, PostgresSequencing)
    assert through.leads()
    _end_sessions(postgres_database, before.log_id)
    through.look_after_logs()
    time.sleep(0.4)
    through.look_after_logs()
    assert _events(postgres_database, before.log_id) == ["abandoned", "open"]
    after = append(store, 1)
    assert after.log_id != before.log_id
    assert append(store, 1).log_id == after.log_id
    through.close()
    sequencer(postgres_database).integrate()
    assert {leaf.log_id for leaf in check_tree(store)} == {before.log_id, after.log_id}


def test_a_writer_that_is_back_is_not_abandoned(postgres_database: PostgresDatabase) -> None:
    """A new connection has the lease again; the time before counts for nothing."""
    store = postgres_database.open()
    genesis(store)
    through = tree_store(postgres_database, limits=SOON)
    assert isinstance(through, PostgresSequencing)
    assert through.leads()
    _end_sessions(postgres_database, store.log_id)
    through.look_after_logs()
    append(store, 1)
    time.sleep(0.4)
    through.look_after_logs()
    assert _events(postgres_database, store.log_id) == ["open"]


def test_one_sequencer_leads_and_another_takes_over(postgres_database: PostgresDatabase, clock: Clock) -> None:
    """While one leads the other writes nothing; when it is gone the other continues its tree."""
    store = postgres_database.open(clock)
    genesis(store)
    one, two = tree_store(postgres_database, clock), tree_store(postgres_database, clock)
    assert isinstance(one, PostgresSequencing)
    assert (one.leads(), two.leads()) == (True, False)
    one.close()
    until(two.leads)
    assert (one.leads(), two.leads()) == (False, True)


@pytest.mark.parametrize("login", ["pe_writer", "pe_operator", "pe_auditor"])
def test_another_role_is_no_sequencer(postgres_database: PostgresDatabase, login: str) -> None:
    """The start is refused for a login of any other role."""
    through = PostgresSequencing(postgres_database.server.url(postgres_database.name, login))
    with pytest.raises(StartRefused):
        through.leads()
    through.close()


def test_the_horizon_waits_for_a_commit_that_hangs(postgres_database: PostgresDatabase) -> None:
    """While a batch that began earlier is not committed, the horizon stays before it, whatever else is integrated."""
    store = postgres_database.open()
    genesis(store)
    hanging = psycopg.connect(postgres_database.writer)
    row = hanging.execute("SELECT now FROM policy_engine.begin_batch(%s, NULL, '{}', '{}')", ("ab" * 8,)).fetchone()
    assert row is not None
    made = sequencer(postgres_database)
    for _ in range(3):
        append(store, 1)
        made.integrate()
    assert store.tree_state().horizon <= row[0]
    hanging.rollback()
    hanging.close()
    made.integrate()
    append(store, 1)
    made.integrate()
    assert store.tree_state().horizon > row[0]


def test_nothing_is_dated_before_the_horizon_when_the_clock_steps_back(
    postgres_database: PostgresDatabase, clock: Clock
) -> None:
    """A clock that was set back dates no entry, of an old log or a new one, before a horizon that was promised."""
    store = postgres_database.open(clock)
    genesis(store)
    made = sequencer(postgres_database, clock)
    made.integrate()
    made.integrate()
    horizon = store.tree_state().horizon
    clock.now -= 800_000
    assert append(store, 1, clock).at >= horizon
    assert append(postgres_database.open(clock), 1, clock).at >= horizon


def _end_sessions(database: PostgresDatabase, log_id: str) -> None:
    """End the sessions that hold the lease of a log, as a cut cable would."""
    holders = (
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND classid = 28775"
        " AND objid = hashtext(%s)::oid AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    leased = holders.replace("pg_terminate_backend(pid)", "1")
    with database.server.admin(database.name) as admin:
        admin.execute(holders, (log_id,))  # type: ignore[arg-type]  # our own text
        until(lambda: admin.execute(leased, (log_id,)).fetchone() is None)  # type: ignore[arg-type]  # as above


def _events(database: PostgresDatabase, log_id: str) -> list[str]:
    with database.server.admin(database.name) as admin:
        rows = admin.execute("SELECT kind FROM policy_engine.log_events WHERE log_id = %s ORDER BY 1", (log_id,))
        return [row[0] for row in rows]
