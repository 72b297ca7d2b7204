"""The register of replicas on PostgreSQL, on a connection of its own that also hears of each new epoch.

Rules of the room:
- Nothing here waits for, or holds up, the connections that decisions are written and read on.
- The connection listens; a notification only ends the wait early. Who hears nothing asks all the same.
- A connection that failed is dropped and opened again at the next call, and a server that hangs counts as lost; it is
  asked again at once, because no event loop waits for the answer.
Left to others: what the functions do (`migrations`), when to call them (`services.replica`).
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, LiteralString

from policy_engine.errors import StoreUnavailable
from policy_engine.limits import LIMITS, Limits
from policy_engine.store import pgfaults, pgsafety
from policy_engine.store.pgdriver import psycopg
from policy_engine.store.pgsessions import Connection, Link, PostgresReader
from policy_engine.store.replicainterfaces import Identity, Replica
from policy_engine.store.replicatables import READ_REPLICAS

CHANNEL = "policy_engine_epoch"

_BEAT: LiteralString = "SELECT policy_engine.beat(%b, %b, %b::bigint, %b::bigint)"
_END: LiteralString = "SELECT policy_engine.end_replica(%b, %b::bigint)"
_EPOCH: LiteralString = "SELECT epoch FROM policy_engine.state"


class PostgresReplicas:
    """See `replicainterfaces.ReplicaRegister`. `database` is the URL of a writer's login.

    One thread beats and waits; others may call everything but `await_epoch` meanwhile.
    """

    def __init__(self, database: str, limits: Limits = LIMITS) -> None:
        self._lock = threading.Lock()
        self._closed = False
        self._link = Link(database, limits.answer_seconds, self._begin, limits.answer_seconds, 0.0)
        self._woken, self._wakes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def _begin(self, connection: Connection) -> None:
        pgsafety.check_role(connection, pgsafety.WRITER)
        connection.execute(f"LISTEN {CHANNEL}")

    def epoch(self) -> int:
        """Return the epoch that holds now."""
        return int(self._one(_EPOCH))

    def beat(self, replica: Identity, acknowledged: int) -> int:
        """Say that a replica lives and has acknowledged an epoch; return the epoch that holds now."""
        return int(self._one(_BEAT, replica.id, replica.label, acknowledged, replica.valid_for_ms))

    def replicas(self) -> list[Replica]:
        """Return every row, ended ones too, the slowest first."""
        with self._connected() as connection:
            return [Replica(*row) for row in PostgresReader(connection).all(READ_REPLICAS)]

    def end(self, id: str, heartbeat: int | None = None) -> bool:
        """Say that a replica has ended; with a heartbeat only if that is still its last."""
        return bool(self._one(_END, id, heartbeat))

    def await_epoch(self, seconds: float) -> None:
        """Wait for word of a new epoch, or for `wake`, for so long at most."""
        ready = select.poll()
        with self._lock:
            connection = None if self._closed else self._link.opened
            ready.register(self._woken, select.POLLIN)
            if connection is not None:
                if self._heard(connection):
                    return
                with suppress(psycopg.Error):  # lost: the next call on it says so
                    ready.register(connection.fileno(), select.POLLIN)
        if self._woken in dict(ready.poll(seconds * 1_000)):
            os.read(self._woken, 1_024)

    def _heard(self, connection: Connection) -> bool:
        """Take in what the connection has received, and return whether an epoch was announced."""
        try:
            return bool(list(connection.notifies(timeout=0)))
        except psycopg.Error:
            return False  # the next call on it says what is wrong

    def wake(self) -> None:
        """Let `await_epoch` return now."""
        with suppress(OSError):
            os.write(self._wakes, b"!")

    def close(self) -> None:
        """Drop the connection."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._link.drop()
                os.close(self._woken)
                os.close(self._wakes)

    def _one(self, query: LiteralString, *parameters: object) -> Any:
        with self._connected() as connection:
            row = connection.execute(query, parameters or None).fetchone()
        return None if row is None else row[0]

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        with self._lock, pgfaults.reported():
            if self._closed:
                raise StoreUnavailable("the register of replicas is closed", where="database")
            try:
                yield self._link.open()
            except psycopg.Error as error:
                if not pgfaults.is_refused(error):
                    self._link.drop()
                raise
