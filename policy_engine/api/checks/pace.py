"""What others may take up: frames that ask for nothing within a second, and connections that were never answered.

Floods of such frames are work all the same, and connections that only stand there keep a proxy's out.

Rules of the room: what is given up is counted by itself, for a call pays for no other's reset. Every other frame that
brings neither a header nor data is paid for by the calls that are asked: windows are opened as answers are taken.
Left to others: what a frame does (`connection`), when a second is over (its sweep).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Protocol, TypeVar

from policy_engine.api.checks.frames import Code, Fault, Frame, Kind
from policy_engine.limits import Limits

FREE_PER_CALL: Final = 8
"""Frames that come with a call and bring nothing: its end, windows, a ping that measures the way."""


class Pace:
    """What a connection has sent since the last sweep."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._resets = self._idle = 0

    def count(self, frame: Frame) -> None:
        """Count a frame that is neither headers nor data with something in it. Raises `Fault` for one too many."""
        if frame.kind == Kind.RST_STREAM:
            self._resets += 1
        else:
            self._idle += 1
        if self._resets > self._limits.grpc_resets_count or self._idle > self._limits.grpc_idle_frames_count:
            raise Fault(Code.ENHANCE_YOUR_CALM)

    def asked(self) -> None:
        """Take into account that a call was asked."""
        self._idle = max(0, self._idle - FREE_PER_CALL)

    def begin(self) -> None:
        """Begin a new second."""
        self._resets = self._idle = 0


class Kept(Protocol):
    """A connection: since when it is open, and whether it was ever answered, for which one needs a key."""

    opened: float
    known: bool


K = TypeVar("K", bound=Kept)


def who_leaves(everyone: Collection[K], most: int) -> K | None:
    """Return the connection that ends so that no more than `most` are open: the oldest stranger, a newcomer is one."""
    if len(everyone) <= most:
        return None
    return min((each for each in everyone if not each.known), key=lambda each: each.opened, default=None)
