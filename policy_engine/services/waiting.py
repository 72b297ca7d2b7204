"""Waiting for the recorder: what became of each draft, and how whoever waits is woken.

Rules: a result is `Written` only after the store said so; threads and event loops are woken once per batch, not once
per entry; whoever stops waiting is never told later that an entry was written.
Left to others: the committer (`services.record`).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from policy_engine.errors import StoreUnavailable
from policy_engine.services.drafts import DecisionDraft, NoteDraft
from policy_engine.services.receipts import ReceiptedBatch
from policy_engine.store.interfaces import State

AnyDraft = DecisionDraft | NoteDraft


class Written(NamedTuple):
    """The entry is durable, at this place; `at` is the store's clock, `batch` gives its receipt."""

    log_id: str
    seq: int
    at: int
    batch: ReceiptedBatch | None = None


@dataclass(frozen=True, slots=True)
class Stale:
    """Nothing was written: `epoch`, `facts`, `boundary` or `clock` has moved. `state` is what holds now."""

    reason: str
    state: State


Result = Written | Stale


class Job:
    """Drafts handed in together, and what became of each."""

    __slots__ = ("deadline", "drafts", "error", "given_up", "left", "results", "state", "wake")

    def __init__(self, drafts: Sequence[AnyDraft], state: State, wake: Waker) -> None:
        self.drafts = drafts
        self.state = state
        self.wake = wake
        self.results: list[Result | None] = [None] * len(drafts)
        self.left = len(drafts)
        self.error: StoreUnavailable | None = None
        self.given_up = False
        self.deadline = 0.0

    def outcome(self) -> list[Result]:
        """Return the results. Raises `StoreUnavailable` when any draft is not known to be written or stale."""
        found = [result for result in self.results if result is not None]
        if self.error is not None or len(found) != len(self.results):
            raise self.error or StoreUnavailable("the log did not answer in time", where="log")
        return found


class Waker(Protocol):
    """Tells whoever waits that jobs are done; called once per batch with all of its jobs."""

    def __call__(self, jobs: list[Job]) -> None:
        """Wake the waiter of these jobs."""
        ...


class ThreadWaker:
    """Wakes one waiting thread, and waits for nobody to do so.

    An interrupt (Ctrl-C, a time limit of a worker) in whoever waits may leave the lock within a `threading.Event` taken
    for ever, and the recorder with it. A plain lock that is given back is all that is needed.
    """

    def __init__(self) -> None:
        self._pending = threading.Lock()
        self._pending.acquire()

    def wait(self, seconds: float) -> bool:
        """Wait, and return whether the jobs are done."""
        return self._pending.acquire(timeout=seconds)

    def __call__(self, jobs: list[Job]) -> None:
        self._pending.release()


class LoopWaker:
    """Wakes one event loop, once per batch, and resolves its futures there."""

    def __init__(self, loop: asyncio.AbstractEventLoop, answer_seconds: float) -> None:
        self.loop = loop
        self.waiting: dict[Job, asyncio.Future[None]] = {}
        self._answer_seconds = answer_seconds
        self._due: float | None = None
        """When the one timer is due, `None` while nobody waits."""

    def wait_for(self, job: Job) -> asyncio.Future[None]:
        """Return a future that is done when the job is, or when its time is up.

        One timer watches all that wait, in order: a timer for each would cost more than the decision's look-ups.
        """
        future: asyncio.Future[None] = self.loop.create_future()
        self.waiting[job] = future
        now = self.loop.time()
        job.deadline = now + self._answer_seconds
        if self._due is None:
            self._look_at(job.deadline)
        elif now > self._due:  # late, or lost: an interrupt (Ctrl-C) takes along what the loop was about to call
            self.loop.call_soon(self._watch, self._due)
        return future

    def _look_at(self, due: float) -> None:
        self.loop.call_at(due, self._watch, due)
        self._due = due

    def _watch(self, due: float) -> None:
        """Give up on what waited too long, and look again when the next one's time is up."""
        if due != self._due:
            return
        now = self.loop.time()
        for job, future in list(self.waiting.items()):
            if job.deadline > now:
                return self._look_at(job.deadline)
            give_up(job, future)
        self._due = None

    def __call__(self, jobs: list[Job]) -> None:
        try:
            self.loop.call_soon_threadsafe(self._resolve, jobs)
        except RuntimeError:  # the loop was closed meanwhile: nobody waits any more
            self.waiting.clear()

    def _resolve(self, jobs: list[Job]) -> None:
        for job in jobs:
            future = self.waiting.get(job)
            if future is not None and not future.done():
                future.set_result(None)


def wake(jobs: list[Job]) -> None:
    """Wake each waiter once for all of its jobs."""
    by_waker: dict[Waker, list[Job]] = {}
    for job in jobs:
        by_waker.setdefault(job.wake, []).append(job)
    for waker, own in by_waker.items():
        waker(own)


def give_up(job: Job, future: asyncio.Future[None]) -> None:
    """Stop waiting: whatever becomes of the entry, nobody is allowed on it."""
    job.given_up = True
    if not future.done():
        future.set_result(None)
