"""A replica that others may count as gone allows nothing, says so in a code of its own, and is not ready."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from policy_engine.api.condition import read_condition
from policy_engine.bootstrap import Engine, copy_template, open_engine
from policy_engine.core.decision import Decision, Request
from policy_engine.core.facts import Location
from policy_engine.limits import LIMITS
from policy_engine.services.permissions import LOCAL
from policy_engine.services.replica import Presence
from policy_engine.settings import Settings
from tests.conftest import POLICIES

ALLOWED = Request("alice", "infer", "fable-5", "acme", Location("US"), "US")


@pytest.fixture
def replica(tmp_path: Path, sample_database: Any, compiled: Any) -> Iterator[Engine]:
    """An embedded engine on a copy of the sample database: one of the replicas."""
    place = tmp_path / "engine.db"
    copy_template(sample_database.place, place)
    settings = Settings(database=f"sqlite:///{place}", policies=POLICIES)
    engine = open_engine(settings, releases=compiled, embedded=True)
    yield engine
    engine.close()


def presence_of(engine: Engine) -> Presence:
    """Return an engine's own part among the replicas."""
    assert engine.decider.presence is not None
    return engine.decider.presence


def codes(decision: Decision) -> list[str]:
    """Return the reason codes of a decision."""
    return [reason.code for reason in decision.reasons]


def test_a_replica_whose_database_is_gone_stops_and_is_not_ready(replica: Engine) -> None:
    """Within a second it is not ready and denies as one that is cut off; when the file is back, it allows again."""
    place = replica.settings.database_path
    assert replica.decider.decide(ALLOWED, LOCAL).allowed
    place.rename(f"{place}.away")
    began = time.monotonic()
    while read_condition(replica).reasons[:1] != CUT_OFF:
        assert time.monotonic() - began < 1.0
        time.sleep(0.01)
    denied = replica.decider.decide(ALLOWED, LOCAL)
    assert (denied.allowed, codes(denied)) == (False, ["replica.cut-off"])
    Path(f"{place}.away").rename(place)
    while read_condition(replica).reasons:
        assert time.monotonic() - began < 10.0
        time.sleep(0.01)
    assert replica.decider.decide(ALLOWED, LOCAL).allowed


CUT_OFF = (("replica.cut-off", "This replica is cut off: nothing confirms its epoch, so it allows nothing."),)


def test_a_replica_that_has_not_been_heard_allows_nothing(replica: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """When its last heartbeat is too old, nothing is even tried; the denies are counted, and one entry says so.

    Control: policy_engine/services/replica.py:
    `return boottime() - self._beaten_at <= self._limits.silent_seconds`
    """
    presence = presence_of(replica)
    before = replica.store.head()
    monkeypatch.setattr(presence, "_limits", replace(LIMITS, silent_seconds=-1.0))
    assert codes(replica.decider.decide(ALLOWED, LOCAL)) == ["replica.cut-off"]
    replica.recorder.close()
    after = replica.store.head()
    assert before is not None and after is not None and after.next_seq == before.next_seq + 1
    assert b'"kind":"gap"' in next(replica.store.entries(newest_first=True, limit=1))[2]


def test_an_allow_that_was_held_up_is_withheld(replica: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """An allow that could not leave before others may count on this replica no more is answered as a deny.

    Control: policy_engine/services/replica.py:
    `return boottime() - evaluated <= self._limits.cut_off_seconds + self._limits.answer_seconds`
    """
    presence = presence_of(replica)
    monkeypatch.setattr(presence, "_limits", replace(LIMITS, cut_off_seconds=-2.0, answer_seconds=0.0))
    held = replica.decider.decide_many((ALLOWED, ALLOWED), LOCAL)
    assert [codes(decision) for decision in held] == [["replica.cut-off"]] * 2
    monkeypatch.undo()
    assert replica.decider.decide(ALLOWED, LOCAL).allowed


def test_deciding_holds_its_epoch_until_it_has_answered(replica: Engine) -> None:
    """While a decision is on its way its epoch is not given up; afterwards nothing is held."""
    presence = presence_of(replica)
    with replica.decider.answering():
        assert presence._under_way == {replica.snapshots.epoch: (1, presence._under_way[replica.snapshots.epoch][1])}
        replica.decider.decide(ALLOWED, LOCAL)
        assert list(presence._under_way) == [replica.snapshots.epoch]
    assert presence._under_way == {}
