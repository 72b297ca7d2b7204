"""The fence on PostgreSQL under load: after a change has committed, no batch of an older epoch is ever committed.

Its two controls take the lock away, or replace it by a row lock that looks right; the checker must see both.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import pytest

from tests.store.samples import PostgresDatabase, genesis
from tests.withdrawal.history import History, quantile

CHANGES_COUNT = 50
NIGHTLY_CHANGES_COUNT = 1_000
CONTROL_CHANGES_COUNT = 1_500
COMMITTED_SECONDS_MAX = 0.1
SLOWED_SHARE_MAX = 0.05
PAIRS_COUNT = 100
WINDOW_SECONDS = 1
"""Short windows side by side, and many of them: what else a machine does in a minute touches both of a pair alike."""

LOCK = "PERFORM pg_advisory_xact_lock_shared(28773, 1);"


def test_no_batch_of_an_older_epoch_is_committed_after_a_change(postgres_database: PostgresDatabase) -> None:
    """Eight writers under full load, a change after another: not one batch of an older epoch comes later."""
    genesis(postgres_database.open())
    history = History(postgres_database)
    assert history.run(CHANGES_COUNT) == 0
    assert history.wrong == []
    assert history.batches > CHANGES_COUNT
    assert history.moved > 0
    assert median(history.took) < COMMITTED_SECONDS_MAX


@pytest.mark.nightly
def test_a_thousand_changes_each_commit_in_time(
    postgres_database: PostgresDatabase, tell: Callable[[str], None]
) -> None:
    """The same a thousand times; 99 of 100 changes commit within 100 ms of being asked for, under full load."""
    genesis(postgres_database.open())
    history = History(postgres_database)
    assert history.run(NIGHTLY_CHANGES_COUNT) == 0
    assert history.wrong == []
    p50, p99 = (1_000 * quantile(history.took, share) for share in (0.5, 0.99))
    tell(f"{len(history.took)} changes, {history.writers} writers: committed p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    assert p99 <= 1_000 * COMMITTED_SECONDS_MAX


@pytest.mark.nightly
def test_a_change_every_second_costs_little(postgres_database: PostgresDatabase, tell: Callable[[str], None]) -> None:
    """A change every second lowers the throughput of eight writers by at most 5%, in the middle of the pairs."""
    genesis(postgres_database.open())
    history = History(postgres_database)
    shares = []
    with history.load() as changer:
        for pair in range(PAIRS_COUNT):
            rates = []
            for changing in (False, True) if pair % 2 else (True, False):
                began, before = time.perf_counter(), history.batches
                for second in range(WINDOW_SECONDS):
                    if changing:
                        history.change(changer, pair * WINDOW_SECONDS + second)
                    time.sleep(max(0.0, began + second + 1 - time.perf_counter()))
                rates.append(((history.batches - before) / (time.perf_counter() - began), changing))
            quiet, paced = (rate for rate, _ in sorted(rates, key=lambda found: found[1]))
            shares.append(1 - paced / quiet)
    assert history.wrong == []
    tell(
        f"a change every second under {history.writers} writers: throughput {-median(shares):+.1%}, {PAIRS_COUNT} pairs"
    )
    assert median(shares) <= SLOWED_SHARE_MAX


@pytest.mark.parametrize("instead", ["", "PERFORM 1 FROM state FOR KEY SHARE;"], ids=["no lock", "key share"])
def test_the_checker_sees_a_fence_that_is_none(server: object, instead: str) -> None:
    """Control: without the lock, or with a row lock that an update of the epoch does not wait for, it finds batches."""
    database = PostgresDatabase(None)
    with database.server.admin(database.name) as session:
        for name in ("begin_batch", "append"):
            row = session.execute(
                "SELECT pg_get_functiondef(p.oid) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
                " WHERE n.nspname = 'policy_engine' AND p.proname = %s",
                (name,),
            ).fetchone()
            assert row is not None
            assert row[0].count(LOCK) == 1
            session.execute(row[0].replace(LOCK, instead))
    genesis(database.open())
    assert History(database).run(CONTROL_CHANGES_COUNT, control=True) > 0
    database.close()
    database.drop()
