"""The recorder: one thread that commits entries, in batches as large as the last commit made them wait for.

Rules of the room:
- Natural group commit: whatever was handed in while the last commit ran is the next batch (at most
  `limits.batch_entries_count`). No timer: an idle recorder commits a single entry at once.
- A draft is `Written` only after the store said so. `Stale` says that what it rested on has moved: nothing was
  written, evaluate again. Anything else raises `StoreUnavailable`, also when the outcome is unknown.
- Drafts evaluated under different states go into different batches. When some of a batch are stale, the others are
  tried again at once. One draft that cannot be encoded does not take its neighbours with it.
- Nobody waits longer than `limits.answer_seconds`; the queue is bounded, and a full one refuses at once.
- An idle recorder puts what it wrote into the indexes of tags and columns; a busy one does so only when far behind.
- A log that a witness speaks against takes no more drafts (`halt`).
- Denies that were answered while the log was away are counted (`missed`), and one `gap` entry says so, before anything
  else is written.
Left to others: evaluating (`services.evaluate`), what durable means (`store`).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from policy_engine.core.decision import Evaluation, Principal
from policy_engine.core.instants import ENDLESS
from policy_engine.errors import LogForked, StoreUnavailable
from policy_engine.ledger.sealing import KeyVault
from policy_engine.limits import LIMITS, Limits
from policy_engine.services.committing import CommitThread
from policy_engine.services.datakeys import DataKeys, Tags
from policy_engine.services.drafts import DecisionDraft, NoteDraft
from policy_engine.services.gap import Gap
from policy_engine.services.looped import LoopCommitters, Way
from policy_engine.services.receipts import ReceiptedBatch, ReceiptKey
from policy_engine.services.waiting import AnyDraft, Job, Result, Stale, ThreadWaker, Written, wake
from policy_engine.store.interfaces import Committed, Moved, State, Store

__all__ = ["Recorder", "Result", "Stale", "Written"]

RETRY_SECONDS = 1.0
"""How often a recorder with a gap to report tries whether the log is back."""

IDLE_SECONDS = 0.05
"""How long nothing must come before an idle recorder works on the indexes."""

PENDING_SECONDS = 1.0
"""How often an idle recorder looks whether what it wrote is in the tree, and can be indexed."""

INDEX_COUNT = 256
"""Entries indexed in one transaction: a draft that comes meanwhile waits for no more than that."""

UNINDEXED_COUNT = 200_000
"""Entries that may wait for the index while drafts keep coming; what is behind it is found by reading it all."""

NOTE_ATTEMPTS_COUNT = 8
"""How often an entry that rests on nothing is tried under a newer state before the log counts as away."""


class Recorder:
    """Writes entries in the background and hands each result back. Close it to write what is queued."""

    def __init__(
        self, store: Store, vault: KeyVault, limits: Limits = LIMITS, *, receipts: ReceiptKey | None = None
    ) -> None:
        self._store = store
        self._receipts = receipts
        self._limits = limits
        self._keys = DataKeys(vault)
        self._tags = Tags(vault)
        self._queue: deque[Job] = deque()
        self._queued = 0
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        """Entered as `_lock`: an interrupt within the `Condition`'s own entering leaves the lock taken for ever."""
        self._gap = Gap()
        self._unindexed = 1  # unknown at the start, so looked after once
        self._pending = False
        self._idle = False
        self._written_at = 0.0
        self._closed = False
        self._halted: LogForked | None = None
        self._commits = CommitThread()
        way = Way(
            store=store,
            commits=self._commits,
            patiently=self._submit,
            must_be_patient=lambda: bool(self._gap or self._queue or self._closed or self._halted),
            written=self._count_unindexed,
            receipted=self._receipted,
            batch_entries_count=limits.batch_entries_count,
        )
        self._loops = LoopCommitters(limits.answer_seconds, way)
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    # Drafts

    def decision(
        self, evaluation: Evaluation, principal: Principal, facts_revision: int, *, raw: str | None = None
    ) -> DecisionDraft:
        """Return the draft of a decision; its `id` is the decision's. `raw` is the request where rules read it.

        Raises `ValueError` for a hypothetical evaluation.
        """
        return DecisionDraft(
            evaluation,
            principal,
            facts_revision,
            self._keys,
            self._tags,
            clock_set=self._store.clock_set,
            raw=raw,
        )

    def note(
        self,
        kind: str,
        members: Mapping[str, Any],
        principal: Principal,
        state: State,
        *,
        body: Mapping[str, Any] | None = None,
        subject: str = "",
        tenant: str | None = None,
        instant: int | None = None,
        until: int = ENDLESS,
        revisions: tuple[tuple[str, str, int], ...] = (),
    ) -> NoteDraft:
        """Return the draft of an entry on which nothing leaves: a `search` or a `read`.

        `members` are public, `body` is sealed under the key of `subject` within `tenant` and found by the subject's
        tag. Raises `InputRefused` for values outside those of the log.
        """
        return NoteDraft(
            kind,
            {**members, "by": principal.key_id or "local"},
            body,
            state,
            self._keys,
            self._tags,
            instant=self._store.now() if instant is None else instant,
            until=until,
            tenant=tenant,
            subject=subject,
            revisions=revisions,
            clock_set=self._store.clock_set,
        )

    # Writing

    def write(self, drafts: Sequence[AnyDraft], state: State) -> list[Result]:
        """Write drafts that were evaluated under a state and wait; return one result a draft, in order.

        Raises `StoreUnavailable` when any of them is not known to be durable or stale, and `ValueError` for a draft
        of another state: the fence compares the state, so the entry must name it.
        """
        waker = ThreadWaker()
        job = Job(drafts, state, waker)
        self._submit(job)
        if not waker.wait(self._limits.answer_seconds):
            job.given_up = True
        return job.outcome()

    async def write_async(self, drafts: Sequence[AnyDraft], state: State) -> list[Result]:
        """The same, waiting on the running event loop."""
        waker = self._loops.of(asyncio.get_running_loop())
        job = Job(drafts, state, waker)
        future = waker.wait_for(job)
        try:
            self._check(job, waker.queued)
            waker.offer(job)
            await future
        finally:
            waker.waiting.pop(job, None)
        return job.outcome()

    def record(self, make: Callable[[State], AnyDraft]) -> Written:
        """Write one entry that rests on no state (`read`), made anew for each state it is tried under.

        Raises `StoreUnavailable` when it is not known to be durable.
        """
        state = self._store.state()
        for _ in range(NOTE_ATTEMPTS_COUNT):
            (result,) = self.write((make(state),), state)
            if isinstance(result, Written):
                return result
            state = result.state
        raise StoreUnavailable("the state kept changing while the entry was written; try again", where="log")

    def missed(self, code: str) -> None:
        """Count a deny that was answered without an entry, by its reason code."""
        with self._lock:
            self._gap.count(code, self._store.now())
            if self._idle:
                self._changed.notify()

    def halt(self, reason: LogForked) -> None:
        """Refuse every draft from now on with this reason, also those that are queued.

        Denies are counted, and no gap entry says so: nothing more is written to a log of which another history exists.
        """
        self._halted = reason

    def close(self) -> None:
        """Write what is queued, report the gap if the log allows, and stop. Closing twice is no error."""
        with self._lock:
            self._closed = True
            self._changed.notify()
        self._commits.close()
        self._thread.join()

    @property
    def queued(self) -> int:
        """Return how many entries wait for their commit."""
        return self._queued + self._loops.queued

    @property
    def away(self) -> bool:
        """Return whether denies are being counted because the log is away."""
        return bool(self._gap)

    def _check(self, job: Job, ahead: int) -> None:
        """Raise for drafts of another state, for a recorder that is closed, and when too many wait ahead."""
        under = (job.state.epoch, job.state.release)
        for draft in job.drafts:
            if draft.under != under:
                raise ValueError("drafts are written under the state that they were evaluated under, and no other")
        self.check_halted()
        if self._closed:
            raise StoreUnavailable("the recorder is closed", where="log")
        if ahead + job.left > self._limits.queue_entries_count:
            raise StoreUnavailable(
                f"the log is behind: {self._limits.queue_entries_count} entries wait already", where="log"
            )

    def check_halted(self) -> None:
        """Raise `LogForked` once the log takes no more drafts."""
        if self._halted is not None:
            raise LogForked(self._halted.message, where=self._halted.where)

    def _count_unindexed(self, count: int) -> None:
        """Remember that so many entries are not in the index of tags yet, and wake the thread that puts them there."""
        with self._lock:
            self._written_at = time.monotonic()
            idle, self._unindexed = self._unindexed == 0, self._unindexed + count
            if idle and self._idle:
                self._changed.notify()

    def _receipted(self, committed: Committed) -> ReceiptedBatch | None:
        return None if self._receipts is None else self._receipts.batch(committed)

    def _submit(self, job: Job) -> None:
        with self._lock:
            self._check(job, self._queued)
            self._queued += job.left
            self._queue.append(job)
            if self._idle:
                self._changed.notify()

    # The committer's thread

    def _run(self) -> None:
        while True:
            jobs = self._take()
            if jobs:
                self._commit(jobs)
            else:
                self._report_gap()
            quiet = not jobs and time.monotonic() - self._written_at >= IDLE_SECONDS
            if quiet or self._unindexed > UNINDEXED_COUNT:
                self._index()
            if jobs is None:
                return

    def _take(self) -> list[Job] | None:
        """Return what waits, up to a batch; an empty list to look after gap and index; `None` when closed and done."""
        with self._lock:
            while not self._queue:
                if self._closed:
                    return None
                self._idle = True
                woken = self._changed.wait(self._patience())
                self._idle = False
                if not woken:
                    return []
            jobs: list[Job] = []
            count = 0
            while self._queue and (not jobs or count + self._queue[0].left <= self._limits.batch_entries_count):
                job = self._queue.popleft()
                count += job.left
                jobs.append(job)
            self._queued = self._queued - count if self._queue else 0  # an interrupt may have come between the two
            return jobs

    def _patience(self) -> float | None:
        """Return how long to wait for drafts before looking after indexes and gap; `None` when there is neither."""
        if self._unindexed:
            return IDLE_SECONDS
        return PENDING_SECONDS if self._pending else RETRY_SECONDS if self._gap else None

    def _commit(self, jobs: list[Job]) -> None:
        groups: dict[tuple[int, str | None], list[tuple[Job, int]]] = {}
        for job in jobs:
            if not job.given_up:
                group = groups.setdefault((job.state.epoch, job.state.release), [])
                group += [(job, position) for position in range(len(job.drafts))]
        size = self._limits.batch_entries_count
        for group in groups.values():
            for first in range(0, len(group), size):
                self._write_group(group[first : first + size])
        wake(jobs)

    def _write_group(self, group: list[tuple[Job, int]]) -> None:
        """Write drafts of one epoch and release, leaving out those that turn out stale."""
        try:
            self.check_halted()
            if self._gap and not self._report_gap():
                raise StoreUnavailable("the log is still away", where="log")
            while group:
                result = self._store.append([job.drafts[position] for job, position in group], group[0][0].state)
                if isinstance(result, Committed):
                    batch = self._receipted(result)
                    for (job, position), seq in zip(group, result.seqs, strict=True):
                        job.drafts[position].stored()
                        job.results[position] = Written(result.log_id, seq, result.at, batch)
                    self._unindexed += len(group)
                    return
                group = _without_stale(group, result)
        except StoreUnavailable as error:
            for job, _ in group:
                job.error = error
        except Exception as error:  # noqa: BLE001  a draft that cannot be encoded; the others must not suffer
            self._write_singly(group, error)

    def _write_singly(self, group: list[tuple[Job, int]], error: Exception) -> None:
        if len(group) > 1:
            for single in group:
                self._write_group([single])
            return
        unavailable = StoreUnavailable("the entry cannot be written as it is", where="log")
        unavailable.__cause__ = error
        group[0][0].error = unavailable

    def _index(self) -> None:
        """Index some entries. A store that is away is no trouble here: what is not indexed is found by reading it."""
        try:
            tags = self._store.index_tags(INDEX_COUNT)
            columns = self._store.index_columns(INDEX_COUNT)
            self._unindexed, self._pending = max(tags, columns.leaves), columns.pending > 0
        except Exception:  # noqa: BLE001  the thread must live; entries come first
            self._unindexed, self._pending = 0, False

    def _report_gap(self) -> bool:
        """Write the gap entry, if there is a gap; return whether the log is there."""
        with self._lock:
            members, marker = self._gap.members(), self._gap.marker()
        if members is None:
            return True
        if self._halted is not None:
            return False
        try:
            state = self._store.state()
            for _ in range(NOTE_ATTEMPTS_COUNT):
                draft = NoteDraft(
                    "gap",
                    members,
                    None,
                    state,
                    self._keys,
                    self._tags,
                    instant=self._store.now(),
                    clock_set=self._store.clock_set,
                )
                result = self._store.append((draft,), state)
                if isinstance(result, Committed):
                    with self._lock:
                        self._gap.reported(marker)
                    return True
                state = result.state
        except Exception:  # noqa: BLE001  the thread must live; the gap stays counted and is tried again
            return False
        return False


def _without_stale(group: list[tuple[Job, int]], moved: Moved) -> list[tuple[Job, int]]:
    """Give the stale drafts their result and return the others."""
    rest: list[tuple[Job, int]] = []
    for place, (job, position) in enumerate(group):
        reason = moved.stale.get(place)
        if reason is None:
            rest.append((job, position))
        else:
            job.results[position] = Stale(reason, moved.state)
    return rest
