"""The clock that budgets are counted on: it never steps, and where the system has one, it counts suspend.

Rules of the room: no wall clock; setting the time of day changes nothing here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

Clock = Callable[[], float]
"""Seconds since some moment, never fewer than before."""

COUNTS_SUSPEND: Final = hasattr(time, "CLOCK_BOOTTIME")
"""Whether `budget_clock` goes on while the machine is suspended: on Linux it does.

Where it is false (`time.monotonic` may stand still in suspend) an enforcement point must let go of every answer when
the machine wakes: `Heard.doubt` does.
"""

if COUNTS_SUSPEND:

    def budget_clock() -> float:
        """Return seconds since the machine was started, suspend included."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

else:
    budget_clock = time.monotonic
