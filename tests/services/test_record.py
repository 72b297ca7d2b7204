"""The recorder: what it reports is durable, what moved is named, and the queue never hangs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from policy_engine.core.decision import Request
from policy_engine.core.facts import Location
from policy_engine.errors import StoreUnavailable
from policy_engine.ledger.encoding import parse_public
from policy_engine.limits import LIMITS
from policy_engine.services.record import Recorder, Stale, Written
from policy_engine.store.interfaces import Change, Write
from tests.services.evidencesamples import ENDLESS, PEP, VAULT, Desk, open_desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """An open desk; whatever was written verifies at the end."""
    made = open_desk(tmp_path / "log.db")
    yield made
    made.recorder.close()
    assert made.evidence.verify().findings == ()
    made.store.close()


def entries(desk: Desk) -> list[dict[str, Any]]:
    """Return the public parts of the whole log."""
    return [parse_public(public) for _, _, public in desk.store.entries()]


def test_a_decision_is_written_with_its_members(desk: Desk) -> None:
    """The public part holds outcome, reasons and references; who asked, and from where, is sealed."""
    found = desk.evaluation(allowed=False, lifted=("r2",), licences=("lic-1",), flags=("table.oldest",), until=ENDLESS)
    (result,) = desk.decide(found)
    assert isinstance(result, Written)
    public = entries(desk)[result.seq]
    wanted = {
        "kind": "decision",
        "outcome": "deny",
        "action": "infer",
        "model": "fable-5",
        "asked": "fable-latest",
        "tier": 4,
        "tenant": "acme",
        "reasons": [["P7", "nationality.restricted", []]],
        "rules": ["allow-frontier"],
        "lifted": ["r2"],
        "licences": ["lic-1"],
        "flags": ["table.oldest"],
        "missing": [],
        "until": None,
        "instant": found.at,
        "by": "key-pep",
        "reached": True,
        "release": "sha256:aa",
    }
    assert {name: public[name] for name in wanted} == wanted
    assert "alice" not in str(public)
    assert "GB" not in str(public)


def test_what_a_caller_made_up_stays_sealed(desk: Desk) -> None:
    """An unknown model, tenant or action is free text of the caller and does not get into the public part."""
    made_up = Request("planted-subject", "planted-action", "planted-model", "planted-tenant", Location("XX"))
    found = desk.evaluation(
        request=made_up, model=None, tier=None, tenant_sealed=True, values=None, facets=None, allowed=False
    )
    (result,) = desk.decide(found)
    public = entries(desk)[result.seq]
    assert (public["action"], public["model"], public["tenant"]) == (None, None, None)
    assert "planted" not in str(public)
    assert not public["reached"]


@pytest.mark.parametrize(
    ("action", "known", "values", "shown"),
    [
        ("infer", True, None, "infer"),
        ("custom", True, ("custom",), "custom"),
        ("custom", True, None, None),
        ("custom", False, ("custom",), None),
        ("infer", False, ("infer",), "infer"),
    ],
)
def test_an_action_is_public_when_it_is_a_known_word(
    desk: Desk, action: str, known: bool, values: Any, shown: str | None
) -> None:
    """A standard action, or one that the rules knew, is public; any other word is sealed."""
    request = Request("alice", action, "fable-5", "acme")
    (result,) = desk.decide(desk.evaluation(request=request, action_known=known, values=values, allowed=False))
    assert entries(desk)[result.seq]["action"] == shown


def test_a_hypothetical_evaluation_has_no_entry(desk: Desk) -> None:
    """A what-if is refused before it gets near the log."""
    with pytest.raises(ValueError, match="hypothetical"):
        desk.recorder.decision(desk.evaluation(hypothetical=True), PEP, 0)


def test_ids_are_unique_and_uuid_shaped(desk: Desk) -> None:
    """Each draft has its own id, 32 hex digits of a version 4 UUID."""
    ids = {desk.recorder.decision(desk.evaluation(), PEP, 0).id for _ in range(100)}
    assert len(ids) == 100
    assert all(len(id) == 32 and id[12] == "4" and id[16] == "a" and int(id, 16) for id in ids)


def test_only_the_stale_are_stale(desk: Desk) -> None:
    """When one draft of a batch rests on moved facts, it alone is stale; the others are written at once."""
    old = desk.state
    evaluations = [desk.evaluation("alice"), desk.evaluation("bob"), desk.evaluation("eve")]
    desk.store.change(Change("x", {}, (Write("persons", "alice", {}, 1),), raises_epoch=False))
    drafts = [desk.recorder.decision(one, PEP, old.facts_revision) for one in evaluations]
    results = desk.recorder.write(drafts, old)
    assert results[0] == Stale("facts", desk.state)
    assert [type(result) for result in results[1:]] == [Written, Written]
    assert [entry["kind"] for entry in entries(desk)] == ["genesis", "x", "decision", "decision"]


def test_drafts_of_different_states_do_not_mix(desk: Desk) -> None:
    """Drafts handed in together under an old and a new epoch: the old are stale, the new are written."""
    old = desk.state
    late = desk.recorder.decision(desk.evaluation(), PEP, old.facts_revision)
    desk.store.change(Change("x", {}, (Write("switches", "s", {}, 0),), raises_epoch=True))
    new = desk.state
    fresh = desk.recorder.decision(desk.evaluation(), PEP, new.facts_revision)

    async def both() -> tuple[list[Any], list[Any]]:
        first, second = await asyncio.gather(
            desk.recorder.write_async([late], old), desk.recorder.write_async([fresh], new)
        )
        return first, second

    (stale,), (written,) = asyncio.run(both())
    assert stale == Stale("epoch", new)
    assert isinstance(written, Written)


def test_a_draft_is_written_under_its_own_state_only(desk: Desk) -> None:
    """A draft evaluated under another epoch than the one to be compared is a programming error, never an entry."""
    old = desk.state
    draft = desk.recorder.decision(desk.evaluation(), PEP, old.facts_revision)
    note = desk.recorder.note("search", {}, PEP, old)
    desk.store.change(Change("x", {}, (Write("switches", "s", {}, 0),), raises_epoch=True))
    for one in (draft, note):
        with pytest.raises(ValueError, match="no other"):
            desk.recorder.write([one], desk.state)
    assert [entry["kind"] for entry in entries(desk)] == ["genesis", "x"]


def test_many_waiters_share_commits(desk: Desk) -> None:
    """Drafts handed in while a commit runs form one batch: far fewer headers than entries, each answered once."""
    state = desk.state

    async def all_at_once() -> list[Any]:
        tasks = [
            desk.recorder.write_async([desk.recorder.decision(desk.evaluation(f"u{n}"), PEP, 1)], state)
            for n in range(300)
        ]
        return [result for (result,) in await asyncio.gather(*tasks)]

    results = asyncio.run(all_at_once())
    assert sorted(result.seq for result in results) == list(range(1, 301))
    head = desk.store.head()
    assert head is not None
    assert head.next_batch < 60


def test_a_job_larger_than_a_batch_is_written_in_several(desk: Desk) -> None:
    """More drafts than a batch holds are all written, in order."""
    results = desk.decide(*[desk.evaluation() for _ in range(LIMITS.batch_entries_count + 5)])
    assert [result.seq for result in results] == list(range(1, LIMITS.batch_entries_count + 6))


def test_a_full_queue_refuses_at_once(tmp_path: Path) -> None:
    """Beyond the bound a draft is refused without waiting, and what waited is still written."""
    desk = open_desk(tmp_path / "log.db", limits=replace(LIMITS, queue_entries_count=3))
    state = desk.state
    drafts = [desk.recorder.decision(desk.evaluation(), PEP, 1) for _ in range(4)]
    with pytest.raises(StoreUnavailable, match="3 entries wait"):
        desk.recorder.write(drafts, state)
    assert len(desk.recorder.write(drafts[:3], state)) == 3
    desk.close()


def test_one_bad_draft_does_not_take_its_neighbours(desk: Desk) -> None:
    """A draft that cannot be encoded is refused by itself; the others of its batch are written."""
    state = desk.state
    bad = desk.recorder.decision(desk.evaluation(values=(float("nan"),)), PEP, 1)

    async def together() -> list[Any]:
        tasks = [desk.recorder.write_async([draft], state) for draft in drafts]
        return list(await asyncio.gather(*tasks, return_exceptions=True))

    drafts = [desk.recorder.decision(desk.evaluation(), PEP, 1), bad, desk.recorder.decision(desk.evaluation(), PEP, 1)]
    results = asyncio.run(together())
    assert [isinstance(result, StoreUnavailable) for result in results] == [False, True, False]
    assert len(entries(desk)) == 3
    with pytest.raises(StoreUnavailable, match="cannot be written"):
        desk.recorder.write([bad], state)


class Away:
    """A store that is away while `gone` is set, in front of a real one."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.gone = threading.Event()
        self.hang = threading.Event()
        self.hung = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def append(self, batch: Any, snapshot: Any) -> Any:
        while self.hang.is_set():
            self.hung.set()
            time.sleep(0.001)
        if self.gone.is_set():
            raise StoreUnavailable("away")
        return self._store.append(batch, snapshot)

    def try_stage(self, batch: Any, snapshot: Any) -> Any:
        if self.gone.is_set():
            raise StoreUnavailable("away")
        return self._store.try_stage(batch, snapshot)

    def commit(self, staged: Any) -> Any:
        while self.hang.is_set():
            time.sleep(0.001)
        return self._store.commit(staged)


@pytest.fixture
def away(desk: Desk) -> Iterator[tuple[Desk, Away]]:
    """A desk whose recorder writes through a store that can go away."""
    store = Away(desk.store)
    recorder = Recorder(store, VAULT, replace(LIMITS, answer_seconds=0.3))
    yield Desk(desk.store, recorder, desk.evidence), store
    store.hang.clear()
    recorder.close()


def test_while_the_log_is_away_nothing_is_written(away: tuple[Desk, Away]) -> None:
    """Every draft is refused with the store's own error, and written again once the store is back."""
    desk, store = away
    store.gone.set()
    with pytest.raises(StoreUnavailable, match="away"):
        desk.decide(desk.evaluation())
    store.gone.clear()
    assert isinstance(desk.decide(desk.evaluation())[0], Written)


def test_the_gap_is_reported_before_anything_else(away: tuple[Desk, Away]) -> None:
    """On return one gap entry with count, reasons and interval comes first, and only once."""
    desk, store = away
    store.gone.set()
    before = desk.store.now()
    for code in ("log.unavailable", "stale", "log.unavailable"):
        desk.recorder.missed(code)
    with pytest.raises(StoreUnavailable):
        desk.decide(desk.evaluation())
    after = desk.store.now()
    store.gone.clear()
    desk.decide(desk.evaluation())
    desk.decide(desk.evaluation())
    _, gap, *rest = entries(desk)
    assert (gap["kind"], gap["count"], gap["reasons"]) == ("gap", 3, [["log.unavailable", 2], ["stale", 1]])
    assert before <= gap["first_at"] <= gap["last_at"] <= after
    assert [entry["kind"] for entry in rest] == ["decision", "decision"]


def test_the_gap_is_reported_without_any_traffic(away: tuple[Desk, Away], monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle recorder tries by itself until the log is back, under whatever epoch holds then."""
    monkeypatch.setattr("policy_engine.services.record.RETRY_SECONDS", 0.02)
    desk, store = away
    store.gone.set()
    desk.recorder.missed("log.unavailable")
    time.sleep(0.1)
    desk.store.change(Change("x", {}, (Write("switches", "s", {}, 0),), raises_epoch=True))
    store.gone.clear()
    deadline = time.monotonic() + 5
    while len(entries(desk)) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [entry["kind"] for entry in entries(desk)] == ["genesis", "x", "gap"]


def test_closing_reports_the_gap(away: tuple[Desk, Away]) -> None:
    """A gap is not forgotten by a shutdown that finds the log back."""
    desk, store = away
    store.gone.set()
    desk.recorder.missed("log.unavailable")
    store.gone.clear()
    desk.recorder.close()
    assert [entry["kind"] for entry in entries(desk)] == ["genesis", "gap"]


@pytest.mark.parametrize("form", ["sync", "async"])
def test_nobody_waits_longer_than_the_limit(away: tuple[Desk, Away], form: str) -> None:
    """When a commit hangs, waiters are refused in time; what was still queued is then not written at all.

    What an event loop had written already, and only its commit hung, may come to be there: nobody was allowed on it.
    """
    desk, store = away
    state = desk.state
    store.hang.set()
    drafts = [desk.recorder.decision(desk.evaluation(), PEP, 1) for _ in range(2)]

    def wait_in_vain() -> None:
        with pytest.raises(StoreUnavailable):
            desk.recorder.write(drafts[:1], state)

    blocked = threading.Thread(target=wait_in_vain)
    blocked.start()
    assert store.hung.wait(5)  # the recorder's thread has taken the draft and hangs in its commit
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="in time"):
        if form == "sync":
            desk.recorder.write(drafts[1:], state)
        else:
            asyncio.run(desk.recorder.write_async(drafts[1:], state))
    assert time.monotonic() - began < 1
    blocked.join()
    store.hang.clear()
    assert isinstance(desk.decide(desk.evaluation())[0], Written)
    assert len(entries(desk)) == (3 if form == "sync" else 4)


def test_closing_writes_what_is_queued_and_then_refuses(desk: Desk) -> None:
    """Close returns when everything queued is durable; afterwards a draft is refused."""
    state = desk.state
    results: list[Any] = []

    def write(n: int) -> None:
        results.extend(desk.recorder.write([desk.recorder.decision(desk.evaluation(f"u{n}"), PEP, 1)], state))

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    desk.recorder.close()
    desk.recorder.close()
    assert len(results) == 8
    with pytest.raises(StoreUnavailable, match="closed"):
        write(9)


def test_closing_while_an_event_loop_writes_refuses_like_any_closing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is staged and can be committed no more was not written, and nobody waits for it or meets another error."""
    state, staging = desk.store.state(), desk.store.try_stage

    def closed_meanwhile(*arguments: Any) -> Any:
        staged = staging(*arguments)
        desk.recorder._closed = True
        desk.recorder._commits.close()
        return staged

    async def write(user: str) -> Any:
        return await desk.recorder.write_async([desk.recorder.decision(desk.evaluation(user), PEP, 1)], state)

    async def one_after_another() -> None:
        assert isinstance((await write("u1"))[0], Written)
        monkeypatch.setattr(desk.store, "try_stage", closed_meanwhile)
        with pytest.raises(StoreUnavailable, match="closed"):
            await write("u2")

    asyncio.run(one_after_another())
    assert [each["kind"] for each in entries(desk)].count("decision") == 1


def test_notes_are_written_under_the_state_that_holds(desk: Desk) -> None:
    """An entry that rests on no state is made anew until the state stands still."""
    states = []

    def make(state: Any) -> Any:
        states.append(state.epoch)
        if len(states) < 3:
            revision = len(states) - 1
            desk.store.change(Change("x", {}, (Write("switches", "s", {}, revision),), raises_epoch=True))
        return desk.recorder.note("read", {"what": "body"}, PEP, state)

    written = desk.recorder.record(make)
    assert states == [1, 2, 3]
    entry = entries(desk)[written.seq]
    assert (entry["kind"], entry["epoch"], entry["by"], entry["sealed"]) == ("read", 3, "key-pep", "")


def test_a_state_that_never_stands_still_is_given_up(desk: Desk) -> None:
    """After a bounded number of tries the note is refused instead of looping."""
    revisions = iter(range(100))

    def make(state: Any) -> Any:
        desk.store.change(Change("x", {}, (Write("switches", "s", {}, next(revisions)),), raises_epoch=True))
        return desk.recorder.note("read", {}, PEP, state)

    with pytest.raises(StoreUnavailable, match="kept changing"):
        desk.recorder.record(make)


def test_tags_are_indexed_when_nothing_is_to_be_written(desk: Desk) -> None:
    """An idle recorder fills the index by itself."""
    desk.decide(*[desk.evaluation(f"u{n}") for n in range(20)])
    deadline = time.monotonic() + 5
    head = desk.store.head()
    while head is not None and head.tagged < head.next_seq and time.monotonic() < deadline:
        time.sleep(0.01)
        head = desk.store.head()
    assert head is not None
    assert head.tagged == head.next_seq == 21


def test_a_busy_recorder_does_not_fall_behind_for_ever(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Far behind, some tags are indexed with every batch even when drafts keep coming."""
    monkeypatch.setattr("policy_engine.services.record.UNINDEXED_COUNT", 5)
    monkeypatch.setattr("policy_engine.services.record.IDLE_SECONDS", 60)
    monkeypatch.setattr("policy_engine.services.record.INDEX_COUNT", 4)
    for _ in range(10):
        desk.decide(desk.evaluation(), desk.evaluation())
    head = desk.store.head()
    assert head is not None
    assert head.tagged >= head.next_seq - 12
