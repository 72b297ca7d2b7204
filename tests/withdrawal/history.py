"""The history checker: writers that never stop, one that changes, and what was committed where at each change.

The checker looks from outside. When a change has returned, it reads where each log ends; whatever lies behind that end
was committed later, and must not carry an older epoch. All of it is read once, when the load is over, so that checking
does not slow the load down.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from policy_engine.errors import PolicyEngineError, StoreUnavailable
from policy_engine.store.interfaces import Committed, Moved
from policy_engine.store.postgres import PostgresStore
from tests.store.samples import PostgresDatabase, Sample, put

BATCH_ENTRIES_COUNT = 2


@dataclass
class History:
    """Writers with a connection each, and what one who changes saw."""

    database: PostgresDatabase
    writers: int = 8
    batches: int = 0
    moved: int = 0
    refused: int = 0
    """Batches that waited too long behind changes: nothing was written, and nobody would be allowed."""
    took: list[float] = field(default_factory=list)
    """Seconds that each change took."""
    wrong: list[Exception] = field(default_factory=list)
    _ends: list[tuple[int, dict[str, int]]] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _count: threading.Lock = field(default_factory=threading.Lock)

    def run(self, changes: int, *, control: bool = False) -> int:
        """Run the load and return how many batches of an older epoch came after a change had returned.

        A control looks now and then, and ends with the first.
        """
        with self.load() as changer:
            for number in range(changes):
                self.change(changer, number, control=control)
                if self.wrong or (control and number % 25 == 24 and self.violations()):
                    break
        return self.violations()

    @contextmanager
    def load(self) -> Iterator[PostgresStore]:
        """Keep the writers writing until the block ends; offer the store of whoever changes."""
        threads = [threading.Thread(target=self._write, args=(self.database.open(),)) for _ in range(self.writers)]
        for thread in threads:
            thread.start()
        try:
            with self.database.server.admin(self.database.name) as self._looking:
                yield self.database.open()
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(30)

    def violations(self) -> int:
        """Return how many batches lie behind the end that a log had when a change returned, under an older epoch."""
        query = (
            "SELECT log_id, batch_no, (convert_from(header, 'UTF8')::json ->> 'epoch')::bigint"
            " FROM policy_engine.batches ORDER BY log_id, batch_no"
        )
        with self.database.server.admin(self.database.name) as session:
            found = session.execute(query).fetchall()
        return sum(epoch < self._least(log, batch) for log, batch, epoch in found)

    def _least(self, log: str, batch: int) -> int:
        """Return the newest epoch that had been reported when a batch was not there yet."""
        low, high = 0, len(self._ends)
        while low < high:  # the ends only grow, so the changes that a batch came after are the first so many
            middle = (low + high) // 2
            if self._ends[middle][1].get(log, 0) <= batch:
                low = middle + 1
            else:
                high = middle
        return self._ends[low - 1][0] if low else 0

    def change(self, changer: PostgresStore, number: int, *, control: bool = False) -> None:
        """Make a change, and note how long it took and where each log ended when it had returned."""
        began = time.perf_counter()
        try:
            changer.change(put("switches", f"s{number}", 0))
        except PolicyEngineError:
            if not control:
                raise
            return  # another guard saw an entry come during the change; the control is about this one
        self.took.append(time.perf_counter() - began)
        epoch = changer.state().epoch
        ends = dict(self._looking.execute("SELECT log_id, next_batch FROM policy_engine.heads").fetchall())
        self._ends.append((epoch, ends))

    def _write(self, store: PostgresStore) -> None:
        state = store.state()
        try:
            while not self._stop.is_set():
                drafts = [
                    Sample(state, instant=store.now(), until=2**62, clock_set=False) for _ in range(BATCH_ENTRIES_COUNT)
                ]
                try:
                    result = store.append(drafts, state)
                except StoreUnavailable:  # a second behind a lock: whoever waits for this is denied
                    self.refused += 1
                    continue
                with self._count:
                    self.batches += isinstance(result, Committed)
                    self.moved += isinstance(result, Moved)
                if isinstance(result, Moved):
                    state = result.state
        except PolicyEngineError as error:
            self.wrong.append(error)


def quantile(values: list[float], share: float) -> float:
    """Return the value that a share of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
