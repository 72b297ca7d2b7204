"""The register of replicas in an SQLite file.

Rules of the room: it is read and written through the store's own connections, so that a file which was replaced or lost
is met here as there. Heartbeats are instants of this machine's clock, also where decisions have a set one. A new epoch
is found by asking; nobody announces it. Left to others: the store itself (`sqlite`).
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from policy_engine.store import replicatables as statements
from policy_engine.store.replicainterfaces import RETAINED_MICROSECONDS, Identity, Replica

if TYPE_CHECKING:
    from policy_engine.store.sqlite import SqliteStore


class SqliteReplicas:
    """See `replicainterfaces.ReplicaRegister`. The store is closed by whoever opened it."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self._word = threading.Event()

    def epoch(self) -> int:
        """Return the epoch that holds now."""
        return self._store.state().epoch

    def beat(self, replica: Identity, acknowledged: int) -> int:
        """Say that a replica lives and has acknowledged an epoch; return the epoch that holds now."""
        now = _now()
        own = (replica.label, now, acknowledged, acknowledged, now, replica.valid_for_ms, replica.id)
        with self._store._transaction() as writer:
            if not writer.run(statements.BEAT, *own):
                writer.run(statements.DROP, replica.id, now - RETAINED_MICROSECONDS)
                row = (replica.id, replica.label, now, now, acknowledged, now, replica.valid_for_ms, None)
                writer.run(statements.ADD, *row)
        return self.epoch()

    def replicas(self) -> list[Replica]:
        """Return every row, ended ones too, the slowest first."""
        with self._store._reading() as reader:
            return [Replica(*row) for row in reader.all(statements.READ_REPLICAS)]

    def end(self, id: str, heartbeat: int | None = None) -> bool:
        """Say that a replica has ended; with a heartbeat only if that is still its last."""
        with self._store._transaction() as writer:
            return bool(writer.run(statements.END, _now(), id, int(heartbeat is None), heartbeat or 0))

    def await_epoch(self, seconds: float) -> None:
        """Wait for so long, or until `wake`."""
        self._word.wait(seconds)
        self._word.clear()

    def wake(self) -> None:
        """Let `await_epoch` return now."""
        self._word.set()

    def close(self) -> None:
        """Nothing of its own is open."""


def _now() -> int:
    return time.time_ns() // 1_000
