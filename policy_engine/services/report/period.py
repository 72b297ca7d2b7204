"""The period of a report: `2026`, `2026-06`, `2026-Q2`, or `FROM..TO` with dates or instants. Pure.

Rules of the room: the first instant counts, the last does not; all in UTC. Left to others: what happened in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from policy_engine.core.instants import DAY, SECOND, format_instant, of_datetime, parse_instant
from policy_engine.errors import InputRefused, TooLarge
from policy_engine.limits import LIMITS, Limits

_YEAR: Final = re.compile(r"(\d{4})")
_MONTH: Final = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")
_QUARTER: Final = re.compile(r"(\d{4})-[Qq]([1-4])")
_EXAMPLE: Final = "write 2026, 2026-06, 2026-Q2, or FROM..TO with dates or instants, such as 2026-06-01..2026-06-15"

_STEPS: Final = (3_600 * SECOND, 6 * 3_600 * SECOND, DAY, 7 * DAY, 30 * DAY, 91 * DAY, 365 * DAY)
_STEP_NAMES: Final = ("hour", "6 hours", "day", "7 days", "30 days", "91 days", "365 days")
_BARS_COUNT: Final = 62


@dataclass(frozen=True, slots=True)
class Period:
    """A time: `since` counts, `until` does not. `name` is how it was asked for."""

    name: str
    since: int
    until: int

    @property
    def text(self) -> str:
        """Both ends, as RFC 3339."""
        return f"from {format_instant(self.since)} until {format_instant(self.until)}"

    @property
    def step(self) -> int:
        """The length of one bar of a chart over the period: the shortest that gives few enough of them."""
        return next((step for step in _STEPS if (self.until - self.since) <= step * _BARS_COUNT), _STEPS[-1])

    @property
    def step_name(self) -> str:
        """How a bar is called."""
        return _STEP_NAMES[_STEPS.index(self.step)]

    @property
    def bars_count(self) -> int:
        """How many bars cover the period."""
        return -(-(self.until - self.since) // self.step)

    def bar_of(self, at: int) -> int:
        """Return the bar that an instant of the period falls into."""
        return (at - self.since) // self.step


def parse_period(text: str, limits: Limits = LIMITS) -> Period:
    """Return the period that a text names. Raises `InputRefused` with how to write one, `TooLarge` beyond the limit."""
    since, until = _ends(text.strip())
    if until <= since:
        raise InputRefused("the period ends before it begins; write the earlier end first", where="--period")
    if until - since > limits.report_days * DAY:
        raise TooLarge(f"is longer than {limits.report_days} days; make several reports", where="--period")
    return Period(text.strip(), since, until)


def _ends(text: str) -> tuple[int, int]:
    try:
        if found := _YEAR.fullmatch(text):
            return _month(int(found[1]), 1), _month(int(found[1]) + 1, 1)
        if found := _MONTH.fullmatch(text):
            return _months(int(found[1]), int(found[2]), 1)
        if found := _QUARTER.fullmatch(text):
            return _months(int(found[1]), 3 * int(found[2]) - 2, 3)
        first, dots, last = text.partition("..")
        if dots:
            return parse_instant(first.strip()), parse_instant(last.strip())
    except (ValueError, OverflowError):
        pass
    raise InputRefused(f"is no period; {_EXAMPLE}", where="--period")


def _months(year: int, month: int, count: int) -> tuple[int, int]:
    carry, index = divmod(month - 1 + count, 12)
    return _month(year, month), _month(year + carry, index + 1)


def _month(year: int, month: int) -> int:
    return of_datetime(datetime(year, month, 1, tzinfo=UTC))
