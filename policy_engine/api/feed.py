"""Who hears of a new epoch: open streams, each with a bounded queue, fed from one place that learns of it.

Rules of the room:
- The epoch is learned in one place, `EpochPoll`, and only while a stream is open; who is told sooner replaces it.
- Nobody waits for a slow reader: a stream whose queue is full is cut, and its reader resumes from the log.
- A heartbeat says that the epoch was read since the one before, and told; while either cannot be done there is none.
- A key, and the end of a token, is looked at with every event and heartbeat; the stream of one that ended says so and
  ends.
- Everything but reading the database happens on the event loop that serves.
Left to others: what an event says (`services.revocations`), what readers missed (`missed`), bytes (`eventstream`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from random import SystemRandom
from typing import Final

from policy_engine.api.missed import Missed
from policy_engine.core.decision import Principal
from policy_engine.errors import PolicyEngineError
from policy_engine.limits import LIMITS, Limits
from policy_engine.services.revocations import Announcement, Revocations

_SPREAD = SystemRandom()  # of its own: whoever embeds this and seeds the module `random` must not be disturbed

MISSED: Final = "missed"
ROLLED_BACK: Final = "rolled-back"
LOOKS_COUNT: Final = 4
"""How often what a reader missed is looked for, while the epoch goes on, before it is too much."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a stream begins: the reader knows everything up to this epoch."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Void:
    """Everything that was answered before is void: too much was missed, or the epoch went back."""

    epoch: int
    reason: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The key or token of the stream may no longer be used."""


Event = Standing | Announcement | Void | Ended
Alive = Callable[[Principal, int, int | None], bool]
"""Says whether a principal's key may be used now, as of an epoch at the earliest, and before its token's end."""


Subscribe = Callable[[Callable[[object], object]], Callable[[], None]]


class TooManyStreams(Exception):
    """One stream more than may be open."""


class EpochPoll:
    """Learns of a new epoch by reading the state row again and again, and sooner where this process has met it.

    `subscribe` takes what is called, in any thread, when it has, and returns what ends that.
    """

    def __init__(self, read: Callable[[], int], limits: Limits = LIMITS, subscribe: Subscribe | None = None) -> None:
        self._read = read
        self._seconds = limits.revocation_poll_seconds
        self._subscribe = subscribe
        self._woken = asyncio.Event()
        self._unsubscribe: Callable[[], None] | None = None

    async def next(self) -> int:
        """Return the epoch of the database after a moment. Raises `StoreUnavailable` when it cannot be read."""
        if self._unsubscribe is None and self._subscribe is not None:
            self._unsubscribe = self._subscribe(partial(_wake, asyncio.get_running_loop(), self._woken))
        with suppress(TimeoutError):
            async with asyncio.timeout(self._seconds):
                await self._woken.wait()
        self._woken.clear()
        return await asyncio.to_thread(self._read)

    def close(self) -> None:
        """Be told no longer; the next `next` subscribes again."""
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None


def _wake(loop: asyncio.AbstractEventLoop, woken: asyncio.Event, snapshot: object) -> None:
    with suppress(RuntimeError):  # the loop has ended, and with it everybody who listens
        loop.call_soon_threadsafe(woken.set)


class Stream:
    """One reader's events. `tenants` of the principal bound what it is told; `until` is when its token ends."""

    def __init__(
        self, feed: Feed, principal: Principal, first: Sequence[Event], limits: Limits, until: int | None = None
    ) -> None:
        self.principal = principal
        self.until = until
        self._feed = feed
        self._limits = limits
        self._queue: deque[Event] = deque(first)
        self._woken = asyncio.Event()
        self._over = False
        self._cut = False
        self._ends_at = _now() + limits.revocation_stream_seconds * _SPREAD.uniform(0.9, 1.0)

    def put(self, event: Event) -> bool:
        """Queue an event, and return whether the stream goes on; a full queue cuts it."""
        self._cut = self._cut or len(self._queue) >= self._limits.revocation_queue_events_count
        if not self._cut:
            self._queue.append(event)
        self._woken.set()
        return not self._cut

    def end(self) -> None:
        """Let the stream end where it stands; its reader comes back and resumes."""
        self._over = True
        self._woken.set()

    async def next(self) -> Event | None:
        """Return the next event, or `None` when a heartbeat is due.

        Raises `StopAsyncIteration` when the stream ends here.
        """
        beat = _now() + self._limits.revocation_heartbeat_seconds
        while not self._queue:
            if self._over or self._cut or _now() >= self._ends_at:
                raise StopAsyncIteration
            self._woken.clear()
            try:
                async with asyncio.timeout_at(beat):
                    await self._woken.wait()
            except TimeoutError:
                if not self._feed.key_lives(self):
                    return self._ended()
                if self._feed.is_fresh:
                    return None
                beat = _now() + self._limits.revocation_heartbeat_seconds
        if self._over or self._cut:
            raise StopAsyncIteration
        if not self._feed.key_lives(self):
            return self._ended()
        event = self._queue.popleft()
        return event.within(self.principal.tenants) if isinstance(event, Announcement) else event

    def _ended(self) -> Event:
        self._over = True
        return Ended()


class Feed:
    """All open streams of a process."""

    def __init__(
        self, source: Revocations, alive: Alive, limits: Limits = LIMITS, poll: EpochPoll | None = None
    ) -> None:
        self._source = source
        self._alive = alive
        self._limits = limits
        self._poll = EpochPoll(source.epoch, limits) if poll is None else poll
        self._streams: set[Stream] = set()
        self._missed = Missed(source.since, limits.revocation_missed_epochs_count)
        self._epoch: int | None = None
        self._read_at = 0.0
        self._turn = asyncio.Lock()
        self._listening: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def streams_count(self) -> int:
        """How many streams are open."""
        return len(self._streams)

    @property
    def is_fresh(self) -> bool:
        """Whether the epoch was read within the last heartbeat, and everything up to it was told."""
        return _now() - self._read_at <= self._limits.revocation_heartbeat_seconds

    def key_lives(self, stream: Stream) -> bool:
        """Return whether a stream's key and token may still be used; while that cannot be known, they may."""
        try:
            return self._alive(stream.principal, self._epoch or 0, stream.until)
        except PolicyEngineError:
            return True

    async def open(self, principal: Principal, last: int | None, until: int | None = None) -> Stream:
        """Open a stream for whoever has heard everything up to `last` (`None`: begins now), `until` its token's end.

        Raises `TooManyStreams`, and `StoreUnavailable` when the epoch cannot be read. Whoever opens a stream closes it.
        """
        for look in range(LOOKS_COUNT + 1):
            self._require_room(principal)
            async with self._turn:
                epoch = await self._advance(await asyncio.to_thread(self._source.epoch))
                first = self._first(epoch, last)
                if first is None and look == LOOKS_COUNT:
                    first = [Void(epoch, MISSED)]
                if first is not None:
                    self._require_room(principal)  # others opened, or all were ended, while the database was read
                    stream = Stream(self, principal, first, self._limits, until)
                    self._streams.add(stream)
                    break
            await self._missed.look(last or 0)  # not within: whoever is open hears of news meanwhile
        if self._listening is None:
            self._listening = asyncio.get_running_loop().create_task(self._listen())
        return stream

    def close(self, stream: Stream) -> None:
        """Forget a stream."""
        stream.end()
        self._streams.discard(stream)

    def end_all(self) -> None:
        """Let every stream end, and open no other: the server is about to stop."""
        self._closed = True
        for stream in self._streams:
            stream.end()

    def _require_room(self, principal: Principal) -> None:
        own = sum(1 for stream in self._streams if stream.principal.key_id == principal.key_id)
        if (
            self._closed
            or len(self._streams) >= self._limits.revocation_streams_count
            or own >= self._limits.revocation_key_streams_count
        ):
            raise TooManyStreams

    async def _listen(self) -> None:
        try:
            while self._streams:
                try:
                    before = self._epoch
                    epoch = await self._poll.next()
                    async with self._turn:
                        # Whoever opened a stream meanwhile may have read a newer one: then this one is old, not back.
                        if self._epoch in (None, before) or epoch > (self._epoch or 0):
                            await self._advance(epoch)
                except PolicyEngineError:
                    continue  # the heartbeats stop, which is how readers learn of it
        finally:
            self._missed.clear()
            self._poll.close()
            self._listening = None

    async def _advance(self, epoch: int) -> int:
        """Tell every stream what happened up to an epoch that was read, and return how far that is."""
        read_at, before = _now(), self._epoch
        if before is None or not self._streams:
            if epoch != before:
                self._missed.clear()
            self._epoch = epoch
        elif epoch < before:
            self._begin_anew(epoch, ROLLED_BACK)
        elif epoch > before:
            news = await asyncio.to_thread(self._source.since, before)
            if news is None:
                self._begin_anew(epoch, MISSED)
            for each in news or ():
                self._missed.add(each)
                self._epoch = each.epoch
                self._tell(each)
        self._read_at = read_at  # only now: a heartbeat beside an epoch that could not be told would hide it
        return epoch if self._epoch is None else self._epoch

    def _begin_anew(self, epoch: int, reason: str) -> None:
        self._missed.clear()
        self._epoch = epoch
        self._tell(Void(epoch, reason))

    def _tell(self, event: Event) -> None:
        self._streams = {stream for stream in self._streams if stream.put(event)}

    def _first(self, epoch: int, last: int | None) -> list[Event] | None:
        """Return what a reader who knows everything up to `last` must hear to know everything up to `epoch`; `None`
        where what it missed must be read first."""
        if last is None or last == epoch:
            return [Standing(epoch)]
        if last > epoch:
            return [Void(epoch, ROLLED_BACK)]
        if self._missed.is_lost(last, epoch):
            return [Void(epoch, MISSED)]
        missed = self._missed.after(last, epoch)
        if missed is not None and len(missed) >= self._limits.revocation_queue_events_count:
            return [Void(epoch, MISSED)]
        return None if missed is None else [Standing(last), *missed]


def _now() -> float:
    return asyncio.get_running_loop().time()
