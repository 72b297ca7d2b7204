"""The fence on PostgreSQL under load: after a change has committed, no batch of an older epoch is ever committed.

The checker looks at commits from outside: what is there when a change has returned is all that may ever be there of
older epochs. Its two controls take the lock away, or replace it by a row lock that looks right; it must see both.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import pytest

from policy_engine.errors import PolicyEngineError
from policy_engine.store.interfaces import Committed, Moved
from policy_engine.store.postgres import PostgresStore
from tests.store.samples import PostgresDatabase, Sample, genesis, put

WRITERS_COUNT = 4
CHANGES_COUNT = 60
CONTROL_CHANGES_COUNT = 1_500
LOCK = "PERFORM pg_advisory_xact_lock_shared(28773, 1);"


@dataclass
class History:
    """Writers that never stop, and one that changes; what was there at each change."""

    database: PostgresDatabase
    batches: int = 0
    moved: int = 0
    wrong: list[Exception] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def violations(self, changes: int, *, control: bool = False) -> int:
        """Run the load and return how many batches of an older epoch came after a change had returned.

        A control ends with the first.
        """
        threads = [threading.Thread(target=self._write, args=(self.database.open(),)) for _ in range(WRITERS_COUNT)]
        for thread in threads:
            thread.start()
        found = 0
        changer = self.database.open()
        older: set[tuple[str, int]] = set()
        epoch = 0
        try:
            for number in range(changes):
                found += len(self._under(epoch) - older)
                if (control and found) or self.wrong:
                    break
                try:
                    changer.change(put("switches", f"s{number}", 0))
                except PolicyEngineError:
                    if not control:
                        raise
                    continue  # another guard saw an entry come during the change; the control is about this one
                epoch = changer.state().epoch
                older = self._under(epoch)
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(30)
        return found + len(self._under(epoch) - older)

    def _under(self, epoch: int) -> set[tuple[str, int]]:
        """Return the batches under an older epoch that are committed now."""
        query = (
            "SELECT log_id, batch_no FROM policy_engine.batches"
            " WHERE (convert_from(header, 'UTF8')::json ->> 'epoch')::bigint < %s"
        )
        with self.database.server.admin(self.database.name) as session:
            return {(str(log), int(batch)) for log, batch in session.execute(query, (epoch,))}

    def _write(self, store: PostgresStore) -> None:
        state = store.state()
        try:
            while not self._stop.is_set():
                drafts = [Sample(state, instant=store.now(), until=2**62, clock_set=False) for _ in range(2)]
                result = store.append(drafts, state)
                if isinstance(result, Committed):
                    self.batches += 1
                elif isinstance(result, Moved):
                    self.moved += 1
                    state = result.state
        except PolicyEngineError as error:
            self.wrong.append(error)


def test_no_batch_of_an_older_epoch_is_committed_after_a_change(postgres_database: PostgresDatabase) -> None:
    """Four writers under full load, a change after another: not one batch of an older epoch comes later."""
    genesis(postgres_database.open())
    history = History(postgres_database)
    assert history.violations(CHANGES_COUNT) == 0
    assert history.wrong == []
    assert history.batches > CHANGES_COUNT
    assert history.moved > 0


@pytest.mark.parametrize("instead", ["", "PERFORM 1 FROM state FOR KEY SHARE;"], ids=["no lock", "key share"])
def test_the_checker_sees_a_fence_that_is_none(server: object, instead: str) -> None:
    """Control: without the lock, or with a row lock that an update of the epoch does not wait for, it finds batches."""
    database = PostgresDatabase(None)
    with database.server.admin(database.name) as session:
        for name in ("begin_batch", "append"):
            row = session.execute(
                "SELECT pg_get_functiondef(p.oid) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
                " WHERE n.nspname = 'policy_engine' AND p.proname = %s",
                (name,),
            ).fetchone()
            assert row is not None
            assert row[0].count(LOCK) == 1
            session.execute(row[0].replace(LOCK, instead))
    genesis(database.open())
    assert History(database).violations(CONTROL_CHANGES_COUNT, control=True) > 0
    database.close()
    database.drop()
