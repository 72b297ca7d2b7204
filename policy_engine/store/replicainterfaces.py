"""What a register of replicas promises: who serves, which epoch each has acknowledged, and word of a new epoch.

Rules of the room: nothing here is evidence, and nothing of it is in the log. The first word of a replica is durable
when the call returns; a later one may be lost with a crash of the database, which makes the replica look older, never
newer.
Left to others: who counts as gone, what may be acknowledged (`services.replica`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

RETAINED_MICROSECONDS = 86_400_000_000
"""How long the row of a replica that ended stays."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A replica as it names itself: its id, words for people, and the longest validity that its answers carry."""

    id: str
    label: str
    valid_for_ms: int


@dataclass(frozen=True, slots=True)
class Replica:
    """One row. Instants are of the database's clock: `acknowledged` when it came to `epoch`, `ended` when it ended."""

    id: str
    label: str
    started: int
    heartbeat: int
    epoch: int
    acknowledged: int
    valid_for_ms: int
    ended: int | None


class ReplicaViewer(Protocol):
    """Reading the register as of one moment."""

    def replicas(self) -> list[Replica]:
        """Return every replica that serves or did, the slowest first."""
        ...


class ReplicaRegister(Protocol):
    """The register. Every call raises `StoreUnavailable` when the database does not answer."""

    def epoch(self) -> int:
        """Return the epoch that holds now."""
        ...

    def beat(self, replica: Identity, acknowledged: int) -> int:
        """Say that a replica lives and has acknowledged an epoch; return the epoch that holds now."""
        ...

    def replicas(self) -> list[Replica]:
        """Return every row, ended ones too, the slowest first."""
        ...

    def end(self, id: str, heartbeat: int | None = None) -> bool:
        """Say that a replica has ended; with a heartbeat only if that is still its last. Return whether it was so."""
        ...

    def await_epoch(self, seconds: float) -> None:
        """Wait for word of a new epoch, for so long at most; return early also for `wake`."""
        ...

    def wake(self) -> None:
        """Let `await_epoch` return now; for another thread."""
        ...

    def close(self) -> None:
        """Let go of the connection. Closing twice is no error."""
        ...
