"""The global tree on PostgreSQL: the sequencer's login, its functions, and the exact horizon.

Rules of the room:
- One sequencer leads: it holds a session lock for as long as it is connected. Should two believe that they lead, the
  compare-and-swap lets one grow the tree.
- A commit whose answer did not come leaves no doubt that matters: the next integration reads what is there.
- `rising` is moved first, and from then on nothing begins that is dated before it; whoever held the fence at that
  moment is waited for. When they are gone, and everything that a later view shows is in the tree, the horizon is there.
- A log is ended for its writer when its lease has been free for `limits.abandon_seconds`, watched without a break.
Left to others: the functions (`migrations`), what a growth is made of (`services.sequencer`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, LiteralString

from policy_engine.errors import StoreUnavailable
from policy_engine.ledger.chain import LogTip, tip_at
from policy_engine.limits import LIMITS, Limits
from policy_engine.store import pgfaults, pgsafety
from policy_engine.store.pgdriver import psycopg
from policy_engine.store.pgsessions import Connection, Link, PostgresReader
from policy_engine.store.statements import READ_BATCH
from policy_engine.store.tree import Opening, abandoning
from policy_engine.store.treewriting import Growth, TreeView
from policy_engine.store.view import StoreView

_LEAD: LiteralString = "SELECT pg_try_advisory_lock(28776, 1)"
_LEADS: LiteralString = (
    "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND classid = 28776 AND objid = 1"
    " AND pid = pg_backend_pid() AND granted)"
)
_INTEGRATE: LiteralString = (
    "SELECT policy_engine.integrate(%b::bigint, %b::text[], %b::bigint[], %b::bytea[], %b::integer[], %b::bigint[],"
    " %b::bytea[], %b, %b::bigint, %b, %b, %b::bigint)"
)

HOLDERS_POLLS_COUNT = 5
HOLDERS_POLL_SECONDS = 0.004
"""How long a commit under way is waited for before the horizon is left where it is until next time."""


class PostgresSequencing:
    """See `treewriting.TreeStore`. One user at a time.

    `database` is the URL of a login of the role policy_engine_sequencer; `clock` replaces the database's in tests.
    """

    def __init__(self, database: str, *, clock: Callable[[], int] | None = None, limits: Limits = LIMITS) -> None:
        self._link = Link(database, limits.answer_seconds, self._check)
        self._lock = threading.RLock()
        self._limits = limits
        self._clock = clock
        self._opening = Opening()
        self._leading = False
        self._active = True  # unknown at the start, so the horizon is moved once
        self._rising: int | None = None
        self._awaited: set[str] = set()
        self._certain = 0
        self._free_since: dict[str, float] = {}

    def _check(self, connection: Connection) -> None:
        pgsafety.check_server(connection)
        pgsafety.check_role(connection, pgsafety.SEQUENCER)

    def now(self) -> int:
        """Return the database's clock."""
        if self._clock is not None:
            return self._clock()
        return int(self._one("SELECT floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"))

    def leads(self) -> bool:
        """Return whether this sequencer holds the lock, taking it if it is free.

        Whoever leads anew knows nothing of leases and of the fence, and begins to watch them again.
        """
        connection = self._open()
        if self._leading and self._one(_LEADS):
            return True
        self._leading = bool(self._one(_LEAD))
        if connection is not self._open():
            self._leading = False
        self._free_since = {}
        self._rising, self._awaited, self._certain, self._active = None, set(), 0, True
        return self._leading

    @contextmanager
    def tree_view(self) -> Iterator[TreeView]:
        """Return the tree as of one moment."""
        with self._lock, self._reported():
            reader = PostgresReader(self._open())
            with reader.at_one_moment():
                yield StoreView(reader, one_log=False)

    def adopt_logs(self) -> None:
        """Open the logs that were begun before there was a tree; nobody signs receipts of them any more."""
        with self.tree_view() as view:
            found = [(log_id, self._first_header(log_id)) for log_id in view.unopened_logs()]
        for log_id, header in found:
            if header is not None:
                leaf = self._opening.adopting(log_id, header, key=False)
                try:
                    self._one("SELECT policy_engine.adopt_log(%b)", leaf)
                except psycopg.IntegrityError:
                    continue  # another sequencer adopted it

    def _first_header(self, log_id: str) -> bytes | None:
        row = PostgresReader(self._open()).one(READ_BATCH, log_id, 0)
        return None if row is None else bytes(row[2])

    def certain(self) -> int:
        """Return the instant before which a view opened from now on shows everything; 0 while it is not known."""
        if self._rising is None and self._active:
            self._active = False
            self._rising = int(self._one("SELECT policy_engine.raise_horizon(%b::bigint)", self._given()))
            self._awaited = self._holders()
        for _ in range(HOLDERS_POLLS_COUNT):
            if self._rising is None:
                break
            self._awaited &= self._holders()
            if not self._awaited:
                self._certain, self._rising = self._rising, None
            else:
                time.sleep(HOLDERS_POLL_SECONDS)
        return self._certain

    def _holders(self) -> set[str]:
        with self._lock, self._reported():
            rows = self._open().execute("SELECT * FROM policy_engine.fence_holders()").fetchall()
        return {str(row[0]) for row in rows}

    def _given(self) -> int | None:
        return None if self._clock is None else self._clock()

    def integrate(self, growth: Growth) -> bool:
        """Write a growth if the tree still has the size it was made for."""
        self._active = True
        places = list(growth.tiles)
        return bool(
            self._one(
                _INTEGRATE,
                growth.size,
                [leaf.log_id for leaf in growth.leaves],
                [leaf.batch for leaf in growth.leaves],
                [leaf.data if leaf.batch is None else None for leaf in growth.leaves],
                [level for level, _ in places],
                [number for _, number in places],
                [growth.tiles[place] for place in places],
                growth.note,
                growth.at,
                growth.origin,
                growth.key,
                growth.horizon,
            )
        )

    def move_horizon(self, size: int, horizon: int) -> None:
        """Move the horizon of a tree that has everything, if it still has this size."""
        self._one("SELECT policy_engine.move_horizon(%b::bigint, %b::bigint)", size, horizon)

    def look_after_logs(self) -> None:
        """End the logs whose leases have been free for longer than `limits.abandon_seconds`, as this leader saw."""
        if not self.leads():
            return
        with self._lock, self._reported():
            rows = self._open().execute("SELECT * FROM policy_engine.unleased()").fetchall()
        now = time.monotonic()
        self._free_since = {str(log): self._free_since.get(str(log), now) for (log,) in rows}
        for log_id, since in self._free_since.items():
            if now - since >= self._limits.abandon_seconds:
                self._abandon(log_id)

    def _abandon(self, log_id: str) -> None:
        with self.tree_view() as view:
            head = next((head for head in view.heads() if head.log_id == log_id), None)
            last = None if head is None else self._tip(log_id, head.next_batch - 1)
        if head is None or last is None:
            return
        at = max(self.now(), head.last_at)
        leaf = abandoning(log_id, head.next_batch, head.next_seq, head.head_hash, last.epoch, at)
        with self._lock, self._reported():
            try:
                self._open().execute("SELECT policy_engine.abandon(%b)", (leaf,))
            except psycopg.Error as error:
                if pgfaults.state_of(error) not in (pgfaults.HEAD_MOVED, pgfaults.LOG_ENDED):
                    raise
                self._free_since.pop(log_id, None)  # its writer is back, or ended it

    def _tip(self, log_id: str, batch: int) -> LogTip | None:
        row = PostgresReader(self._open()).one(READ_BATCH, log_id, batch)
        return None if row is None else tip_at(bytes(row[2]))

    def cosign(self, size: int, cosigner: str, line: str) -> None:
        """Keep a witness's signature line under a checkpoint."""
        self._one("SELECT policy_engine.add_cosignature(%b::bigint, %b, %b)", size, cosigner, line)

    def close(self) -> None:
        """Let go of the lead, and close the connection."""
        with self._lock:
            self._link.drop()

    # The connection

    def _open(self) -> Connection:
        with self._lock, pgfaults.reported():
            return self._link.open()

    def _one(self, query: LiteralString, *parameters: object) -> Any:
        """Run one function and return what it answers."""
        with self._lock, self._reported():
            row = self._open().execute(query, parameters or None).fetchone()
        return None if row is None else row[0]

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """Turn errors into `StoreUnavailable`, and begin again on a new connection unless the server refused."""
        try:
            yield
        except psycopg.IntegrityError:
            raise
        except psycopg.Error as error:
            if not pgfaults.is_refused(error):
                self._leading = False
                self._link.drop()
            raise StoreUnavailable(pgfaults.sentence(error), where="POLICY_ENGINE_SEQUENCER_DATABASE") from error
