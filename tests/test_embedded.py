"""The engine embedded in a program: opened like a replica, asked near and on event loops, and closed in a fork."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sys
import threading
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from policy_engine import PolicyEngine
from policy_engine.bootstrap import copy_template
from policy_engine.core.decision import DecisionDenied
from policy_engine.errors import InputRefused, StartRefused, StoreUnavailable
from policy_engine.limits import LIMITS
from policy_engine.services.queries import Page
from tests.conftest import POLICIES

ALICE: dict[str, Any] = {
    "subject": "alice",
    "model": "fable-5",
    "action": "infer",
    "tenant": "acme",
    "location": "US",
}


@pytest.fixture
def database(tmp_path: Path, sample_database: Any) -> str:
    """Offer the URL of a copy of the sample database."""
    place = tmp_path / "engine.db"
    copy_template(sample_database.place, place)
    return f"sqlite:///{place}"


@pytest.fixture
def near(database: str) -> Iterator[PolicyEngine]:
    """Offer an open engine on it."""
    with PolicyEngine.open(POLICIES, database=database) as engine:
        yield engine


def engine_of(opened: PolicyEngine) -> Any:
    """Return the engine behind an embedded one."""
    return opened._asked.engine  # type: ignore[attr-defined]  # of an embedded engine


def test_it_is_one_of_the_replicas(near: PolicyEngine) -> None:
    """A withdrawal counts it, and waits until it has given up the older epoch."""
    assert near.decide(**ALICE)
    assert [replica.ended for replica in engine_of(near).withdrawals.replicas()] == [None]


def test_a_folder_that_is_not_the_active_release_refuses_to_start(database: str, tmp_path: Path) -> None:
    """Which of the two is meant is a person's to say, for a program as for a service."""
    folder = tmp_path / "policies"
    shutil.copytree(POLICIES, folder)
    with (folder / "models.toml").open("a") as file:
        file.write("\n# a change that nobody published\n")
    with pytest.raises(StartRefused, match="active release"):
        PolicyEngine.open(folder, database=database)


def test_a_listing_is_complete_where_each_of_its_pages_is(near: PolicyEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page under a release that leaves something open, and a last one under another: more may be allowed."""
    first = Page("1", ("alice",), "more", False, 0, 1, "", 0)
    last = Page("2", ("bob",), "", True, 0, 2, "", 0)

    @asynccontextmanager
    async def page_async(principal: Any, listing: Any) -> AsyncIterator[Page]:
        yield first if listing.token is None else last

    listings = engine_of(near).listings
    monkeypatch.setattr(listings, "page", lambda principal, listing: first if listing.token is None else last)
    monkeypatch.setattr(listings, "page_async", page_async)
    for found in (near.who_can(model="fable-5"), asyncio.run(near.who_can_async(model="fable-5"))):
        assert (found.ids, found.complete) == (("alice", "bob"), False)


def test_an_event_loop_is_not_kept_waiting(near: PolicyEngine) -> None:
    """Fifty decisions at once on one loop, each with its entry, and their twins in a thread agree."""

    async def ask() -> list[Any]:
        async with near:
            decided = await asyncio.gather(*(near.decide_async(**ALICE) for _ in range(50)))
            decided += await near.decide_many_async([ALICE] * 3)  # type: ignore[list-item]  # the same names
            return decided

    decided = asyncio.run(ask())
    assert all(decided)
    assert len({decision.id for decision in decided}) == 53


def test_more_questions_than_the_log_lets_wait_are_decided(near: PolicyEngine) -> None:
    """Each of them, in order: from afar they would be, and a full queue is no reason of a subject's."""
    questions: list[Any] = [{**ALICE, "model": model} for model in ("fable-5", "mythos-5")] * 2_100
    assert len(questions) > LIMITS.queue_entries_count
    for found in (near.decide_many(questions), asyncio.run(near.decide_many_async(questions))):
        assert [bool(each) for each in found] == [True, False] * 2_100


def test_an_explanation_is_given_when_it_is_asked_for(near: PolicyEngine) -> None:
    """Near, `explain` shows every rule that matched."""
    explanation = near.decide(**ALICE, explain=True).explanation
    assert explanation is not None
    assert explanation["matching_rules"]
    assert near.decide(**ALICE).explanation is None


@pytest.mark.parametrize("wrong", [{"subject": ""}, {"model": "m" * 257}, {"action": "a\n"}, {"location": {"x": 1}}])
def test_a_malformed_question_is_refused_and_leaves_no_entry(near: PolicyEngine, wrong: dict[str, Any]) -> None:
    """As the service refuses it in a body."""
    before = engine_of(near).store.head().next_seq
    with pytest.raises(InputRefused):
        near.decide(**{**ALICE, **wrong})
    assert engine_of(near).store.head().next_seq == before


def test_the_random_numbers_of_the_program_are_its_own(near: PolicyEngine) -> None:
    """A program that seeded `random` draws what it would draw without us: no thread of ours draws beside it."""
    state = random.getstate()
    with near.hold(near.decide(**ALICE)):
        time.sleep(0.5)
    assert random.getstate() == state


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_denies_and_leaves_the_engine_alone(near: PolicyEngine, tmp_path: Path) -> None:
    """Threads and connections do not survive a fork: the child is denied at once, and the parent goes on.

    So is a stream that was under way: nobody in the child would hear that its model is withdrawn.
    """
    note, stream = tmp_path / "note", near.guard_stream(iter("abc"), near.decide(**ALICE))
    assert next(stream) == "a"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads is what this is about
        child = os.fork()
    if child == 0:
        try:
            note.write_text(" ".join(_in_the_child(near, stream)))
        finally:
            os._exit(0)
    end = time.monotonic() + 10
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        assert time.monotonic() < end, "the forked process hangs"
        time.sleep(0.01)
    assert note.read_text() == "ended engine.forked engine.forked engine.forked engine.forked raised"
    assert near.decide(**ALICE) and list(stream) == ["b", "c"]


def _in_the_child(near: PolicyEngine, stream: Iterator[str | bytes]) -> list[str]:
    with pytest.raises(DecisionDenied, match="forked"):
        next(stream)
    decisions = [near.decide(**ALICE), *near.decide_many([ALICE])]  # type: ignore[list-item]  # the same names
    decisions += asyncio.run(_async_in_the_child(near))
    said = ["ended", *(decision.reasons[0].code for decision in decisions if not decision.allowed)]
    try:
        near.what_can(subject="alice")
    except StoreUnavailable:
        said.append("raised")
    near.close()
    return said


async def _async_in_the_child(near: PolicyEngine) -> list[Any]:
    return [await near.decide_async(**ALICE), *await near.decide_many_async([ALICE])]  # type: ignore[list-item]  # too


def test_a_closed_engine_denies_and_lists_nothing(database: str) -> None:
    """In a thread and on an event loop, with the errors that are named for it."""
    engine = PolicyEngine.open(POLICIES, database=database)
    engine.close()
    assert engine.decide(**ALICE).reasons[0].code == "log.unavailable"
    assert asyncio.run(engine.decide_async(**ALICE)).reasons[0].code == "log.unavailable"
    with pytest.raises(StoreUnavailable):
        engine.what_can(subject="alice")
    with pytest.raises(StoreUnavailable):
        asyncio.run(engine.what_can_async(subject="alice"))


def test_a_program_that_ends_leaves_no_thread(database: str) -> None:
    """Opening and closing leaves as many threads as there were."""
    before = set(threading.enumerate())
    with PolicyEngine.open(POLICIES, database=database) as engine:
        engine.what_can(subject="alice", tenant="acme", location="US")
        engine.hold(engine.decide(**ALICE)).close()
    left = [thread.name for thread in set(threading.enumerate()) - before if thread.is_alive()]
    assert left == [], sys.version


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({"serving_regoin": "US"}, "serving_regoin"),
        ({"valid_for_ms": "soon"}, "valid_for_ms"),
        ({"database": "mysql://secret@db"}, "database"),
        ({"blocked_by": "not an address"}, "settings"),
    ],
)
def test_a_setting_that_is_misspelt_or_wrong_is_refused(tmp_path: Path, given: dict[str, Any], where: str) -> None:
    """It would open another engine than its writer thinks. The sentence names the setting, never its value."""
    with pytest.raises(InputRefused) as refused:
        PolicyEngine.open(POLICIES, **{"database": f"sqlite:///{tmp_path}/engine.db", **given})
    assert refused.value.where == where
    assert all(str(value) not in str(refused.value) for value in given.values())
    assert list(tmp_path.iterdir()) == []


def test_several_first_starts_at_once_agree_on_one_database(tmp_path: Path) -> None:
    """Workers of one server open the same empty database: one fills it, the others find it filled, and all decide."""

    def open_and_ask(_: int) -> bool:
        with PolicyEngine.open(POLICIES, database=f"sqlite:///{tmp_path}/engine.db") as engine:
            return engine.decide(**ALICE).allowed

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(open_and_ask, range(3))) == [True] * 3
