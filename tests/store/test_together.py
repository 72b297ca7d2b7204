"""Threads on one store, a store that is busy or closed, and the wrong key file: the same on every store."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from dataclasses import replace

import pytest

from policy_engine.errors import StartRefused, StoreUnavailable
from policy_engine.limits import LIMITS
from policy_engine.services.keyfile import new_vault
from policy_engine.store.interfaces import Committed
from policy_engine.store.sessions import READERS_COUNT
from tests.store.samples import AnyStore, Database, Sample, genesis, put

QUICK = replace(LIMITS, answer_seconds=0.3)


def append(store: AnyStore, count: int = 1) -> Committed:
    """Append entries under the present state."""
    state = store.state()
    drafts = [Sample(state, instant=store.now(), until=2**62, clock_set=store.clock_set) for _ in range(count)]
    result = store.append(drafts, state)
    assert isinstance(result, Committed)
    return result


def test_a_busy_store_refuses_in_time(database: Database) -> None:
    """While one thread's commit does not return, another's append is refused within the limit."""
    store = database.open(limits=QUICK)
    genesis(store)
    state = store.state()
    entered, leave = threading.Event(), threading.Event()

    class Slow(Sample):
        def adopt(self, key_id: str, wrapped: bytes) -> None:
            entered.set()
            leave.wait(5)
            super().adopt(key_id, wrapped)

    append(store)
    draft = Slow(state, instant=store.now(), until=2**62, clock_set=False, allows=False)
    thread = threading.Thread(target=store.append, args=([draft], state))
    thread.start()
    entered.wait(5)
    with pytest.raises(StoreUnavailable, match="busy"):
        append(store)
    leave.set()
    thread.join()
    assert append(store).seqs == (3,)


def test_threads_read_and_write_together(database: Database) -> None:
    """Several threads append, change, read and stream through one store without an error or a gap."""
    store = database.open()
    genesis(store)
    done: list[int] = []

    def work(number: int) -> None:
        for n in range(15):
            if number % 2:
                append(store, 2)
                store.index_tags(3)
            else:
                store.change(put("persons", f"{number}-{n}", 0))
                assert store.row("persons", f"{number}-{n}") is not None
                assert list(store.entries(limit=5, newest_first=True))
        done.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == [0, 1, 2, 3]
    head = store.head()
    assert head is not None
    assert head.next_seq == 1 + 2 * 15 * 2 + 2 * 15


def test_another_key_file_does_not_open_the_database(database: Database) -> None:
    """A vault that did not seal this database is refused at the start, before anything is sealed with it."""
    genesis(database.open())
    with pytest.raises(StartRefused, match="POLICY_ENGINE_KEYS"):
        database.open(vault=new_vault())


def test_a_closed_store_says_so(database: Database) -> None:
    """After closing, twice if need be, every call says that the store is closed."""
    store = database.open()
    genesis(store)
    state = store.state()
    store.close()
    store.close()
    for attempt in (
        store.state,
        lambda: store.append([Sample(state)], state),
        lambda: list(store.entries()),
        lambda: store.change(put("persons", "x", 0)),
    ):
        with pytest.raises(StoreUnavailable, match="closed"):
            attempt()


def test_more_long_reads_than_there_are_connections(database: Database) -> None:
    """The one too many is told in time what it waits for; writing goes on, and so does reading when one has ended."""
    store = database.open(limits=QUICK)
    genesis(store)
    with ExitStack() as held:
        for _ in range(READERS_COUNT):
            held.enter_context(store.view())
        with pytest.raises(StoreUnavailable, match="long reads"), store.view():
            pass
        store.change(put("persons", "x", 0))
    with store.view() as view:
        assert view.state().epoch == 1
