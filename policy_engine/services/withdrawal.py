"""How far a change has taken hold: committed, drained, settled.

Rules of the room:
- `committed`: the change is durable, and no allow of an older state is written after it. This is measured: the time the
  change took.
- `drained`: every live replica has acknowledged its epoch, so no answer of an older one is still on its way out of any
  of them. A replica that stands still counts until its heartbeat has stood for `limits.gone_seconds`.
- `settled`: the longest validity that any replica's answers carry, with 1% for clocks that run differently, has passed
  since the commit returned, on this process's own clock that nobody sets. No answer from before is valid any more at an
  enforcement point that counts its validity from the moment it asked.
- Waiting changes nothing: whoever stops waiting has only stopped looking.
Left to others: the change, acknowledging (`services.replica`), what an enforcement point does (its own).
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from policy_engine.errors import NotFound, PolicyEngineError, StoreUnavailable
from policy_engine.ledger.encoding import parse_header, parse_public
from policy_engine.limits import LIMITS, Limits
from policy_engine.services.replica import DRIFT, Presence, Watch, boottime
from policy_engine.services.snapshot import Snapshots
from policy_engine.store.interfaces import Committed, Store
from policy_engine.store.replicainterfaces import Identity, Replica, ReplicaRegister

LOOK_SECONDS = 0.01
"""How often whoever waits for replicas looks at the register."""

SETTLING_SECONDS = 0.05
"""How often whoever waits only for time does."""


class Stage(StrEnum):
    """How far a change has taken hold, in order."""

    COMMITTED = "committed"
    DRAINED = "drained"
    SETTLED = "settled"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one change has come. Times are milliseconds: of the change, and from its commit to each later stage.

    `None` is a stage that is not reached, or of which nobody here saw when it was. `stage` is the last one reached: a
    change may settle while a replica that stands still has not drained. `waits_for` are the replicas that have not
    acknowledged, `slowest` the one that did last or has not yet. `settles_after_ms` is how long after the commit no
    answer of an older epoch is valid.
    """

    epoch: int
    committed_at: int
    stage: Stage
    committed_ms: float | None
    drained_ms: float | None
    settled_ms: float | None
    settles_after_ms: float
    replicas: int
    slowest: str | None
    waits_for: tuple[str, ...]

    def has_reached(self, stage: Stage) -> bool:
        """Return whether somebody saw the stage reached; a settled change need not have drained."""
        seen = {Stage.COMMITTED: 0.0, Stage.DRAINED: self.drained_ms, Stage.SETTLED: self.settled_ms}
        return seen[stage] is not None


class Withdrawals:
    """Follows changes over a register of replicas. `presence` is this process's own part in it, where it serves."""

    def __init__(self, store: Store, register: ReplicaRegister, valid_for_ms: int, limits: Limits = LIMITS) -> None:
        self._store = store
        self._register = register
        self._valid_for_ms = valid_for_ms
        self._limits = limits
        self._waiting = threading.BoundedSemaphore(limits.withdrawal_waits_count)
        self.presence: Presence | None = None

    def join(self, snapshots: Snapshots, label: str) -> Presence:
        """Make this process one of the replicas and return its part. Raises `StoreUnavailable`."""
        identity = Identity(secrets.token_hex(8), label, self._valid_for_ms)
        self.presence = Presence(self._register, snapshots, identity, self._limits)
        self.presence.start()
        return self.presence

    def close(self) -> None:
        """End this process's part, if it has one, and let go of the register. Closing twice is no error."""
        if self.presence is not None:
            self.presence.close()
        self._register.close()

    def follow(self) -> Followed:
        """Begin to measure a change that is about to be made."""
        return Followed(self)

    def of_row(self, register: str, id: str) -> Progress:
        """Return how far the last change of a register's row has taken hold. Raises `NotFound`, and as `of_entry`."""
        row = self._store.row(register, id)
        if row is None:
            raise NotFound(f"there is no such row in {register}")
        return self.of_entry(row.log_id, row.seq)

    def of_entry(self, log_id: str, seq: int) -> Progress:
        """Return how far a change of the past has taken hold, by its entry: judged now, by the database's clock.

        Raises `StoreUnavailable` where it cannot be known, also when the entry is not there.
        """
        entry = self._store.entry(log_id, seq)
        if entry is None:
            raise StoreUnavailable("the entry of the change is not in the log", where="log")
        public = parse_public(entry.public)
        epoch, at = public["epoch"], public["at"]
        found = self._register.replicas()
        behind = [each for each in found if each.ended is None and each.epoch < epoch]
        live = [each for each in found if each.ended is None]
        own = [each for each in live if each.epoch == epoch]
        drained_ms = None
        if not behind and len(own) == len(live) and live:
            drained_ms = max(0, max(each.acknowledged for each in live) - at) / 1_000
        after = self.settles_after_ms(found)
        passed = (self._store.now() - at) / 1_000
        return self.progress(epoch, at, found, None, drained_ms, after if passed >= after else None, not behind)

    def settles_after_ms(self, replicas: list[Replica]) -> float:
        """Return after how many milliseconds no answer from before a commit is valid, whoever gave it."""
        return max([self._valid_for_ms, *(each.valid_for_ms for each in replicas)]) * DRIFT

    def progress(
        self,
        epoch: int,
        at: int,
        replicas: list[Replica],
        committed_ms: float | None,
        drained_ms: float | None,
        settled_ms: float | None,
        drained: bool,
    ) -> Progress:
        """Return where a change stands, given what is known of its stages. `replicas` are the slowest first."""
        live = [each for each in replicas if each.ended is None]
        stage = Stage.SETTLED if settled_ms is not None else Stage.DRAINED if drained else Stage.COMMITTED
        return Progress(
            epoch=epoch,
            committed_at=at,
            stage=stage,
            committed_ms=_rounded(committed_ms),
            drained_ms=_rounded(drained_ms),
            settled_ms=_rounded(settled_ms),
            settles_after_ms=round(self.settles_after_ms(replicas), 3),
            replicas=len(live),
            slowest=live[0].label if live else None,
            waits_for=tuple(each.label for each in live if each.epoch < epoch),
        )

    def replicas(self) -> list[Replica]:
        """Return the register as it is, the slowest first. Raises `StoreUnavailable`."""
        return self._register.replicas()

    def end(self, replica: Replica) -> None:
        """Say that a replica is gone, unless its heartbeat has moved."""
        self._register.end(replica.id, replica.heartbeat)

    def new_watch(self) -> Watch:
        """Return a judge of who is gone, who has seen nobody yet."""
        return Watch(self._limits)

    def wake(self) -> None:
        """Let this process take the new epoch in at once, if it serves."""
        if self.presence is not None:
            self.presence.wake()

    @contextmanager
    def a_place(self) -> Iterator[bool]:
        """Offer whether there is a place to wait: those who wait here hold threads that others need."""
        free = self._waiting.acquire(blocking=False)
        try:
            yield free
        finally:
            if free:
                self._waiting.release()


class Followed:
    """One change that is being followed, from before it is made."""

    def __init__(self, withdrawals: Withdrawals) -> None:
        self._withdrawals = withdrawals
        self._watch = withdrawals.new_watch()
        self._began = boottime()
        self._returned = self._began
        self._drained_ms: float | None = None
        self._replicas: list[Replica] = []
        self._after_ms = 0.0

    def committed(self, committed: Committed) -> Followed:
        """Note that the change has returned: from now on its stages are counted."""
        self._returned = boottime()
        self._at = committed.at
        self._epoch = parse_header(committed.header).epoch
        self._withdrawals.wake()
        return self

    def wait(self, stage: Stage, seconds: float, *, rest: Callable[[float], None] = time.sleep) -> Progress:
        """Return where the change stands when it has reached a stage, or when so many seconds are over.

        A register that cannot be read is a stage that is not reached; the change is committed all the same.
        """
        until = boottime() + seconds
        with self._withdrawals.a_place() as free:
            while True:
                found = self.look()
                if found.has_reached(stage) or not free or boottime() >= until:
                    return found
                rest(LOOK_SECONDS if found.drained_ms is None else SETTLING_SECONDS)

    def look(self) -> Progress:
        """Return where the change stands now."""
        known = self._read()
        passed = (boottime() - self._returned) * 1_000
        drained = known and not any(each.ended is None and each.epoch < self._epoch for each in self._replicas)
        if drained and self._drained_ms is None:
            self._drained_ms = passed
        self._after_ms = max(self._after_ms, self._withdrawals.settles_after_ms(self._replicas))
        settled = self._after_ms if known and passed >= self._after_ms else None
        return self._withdrawals.progress(
            self._epoch,
            self._at,
            self._replicas,
            (self._returned - self._began) * 1_000,
            self._drained_ms,
            settled,
            self._drained_ms is not None,
        )

    def _read(self) -> bool:
        """Read the register, telling of those that are gone; return whether it could be read."""
        withdrawals = self._withdrawals
        try:
            self._replicas = withdrawals.replicas()
            for gone in self._watch.gone(self._replicas, boottime()):
                withdrawals.end(gone)
        except PolicyEngineError:
            return False
        return True


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds, 3)
