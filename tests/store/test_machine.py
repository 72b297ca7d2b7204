"""A state machine: any sequence of appends and changes against a simple model, the log verified at the end.

The model is a dictionary and three numbers. Drafts rest on random old states and revisions, so that many are stale;
two stores on one database take turns, as a service and a command line do.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from policy_engine.errors import Conflict
from policy_engine.store.interfaces import Change, Committed, Moved, State, Write
from tests.store.samples import SECOND, Clock, Database, PostgresDatabase, Sample, SqliteDatabase, genesis

IDS = st.sampled_from(["alice", "acme", "x"])
REGISTERS = st.sampled_from(["persons", "tenants", "orders", "switches", "releases", "approvals"])
DOCUMENTS = st.dictionaries(st.sampled_from(["a", "b"]), st.integers(0, 9) | st.none(), max_size=2)
SIDES = st.integers(0, 1)


@dataclass
class Log:
    """Where one log should end."""

    count: int = 0
    latest: int = 0


class StoreMachine(RuleBasedStateMachine):
    """Two stores on one database, and what they should say."""

    kind: type[SqliteDatabase | PostgresDatabase] = SqliteDatabase

    @initialize()
    def begin(self) -> None:
        """Open an empty database twice and lay genesis."""
        self.folder = tempfile.TemporaryDirectory()
        self.clock = Clock()
        self.database: Database = self.kind(Path(self.folder.name))
        self.one_log = self.database.one_log
        first = Log()
        self.logs = [first, first if self.one_log else Log()]
        self.closed: list[Log] = []
        self.changed = 0
        self.stores = [self.database.open(self.clock), self.database.open(self.clock)]
        genesis(self.stores[0])
        self.rows: dict[tuple[str, str], tuple[int, Any]] = {
            ("releases", "sha256:aa"): (1, {"hash": "sha256:aa", "status": "published"}),
            ("persons", "alice"): (1, {"facts": {"us_status": {"value": "citizen"}}}),
            ("tenants", "acme"): (1, {"facts": {}}),
            ("orders", "dir-1"): (1, {"kind": "directive", "body": {}}),
        }
        self.state = State(1, "sha256:aa", 1)
        self.old = [self.state]
        self.written(0, 1, change=True)

    def teardown(self) -> None:
        """Verify the whole log."""
        if hasattr(self, "folder"):
            self.database.close()
            findings = self.database.verify().findings
            self.database.drop()
            self.folder.cleanup()
            assert findings == ()

    def floor(self, side: int) -> int:
        """Return the instant before which nothing is written to the log of a side."""
        return max(self.logs[side].latest, self.changed)

    def written(self, side: int, count: int, *, change: bool = False) -> None:
        """Remember a batch. Where logs have only time in common, a change is later than every entry before it."""
        log = self.logs[side]
        at = max(self.clock.now, self.floor(side))
        if change and not self.one_log:
            at = max(at, 1 + max(known.latest for known in (*self.logs, *self.closed)), 1 + self.changed)
        log.count += count
        log.latest = at
        if change:
            self.changed = at

    def revision(self, register: str, id: str) -> int:
        """Return the revision the model knows of a live row."""
        revision, document = self.rows.get((register, id), (0, None))
        return 0 if document is None else revision

    @rule(
        side=SIDES,
        register=REGISTERS,
        id=IDS,
        document=DOCUMENTS | st.none(),
        off=st.sampled_from([0, 0, 0, 1]),
        raises=st.booleans(),
    )
    def change(self, side: int, register: str, id: str, document: Any, off: int, raises: bool) -> None:
        """Put or take away a row, now and then on a wrong revision."""
        raises = raises or register in ("orders", "switches")
        revision, known = self.rows.get((register, id), (0, None))
        live = 0 if known is None else revision
        change = Change("put", {}, (Write(register, id, document, live + off),), raises_epoch=raises)
        if off or (document is None and live == 0):
            with pytest.raises(Conflict):
                self.stores[side].change(change)
            return
        committed = self.stores[side].change(change)
        assert committed.seqs == (self.logs[side].count,)
        self.rows[register, id] = (revision + 1, document)
        facts = self.state.facts_revision + (register in ("persons", "tenants"))
        self.moved(side, State(self.state.epoch + raises, self.state.release, facts))

    @rule(side=SIDES)
    def activate(self, side: int) -> None:
        """Activate a release: the same one, which still makes a new epoch."""
        if self.revision("releases", "sha256:aa"):
            self.stores[side].change(Change("release.activated", {}, (), True, activate="sha256:aa"))
            self.moved(side, State(self.state.epoch + 1, "sha256:aa", self.state.facts_revision))

    def moved(self, side: int, state: State) -> None:
        """Remember the states that drafts may still rest on."""
        self.state = state
        self.old = [*self.old[-3:], state]
        self.written(side, 1, change=True)

    @rule(by=st.sampled_from([-2 * SECOND, -SECOND, -1, 1, SECOND, 5 * SECOND]))
    def time_passes(self, by: int) -> None:
        """Move the clock, backwards too."""
        self.clock.now += by

    @rule(data=st.data(), side=SIDES)
    def append(self, data: Any, side: int) -> None:
        """Append a batch under a recent state, with drafts that may rest on older facts, boundaries and instants."""
        snapshot = data.draw(st.sampled_from(self.old), "snapshot")
        batch = []
        for _ in range(data.draw(st.integers(1, 4), "size")):
            known = data.draw(st.sampled_from(self.old), "facts of")
            register, id = data.draw(st.sampled_from(["persons", "tenants"])), data.draw(IDS)
            guess = self.revision(register, id) + data.draw(st.sampled_from([0, 0, 0, 1]))
            batch.append(
                Sample(
                    snapshot,
                    allows=data.draw(st.booleans()),
                    instant=self.clock.now + data.draw(st.sampled_from([0, 0, SECOND, -SECOND - 1, SECOND + 1])),
                    until=self.clock.now + data.draw(st.sampled_from([9, 9, 9, 1, 0])),
                    facts_revision=known.facts_revision,
                    revisions=((register, id, guess),),
                    subject=data.draw(IDS),
                )
            )
        wanted = {n: reason for n, draft in enumerate(batch) if (reason := self.why_stale(draft, snapshot, side))}
        result = self.stores[side].append(batch, snapshot)
        if wanted:
            assert isinstance(result, Moved)
            assert (dict(result.stale), result.state) == (wanted, self.state)
        else:
            assert isinstance(result, Committed)
            first = self.logs[side].count
            assert result.seqs == tuple(range(first, first + len(batch)))
            self.written(side, len(batch))
            assert result.at == self.logs[side].latest

    def why_stale(self, draft: Sample, snapshot: State, side: int) -> str | None:
        """Return what the model says of a draft, in the words of the interface."""
        now = self.clock.now
        if (snapshot.epoch, snapshot.release) != (self.state.epoch, self.state.release):
            return "epoch"
        if draft.until <= (max(now, self.floor(side)) if draft.allows else now):
            return "boundary"
        if draft.allows and (now < self.floor(side) - SECOND or abs(now - draft.instant) > SECOND):
            return "clock"
        moved = any(self.revision(register, id) != revision for register, id, revision in draft.revisions)
        return "facts" if moved and draft.facts_revision != self.state.facts_revision else None

    @rule(side=SIDES, count=st.integers(1, 5))
    def index(self, side: int, count: int) -> None:
        """Index some tags."""
        self.stores[side].index_tags(count)

    @rule(side=SIDES)
    def reopen(self, side: int) -> None:
        """Close one of the stores and open it again."""
        self.stores[side].close()
        self.stores[side] = self.database.open(self.clock)
        if not self.one_log:
            self.closed.append(self.logs[side])
            self.logs[side] = Log()

    @precondition(lambda self: hasattr(self, "stores"))
    @invariant()
    def both_say_what_the_model_says(self) -> None:
        """State, head and rows are the model's, through either store."""
        for store, log in zip(self.stores, self.logs, strict=True):
            assert store.state() == self.state
            head = store.head()
            assert ((0, 0) if head is None else (head.next_seq, head.last_at)) == (log.count, log.latest)
        for (register, id), (revision, document) in self.rows.items():
            row = self.stores[0].row(register, id)
            assert (None if row is None else (row.revision, row.document)) == (
                None if document is None else (revision, document)
            )


class PostgresMachine(StoreMachine):
    """The same on PostgreSQL, where each store has a log of its own."""

    kind = PostgresDatabase


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.__doc__ = (
    "Whatever is done in whatever order, the store says what the model says and the log verifies."
)
TestStoreMachine.settings = settings(max_examples=25, stateful_step_count=25)


@pytest.mark.campaign
@pytest.mark.usefixtures("server")
class TestPostgresMachine(PostgresMachine.TestCase):  # type: ignore[name-defined]  # made by Hypothesis
    """The model holds on PostgreSQL."""

    settings = settings(max_examples=15, stateful_step_count=20)
