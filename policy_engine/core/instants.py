"""Instants as whole microseconds since 1970-01-01T00:00:00Z, and their text form.

Rules of the room: an instant is an `int`; text is RFC 3339 with a `Z` or an offset; a bare date is its 00:00Z
(`reference-policy`, Persons). Left to others: reading a clock (services and stores do, once per decision).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

SECOND: Final = 1_000_000
DAY: Final = 86_400 * SECOND
ENDLESS: Final = 2**62
"""An instant later than any date we accept; stands for "no end"."""

_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME = r"[Tt ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:[.][0-9]{1,9})?)?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})"
_TEXT: Final = re.compile(f"{_DATE}({_TIME})?")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def parse_instant(text: str) -> int:
    """Return the instant that an RFC 3339 text (or a bare `YYYY-MM-DD`) names.

    Digits finer than a microsecond are dropped. Raises `ValueError` for any other text, for a time without zone or
    that no calendar has, and for years that `datetime` cannot hold.
    """
    found = _TEXT.fullmatch(text)
    if found is None:
        raise ValueError("not an RFC 3339 instant with a zone, and not a date")
    moment = datetime.fromisoformat(text.upper() if found[1] else f"{text}T00:00Z")
    try:
        return of_datetime(moment.astimezone(UTC))  # what has no text in UTC could be read and never written again
    except OverflowError:
        raise ValueError("in UTC the instant lies outside the years 1 to 9999") from None


def of_datetime(moment: datetime) -> int:
    """Return the instant of an aware `datetime`, exact to the microsecond."""
    span = moment - _EPOCH
    return (span.days * 86_400 + span.seconds) * SECOND + span.microseconds


def format_instant(instant: int) -> str:
    """Return the RFC 3339 text in UTC: whole seconds where exact, else six decimals."""
    moment = _EPOCH + timedelta(microseconds=instant)
    spec = "seconds" if instant % SECOND == 0 else "microseconds"
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec=spec) + "Z"
