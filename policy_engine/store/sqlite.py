"""The store on one SQLite file: transactions, what is durable, and what happens when the disk or file goes away.

Rules of the room:
- One connection writes, under one lock, in `BEGIN IMMEDIATE` transactions: whatever a transaction read cannot have
  moved when it commits, in this process or another. Reads see the last commit of any process.
- Only a commit that returned, into the file that still bears its name, is durable. Any error around it leaves the
  outcome unknown: the caller gets `StoreUnavailable`, and the store closes its connections and opens them again,
  checking the end of the log, before it serves the next call. A retry is safe because every call reads the real head.
- The store remembers the farthest head and epoch it has seen; a file that holds less, or something else there, is an
  older copy, and nothing is served from it until somebody has looked and restarted.
- Nothing waits longer than `limits.answer_seconds` for a lock.
Left to others: what is compared and written (`entries`, `registers`), reading (`sqlitereading`), schema (`migrate`),
the key file (`services`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import structlog

from policy_engine.errors import Conflict, RollbackSuspected, StartRefused, StoreUnavailable, VerificationFailed
from policy_engine.ledger.encoding import Place
from policy_engine.ledger.sealing import KeyVault
from policy_engine.limits import LIMITS, Limits
from policy_engine.store import entries, erasing, faults, registers, statements
from policy_engine.store.interfaces import (
    Change,
    Committed,
    Draft,
    Encoded,
    Head,
    Moved,
    Staged,
    State,
)
from policy_engine.store.sessions import Reader, Writer, database_path, identity_of, make_engine, make_writer
from policy_engine.store.sqliteindex import SqliteIndex
from policy_engine.store.sqlitereading import SqliteReading
from policy_engine.store.sqlitetree import SqliteTree
from policy_engine.store.staging import Occupied, StagedBatch
from policy_engine.store.tree import Opening

log = structlog.get_logger(__name__)

_OLDER = (
    "the database holds less than it did: an older copy or another file was put in its place; "
    "look into it, then restart"
)


class SqliteStore(SqliteReading, SqliteTree, SqliteIndex):
    """A store on a migrated SQLite file (`migrate.prepare`). Safe to use from several threads and processes.

    `clock` replaces the system clock in tests, cases and demos; entries then say so. Raises `StartRefused` when the
    vault is not the one that this database was sealed with, `StoreUnavailable` when the end of the log is damaged.
    """

    def __init__(
        self,
        database: str | Path,
        vault: KeyVault,
        *,
        clock: Callable[[], int] | None = None,
        limits: Limits = LIMITS,
        opening: Opening | None = None,
    ) -> None:
        self._path = database_path(database)
        self._vault = vault
        self._clock = clock
        self._limits = limits
        self._opening = opening or Opening()
        self.on_commit: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._seen_head: Head | None = None
        self._seen_epoch = 0
        self._closed = False
        self._suspect = False
        self._open()
        self._check_vault()

    one_log = True

    @property
    def clock_set(self) -> bool:
        """Whether the clock was given."""
        return self._clock is not None

    def now(self) -> int:
        """Return the clock, in microseconds."""
        return time.time_ns() // 1_000 if self._clock is None else self._clock()

    # Writing

    def append(self, batch: Sequence[Draft], snapshot: State) -> Committed | Moved:
        """Write a batch of entries, or none; see `interfaces.Store`."""
        if not 0 < len(batch) <= self._limits.batch_entries_count:
            raise ValueError(f"a batch holds 1 to {self._limits.batch_entries_count} entries")
        with self._transaction() as writer:
            written = self._write(writer, batch, snapshot)
        if isinstance(written, Moved):
            return written
        self._remember(written.head, snapshot.epoch)
        return written.committed()

    def try_stage(self, batch: Sequence[Draft], snapshot: State) -> StagedBatch | None:
        """Write a batch without committing it, if nobody else writes; see `interfaces.Store`."""
        with ExitStack() as open_:
            try:
                writer = open_.enter_context(self._transaction(patient=False))
            except Occupied:
                return None
            written = self._write(writer, batch, snapshot)
            if isinstance(written, entries.Batch):
                return StagedBatch(open_.pop_all(), written.head, snapshot.epoch, written.committed())
        return None

    def commit(self, staged: Staged) -> Committed:
        """Commit what was staged; see `interfaces.Store`."""
        if not isinstance(staged, StagedBatch):
            raise TypeError("only what this store has staged can be committed")
        staged.transaction.close()
        self._remember(staged.head, staged.epoch)
        return staged.committed

    def _write(self, writer: Writer, batch: Sequence[Draft], snapshot: State) -> entries.Batch | Moved:
        moment = self._moment(writer)
        stale = entries.find_stale(writer, batch, snapshot, moment, self._limits)
        if stale:
            writer.rollback()
            return Moved(stale, moment.state, moment.now)
        encoded = entries.encode_batch(writer, batch, moment)
        self._begin_log(writer, moment)
        return entries.write_batch(writer, encoded, moment, moment.state)

    def change(self, change: Change) -> Committed:
        """Apply a change with its entry; see `interfaces.Store`."""
        return self.change_all((change,))

    def change_all(self, changes: Sequence[Change]) -> Committed:
        """Apply several changes in one transaction, each with its entry; see `interfaces.Store`."""
        if not changes:
            raise ValueError("there is no change to apply")
        for change in changes:
            registers.check(change, self._limits)
        with self._transaction() as writer:
            moment = self._moment(writer)
            head, at, after = moment.head, moment.at, moment.state
            encoded: list[Encoded] = []
            rows = erasing.ErasingRows(writer)
            try:
                for seq, change in enumerate(changes, start=head.next_seq):
                    before, after = after, registers.state_after(change, after)
                    place = Place(head.log_id, seq, at, after.epoch, after.release, self.clock_set)
                    encoded.append(registers.apply(rows, change, self._vault, place, before))
            except faults.IntegrityError as error:
                raise Conflict(
                    "the schema refuses the change: an id is taken, or one person would decide alone"
                ) from error
            writer.run(statements.MOVE_STATE, after.epoch, after.release, after.facts_revision, int(after.sample))
            self._begin_log(writer, moment)
            written = entries.write_batch(writer, encoded, moment, after)
        self._remember(written.head, after.epoch)
        return written.committed()

    def index_tags(self, count: int) -> int:
        """Put the tags of up to `count` further entries into the index."""
        with self._transaction() as writer:
            head = entries.read_head(writer)
            return 0 if head is None else entries.index_tags(writer, head, count)

    @contextmanager
    def _transaction(self, *, patient: bool = True) -> Iterator[Writer]:
        """Hold the write lock around a transaction and commit it unless the body rolled back or raised.

        Only the lines after `commit` make anything durable known. A locked database leaves no doubt (nothing was
        written); every other error of the driver makes the store suspect, whatever statement it came from.
        """
        with self._exclusively(patient=patient):
            writer = self._ready()
            try:
                self._check_file()
                writer.begin(patient=patient)
                yield writer
                writer.commit_if_open()
                self._check_file()
                self._carry_over(writer)
            except BaseException as error:
                self._abandon(writer, error)
                if not patient and isinstance(error, faults.DatabaseError) and faults.is_busy(error):
                    raise Occupied("another process writes to the log", where="database") from error
                if isinstance(error, faults.DatabaseError):
                    raise StoreUnavailable(faults.sentence(error), where="database") from error
                raise

    def _carry_over(self, writer: Writer) -> None:
        """Checkpoint behind a commit. When that fails the commit stands, and the store looks before the next one."""
        try:
            writer.checkpoint_when_due(self._path)
        except (faults.DatabaseError, OSError) as error:
            if faults.is_busy(error):
                return  # the next commit tries again
            self._suspect = True
            log.error("database.not-carried-over", message=faults.sentence(error))

    def _abandon(self, writer: Writer, error: BaseException) -> None:
        if isinstance(error, faults.DatabaseError) and not faults.is_busy(error):
            self._suspect = True
        try:
            writer.rollback()
        except faults.DatabaseError:
            self._suspect = True

    def _moment(self, writer: Writer) -> entries.Moment:
        """Read state, head and clock, and refuse a file that holds less than this store has seen."""
        state, head = entries.read_state(writer), entries.head_or_new(writer)
        self._check_not_older(writer, state, head)
        return entries.Moment(state, head, self.now())

    def _check_not_older(self, reader: Reader, state: State, head: Head | None) -> None:
        """Refuse a file that holds less than this store has seen, or has grown since from where it held less."""
        seen = self._seen_head
        if seen is None:
            return
        if (
            head is None
            or head.log_id != seen.log_id
            or head.next_seq < seen.next_seq
            or state.epoch < self._seen_epoch
            or (head.head_hash != seen.head_hash and not _holds(reader, seen))
        ):
            self._suspect = True
            raise RollbackSuspected(_OLDER, where="database")

    def _remember(self, head: Head, epoch: int) -> None:
        self._seen_head = head
        self._seen_epoch = max(epoch, self._seen_epoch)
        self.on_commit()

    def close(self) -> None:
        """Close every connection."""
        with self._lock, self._read_lock:
            self._closed = True
            self._shut()

    # Connections

    @contextmanager
    def _exclusively(self, *, patient: bool = True) -> Iterator[None]:
        taken: list[bool] = []
        try:
            # One call that takes and notes: an interrupt between the two would leave the lock taken for ever.
            taken.extend(map(self._lock.acquire, (patient,), (self._limits.answer_seconds if patient else -1,)))
            if taken == [False] and patient:
                raise StoreUnavailable("the log is busy: a commit has not returned in time", where="database")
            if taken == [False]:
                raise Occupied("another thread writes to the log", where="database")
            yield
        finally:
            if taken == [True]:
                self._lock.release()

    @contextmanager
    def _reading(self) -> Iterator[Reader]:
        """Lend the connection for quick reads."""
        if self._suspect:
            with self._exclusively():
                self._ready()
        with self._read_lock, faults.reported():
            if self._closed:
                raise StoreUnavailable("the store is closed", where="database")
            self._check_file()
            yield self._reader

    @contextmanager
    def _streaming(self) -> Iterator[Reader]:
        """Lend a connection of the pool for a long read."""
        with self._exclusively():
            self._ready()
            self._check_file()
            engine = self._engine
        with faults.reported():
            connection = engine.raw_connection()  # may wait for a free one: not while holding up the writer
        try:
            with faults.reported():
                yield Reader(connection.dbapi_connection)
        finally:
            connection.close()

    def _ready(self) -> Writer:
        """Return the writer, opening everything again first when the store is suspect. The caller holds the lock."""
        if self._closed:
            raise StoreUnavailable("the store is closed", where="database")
        if self._suspect:
            with self._read_lock:
                self._shut()
                self._open()
            self._suspect = False
        return self._writer

    def _open(self) -> None:
        with faults.reported():
            self._file = identity_of(self._path)
            engine = make_engine(self._path, busy_seconds=self._limits.answer_seconds)
            try:
                writer, quick = (make_writer(engine, self._limits.answer_seconds) for _ in range(2))
                with writer.at_one_moment():  # another process may be writing: its next batch is not damage
                    state, head = entries.read_state(writer), entries.read_head(writer)
                    self._check_not_older(writer, state, head)
                    entries.verify_head(writer, head)
            except BaseException:
                engine.dispose()
                raise
        self._engine, self._writer, self._quick, self._reader = engine, writer, quick, Reader.of(quick)
        if head is not None:
            self._remember(head, state.epoch)

    def _shut(self) -> None:
        for connection in (self._writer, self._quick):
            with suppress(faults.DatabaseError):
                connection.close()
        self._engine.dispose()

    def _check_file(self) -> None:
        """Refuse to go on in a file that lost its name: what is written to it would vanish with the process."""
        if identity_of(self._path) != self._file:
            self._suspect = True
            raise StoreUnavailable("another file was put in the place of the database", where="database")

    def _check_vault(self) -> None:
        with self._reading() as reader:
            found = reader.one(statements.READ_ANY_DATA_KEY)
        if found is None:
            return
        try:
            self._vault.unwrap(found[0], bytes(found[1]))
        except VerificationFailed:
            self.close()
            raise StartRefused(
                "the key file is not the one this database was sealed with; name the right one in POLICY_ENGINE_KEYS",
                where="key file",
            ) from None


def _holds(reader: Reader, seen: Head) -> bool:
    """Return whether a log has the last batch of what was seen of it."""
    last = reader.one(statements.READ_BATCH, seen.log_id, seen.next_batch - 1)
    return last is not None and bool(last[3] == seen.head_hash)
