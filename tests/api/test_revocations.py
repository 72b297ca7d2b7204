"""The stream of revocations: over real connections to a real server, and its limits one by one on a real database."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from policy_engine.api.eventstream import EventStream, encoded
from policy_engine.api.exchange import Disconnected
from policy_engine.api.feed import Ended, EpochPoll, Feed, Standing, Stream, TooManyStreams, Void
from policy_engine.api.server import SHUTDOWN_SECONDS
from policy_engine.core.decision import Principal, PrincipalKind
from policy_engine.errors import LoadRefused, StoreUnavailable
from policy_engine.limits import Limits
from policy_engine.services.revocations import Announcement, Revocations
from tests.api.served import Served, serving
from tests.api.streams import reading
from tests.store.samples import AnyStore, Clock, PostgresDatabase, SqliteDatabase, genesis, put

GATEWAY = Principal("gateway", PrincipalKind.SERVICE, frozenset(["decide"]), key_id="k1")
OTHER = Principal("other", PrincipalKind.SERVICE, frozenset(["decide"]), key_id="k2")


def engage(served: Served, id: str, scope: Any) -> None:
    """Engage a switch over HTTP."""
    answer = served.post("/v1/switches", {"id": id, "scope": scope, "reason": "why"}, key="operator")
    assert answer.status_code == 201, answer.text


def epoch(served: Served) -> int:
    """Return the epoch."""
    return int(served.engine.store.state().epoch)


def test_a_change_is_told_while_it_happens(served: Served) -> None:
    """The stream begins with where it stands; a switch is on it, under the new epoch, within a second."""
    with reading(served.port, served.keys["gateway"]) as reader:
        before = epoch(served)
        assert reader.next() == ("standing", {"epoch": before, "heartbeat_ms": 1000})
        assert reader.response.getheader("content-type") == "text/event-stream; charset=utf-8"
        assert reader.response.getheader("cache-control") == "no-store"
        engage(served, "told", {"models": ["mythos-5"], "tenants": ["acme"]})
        committed = time.monotonic()
        name, data = reader.next()
        assert time.monotonic() - committed < 1.0
        assert (name, data["epoch"], data["kind"], data["id"]) == ("changed", before + 1, "switch.engaged", "told")
        assert data["scope"] == {"models": ["mythos-5"], "tenants": ["acme"]}
        assert data["voids"] == {"models": ["mythos-5"]}
        assert reader.parser.last_id == str(before + 1)
        assert reader.parser.retry_ms is not None and 1_000 <= reader.parser.retry_ms <= 3_000


def test_who_comes_back_is_told_what_it_missed(served: Served) -> None:
    """After a loss, `Last-Event-ID` brings every epoch after it, once, in order, from the log."""
    before = epoch(served)
    for number in range(3):
        engage(served, f"missed-{number}", {"models": ["summit-4"]})
    with reading(served.port, served.keys["gateway"], last=before) as reader:
        assert reader.next() == ("standing", {"epoch": before, "heartbeat_ms": 1000})
        told = [reader.next()[1] for _ in range(3)]
    assert [(each["epoch"], each["id"]) for each in told] == [(before + n + 1, f"missed-{n}") for n in range(3)]


def test_an_epoch_that_is_not_there_voids_everything(served: Served) -> None:
    """Who has heard of a later epoch than the database knows is told so: it was restored from an older copy."""
    with reading(served.port, served.keys["gateway"], last=10**9) as reader:
        assert reader.next() == ("void", {"epoch": epoch(served), "reason": "rolled-back"})


@pytest.mark.parametrize("last", ["-1", "one", "1" * 19, "1 2"])
def test_an_id_that_is_no_epoch_is_refused(served: Served, last: str) -> None:
    """It is not taken for none."""
    answer = served.get("/v1/revocations", key="gateway", headers={"Last-Event-ID": last})
    assert (answer.status_code, answer.json()["code"]) == (422, "input.not-valid")


def test_the_stream_of_a_revoked_key_ends(served: Served) -> None:
    """It says so and ends; coming back is refused like any other use of the key."""
    secret = served.grant("decide", PrincipalKind.SERVICE)
    own = served.engine.keys.authenticate(secret, served.engine.store.now())
    with reading(served.port, secret) as reader:
        assert reader.next()[0] == "standing"
        operator = served.engine.keys.authenticate(served.keys["operator"], served.engine.store.now())
        served.engine.keys.revoke(operator, own.key_id, "lost")
        assert reader.until_end() == [("ended", {})]
    assert served.get("/v1/revocations", key=secret).status_code == 401


def test_the_server_stops_while_a_stream_is_open(tmp_path: Path) -> None:
    """Open streams end at once when the server is told to stop: nobody waits for them."""
    with serving(tmp_path) as own, reading(own.port, own.keys["gateway"]) as reader:
        assert reader.next()[0] == "standing"
        stopped = time.monotonic()
        own.server.should_exit = True  # as a signal does
        assert reader.until_end() == []
        assert time.monotonic() - stopped < SHUTDOWN_SECONDS / 2


# The limits, on both stores, without a server.


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
