"""Replicas acknowledge what they decide under, keep a withdrawal waiting, stop when cut off, and count as gone."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.errors import StoreUnavailable
from policy_engine.limits import LIMITS, Limits
from policy_engine.services.replica import Watch
from policy_engine.services.withdrawal import Progress, Stage
from policy_engine.store.pgsessions import connect
from policy_engine.store.replicainterfaces import Replica
from tests.store.samples import PostgresDatabase, SqliteDatabase, put
from tests.withdrawal.relay import relay
from tests.withdrawal.serving import Database, Serving, another_process, serving

GONE_SOON = Limits(gone_seconds=1.2)
SLOW_TO_ASK = Limits(beat_seconds=30.0)
REPLICAS_COUNT = 12
BACK_SECONDS = 2.0


def engage(made: Serving, id: str, stage: Stage, seconds: float = 10.0) -> Progress:
    """Engage a switch on a replica's store and follow it to a stage, or for so long."""
    operator = made.store
    followed = made.withdrawals.follow()
    return followed.committed(operator.change(put("switches", id, 0))).wait(stage, seconds)


def row_of(made: Serving, label: str) -> Replica:
    """Return the row of a replica by its label."""
    return next(each for each in made.withdrawals.replicas() if each.label == label)


def until(true: object, seconds: float = 10.0) -> float:
    """Wait until a call returns true and return how long that took; fail when it takes too long."""
    began = time.monotonic()
    while not true():  # type: ignore[operator]  # any call will do
        assert time.monotonic() - began < seconds
        time.sleep(0.01)
    return time.monotonic() - began


def test_a_replica_is_there_while_it_serves(database: Database) -> None:
    """It is registered before it decides, its heartbeat moves, and it says when it ends; its row stays."""
    with serving(database) as made:
        first = row_of(made, "here")
        assert (first.epoch, first.ended, first.valid_for_ms) == (made.snapshots.epoch, None, 400)
        until(lambda: row_of(made, "here").heartbeat > first.heartbeat)
        assert made.store.head() is None  # nothing of it is in the log
        with serving(database, "other") as other:
            pass
        assert row_of(made, "other").ended is not None
        assert row_of(made, "here").ended is None
        assert other.presence.confirmed()


def test_a_change_is_committed_then_drained_then_settled(database: Database) -> None:
    """Each stage comes after the one before it; settled counts the longest budget of any replica, and 1% more."""
    with serving(database), serving(database, "long", budget_ms=900) as made:
        found = engage(made, "stop", Stage.SETTLED)
        assert found.stage is Stage.SETTLED
        assert found.committed_ms is not None and found.drained_ms is not None
        assert found.settled_ms == found.settles_after_ms == 909.0
        assert (found.epoch, found.replicas, found.waits_for) == (made.store.state().epoch, 2, ())
        row = made.store.row("switches", "stop")
        assert row is not None
        later = made.withdrawals.of_row("switches", "stop")
        assert (later.epoch, later.stage, later.committed_at) == (found.epoch, Stage.SETTLED, found.committed_at)


def test_only_so_many_wait_at_a_time(sqlite_database: SqliteDatabase) -> None:
    """Where every place to wait is taken, the answer comes at once and says how far the change has come."""
    with serving(sqlite_database, limits=replace(LIMITS, withdrawal_waits_count=0), budget_ms=60_000) as made:
        began = time.monotonic()
        found = engage(made, "stop", Stage.SETTLED, 30.0)
        assert time.monotonic() - began < 5.0
        assert not found.has_reached(Stage.SETTLED) and found.has_reached(Stage.COMMITTED)


def test_an_answer_on_its_way_holds_drained_back(database: Database) -> None:
    """An answer that was begun under the older epoch keeps its replica from acknowledging until it was handed on.

    Control: policy_engine/services/replica.py:
    `return min((each for each, (_, last) in self._under_way.items() if last > expired), default=epoch)`
    """
    with serving(database, "busy", budget_ms=60_000) as busy, serving(database, "other") as made:
        begun = busy.presence.begin_answer()
        found = engage(made, "stop", Stage.DRAINED, 0.7)
        assert (found.stage, found.waits_for, found.slowest) == (Stage.COMMITTED, ("busy",), "busy")
        assert busy.snapshots.epoch == found.epoch  # it decides under the new epoch already
        newer = busy.presence.begin_answer()
        busy.presence.end_answer(begun)
        assert until(lambda: row_of(made, "busy").epoch == found.epoch) < 2.0
        busy.presence.end_answer(newer)
        assert made.withdrawals.of_row("switches", "stop").stage is Stage.DRAINED


def test_an_answer_that_is_no_longer_valid_holds_nothing_back(database: Database) -> None:
    """A caller who never reads cannot keep a withdrawal waiting for longer than the answer would be valid."""
    with serving(database, "stuck", limits=replace(LIMITS, answer_seconds=0.3), budget_ms=300) as made:
        made.presence.begin_answer()
        found = engage(made, "stop", Stage.DRAINED)
        assert found.drained_ms is not None and found.drained_ms > 300


def test_drained_waits_for_a_stopped_replica_until_it_is_gone(database: Database) -> None:
    """A stopped process keeps drained waiting until its heartbeat has stood for long enough; settled does not wait."""
    with serving(database, limits=GONE_SOON) as made, another_process(database) as child:
        until(lambda: row_of(made, "there").ended is None)
        os.kill(child.pid, signal.SIGSTOP)
        time.sleep(0.1)
        found = engage(made, "stop", Stage.DRAINED, 0.5)
        assert (found.stage, found.waits_for) == (Stage.SETTLED, ("there",))
        until(lambda: row_of(made, "there").ended is not None)
        found = engage(made, "again", Stage.DRAINED)
        assert (found.drained_ms is not None, found.waits_for, found.replicas) == (True, (), 1)
        os.kill(child.pid, signal.SIGCONT)
        until(lambda: row_of(made, "there").ended is None and row_of(made, "there").epoch == found.epoch)


def test_whoever_waits_counts_the_gone_by_itself(postgres_database: PostgresDatabase) -> None:
    """Where nobody else serves, the one who waits sees the heartbeat stand still."""
    with serving(postgres_database, limits=GONE_SOON) as made, another_process(postgres_database) as child:
        os.kill(child.pid, signal.SIGSTOP)
        time.sleep(0.1)
        made.presence.close()
        found = engage(made, "stop", Stage.DRAINED)
        assert found.has_reached(Stage.DRAINED)
        assert found.drained_ms is not None and 1_100 < found.drained_ms < 6_000


def test_a_replica_that_is_cut_off_is_not_ready_within_a_second(
    postgres_database: PostgresDatabase, tmp_path: Path
) -> None:
    """When nothing passes any more, nothing is confirmed within a second, and nothing may be allowed soon after."""
    url = _through(postgres_database.writer, tmp_path)
    with (
        relay(tmp_path, f"{postgres_database.server.parts['host']}/.s.PGSQL.5432") as between,
        serving(postgres_database, url=url) as made,
    ):
        assert made.presence.confirmed() and made.presence.may_allow()
        between.cut()
        assert until(lambda: not made.presence.confirmed()) <= 1.0
        assert made.presence.may_allow()
        assert until(lambda: not made.presence.may_allow()) <= LIMITS.silent_seconds
        between.mend()
        until(lambda: made.presence.confirmed() and made.presence.may_allow(), 15.0)


def test_many_replicas_are_back_soon_after_their_server(postgres_database: PostgresDatabase) -> None:
    """While a server lets nobody in no replica is ready; once it does all are soon, and they drain a change."""
    name, server = postgres_database.name, postgres_database.server
    with ExitStack() as stack:
        replicas = [stack.enter_context(serving(postgres_database, f"r{n}")) for n in range(REPLICAS_COUNT)]
        session = stack.enter_context(server.admin("postgres"))
        session.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        session.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        until(lambda: not any(made.presence.confirmed() for made in replicas))
        session.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        assert until(lambda: all(made.presence.confirmed() for made in replicas)) <= BACK_SECONDS
        with suppress(StoreUnavailable):  # the first use of a dead connection finds it out, and nothing is written
            replicas[0].store.change(put("switches", "unheard", 0))
        found = engage(replicas[0], "stop", Stage.DRAINED)
        assert (found.replicas, found.waits_for) == (REPLICAS_COUNT, ())
        assert {row.epoch for row in replicas[0].withdrawals.replicas()} == {found.epoch}


def test_an_epoch_is_announced_and_found_without_an_announcement(postgres_database: PostgresDatabase) -> None:
    """Who hears of an epoch takes it in at once, though it would ask only much later; who hears nothing asks."""
    with serving(postgres_database, limits=SLOW_TO_ASK) as deaf, serving(postgres_database, "asks") as made:
        assert engage(made, "stop", Stage.DRAINED, 5.0).stage is not Stage.COMMITTED
        with postgres_database.server.admin(postgres_database.name) as session:
            session.execute("DROP TRIGGER announced ON policy_engine.state")
        found = engage(made, "again", Stage.DRAINED, 1.0)
        assert found.waits_for == ("here",)
        assert row_of(made, "asks").epoch == found.epoch
        deaf.presence.wake()
        until(lambda: row_of(made, "here").epoch == found.epoch)


def test_only_a_writer_speaks_for_replicas(postgres_database: PostgresDatabase) -> None:
    """An operator's login and an auditor's may read who serves, and say nothing of it."""
    calls = ("beat('a', 'a', 1, 1)", "end_replica('a', NULL)", "recovered_epoch('')")
    for login in ("pe_operator", "pe_auditor", "pe_sequencer"):
        for call in calls:
            session = connect(postgres_database.server.url(postgres_database.name, login), 1.0)
            with session, pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(f"SELECT policy_engine.{call}")


@given(
    jumps=st.lists(st.integers(-(10**13), 10**13), min_size=1, max_size=20),
    steps=st.lists(st.floats(0.01, LIMITS.gone_seconds * 0.99), min_size=20, max_size=20),
)
def test_no_clock_makes_a_living_replica_look_gone(jumps: list[int], steps: list[float]) -> None:
    """Whatever the database's clock says, and wherever it jumps, only a heartbeat that stands still is gone."""
    watch, now, heartbeat = Watch(), 0.0, 10**15
    for jump, step in zip(jumps, steps, strict=False):
        heartbeat += jump or 1
        assert watch.gone([_beating(heartbeat)], now) == []
        now += step
    stood = now - step
    assert watch.gone([_beating(heartbeat)], stood + LIMITS.gone_seconds - 0.001) == []
    assert watch.gone([_beating(heartbeat)], stood + LIMITS.gone_seconds + 0.001) == [_beating(heartbeat)]


def _beating(heartbeat: int) -> Replica:
    return Replica("a", "a", 0, heartbeat, 1, 0, 400, None)


def _through(url: str, folder: Path) -> str:
    """Return a URL with another folder of the server's socket."""
    asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    return f"postgresql:///?{urlencode({**asked, 'host': str(folder)}, quote_via=quote)}"
