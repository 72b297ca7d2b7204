"""Appending: what is compared inside the transaction, what is written, and what is returned."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policy_engine.ledger.encoding import header_hash, parse_public
from policy_engine.ledger.sealing import tag
from policy_engine.limits import LIMITS
from policy_engine.store.interfaces import Change, Committed, Encoded, Moved, State, Write
from tests.store.samples import NOON, SECOND, VAULT, AnyStore, Clock, Database, Sample, genesis, put


def stale(result: Committed | Moved) -> dict[int, str]:
    """Return what was stale; a batch that was written is a failure."""
    assert isinstance(result, Moved)
    return dict(result.stale)


def test_an_empty_log_has_no_head_and_a_first_entry_gives_it_one(store: AnyStore) -> None:
    """Before the first entry there is no log; the first change makes one at sequence 0, batch 0."""
    assert store.head() is None
    assert store.state() == State(0, None, 0)
    genesis(store)
    head = store.head()
    assert head is not None
    assert (head.next_seq, head.next_batch, head.last_at) == (1, 1, NOON)


def test_a_batch_gets_consecutive_places_in_order(store: AnyStore) -> None:
    """Entries get the next sequence numbers in the order of the drafts, and are read back at them."""
    genesis(store)
    state = store.state()
    committed = store.append([Sample(state, subject=f"s{n}") for n in range(3)], state)
    assert isinstance(committed, Committed)
    assert committed.seqs == (1, 2, 3)
    last = store.append([Sample(state)], state)
    assert isinstance(last, Committed)
    assert last.seqs == (4,)
    found = [(seq, parse_public(public)["seq"]) for _, seq, public in store.entries()]
    assert found == [(n, n) for n in range(5)]


def test_entries_are_paged_both_ways(store: AnyStore) -> None:
    """`after`, `before`, `limit` and the direction select exactly the entries between."""
    genesis(store)
    state = store.state()
    store.append([Sample(state) for _ in range(9)], state)
    assert [seq for _, seq, _ in store.entries(after=3, before=8, limit=3)] == [4, 5, 6]
    assert [seq for _, seq, _ in store.entries(after=3, before=8, limit=3, newest_first=True)] == [7, 6, 5]
    assert [seq for _, seq, _ in store.entries(after=9)] == []


def test_headers_chain(store: AnyStore) -> None:
    """Each header names the hash of the one before it, and the head names the last."""
    genesis(store)
    state = store.state()
    for _ in range(3):
        store.append([Sample(state), Sample(state)], state)
    with store.view() as view:
        batches = list(view.scan_batches())
    head = store.head()
    assert head is not None
    assert [batch.hash for batch in batches][-1] == head.head_hash
    assert all(header_hash(batch.header) == batch.hash for batch in batches)
    assert [(batch.first, batch.n) for batch in batches] == [(0, 1), (1, 2), (3, 2), (5, 2)]


@pytest.mark.parametrize("change", ["orders", "switches", "keys", "releases"])
def test_a_batch_of_an_older_epoch_is_never_written(store: AnyStore, change: str) -> None:
    """After a change that raises the epoch, no draft evaluated before it is written, allow or deny."""
    genesis(store)
    old = store.state()
    store.change(put(change, "x", 0))
    before = store.head()
    moved = store.append([Sample(old), Sample(old, allows=False)], old)
    assert isinstance(moved, Moved)
    assert moved.stale == {0: "epoch", 1: "epoch"}
    assert moved.state == store.state()
    assert store.head() == before


def test_a_batch_of_another_release_is_never_written(store: AnyStore) -> None:
    """The release is compared as well as the epoch."""
    genesis(store)
    state = store.state()
    moved = store.append([Sample(state)], replace(state, release="sha256:bb"))
    assert isinstance(moved, Moved)
    assert moved.stale == {0: "epoch"}


def test_only_drafts_whose_facts_moved_are_stale(store: AnyStore) -> None:
    """A change of a person makes stale the drafts that used that person, and no others."""
    genesis(store)
    state = store.state()
    store.change(put("persons", "alice", 1))
    drafts = [
        Sample(state, revisions=(("persons", "alice", 1), ("tenants", "acme", 1))),
        Sample(state, revisions=(("tenants", "acme", 1),)),
        Sample(state, revisions=(("persons", "nobody", 0),)),
        Sample(store.state(), revisions=(("persons", "alice", 2),)),
    ]
    moved = store.append(drafts, state)
    assert isinstance(moved, Moved)
    assert moved.stale == {0: "facts"}
    assert isinstance(store.append(drafts[1:], state), Committed)


def test_a_row_that_appears_or_goes_makes_stale(store: AnyStore) -> None:
    """A draft that rests on an absent row is stale once it is there, and one on a row once it is gone."""
    genesis(store)
    state = store.state()
    absent = Sample(state, revisions=(("persons", "bob", 0),))
    store.change(put("persons", "bob", 0))
    assert stale(store.append([absent], state)) == {0: "facts"}
    present = Sample(store.state(), revisions=(("persons", "bob", 1),))
    store.change(Change("persons.gone", {}, (Write("persons", "bob", None, 1),), raises_epoch=False))
    assert stale(store.append([present], state)) == {0: "facts"}
    store.change(put("persons", "bob", 0))
    assert stale(store.append([present], state)) == {0: "facts"}


def test_a_row_that_was_taken_away_counts_as_absent(store: AnyStore) -> None:
    """A draft and a change that rest on an absent row go through where the row was there once and is gone."""
    genesis(store)
    state = store.state()
    store.change(put("persons", "bob", 0))
    store.change(Change("persons.gone", {}, (Write("persons", "bob", None, 1),), raises_epoch=False))
    assert isinstance(store.append([Sample(state, revisions=(("persons", "bob", 0),))], state), Committed)
    store.change(Change("x", {}, (), raises_epoch=False, expects=(("persons", "bob", 0),)))


def test_a_boundary_that_has_come_makes_stale(store: AnyStore, clock: Clock) -> None:
    """A draft is written up to the microsecond before its boundary and stale at it, allow or deny."""
    genesis(store)
    state = store.state()
    drafts = [Sample(state, until=NOON + 5), Sample(state, until=NOON + 5, allows=False), Sample(state)]
    clock.now = NOON + 4
    assert isinstance(store.append(drafts, state), Committed)
    clock.now = NOON + 5
    assert stale(store.append(drafts, state)) == {0: "boundary", 1: "boundary"}


@pytest.mark.parametrize("away", [-1, 1])
def test_an_allow_from_another_time_is_stale(store: AnyStore, away: int) -> None:
    """An allow whose instant is over a second from the store's clock is refused either way; a deny is not."""
    genesis(store)
    state = store.state()
    assert isinstance(store.append([Sample(state, instant=NOON + away * SECOND)], state), Committed)
    late = [Sample(state, instant=NOON + away * (SECOND + 1)), Sample(state, instant=0, allows=False)]
    assert stale(store.append(late, state)) == {0: "clock"}


def test_a_clock_that_runs_backwards_stops_allows_and_nothing_else(
    store: AnyStore, clock: Clock, database: Database
) -> None:
    """Behind the log's last instant by over a second, denies and changes are written and allows are not."""
    genesis(store)
    clock.now = NOON - SECOND
    state = store.state()
    assert isinstance(store.append([Sample(state, instant=clock.now)], state), Committed)
    clock.now -= 1
    assert stale(store.append([Sample(state, instant=clock.now)], state)) == {0: "clock"}
    assert isinstance(store.append([Sample(state, instant=clock.now, allows=False)], state), Committed)
    later = 0 if database.one_log else 1  # where logs have no common order but time, a change is later than all before
    assert store.change(put("switches", "stop", 0)).at == NOON + later
    assert [parse_public(public)["at"] for _, _, public in store.entries()] == [NOON] * 3 + [NOON + later]
    clock.now = NOON + 1
    state = store.state()
    assert isinstance(store.append([Sample(state, instant=clock.now)], state), Committed)


def test_what_has_come_once_does_not_come_again(store: AnyStore, clock: Clock) -> None:
    """An instant that the log has passed stays passed, also while the clock is behind it by less than it may be.

    A licence that was revoked at it, or a directive that began at it, would not count for as long.
    """
    genesis(store)
    assert isinstance(store.change(put("orders", "licence", 0, {"revoked_at": "now"})), Committed)
    clock.now = NOON - SECOND // 2
    state = store.state()
    drafts = [Sample(state, instant=clock.now, until=NOON), Sample(state, instant=clock.now, until=NOON + SECOND)]
    assert stale(store.append(drafts, state)) == {0: "boundary"}
    assert isinstance(store.append(drafts[1:], state), Committed)
    assert isinstance(store.append([Sample(state, instant=clock.now, until=NOON, allows=False)], state), Committed)


def test_an_entry_says_when_its_clock_was_set(store: AnyStore, database: Database) -> None:
    """Changes under a given clock carry `clock: set`; under the system clock they do not."""
    genesis(store)
    other = database.open()
    other.change(put("orders", "x", 0))
    marks = [parse_public(public).get("clock") for _, _, public in store.entries()]
    assert marks == ["set", None]


@pytest.mark.parametrize("count", [0, LIMITS.batch_entries_count + 1])
def test_the_size_of_a_batch_is_bounded(store: AnyStore, count: int) -> None:
    """An empty batch and one above the limit are programming errors."""
    state = store.state()
    with pytest.raises(ValueError, match="1 to 256"):
        store.append([Sample(state)] * count, state)


def test_the_largest_batch_is_written(store: AnyStore) -> None:
    """A batch at the limit is one header and as many entries."""
    genesis(store)
    state = store.state()
    committed = store.append([Sample(state) for _ in range(LIMITS.batch_entries_count)], state)
    assert isinstance(committed, Committed)
    assert len(committed.seqs) == LIMITS.batch_entries_count


def test_a_draft_that_cannot_be_encoded_leaves_nothing(store: AnyStore) -> None:
    """When encoding raises, the whole batch is undone, keys included, and the store goes on."""
    genesis(store)
    state = store.state()

    class Broken(Sample):
        def encode(self, log_id: str, seq: int, at: int) -> Encoded:
            raise RuntimeError("cannot")

    before = store.head()
    with pytest.raises(RuntimeError, match="cannot"):
        store.append([Sample(state, subject="new"), Broken(state)], state)
    assert store.head() == before
    assert store.data_key(Sample(state, subject="new").key_id) is None
    assert isinstance(store.append([Sample(state)], state), Committed)


def test_two_processes_never_seal_one_subject_under_two_keys(store: AnyStore, database: Database) -> None:
    """When another store has stored a subject's key first, a draft takes that one."""
    genesis(store)
    state = store.state()
    other = database.open(Clock())
    first, second = Sample(state), Sample(state)
    store.append([first], state)
    other.append([second], state)
    assert first.key == second.key
    stored = store.data_key(first.key_id)
    assert stored is not None
    assert VAULT.unwrap(first.key_id, stored) == first.key


def test_entries_are_found_by_tag_before_and_after_indexing(store: AnyStore) -> None:
    """A tag finds exactly the entries of its subject, whether none, some or all are in the index."""
    genesis(store)
    state = store.state()
    store.append([Sample(state, subject="bob" if n % 3 else "eve") for n in range(9)], state)
    wanted = [seq for seq in range(1, 10) if (seq - 1) % 3]
    key = VAULT.period_key("2026")
    for left in (10, 6, 2, 0, 0):
        assert [seq for _, seq in store.tagged([tag(key, "subject", "bob")])] == wanted
        both = store.tagged([tag(key, "subject", "eve"), tag(key, "subject", "bob")])
        assert [seq for _, seq in both] == list(range(1, 10))
        assert store.tagged([tag(key, "subject", "nobody")]) == []
        if left:
            assert store.index_tags(4) == max(0, left - 4)


def test_reading_sees_the_last_commit_of_another_process(store: AnyStore, database: Database) -> None:
    """State, rows and entries written through one store are seen through another at once."""
    genesis(store)
    other = database.open()
    assert other.state() == store.state()
    other.change(put("persons", "bob", 0, {"facts": {"a": 1}}))
    assert store.state().facts_revision == 2
    row = store.row("persons", "bob")
    assert row is not None
    assert row.document == {"facts": {"a": 1}}
    assert len(list(store.entries())) == 2
