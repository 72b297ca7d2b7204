"""Committing for an event loop: a batch is written by the loop itself, and only its commit waits in another thread.

Rules:
- What came while the last commit ran is the next batch. Encoding and inserting on the loop costs no hand-over of the
  interpreter; the commit, which waits for the disk, is all that another thread does.
- A store that another writer holds, a gap to report, drafts of several states, anything stale or failing: those drafts
  go the recorder's patient way. Nothing is answered here that a commit has not returned for.
- The loop never waits for a lock or a disk.
Left to others: patience, retries, gaps (`services.record`), what durable means (`store`).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from traceback import clear_frames

from policy_engine.errors import StoreUnavailable
from policy_engine.services.committing import CommitThread
from policy_engine.services.receipts import ReceiptedBatch
from policy_engine.services.waiting import Job, LoopWaker, Written
from policy_engine.store.interfaces import Committed, Staged, Store

GATHER_TURNS = 2
"""Turns of the loop before the first batch after a pause, where requests came together before the pause: those that do
are committed together. One request after another waits for nobody."""


@dataclass(frozen=True, slots=True)
class Way:
    """What a loop's committer needs of the recorder: the patient way, and whether it must be gone."""

    store: Store
    commits: CommitThread
    patiently: Callable[[Job], None]
    must_be_patient: Callable[[], bool]
    written: Callable[[int], None]
    receipted: Callable[[Committed], ReceiptedBatch | None]
    batch_entries_count: int


class LoopCommitter(LoopWaker):
    """The committer of one event loop; every method but `_commit` runs on that loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, answer_seconds: float, way: Way) -> None:
        super().__init__(loop, answer_seconds)
        self._way = way
        self._ready: list[Job] = []
        self._busy = False
        self._chain = 0
        """The chain of batches that is under way, or was the last one: each commit begins the next batch."""
        self._stalled_from = 0.0
        """The deadline from which on whoever asks no longer believes that it is under way."""
        self._together = True
        self.queued = 0
        """How many drafts wait here."""

    def offer(self, job: Job) -> None:
        """Take a job for the next batch."""
        self._ready.append(job)
        self.queued += job.left
        if not self._busy or job.deadline > self._stalled_from:
            self._begin()

    def _begin(self) -> None:
        """Begin a chain. One that stood still longer than anybody waits is left: what an interrupt took along with it
        never comes, and a commit that is only slow has the store, so that the patient way is taken beside it."""
        self._chain += 1
        self._busy = True
        self._moved()
        if self._together:
            self.loop.call_soon(self._soon, self._chain, GATHER_TURNS)
        else:
            self._cycle(self._chain)

    def _moved(self) -> None:
        self._stalled_from = self.loop.time() + 2 * self._answer_seconds

    def _soon(self, chain: int, turns: int) -> None:
        """Let the loop take in what has arrived meanwhile, then write: an idle loop turns in microseconds."""
        if turns:
            self.loop.call_soon(self._soon, chain, turns - 1)
        else:
            self._cycle(chain)

    def _cycle(self, chain: int) -> None:
        """Write the next batch of a chain, unless another has begun since."""
        if chain != self._chain:
            return
        try:
            self._write(chain)
        except BaseException as struck:  # an interrupt, wherever it struck: whoever asks next begins anew
            self._busy = False
            # What was staged is let go now, and the store with it: the traceback may be kept, by a task or a shell.
            clear_frames(struck.__traceback__)
            raise

    def _write(self, chain: int) -> None:
        """Write what is ready and hand it over to be committed, or to the patient way."""
        jobs = self._take() if self._ready else []
        self._busy = bool(jobs)
        if not jobs:
            return
        self._moved()
        self._together = len(jobs) > 1
        staged = None if self._way.must_be_patient() else self._stage(jobs)
        if staged is not None:
            try:
                self._way.commits.submit(self._commit, staged, jobs, chain)
                return
            except RuntimeError:  # closed meanwhile: what was staged is let go, and the patient way says so
                staged = None
        for job in jobs:
            self._hand_over(job)
        self.loop.call_soon(self._cycle, chain)

    def _take(self) -> list[Job]:
        """Take jobs of one state, up to a batch, in the order in which they came."""
        jobs: list[Job] = []
        rest: list[Job] = []
        count = 0
        for job in self._ready:
            if job.given_up:
                continue
            fits = not jobs or (job.state is jobs[0].state or job.state == jobs[0].state)
            if rest or not fits or (jobs and count + job.left > self._way.batch_entries_count):
                rest.append(job)
            else:
                jobs.append(job)
                count += job.left
        self._ready = rest
        self.queued = sum(job.left for job in rest)
        return jobs

    def _stage(self, jobs: list[Job]) -> Staged | None:
        drafts = [draft for job in jobs for draft in job.drafts]
        if len(drafts) > self._way.batch_entries_count:
            return None
        try:
            return self._way.store.try_stage(drafts, jobs[0].state)
        except Exception:  # noqa: BLE001  nothing was committed; the patient way finds out whose fault it was
            return None

    def _hand_over(self, job: Job) -> None:
        try:
            self._way.patiently(job)
        except StoreUnavailable as error:
            job.error = error
            self._resolve([job])

    def _commit(self, staged: Staged, jobs: list[Job], chain: int) -> None:
        """Commit, in the thread for commits, and say what became of it: `Written` only on a positive answer."""
        written = 0
        try:
            committed = self._way.store.commit(staged)
            seqs, batch = iter(committed.seqs), self._way.receipted(committed)
            for job in jobs:
                for position, draft in enumerate(job.drafts):
                    draft.stored()
                    job.results[position] = Written(committed.log_id, next(seqs), committed.at, batch)
            written = len(committed.seqs)
        except Exception as error:  # noqa: BLE001  an unknown outcome is not durable
            unavailable = StoreUnavailable("the outcome of the commit is not known", where="log")
            for job in jobs:
                job.error = error if isinstance(error, StoreUnavailable) else unavailable
        try:
            self.loop.call_soon_threadsafe(self._committed, jobs, chain)
        except RuntimeError:  # the loop was closed meanwhile: nobody waits any more
            self.waiting.clear()
        if written:
            self._way.written(written)  # while the loop wakes

    def _committed(self, jobs: list[Job], chain: int) -> None:
        try:
            self._cycle(chain)  # the next commit first, so that the disk does not wait for answers to be sent
        finally:
            self._resolve(jobs)


class LoopCommitters:
    """The committers of all event loops, each of which may run in a thread of its own."""

    def __init__(self, answer_seconds: float, way: Way) -> None:
        self._answer_seconds = answer_seconds
        self._way = way
        self._lock = threading.Lock()
        self._of: dict[asyncio.AbstractEventLoop, LoopCommitter] = {}

    def of(self, loop: asyncio.AbstractEventLoop) -> LoopCommitter:
        """Return the committer of a loop, and let go of those whose loop was closed when it is a new one."""
        found = self._of.get(loop)
        if found is not None:
            return found
        with self._lock:
            for closed in [known for known in self._of if known.is_closed()]:
                del self._of[closed]
            return self._of.setdefault(loop, LoopCommitter(loop, self._answer_seconds, self._way))

    @property
    def queued(self) -> int:
        """Return how many drafts wait with all of them; where a loop was closed nobody waits any more."""
        with self._lock:
            return sum(committer.queued for loop, committer in self._of.items() if not loop.is_closed())
