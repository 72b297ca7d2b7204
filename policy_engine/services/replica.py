"""This process among those that serve: it says that it lives, acknowledges epochs, and stops by itself when cut off.

Rules of the room:
- It is registered before it decides. An epoch is acknowledged once decisions are evaluated under it and no answer of an
  older one is still on its way out of the process: answers are counted from before their evaluation until they were
  handed to the transport. One that has been on its way for longer than it is valid keeps nobody waiting.
- Whoever has not been heard for `limits.gone_seconds` counts as gone, judged by a heartbeat that stands still while the
  judge's own clock moves: no wall clock, stepped or wrong, makes a live replica look gone.
- A replica stops allowing before anybody may count it as gone: an allow needs a heartbeat that was written within
  `limits.silent_seconds` of its evaluation, and must leave within `limits.cut_off_seconds` and an answer's time after.
- It is not ready when nothing has confirmed its epoch for `limits.cut_off_seconds`.
- All of this is counted on CLOCK_BOOTTIME, which no setting of the time moves and which counts while a machine sleeps.
Left to others: the register (`store`), waiting for others (`services.withdrawal`), denying (`services.decide`).
"""

from __future__ import annotations

import threading
import time
from random import SystemRandom
from types import TracebackType

import structlog

from policy_engine.errors import PolicyEngineError, RollbackSuspected
from policy_engine.limits import LIMITS, Limits
from policy_engine.services.snapshot import Snapshots
from policy_engine.store.replicainterfaces import Identity, Replica, ReplicaRegister

_SPREAD = SystemRandom()  # of its own: whoever embeds this and seeds the module `random` must not be disturbed

CUT_OFF = "replica.cut-off"
"""The reason code of a deny by a replica that must not allow."""

DRIFT = 1.01
"""How much faster one clock may run than another."""

HAND_OVER_SECONDS = 0.002
"""How often a replica with a new epoch looks whether its older answers have left."""

log = structlog.get_logger(__name__)


def boottime() -> float:
    """Return the seconds of a clock that nobody sets and that counts while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Watch:
    """Who stands still: the heartbeats that one process has seen, with when it saw each for the first time."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self._limits = limits
        self._since: dict[str, tuple[int, float]] = {}

    def gone(self, replicas: list[Replica], now: float) -> list[Replica]:
        """Return the replicas whose heartbeat has not moved for `limits.gone_seconds` of this process's clock."""
        seen = self._since
        self._since = {}
        found = []
        for replica in replicas:
            if replica.ended is not None:
                continue
            heartbeat, since = seen.get(replica.id, (None, now))
            since = since if heartbeat == replica.heartbeat else now
            self._since[replica.id] = (replica.heartbeat, since)
            if now - since >= self._limits.gone_seconds:
                found.append(replica)
        return found


class _Answering:
    """One exchange, counted under the epoch that it began under until its answer was handed on."""

    __slots__ = ("_epoch", "_presence")

    def __init__(self, presence: Presence) -> None:
        self._presence = presence

    def __enter__(self) -> None:
        self._epoch = self._presence.begin_answer()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._presence.end_answer(self._epoch)


class Presence:
    """A replica's own part. `start` registers it, a thread keeps it registered, `close` says that it has ended."""

    def __init__(
        self, register: ReplicaRegister, snapshots: Snapshots, identity: Identity, limits: Limits = LIMITS
    ) -> None:
        self.identity = identity
        self._register = register
        self._snapshots = snapshots
        self._limits = limits
        self._watch = Watch(limits)
        self._lock = threading.Lock()
        self._under_way: dict[int, tuple[int, float]] = {}
        self._acknowledged = -1
        self._confirmed_at = self._beaten_at = -float("inf")
        self._failing = False
        self.older = False
        """Whether the database was found older than it was here."""
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="replica", daemon=True)

    def start(self) -> None:
        """Register, durably, and keep it up. Raises `StoreUnavailable` when the register cannot be written."""
        self._snapshots.current()
        self._say(boottime())
        self._thread.start()

    def close(self) -> None:
        """Say that this replica has ended, if the database is there; after its last answer. Twice is no error."""
        if self._closing:
            return
        self._closing = True
        self._register.wake()
        if self._thread.ident is not None:
            self._thread.join()
            try:
                self._register.end(self.identity.id)
            except PolicyEngineError:
                log.warning("replica.not-ended", replica=self.identity.label)

    def wake(self) -> None:
        """Look for a new epoch now."""
        self._register.wake()

    # What deciding asks

    def answering(self) -> _Answering:
        """Return what counts an exchange while it is entered: from before it is evaluated until it is answered."""
        return _Answering(self)

    def begin_answer(self) -> int:
        """Count an answer and return the epoch that it counts under. The evaluation must begin after this."""
        epoch, now = self._snapshots.epoch, boottime()
        with self._lock:
            count, _ = self._under_way.get(epoch, (0, now))
            self._under_way[epoch] = (count + 1, now)
        return epoch

    def end_answer(self, epoch: int) -> None:
        """Count an answer no more: it was handed on, or there is none."""
        with self._lock:
            count, last = self._under_way[epoch]
            if count > 1:
                self._under_way[epoch] = (count - 1, last)
            else:
                del self._under_way[epoch]

    def may_allow(self) -> bool:
        """Return whether what is evaluated now may be allowed: nobody counts this replica as gone for a while yet."""
        return boottime() - self._beaten_at <= self._limits.silent_seconds

    def may_leave(self, evaluated: float) -> bool:
        """Return whether an allow that was evaluated then (`boottime`) may still leave."""
        return boottime() - evaluated <= self._limits.cut_off_seconds + self._limits.answer_seconds

    def confirmed(self) -> bool:
        """Return whether the epoch was confirmed just now: a replica that is not cut off always is."""
        return boottime() - self._confirmed_at <= self._limits.cut_off_seconds

    # The thread

    def _run(self) -> None:
        while not self._closing:
            self._register.await_epoch(self._limits.beat_seconds * _SPREAD.uniform(0.5, 1.0))  # not all at once
            if not self._closing:
                self._beat()

    def _beat(self) -> None:
        """Confirm the epoch, take a new one in, and say so. A failure leaves what was confirmed to grow old."""
        began = boottime()
        try:
            epoch = self._register.epoch()
            if epoch < self._snapshots.epoch:
                raise RollbackSuspected("the database is older than it was", where="database")
            if epoch > self._snapshots.epoch:
                self._snapshots.refresh()
                self._hand_over(began)
            self._confirmed_at = began
            due = began - self._beaten_at >= self._limits.heartbeat_seconds
            if due or self._oldest() != self._acknowledged:
                self._say(began)
            if due:
                for replica in self._watch.gone(self._register.replicas(), boottime()):
                    self._register.end(replica.id, replica.heartbeat)
                    log.warning("replica.gone", replica=replica.label, epoch=replica.epoch)
            self._failing = self.older = False
        except Exception as error:  # noqa: BLE001  the thread must live; what is not confirmed grows old by itself
            if not self._failing:
                log.error("replica.unconfirmed", cause=type(error).__name__)
            self._failing = True
            self.older = isinstance(error, RollbackSuspected)

    def _say(self, began: float) -> None:
        acknowledged = self._oldest()
        if self._register.beat(self.identity, acknowledged) >= acknowledged:
            self._confirmed_at = self._beaten_at = began
            self._acknowledged = acknowledged

    def _hand_over(self, began: float) -> None:
        """Wait a moment for the answers of the older epoch to leave, so that the new one is acknowledged at once."""
        while self._oldest() < self._snapshots.epoch and boottime() - began < self._limits.beat_seconds:
            time.sleep(HAND_OVER_SECONDS)

    def _oldest(self) -> int:
        """Return the epoch that may be acknowledged: that of the oldest answer on its way, or that of the snapshot."""
        epoch = self._snapshots.epoch
        expired = boottime() - self.identity.valid_for_ms / 1_000 * DRIFT - self._limits.answer_seconds
        with self._lock:
            return min((each for each, (_, last) in self._under_way.items() if last > expired), default=epoch)
