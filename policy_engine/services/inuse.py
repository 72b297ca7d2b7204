"""Allows in use: one thread watches every stream that an allow of this engine keeps open, and ends what may not go on.

Rules of the room:
- An allow in use is asked again, without an entry, when anything moved (epoch, release, facts), when an instant has
  come at which its outcome may change, and once a second in any case. What came out otherwise ends at once, and its
  deny is recorded right after, under the id that was told: it is the evidence of the cut. Only an allow needs its entry
  first; a deny that cannot be recorded is counted, as everywhere.
- Whatever is in doubt ends it: a state that could not be read for `limits.cut_off_seconds`, a replica that is cut off,
  a log in doubt, an engine that closes, an error that nobody expected.
- An allow may have waited before it was put to use. Where its budget is spent, or something moved since, it is asked
  again before anything is let through on it.
- It only ever ends. Whoever was told stays told, once.
- No thread a stream: what is called at an end must be quick; it is called in the thread of the watcher.
Left to others: deciding (`services.decide`), what a cut looks like (`core.dialects`, the doors).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from time import monotonic
from types import TracebackType
from typing import Final

import structlog

from policy_engine.core.decision import Decision, Outcome, Principal, Reason, Request
from policy_engine.core.instants import ENDLESS
from policy_engine.errors import StoreUnavailable
from policy_engine.limits import LIMITS, Limits
from policy_engine.services.afterwards import Afterwards, Told
from policy_engine.services.decide import Decider, Given
from policy_engine.services.permissions import LOCAL
from policy_engine.services.record import Recorder
from policy_engine.services.replica import boottime
from policy_engine.services.snapshot import Snapshot, Snapshots

_CLOSING: Final = "The decision service is stopping, so what it allowed has ended. Try again later."
_CLOSED: Final = Decision(False, "", (Reason("log.unavailable", None, _CLOSING),), (), (), "", 0, 0, _CLOSING)

log = structlog.get_logger(__name__)


class Use:
    """An allow in use, as `core.enforcing.Hold` describes it."""

    __slots__ = ("_calls", "_ended", "_uses", "principal", "request", "until")

    def __init__(self, uses: Uses, request: Request, principal: Principal) -> None:
        self.request = request
        self.principal = principal
        self.until = 0
        """The instant from which it must be asked again; 0 before it was asked for the first time."""
        self._uses = uses
        self._ended: Decision | None = None
        self._calls: list[Callable[[], None]] = []

    @property
    def ended(self) -> Decision | None:
        """Return the deny, once there is one."""
        return self._ended

    def on_end(self, call: Callable[[], None]) -> None:
        """Call once when the hold ends, at once if it has."""
        with self._uses.lock:
            if self._ended is None:
                self._calls.append(call)
                return
        call()

    def end(self, decision: Decision) -> None:
        """End with a deny, and tell whoever asked to be told. A second end is none."""
        with self._uses.lock:
            calls, self._calls = self._calls, []
            if self._ended is not None:
                return
            self._ended = decision
        for call in calls:
            try:
                call()
            except Exception as error:  # noqa: BLE001  one who cannot be told keeps nobody else from being told
                log.error("hold.end-not-told", cause=type(error).__name__)

    def abandon(self, decision: Decision) -> None:
        """End it in a forked process: whoever was to be told of it is not here."""
        self._calls, self._ended = [], self._ended or decision

    def close(self) -> None:
        """Say that the allow is no longer in use. Nobody is told of its end any more."""
        self._uses.forget(self)
        self._calls = []  # who was to be told holds us in turn: let go, so that nothing is left to collect

    def __enter__(self) -> Use:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Uses:
    """Every allow in use of one engine. The thread starts with the first; `close` ends what is left."""

    def __init__(self, decider: Decider, snapshots: Snapshots, recorder: Recorder, limits: Limits = LIMITS) -> None:
        self._afterwards = Afterwards(decider, recorder)
        self.lock = threading.RLock()
        """A handler of signals, or garbage that is collected, may close another use under it."""
        self._decider = decider
        self._snapshots = snapshots
        self._limits = limits
        self._uses: dict[Use, None] = {}
        self._late: list[tuple[list[Told], Snapshot]] = []
        """Denies that were told where nobody may wait for a disk; the watcher records them."""
        self._woken: SimpleQueue[None] = SimpleQueue()
        """An interrupt in whoever wakes the watcher would leave the lock within a `threading.Event` taken for ever."""
        self._closed = False
        self._thread: threading.Thread | None = None
        self._unsubscribe: Callable[[], None] | None = None
        self._seen: object = None
        self._asked_at = self._confirmed_at = 0.0

    def hold(self, decision: Decision, principal: Principal = LOCAL) -> Use:
        """Watch an allow of this engine from now on. Raises `ValueError` for a deny, or one that knows no question."""
        if not decision.allowed or decision.asked is None:
            raise ValueError("only an allow of this engine can be held")
        use = Use(self, decision.asked, principal)
        if decision.epoch < self._snapshots.epoch or _is_spent(decision):
            self._ask_first(use)
        with self.lock:
            closed = self._closed
            if not closed:
                if use.ended is None:
                    self._uses[use] = None
                if self._thread is None:
                    self._start()
        if closed:
            use.end(_CLOSED)
        elif self._late or decision.epoch < self._snapshots.epoch:
            self._woken.put(None)  # otherwise the next look is soon enough: what is over by then costs none
        return use

    def _ask_first(self, use: Use) -> None:
        """Ask an allow that is put to use late, here and now: otherwise the next look would come soon enough."""
        try:
            snapshot = self._decider.confirmed()
            if told := self._ask([use], snapshot, self._decider.now()):
                self._late.append((told, snapshot))
            use.until = 0  # something may have moved by the time that it is watched
        except Exception as error:  # noqa: BLE001  whatever it is, the allow is not known to stand
            if not isinstance(error, StoreUnavailable):
                log.error("hold.not-watched", cause=type(error).__name__)
            use.end(self._decider.unrecorded([use.request], error)[0])

    def forget(self, use: Use) -> None:
        """Watch one no longer."""
        with self.lock:
            self._uses.pop(use, None)

    @property
    def count(self) -> int:
        """How many allows are in use."""
        return len(self._uses)

    def close(self) -> None:
        """End whatever is in use, for nobody watches it any more. Twice is no error."""
        with self.lock:
            self._closed = True
            thread, self._thread = self._thread, None
        self._woken.put(None)
        if thread is not None:
            thread.join()
            self._record_late()
        if self._unsubscribe is not None:
            self._unsubscribe()
        with self.lock:
            uses, self._uses = list(self._uses), {}
        for use in uses:  # nobody was denied anything, and nothing is missing from the log
            use.end(_CLOSED)

    def abandon(self, denied: Callable[[Request], Decision]) -> None:
        """End everything, in a forked process: its watcher lives in the other one, and so may whoever has the lock."""
        self.lock = threading.RLock()
        uses, self._uses, self._closed, self._thread = list(self._uses), {}, True, None
        for use in uses:
            use.abandon(denied(use.request))

    def _start(self) -> None:
        self._confirmed_at = monotonic()
        self._unsubscribe = self._snapshots.subscribe(lambda snapshot: self._woken.put(None))
        self._thread = threading.Thread(target=self._run, name="uses", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        pause = self._limits.hold_seconds
        while not self._closed:
            with suppress(Empty):
                self._woken.get(timeout=pause)
            while not self._woken.empty():
                self._woken.get_nowait()
            if not self._closed:
                pause = self._turn()

    def _turn(self) -> float:
        """Look once, and return for how long nothing need be looked at; while nothing is in use nothing is read."""
        self._record_late()
        with self.lock:
            uses = list(self._uses)
        if not uses:
            self._confirmed_at = 0.0
            return self._limits.hold_seconds
        began = monotonic()
        if not self._confirmed_at:
            self._confirmed_at = began
        try:
            until = self._look(uses, began)
            self._confirmed_at = began
            return min(self._limits.hold_seconds, max(0.0, (until - self._decider.now()) / 1_000_000))
        except StoreUnavailable as error:
            if monotonic() - self._confirmed_at > self._limits.cut_off_seconds:
                self._end_all(error)
        except Exception as error:  # noqa: BLE001  the thread must live, and what cannot be looked at may not go on
            log.error("hold.not-watched", cause=type(error).__name__)
            self._end_all(StoreUnavailable("what is in use cannot be watched"))
        return self._limits.hold_seconds

    def _look(self, uses: list[Use], began: float) -> int:
        """Ask again for what may have changed, end what did, and return the next instant that matters."""
        snapshot = self._decider.confirmed()
        at = self._decider.now()
        whole = snapshot is not self._seen or began - self._asked_at >= self._limits.hold_recheck_seconds
        told = self._ask(uses if whole else [use for use in uses if use.until <= at], snapshot, at)
        self._afterwards.record(told, snapshot)
        if whole:
            self._seen, self._asked_at = snapshot, began
        return min((use.until for use in uses), default=ENDLESS)

    def _ask(self, due: list[Use], snapshot: Snapshot, at: int) -> list[Told]:
        """Ask again, end what comes out otherwise, and return the denies that are still to be recorded."""
        told: list[Told] = []
        found = self._decider.evaluations([(use.request, use.principal) for use in due], snapshot, at)
        for use, evaluation in zip(due, found, strict=True):
            use.until = max(evaluation.until, at + 1)
            if evaluation.outcome is not Outcome.ALLOW:
                decision, draft = self._decider.denied(evaluation, use.principal, snapshot)
                self.forget(use)
                use.end(decision)
                told.append(Told(evaluation, use.principal, draft))
        return told

    def _record_late(self) -> None:
        """Record the denies of allows that were put to use late. Never raises: the watcher must live."""
        while self._late:
            try:
                self._afterwards.record(*self._late.pop(0))
            except Exception as error:  # noqa: BLE001  the use has ended, and whatever else is held must be watched
                log.error("hold.end-not-recorded", cause=type(error).__name__)

    def _end_all(self, error: Exception) -> None:
        with self.lock:
            uses, self._uses = list(self._uses), {}
        denied = self._decider.unrecorded([use.request for use in uses], error)
        for use, decision in zip(uses, denied, strict=True):
            use.end(decision)


def _is_spent(decision: Decision) -> bool:
    """Return whether an allow is older than it may be used unasked; one that does not say how old it is, is."""
    grant = decision.grant
    return not isinstance(grant, Given) or boottime() >= grant.spent
