"""Processes that serve, as far as a withdrawal sees them: `python -m tests.withdrawal.serving DATABASE`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from policy_engine.ledger.sealing import KeyVault
from policy_engine.limits import LIMITS, Limits
from policy_engine.services.releases import ReleaseLoader
from policy_engine.services.replica import Presence
from policy_engine.services.snapshot import Snapshots
from policy_engine.services.withdrawal import Withdrawals
from policy_engine.store.pgreplicas import PostgresReplicas
from policy_engine.store.postgres import PostgresStore
from policy_engine.store.replicainterfaces import ReplicaRegister
from policy_engine.store.sqlite import SqliteStore
from policy_engine.store.sqlitereplicas import SqliteReplicas
from tests.store.samples import VAULT, AnyStore, PostgresDatabase, SqliteDatabase

ROOT = Path(__file__).parents[2]
BUDGET_MS = 400
Database = SqliteDatabase | PostgresDatabase


def url_of(database: Database) -> str:
    """Return what names a database to another process."""
    return str(database.path) if isinstance(database, SqliteDatabase) else database.writer


def register_of(store: AnyStore, url: str, limits: Limits = LIMITS) -> ReplicaRegister:
    """Return the register of the replicas of a store."""
    return SqliteReplicas(store) if isinstance(store, SqliteStore) else PostgresReplicas(url, limits)


class Serving:
    """A replica in this process: a store, what it decides under, its part, and the register as it follows changes."""

    def __init__(
        self, store: AnyStore, url: str, label: str, *, limits: Limits = LIMITS, budget_ms: int = BUDGET_MS
    ) -> None:
        self.store = store
        self.snapshots = Snapshots(store, ReleaseLoader())
        self.withdrawals = Withdrawals(store, register_of(store, url, limits), budget_ms, limits)
        self.presence: Presence = self.withdrawals.join(self.snapshots, label)


@contextmanager
def serving(
    database: Database, label: str = "here", *, limits: Limits = LIMITS, budget_ms: int = BUDGET_MS, url: str = ""
) -> Iterator[Serving]:
    """Offer a replica on a store of its own until the block ends."""
    made = Serving(database.open(), url or url_of(database), label, limits=limits, budget_ms=budget_ms)
    try:
        yield made
    finally:
        made.withdrawals.close()


@contextmanager
def another_process(database: Database) -> Iterator[subprocess.Popen[str]]:
    """Offer a replica in another process; its label is `there`. It ends with the block, however it stands."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.withdrawal.serving", url_of(database)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        assert "serving\n" in iter(child.stdout.readline, "")  # behind what its store warns of
        yield child
    finally:
        with suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGCONT)
        child.communicate("end\n", timeout=20)


def opened(url: str, vault: KeyVault = VAULT) -> AnyStore:
    """Return a store on what names a database."""
    return PostgresStore(url, vault) if "://" in url else SqliteStore(url, vault)


if __name__ == "__main__":
    store = opened(sys.argv[1])
    child = Serving(store, sys.argv[1], "there")
    sys.stdout.write("serving\n")
    sys.stdout.flush()
    sys.stdin.readline()
    child.withdrawals.close()
    store.close()
