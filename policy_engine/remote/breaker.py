"""The circuit to an engine that is away: after some failures nothing is sent for a while, then one question tries.

Rules of the room: pure, the clock comes in. Open means deny: it never decides, it only spares a dead engine and its
callers the wait. Half open lets one question through; its answer closes the circuit, its failure opens it for longer.
Left to others: what counts as a failure (`asking`), one thread at a time (`background`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum


class Circuit(StrEnum):
    """Where the circuit stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(slots=True)
class Breaker:
    """Counts failures in a row; `failures_max` of them open the circuit for `pause_seconds`, doubled up to a bound."""

    clock: Callable[[], float]
    failures_max: int
    pause_seconds: float
    pause_seconds_max: float
    _failures: int = 0
    _openings: int = 0
    _until: float = field(default=-float("inf"))
    _trying: bool = False

    @property
    def circuit(self) -> Circuit:
        """Return where it stands now."""
        if self._failures < self.failures_max:
            return Circuit.CLOSED
        return Circuit.OPEN if self.clock() < self._until else Circuit.HALF_OPEN

    def begin(self) -> Circuit:
        """Return where a question finds the circuit; it may be sent unless that is `OPEN`, and must be told to `end`.

        Half open, one question may be sent; others find it open until that one has ended.
        """
        found = self.circuit
        if found is Circuit.HALF_OPEN:
            if self._trying:
                return Circuit.OPEN
            self._trying = True
        return found

    def end(self, found: Circuit, answered: bool | None) -> None:
        """Say how a question ended that found the circuit so: answered, failed, or (`None`) given up by who asked."""
        if found is Circuit.HALF_OPEN:
            self._trying = False
        if answered is None or (not answered and found is not self.circuit):
            return  # given up, or sent before the circuit opened: its failure is no news
        if answered:
            self._failures = self._openings = 0
            return
        self._failures += 1
        if self._failures >= self.failures_max:
            self._until = self.clock() + min(
                self.pause_seconds * 2.0 ** min(self._openings, 16), self.pause_seconds_max
            )
            self._openings += 1
