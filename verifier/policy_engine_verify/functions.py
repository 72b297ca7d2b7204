"""The matcher functions of policy-engine, written a second time from their documentation, for `--replay`.

Each is pure and looks at values of a request and texts of a policy only. They are pinned here: nothing in a bundle can
add one or change one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

ANY = "*"
TIERS = "12345"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ENDLESS = 2**62
_INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"([Tt ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:[.][0-9]{1,9})?)?(?:[Zz]|[+-][0-9]{2}:[0-9]{2}))?"
)
HasLink = Callable[[str, str, str], bool]


def _many(value: Any) -> Any:
    if not isinstance(value, (tuple, list, set, frozenset)):
        raise TypeError("a set is needed here")
    return value


def has(value: Any, wanted: str) -> bool:
    """Return whether a text is the wanted one, or a set holds it."""
    return wanted == ANY or (value == wanted if isinstance(value, str) else wanted in _many(value))


def within(tier: Any, tiers: str) -> bool:
    """Return whether a tier is among `3+`, `1-2` or `5`; an unclassified model is in none."""
    if tiers == ANY:
        return True
    if tier not in (*TIERS, "unclassified"):
        raise ValueError("no such tier")
    first, dash, last = (tiers[:-1], "-", "5") if tiers.endswith("+") else tiers.partition("-")
    last = last if dash else first
    if len(first) != 1 or len(last) != 1 or first not in TIERS or last not in TIERS or first > last:
        raise ValueError("no such range of tiers")
    return tier != "unclassified" and bool(first <= tier <= last)


def known(unknown: Any, names: str) -> bool:
    """Return whether none of the names, parted by `|`, is unknown."""
    return names == ANY or not set(names.split("|")) & set(_many(unknown))


def unlifted(lifts: Any, key: str) -> bool:
    """Return whether no authorisation names the lift key of a row; `-` is none."""
    return key == "-" or key not in _many(lifts)


def during(now: Any, interval: str) -> bool:
    """Return whether an instant in microseconds lies in `FROM/UNTIL`, its end left out."""
    if interval == ANY:
        return True
    if type(now) is not int:
        raise TypeError("an instant is a whole number")
    start, until = _bounds(interval)
    return start <= now < until


@lru_cache(4_096)
def _bounds(interval: str) -> tuple[int, int]:
    first, slash, last = interval.partition("/")
    start, until = _instant(first, -_ENDLESS), _instant(last, _ENDLESS)
    if not slash or not (first or last) or until <= start:
        raise ValueError("no such interval")
    return start, until


def _instant(text: str, open_end: int) -> int:
    """Return the microseconds since 1970 that an RFC 3339 text or a date names; an empty text is an open end."""
    if not text:
        return open_end
    found = _INSTANT.fullmatch(text)
    if found is None:
        raise ValueError("no such instant")
    moment = datetime.fromisoformat(text.upper() if found[1] else f"{text}T00:00+00:00")
    return (moment - _EPOCH) // timedelta(microseconds=1)


def pinned(has_link: HasLink) -> dict[str, Callable[..., bool]]:
    """Return the functions by name; `has_link(code, group, edition)` answers for the `g` lines of a policy."""

    def linked(code: str, group: str, editions: Any) -> bool:
        return any(has_link(code, group, edition) for edition in _many(editions))

    def grouped(value: Any, group: str, editions: Any) -> bool:
        if group == ANY:
            return True
        codes = (value,) if isinstance(value, str) else _many(value)
        return any(linked(code, group, editions) for code in codes)

    def outside(value: Any, group: str, editions: Any) -> bool:
        if group != ANY and not isinstance(value, str):
            raise TypeError("one code is needed here")
        return group == ANY or not linked(value, group, editions)

    own: list[Callable[..., bool]] = [has, within, known, during, unlifted, grouped, outside]
    return {function.__name__: function for function in own}
