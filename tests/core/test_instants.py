"""Instants: exact to the microsecond, in the form RFC 3339 gives them, and nothing that merely resembles it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.core.instants import DAY, ENDLESS, SECOND, format_instant, of_datetime, parse_instant


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000001Z", 1),
        ("1969-12-31T23:59:59.999999Z", -1),
        ("1970-01-02", DAY),
        ("1970-01-01T00:01Z", 60 * SECOND),
        ("1970-01-01t00:00:01z", SECOND),
        ("1970-01-01 00:00:01Z", SECOND),
        ("1970-01-01T02:00:00+02:00", 0),
        ("1969-12-31T19:00:00-05:00", 0),
        ("1970-01-01T00:00:00.5Z", SECOND // 2),
        ("1970-01-01T00:00:00.000001999Z", 1),
    ],
)
def test_a_text_names_its_instant(text: str, instant: int) -> None:
    """RFC 3339 text and bare dates name one microsecond; finer digits are dropped."""
    assert parse_instant(text) == instant


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-06-12T21:21:00",
        "2026-06-12T21:21:00 Z",
        "2026-06-12T21Z",
        "2026-06-12T212100Z",
        "2026-06-12T21:21:00,5Z",
        "2026-06-12T21:21:00.Z",
        "2026-06-12T21:21:00+05:30:15",
        "2026-W24-5",
        "2026-W24-5T21:21Z",
        "2026-163",
        "20260612",
        "2026-6-12",
        "2026-06- 1",
        "2026-02-30",
        "2026-02-30T00:00Z",
        "2026-06-12T24:00:00Z",
        "2026-06-12T23:59:60Z",
        "2026-06-12X21:21:00Z",
        "2026-06-12T21:21:00Z ",
        "2026-06-12\n",
        "\uff12\uff10\uff12\uff16-06-12",
        "0000-01-01",
        "12026-06-12",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
    ],
)
def test_any_other_text_is_no_instant(text: str) -> None:
    """A text that needs guessing, a time without zone and a day that no calendar has are refused."""
    with pytest.raises(ValueError):
        parse_instant(text)


def test_a_bare_date_is_its_midnight_in_utc() -> None:
    """Persons: dates are their 00:00Z instants."""
    assert parse_instant("2026-03-01") == parse_instant("2026-03-01T00:00:00Z")


@given(st.integers(-62_135_596_800 * SECOND, 253_402_300_799 * SECOND))
def test_an_instant_survives_its_text(instant: int) -> None:
    """Format and parse are inverse over every instant a text can name."""
    assert parse_instant(format_instant(instant)) == instant


def test_whole_seconds_are_written_short() -> None:
    """Decimals are written only where there are any, and then six."""
    assert format_instant(0) == "1970-01-01T00:00:00Z"
    assert format_instant(1) == "1970-01-01T00:00:00.000001Z"


def test_a_datetime_keeps_its_instant_in_any_zone() -> None:
    """The zone of an aware datetime changes how it is written, not when it is."""
    moment = datetime(2026, 8, 10, 12, tzinfo=UTC)
    assert of_datetime(moment.astimezone(timezone(timedelta(hours=9)))) == of_datetime(moment)


def test_endless_is_later_than_any_text() -> None:
    """No text names an instant at or past the one that stands for "no end"."""
    assert parse_instant("9999-12-31T23:59:59.999999Z") < ENDLESS
