"""Suspensions that must be confirmed again by a date: what raises the alarm, and what does not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from policy_engine.core.instants import DAY, format_instant
from policy_engine.errors import InputRefused
from policy_engine.services import suspensions as suspensions_room
from policy_engine.services.suspensions import Overdue, Suspensions, overdue
from tests.services.governed import START, House

LETTER: dict[str, Any] = {"id": "letter", "models": ["fable-5"], "blocks": ["foreign_person"]}


@pytest.fixture
def plain_logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Log as if nothing were configured: what ran before may have set a level, and loggers keep what they met first."""
    before = structlog.get_config()
    structlog.reset_defaults()
    monkeypatch.setattr(suspensions_room, "log", structlog.get_logger())
    yield
    structlog.configure(**before)


@pytest.mark.usefixtures("plain_logs")
def test_an_alarm_is_raised_once_at_the_date_and_ends_with_the_confirmation(house: House) -> None:
    """The instant of the date itself is overdue; one log line says so, and a later date ends it at once."""
    suspensions = Suspensions(house.store)
    house.orders.receive(house["olga"], "directive", {**LETTER, "reconfirm_by": format_instant(START + DAY)})
    assert suspensions.overdue() == ()
    house.clock.at = START + DAY
    with capture_logs() as lines:
        assert suspensions.overdue() == suspensions.overdue() == (Overdue("letter", START + DAY),)
    assert [(line["event"], line["order"]) for line in lines] == [("suspension.overdue", "letter")]
    confirmed = {**LETTER, "reconfirm_by": format_instant(START + 9 * DAY)}
    assert house.orders.amend(house["olga"], "letter", confirmed).proposal is None
    assert suspensions.overdue() == ()
    house.clock.at = START + 9 * DAY
    with capture_logs() as lines:
        assert suspensions.overdue() == (Overdue("letter", START + 9 * DAY),)
    assert len(lines) == 1


def test_an_ended_directive_raises_no_alarm(house: House) -> None:
    """What is over needs no confirmation, whether it ended by itself or by two persons."""
    dates = {"reconfirm_by": format_instant(START + DAY), "until": format_instant(START + 2 * DAY)}
    house.orders.receive(house["olga"], "directive", {**LETTER, **dates})
    house.clock.at = START + 2 * DAY
    assert Suspensions(house.store).overdue() == ()
    house.orders.receive(house["olga"], "directive", {**LETTER, "id": "other", "reconfirm_by": "2026-01-01T00:00:00Z"})
    house.approvals.approve(house["paul"], house.orders.end(house["olga"], "other", "over").proposal or "")
    assert Suspensions(house.store).overdue() == ()


@pytest.mark.parametrize(
    "dates",
    [
        {"reconfirm_by": "soon"},
        {"from": "2026-07-01T00:00:00Z", "reconfirm_by": "2026-07-01T00:00:00Z"},
        {"until": "2026-07-01T00:00:00Z", "reconfirm_by": "2026-07-01T00:00:00Z"},
    ],
)
def test_a_date_that_cannot_be_meant_is_refused(house: House, dates: dict[str, str]) -> None:
    """No date, one not behind the start, and one not before the end are refused with the member's name."""
    with pytest.raises(InputRefused) as refused:
        house.orders.receive(house["olga"], "directive", {**LETTER, **dates})
    assert refused.value.where == "directive.reconfirm_by"
    assert house.orders.list(house["olga"]) == ()


def test_a_date_that_cannot_be_read_is_overdue() -> None:
    """A damaged row raises the alarm; it is not taken for one without a date."""
    row = {"kind": "directive", "status": "in_force", "body": {"reconfirm_by": 7}}
    assert [late.order for late in overdue([("letter", row)], START)] == ["letter"]
