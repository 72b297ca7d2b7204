"""The streams of revocations, one by one on a real database without a server: what is told, and the limits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from policy_engine.api.eventstream import EventStream, encoded
from policy_engine.api.exchange import Disconnected
from policy_engine.api.feed import Ended, EpochPoll, Feed, Standing, Stream, TooManyStreams, Void
from policy_engine.core.decision import Principal, PrincipalKind
from policy_engine.errors import LoadRefused, StoreUnavailable
from policy_engine.limits import Limits
from policy_engine.services.revocations import Announcement, Revocations
from tests.store.samples import AnyStore, Clock, PostgresDatabase, SqliteDatabase, genesis, put

GATEWAY = Principal("gateway", PrincipalKind.SERVICE, frozenset(["decide"]), key_id="k1")
OTHER = Principal("other", PrincipalKind.SERVICE, frozenset(["decide"]), key_id="k2")


@pytest.fixture(params=[SqliteDatabase, PostgresDatabase], ids=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AnyStore]:
    """Offer either store, at epoch 1."""
    database = request.param(tmp_path)
    opened = database.open(Clock())
    genesis(opened)
    yield opened
    database.close()
    database.drop()


class Source(Revocations):
    """The real source, which can be made to fail, or to read an older copy."""

    away = False
    behind = 0

    def epoch(self) -> int:
        """Read the epoch, unless the database is away."""
        if self.away:
            raise StoreUnavailable("away")
        return super().epoch() - self.behind


class Keys:
    """Says which keys live."""

    def __init__(self) -> None:
        self.ended: set[str] = set()

    def __call__(self, principal: Principal, epoch: int, until: int | None) -> bool:
        """Return whether a principal's key lives, and a token that ends at `until`: at 0 it has ended."""
        return principal.key_id not in self.ended and until != 0


def fed(store: AnyStore, act: Callable[[Feed, Source, Keys], Awaitable[None]], **limits: float) -> None:
    """Run something against a feed with these limits and a quick poll."""
    bounds = Limits(**{"revocation_poll_seconds": 0.01, "revocation_heartbeat_seconds": 0.05, **limits})  # type: ignore[arg-type]  # names of limits

    async def run() -> None:
        source, keys = Source(store, lambda: None, bounds), Keys()
        feed = Feed(source, keys, bounds)
        async with asyncio.timeout(20):
            await act(feed, source, keys)
        feed.end_all()

    asyncio.run(run())


async def told(stream: Stream) -> Any:
    """Return the next event of a stream, heartbeats left out."""
    while (event := await stream.next()) is None:
        pass
    return event


def test_what_another_process_changes_is_heard(store: AnyStore) -> None:
    """Changes made past this process are read from the database, each as its own event."""

    async def act(feed: Feed, source: Source, keys: Keys) -> None:
        stream = await feed.open(GATEWAY, None)
        assert await told(stream) == Standing(1)
        for number in range(3):
            await asyncio.to_thread(store.change, put("orders", f"o{number}", 0, {"kind": "x", "body": {}}))
        assert [(await told(stream)).epoch for _ in range(3)] == [2, 3, 4]

    fed(store, act)


def test_an_epoch_that_this_process_has_met_is_told_without_waiting(store: AnyStore) -> None:
    """With a poll of a minute, who is told of a new epoch reads it at once; afterwards it is told no more."""
    hearing: list[Callable[[object], object]] = []

    def subscribe(hears: Callable[[object], object]) -> Callable[[], None]:
        hearing.append(hears)
        return lambda: hearing.remove(hears)

    async def run() -> None:
        bounds = Limits(revocation_poll_seconds=60.0)
        source = Source(store, lambda: None, bounds)
        feed = Feed(source, Keys(), bounds, EpochPoll(source.epoch, bounds, subscribe))
        async with asyncio.timeout(20):
            stream = await feed.open(GATEWAY, None)
            assert await told(stream) == Standing(1)
            await asyncio.to_thread(store.change, put("orders", "o", 0, {"kind": "x", "body": {}}))
            await asyncio.to_thread(hearing[0], None)
            assert (await told(stream)).epoch == 2
            feed.close(stream)
            hearing[0](None)
            while hearing:
                await asyncio.sleep(0.001)

    asyncio.run(run())


def test_a_stream_beyond_the_limits_is_refused(store: AnyStore) -> None:
    """So many of one key, so many together; a closed one makes room again."""

    async def act(feed: Feed, source: Source, keys: Keys) -> None:
        own = [await feed.open(GATEWAY, None) for _ in range(2)]
        with pytest.raises(TooManyStreams):
            await feed.open(GATEWAY, None)
        await feed.open(OTHER, None)
        with pytest.raises(TooManyStreams):
            await feed.open(OTHER, None)
        feed.close(own[0])
        await feed.open(OTHER, None)
        feed.end_all()
        with pytest.raises(TooManyStreams):
            await feed.open(GATEWAY, None)

    fed(store, act, revocation_streams_count=3, revocation_key_streams_count=2)


def test_streams_that_open_together_are_counted_together(store: AnyStore) -> None:
    """Whoever opens many at once has no more of them than whoever opens one after the other."""

    async def act(feed: Feed, source: Source, keys: Keys) -> None:
        opened = await asyncio.gather(*(feed.open(GATEWAY, None) for _ in range(6)), return_exceptions=True)
        assert sum(isinstance(each, Stream) for each in opened) == 2 == feed.streams_count
        opened = await asyncio.gather(*(feed.open(OTHER, None) for _ in range(6)), return_exceptions=True)
        assert sum(isinstance(each, TooManyStreams) for each in opened) == 5

    fed(store, act, revocation_streams_count=3, revocation_key_streams_count=2)


def test_a_stream_that_opens_while_all_end_is_refused(store: AnyStore) -> None:
    """A server that stops waits for no stream that nobody tells to end."""

    async def act(feed: Feed, source: Source, keys: Keys) -> None:
        opening = asyncio.create_task(feed.open(GATEWAY, None))
        await asyncio.sleep(0)
        feed.end_all()
        with pytest.raises(TooManyStreams):
            await opening

    fed(store, act)


def test_a_full_queue_cuts_the_stream_and_no_other(store: AnyStore) -> None:
    """A reader that takes nothing is cut after so many events; the one beside it hears them all, and it can resume."""

    async def act(feed: Feed, source: Source, keys: Keys) -> None:
        slow, quick = await feed.open(GATEWAY, None), await feed.open(GATEWAY, None)
        assert await told(quick) == Standing(1)
        for number in range(4):
            await asyncio.to_thread(store.change, put("orders", f"o{number}", 0, {"kind": "x", "body": {}}))
            assert (await told(quick)).epoch == number + 2
        with pytest.raises(StopAsyncIteration):
            while True:
                await slow.next()
        assert feed.streams_count == 1
        again = await feed.open(GATEWAY, 3)
        assert [(await told(again)).epoch for _ in range(3)] == [3, 4, 5]

    fed(store, act, revocation_queue_events_count=4)


def test_too_much_missed_voids_everything(store: AnyStore) -> None:
    """More epochs than are told one by one: one event that says that everything older is void."""

    async def act(feed: Feed, source: Source, keys: Keys) -> None:
        for number in range(4):
            await asyncio.to_thread(store.change, put("orders", f"o{number}", 0, {"kind": "x", "body": {}}))
        assert await told(await feed.open(GATEWAY, 1)) == Void(5, "missed")
        assert await told(await feed.open(GATEWAY, 2)) == Standing(2)

    fed(store, act, revocation_missed_epochs_count=3)


class Looked(Source):
    """The real source, which counts how often it looks back, and can be made to take its time over it."""

    looks = 0
    slowly = threading.Event()
    slowly.set()

    def since(self, epoch: int) -> tuple[Announcement, ...] | None:
        """Look back, when it may."""
        found = super().since(epoch)
        self.looks += 1
        assert self.slowly.wait(10)
        return found


def looking(store: AnyStore, act: Callable[[Feed, Looked], Awaitable[None]], **limits: int) -> None:
    """Run something against a feed with a source that counts."""
    bounds = Limits(revocation_poll_seconds=0.01, **limits)

    async def run() -> None:
        source = Looked(store, lambda: None, bounds)
        feed = Feed(source, Keys(), bounds)
        async with asyncio.timeout(20):
            await act(feed, source)
        feed.end_all()

    asyncio.run(run())


def changed(store: AnyStore, *ids: str) -> None:
    """Raise the epoch once for each id."""
    for id in ids:
        store.change(put("orders", id, 0, {"kind": "x", "body": {}}))


@pytest.mark.parametrize("first", [None, 3], ids=["beside-one-that-is-open", "at-once"])
def test_many_who_come_back_together_are_told_after_one_look(store: AnyStore, first: int | None) -> None:
    """After a restart every enforcement point comes back at once; the log is looked through once for all of them."""
    changed(store, "a", "b", "c", "d")

    async def act(feed: Feed, source: Looked) -> None:
        await feed.open(OTHER, first)
        source.looks = 0
        streams = await asyncio.gather(*(feed.open(GATEWAY, last) for last in [2, *(3, 4) * 20, 2]))
        assert [[(await told(each)).epoch for _ in range(3)] for each in (streams[0], streams[-1])] == [[2, 3, 4]] * 2
        assert [(await told(streams[2])).epoch for _ in range(2)] == [4, 5]
        assert source.looks == 1

    looking(store, act)


def test_what_cannot_be_told_is_looked_for_once(store: AnyStore) -> None:
    """Whoever comes back from too long ago, again and again, costs nothing more."""
    changed(store, "a", "b", "c", "d")

    async def act(feed: Feed, source: Looked) -> None:
        await feed.open(OTHER, None)
        for last in (1, 1, 0, 1):
            assert await told(await feed.open(GATEWAY, last)) == Void(5, "missed")
        assert source.looks == 1

    looking(store, act, revocation_looked_entries_count=3)


def test_news_do_not_wait_for_who_comes_back(store: AnyStore) -> None:
    """While a long log is looked through for one reader, a withdrawal is told to every other."""
    changed(store, "a", "b", "c", "d")

    async def act(feed: Feed, source: Looked) -> None:
        stream = await feed.open(OTHER, None)
        assert await told(stream) == Standing(5)
        source.slowly = threading.Event()
        opening = asyncio.create_task(feed.open(GATEWAY, 1))
        while not source.looks:
            await asyncio.sleep(0.001)
        looked, source.slowly = source.slowly, Looked.slowly
        await asyncio.to_thread(changed, store, "e")
        assert (await told(stream)).epoch == 6
        looked.set()
        assert [(await told(await opening)).epoch for _ in range(6)] == [1, 2, 3, 4, 5, 6]

    looking(store, act)


def test_an_epoch_that_goes_back_voids_everything(store: AnyStore) -> None:
    """A database that is behind what was told is said to be, to every stream."""

    async def act(feed: Feed, source: Source, keys: Keys) -> None:
        store.change(put("orders", "o", 0, {"kind": "x", "body": {}}))
        stream = await feed.open(GATEWAY, None)
        assert await told(stream) == Standing(2)
        source.behind = 1
        assert await told(stream) == Void(1, "rolled-back")

    fed(store, act)


def test_an_epoch_that_is_overtaken_while_it_is_read_is_no_step_back(store: AnyStore) -> None:
    """A look that comes back after a newer one was told voids nothing, and nothing is told twice."""
    looked, late = threading.Event(), threading.Event()

    async def run() -> None:
        bounds = Limits(revocation_poll_seconds=0.01)
        source = Source(store, lambda: None, bounds)

        def slow() -> int:
            found = source.epoch()
            looked.set()
            late.wait(10)
            return found

        feed = Feed(source, Keys(), bounds, EpochPoll(slow, bounds))
        async with asyncio.timeout(20):
            stream = await feed.open(GATEWAY, None)
            assert await told(stream) == Standing(1)
            await asyncio.to_thread(looked.wait)
            await asyncio.to_thread(store.change, put("orders", "o", 0, {"kind": "x", "body": {}}))
            await feed.open(OTHER, None)
            assert (await told(stream)).epoch == 2
            late.set()
            await asyncio.to_thread(store.change, put("orders", "p", 0, {"kind": "x", "body": {}}))
            after = await told(stream)
            assert isinstance(after, Announcement)
            assert after.epoch == 3
        feed.end_all()

    asyncio.run(run())


async def fell_silent(stream: Stream) -> None:
    """Return when a stream says nothing for six heartbeats; one that was due already may still come."""
    for _ in range(3):
        try:
            async with asyncio.timeout(0.3):
                assert await stream.next() is None
        except TimeoutError:
            return
    raise AssertionError("the heartbeats go on")


def test_no_heartbeat_while_the_epoch_cannot_be_read(store: AnyStore) -> None:
    """Silence is how a reader learns that nothing is known; heartbeats come back with the database."""

    async def act(feed: Feed, source: Source, keys: Keys) -> None:
        stream = await feed.open(GATEWAY, None)
        assert await told(stream) == Standing(1)
        assert await stream.next() is None
        source.away = True
        await fell_silent(stream)
        with pytest.raises(StoreUnavailable):
            await feed.open(GATEWAY, None)
        source.away = False
        assert await stream.next() is None

    fed(store, act)


def test_no_heartbeat_while_what_changed_cannot_be_told(store: AnyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The epoch is read, and the change behind it is not, as under a release that does not load here: silence."""

    async def act(feed: Feed, source: Source, keys: Keys) -> None:
        def fails(epoch: int) -> None:
            raise LoadRefused("the release does not load")

        stream = await feed.open(GATEWAY, None)
        assert await told(stream) == Standing(1)
        with monkeypatch.context() as broken:
            broken.setattr(source, "since", fails)
            store.change(put("orders", "o", 0))
            await fell_silent(stream)
        assert (await told(stream)).epoch == 2
        assert await stream.next() is None

    fed(store, act)


def test_a_key_that_ends_ends_its_stream_between_changes(store: AnyStore) -> None:
    """An expiry raises no epoch; the next heartbeat looks at the key."""

    async def act(feed: Feed, source: Source, keys: Keys) -> None:
        stream, other = await feed.open(GATEWAY, None), await feed.open(OTHER, None)
        assert await told(stream) == Standing(1)
        keys.ended.add("k1")
        assert await told(stream) == Ended()
        with pytest.raises(StopAsyncIteration):
            await stream.next()
        assert await told(other) == Standing(1)

    fed(store, act)


def test_an_old_stream_ends(store: AnyStore) -> None:
    """No stream lives longer than its limit, and readers end at different times."""

    async def act(feed: Feed, source: Source, keys: Keys) -> None:
        stream = await feed.open(GATEWAY, None)
        with pytest.raises(StopAsyncIteration):
            while True:
                await stream.next()

    fed(store, act, revocation_stream_seconds=0.2)


@pytest.mark.parametrize("hangs_up", [False, True])
def test_a_reader_that_takes_nothing_is_let_go(store: AnyStore, hangs_up: bool) -> None:
    """A send that does not end in time raises `Disconnected`; who hangs up ends it. Both free the stream."""

    async def act(feed: Feed, source: Source, keys: Keys) -> None:
        stream = await feed.open(GATEWAY, None)
        answer = EventStream(feed, stream, Limits(revocation_send_seconds=0.05))
        sent: list[bytes] = []

        async def send(message: Any) -> None:
            sent.append(message.get("body", b""))
            if len(sent) == 3 and not hangs_up:
                await asyncio.sleep(60)

        async def receive() -> Any:
            if not hangs_up:
                await asyncio.sleep(60)
            await asyncio.sleep(0.1)
            return {"type": "http.disconnect"}

        if hangs_up:
            await answer({}, receive, send)
        else:
            with pytest.raises(Disconnected):
                await answer({}, receive, send)
        assert feed.streams_count == 0

    fed(store, act)


def test_an_event_is_bytes_of_the_standard() -> None:
    """`id` is the epoch; the data are one line of JSON, whatever an id of an order holds."""
    told = Announcement(7, 0, "switch.engaged", "a\nb", {}, "everything")
    assert encoded(told) == (
        b'id: 7\nevent: changed\ndata: {"epoch":7,"at":"1970-01-01T00:00:00Z","kind":"switch.engaged","id":"a\\nb",'
        b'"voids":"everything"}\n\n'
    )
