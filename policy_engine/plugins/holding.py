"""An allow in use that may be exchanged for another one of the same request: a fallback answers with another model.

Rules of the room: it ends when the allow ends that it is under at that moment, and then it has ended for good. An allow
that was exchanged is let go of, and what becomes of it changes nothing any more.
Left to others: watching (`Enforcing.hold`), cutting (`policy_engine.guarding`).
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from types import TracebackType

from policy_engine.core.decision import Decision
from policy_engine.core.enforcing import Enforcing, Hold


class ChangingHold:
    """One hold over the allows of a request, one after the other; see `core.enforcing.Hold`. Any thread may use it."""

    def __init__(self, engine: Enforcing, decision: Decision) -> None:
        self._engine = engine
        self._lock = Lock()
        self._calls: list[Callable[[], None]] = []
        self._ended: Decision | None = None
        self._under: Decision | None = None
        self._held: Hold | None = None
        self.change(decision)

    @property
    def ended(self) -> Decision | None:
        """Return the deny, once there is one."""
        held = self._held
        if self._ended is None and held is not None and held.ended is not None:
            self._hear(held)
        return self._ended

    def change(self, decision: Decision) -> None:
        """Stand under another allow from now on. The same one again changes nothing, and after the end nothing does."""
        with self._lock:
            if decision is self._under or self._ended is not None:
                return
            before = self._held
            self._under, self._held = decision, self._engine.hold(decision)
            held = self._held
        if before is not None:
            before.close()
        held.on_end(lambda: self._hear(held))

    def on_end(self, call: Callable[[], None]) -> None:
        """Call once when the hold ends, at once if it has."""
        with self._lock:
            if self._ended is None:
                self._calls.append(call)
                return
        call()

    def _hear(self, held: Hold) -> None:
        deny = held.ended  # outside the lock: asking may itself end the hold, and so come back here
        with self._lock:
            if held is not self._held or deny is None or self._ended is not None:
                return
            self._ended = deny
            calls, self._calls = self._calls, []
        for call in calls:
            call()

    def close(self) -> None:
        """Say that the allow is no longer in use."""
        if self._held is not None:
            self._held.close()

    def __enter__(self) -> ChangingHold:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
