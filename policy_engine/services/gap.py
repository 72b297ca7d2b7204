"""The gap: denies that were answered while the log was away, counted until an entry can say so. No thread, no I/O."""

from __future__ import annotations

from collections import Counter
from typing import Any

CODES_COUNT = 64
"""Reason codes counted by name; the rest are counted as `other`."""


class Gap:
    """A count by reason and the interval it covers. Truthy while there is something to report."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first = self._last = 0

    def __bool__(self) -> bool:
        return bool(self._counts)

    def count(self, code: str, at: int) -> None:
        """Count one deny at an instant."""
        if not self._counts:
            self._first = self._last = at
        known = code in self._counts or len(self._counts) < CODES_COUNT
        self._counts[code if known else "other"] += 1
        self._first, self._last = min(self._first, at), max(self._last, at)

    def members(self) -> dict[str, Any] | None:
        """Return the public members of the entry, `None` when there is no gap."""
        if not self._counts:
            return None
        return {
            "count": self._counts.total(),
            "reasons": [[code, count] for code, count in sorted(self._counts.items())],
            "first_at": self._first,
            "last_at": self._last,
        }

    def marker(self) -> dict[str, int]:
        """Return what `members` counted, to take it off once it is written; more may be counted meanwhile."""
        return dict(self._counts)

    def reported(self, marker: dict[str, int]) -> None:
        """Take off what an entry has reported; what was counted since stays for the next one."""
        self._counts.subtract(marker)
        self._counts = +self._counts
        self._first = self._last
