"""The store on PostgreSQL: a log of its own for each store, the fence in the database, and doubt about commits.

Rules of the room:
- Everything is written by functions of the database (`pgcalls`): entries by the writer's login, changes by the
  operator's. Without an operator's database this store appends and reads, and refuses changes.
- One transaction is one batch. Its shared lock is compatible with other batches and not with a change; the state is
  read behind it. A change holds the lock alone, and is later than every entry before it.
- Only `COMMIT` answered as such, without a warning, is durable; so is a batch that was read back, after a transaction
  of our own behind it was committed. Whatever else happened leaves doubt: the connection is closed, and the next call
  waits for the old session's end, reads the head of the log back, and only then goes on. A batch that is not there is
  tried once again under the same number; the number makes that safe.
- The store remembers its head and the farthest epoch; a database that holds less is an older copy and never served.
- Who began a batch and is not heard of is undone by the server, before whoever waits for the fence gives up.
- The clock is the database's. This process counts on from the last answer; entries get the database's own reading.
Left to others: reading (`pgreading`), what servers and logins must be like (`pgsafety`), schema (`pgmigrate`).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TypeVar

from policy_engine.errors import Conflict, NotPermitted, RollbackSuspected, StartRefused, StoreUnavailable
from policy_engine.ledger.encoding import Place
from policy_engine.ledger.sealing import KeyVault
from policy_engine.limits import LIMITS, Limits
from policy_engine.store import entries, pgcalls, pgfaults, pgsafety, registers
from policy_engine.store.indexinterfaces import Backlog
from policy_engine.store.interfaces import Change, Committed, Draft, Encoded, Head, Moved, Staged, State
from policy_engine.store.pgcalls import Written
from policy_engine.store.pgdriver import psycopg
from policy_engine.store.pgreading import PostgresReading
from policy_engine.store.pgrows import CollectedRows
from policy_engine.store.pgsessions import Connection, Link, PostgresReader
from policy_engine.store.tree import Opening, closing

NO_OPERATOR = (
    "orders, facts, keys, approvals and releases are changed where POLICY_ENGINE_OPERATOR_DATABASE names a login of "
    "the role policy_engine_operator"
)

FENCE_SHARE = 0.75
"""The part of an answer's time for which a batch may hold the fence and not be heard of. A change waits longer for it:
a process that is stopped there, or cut off, must not keep anybody from engaging a switch."""

CHANGING_SECONDS = 10.0
"""The same for a change, while which nothing is allowed: an import seals many rows between two statements."""

Sent = tuple[Written, State, Committed]
"""What a commit was asked for: the batch, the state after it, and what is so once it is durable."""

_Outcome = TypeVar("_Outcome")
_Filled = TypeVar("_Filled")


class Doubt(Exception):
    """A transaction was sent and its end is not known."""


class PostgresStore(PostgresReading):
    """A store on an installed PostgreSQL database. Safe to use from several threads; each process opens its own.

    `database` is the URL of a writer's login, `operator` of an operator's. `clock` replaces the database's, which a
    database in use refuses. Raises `StartRefused` for a server, login or vault that will not do, and
    `StoreUnavailable` when the end of a log is damaged or the server cannot be reached.
    """

    def __init__(
        self,
        database: str,
        vault: KeyVault,
        *,
        operator: str | None = None,
        clock: Callable[[], int] | None = None,
        limits: Limits = LIMITS,
        opening: Opening | None = None,
    ) -> None:
        self._opening = opening or Opening()
        self._writer = Link(database, limits.answer_seconds, self._check_and_lease)
        self._operator = None if operator is None else Link(operator, limits.answer_seconds, self._check_operator)
        self._in_doubt = False
        self._sent: Sent | None = None
        super().__init__(database, vault, clock=clock, limits=limits)
        try:
            with pgfaults.reported():
                if self._operator is not None:
                    self._operator.open()
                pgsafety.warn_without_standby(pgsafety.check_server(self._writer.open()))
        except BaseException:
            self.close()
            raise

    @property
    def log_id(self) -> str:
        """The log that this store writes."""
        return self._head.log_id

    # Writing

    def append(self, batch: Sequence[Draft], snapshot: State) -> Committed | Moved:
        """Write a batch of entries, or none; see `interfaces.Store`."""
        if not 0 < len(batch) <= self._limits.batch_entries_count:
            raise ValueError(f"a batch holds 1 to {self._limits.batch_entries_count} entries")
        with self._exclusively():
            found: Moved | Sent = self._certainly(lambda: self._append(batch, snapshot))
        return found if isinstance(found, Moved) else found[2]

    def _append(self, batch: Sequence[Draft], snapshot: State) -> Moved | Sent:
        with self._transaction(self._writer) as connection:
            drawn = [(draft, key) for draft in batch for key in draft.new_keys()]
            found = pgcalls.begin_batch(connection, self.log_id, self._given(), [key for _, key in drawn])
            moment = found.moment
            self._count_on(moment.now)
            self._check_not_older(moment.state, moment.head)
            if (moment.state.epoch, moment.state.release) != (snapshot.epoch, snapshot.release):
                connection.execute("ROLLBACK")
                return Moved(dict.fromkeys(range(len(batch)), "epoch"), moment.state, moment.now)
            for (draft, (key_id, wrapped)), stored in zip(drawn, found.stored, strict=True):
                if stored != wrapped:
                    draft.adopt(key_id, stored)
            self._begin_log(connection, found)
            first = moment.head.next_seq
            encoded = [draft.encode(self.log_id, seq, found.at) for seq, draft in enumerate(batch, start=first)]
            sent = pgcalls.written(encoded, found, moment.state)
            window = int(self._limits.stale_seconds * 1_000_000)
            stale = pgcalls.append(connection, self._given(), window, batch, encoded, sent)
            stale = {**stale, **entries.overtaken(batch, found.at)}
            if stale:
                connection.execute("ROLLBACK")
                return Moved(stale, moment.state, moment.now)
            return self._commit(self._writer, connection, (sent, moment.state, sent.committed()))

    def try_stage(self, batch: Sequence[Draft], snapshot: State) -> Staged | None:
        """Return `None`: a database behind a connection cannot promise not to make an event loop wait."""
        return None

    def commit(self, staged: Staged) -> Committed:
        """Raise: nothing is ever staged here."""
        raise TypeError("this store stages nothing")

    def change(self, change: Change) -> Committed:
        """Apply a change with its entry; see `interfaces.Store`. Raises `NotPermitted` without an operator's login."""
        return self.change_all((change,))

    def change_all(self, changes: Sequence[Change]) -> Committed:
        """Apply several changes in one transaction, each with its entry; see `interfaces.Store`."""
        if not changes:
            raise ValueError("there is no change to apply")
        for change in changes:
            registers.check(change, self._limits)
        operator = self._operator
        if operator is None:
            raise NotPermitted(NO_OPERATOR, where="database")
        with self._exclusively():
            try:
                sent: Sent = self._certainly(lambda: self._change(operator, changes))
                return sent[2]
            except psycopg.IntegrityError as error:
                raise Conflict(
                    "the schema refuses the change: an id is taken, or one person would decide alone"
                ) from error

    def _change(self, operator: Link, changes: Sequence[Change]) -> Sent:
        with self._transaction(operator) as connection:
            found = pgcalls.begin_change(connection, self.log_id, self._given())
            moment = found.moment
            self._count_on(moment.now)
            self._check_not_older(moment.state, moment.head)
            self._begin_log(connection, found)
            rows = CollectedRows(PostgresReader(connection))
            first, after = moment.head.next_seq, moment.state
            encoded: list[Encoded] = []
            for seq, change in enumerate(changes, start=first):
                before, after = after, registers.state_after(change, after)
                place = Place(self.log_id, seq, found.at, after.epoch, after.release, self.clock_set)
                encoded.append(registers.apply(rows, change, self._vault, place, before))
            sent = pgcalls.written(encoded, found, after)
            pgcalls.change(connection, self._given(), encoded, sent, moment.state, after, rows)
            return self._commit(operator, connection, (sent, after, sent.committed()))

    def _begin_log(self, connection: Connection, found: pgcalls.Found) -> None:
        """Open the log in the transaction of its first batch, so that a store that only reads leaves nothing."""
        state = found.moment.state
        if found.moment.head.next_batch == 0:
            pgcalls.open_log(connection, self._opening.leaf(self.log_id, state.epoch, state.release, found.at))

    def index_tags(self, count: int) -> int:
        """Put the tags of up to `count` further entries into the index."""
        return self._filled(lambda connection: pgcalls.index_tags(connection, self.log_id, count))

    def index_columns(self, count: int) -> Backlog:
        """Index the columns of up to `count` further entries of any log."""
        return self._filled(lambda connection: pgcalls.index_columns(connection, count))

    def _filled(self, fill: Callable[[Connection], _Filled]) -> _Filled:
        with self._exclusively(), pgfaults.reported():
            self._settle()
            try:
                return fill(self._writer.open())
            except psycopg.Error:
                self._writer.drop()
                raise

    def close(self) -> None:
        """End the log, if it began and the server is there, and close every connection."""
        with self._lock:
            self._end_log()
            super().close()
            self._writer.drop()
            if self._operator is not None:
                self._operator.drop()

    def _end_log(self) -> None:
        """Say that this log ends here. Best effort: of a log that nobody closed, the sequencer says that it ended."""
        head = self._head
        if self._closed or self._in_doubt or head.next_batch == 0:
            return
        state, at = State(self._seen_epoch, None, 0), max(self.now(), head.last_at)
        leaf = closing(head.log_id, head.next_batch, head.next_seq, head.head_hash, state, at)
        with suppress(psycopg.Error, StoreUnavailable, StartRefused):
            pgcalls.close_log(self._writer.open(), leaf)

    # Transactions and their outcome

    @contextmanager
    def _transaction(self, link: Link) -> Iterator[Connection]:
        """Lend a connection for a transaction that the body begins and ends.

        Raises `Doubt` when the server did not say that it undid everything. The body's own errors undo it.
        """
        connection = link.open()
        try:
            yield connection
        except psycopg.Error as error:
            if not pgfaults.is_refused(error) or self._sent is not None or not self._undone(link, connection):
                self._in_doubt = True
                link.drop()
                raise Doubt from error
            raise
        except BaseException:  # an interrupt too, which may come between the commit and its answer
            self._in_doubt = self._in_doubt or self._sent is not None
            if self._in_doubt or not self._undone(link, connection):
                link.drop()
            raise

    def _undone(self, link: Link, connection: Connection) -> bool:
        try:
            return connection.execute("ROLLBACK").statusmessage == "ROLLBACK"
        except psycopg.Error:
            return False

    def _commit(self, link: Link, connection: Connection, sent: Sent) -> Sent:
        """Commit, and return what is so when the server has said so. From here on an error leaves doubt."""
        link.warnings.clear()
        self._sent = sent
        answer = connection.execute("COMMIT").statusmessage
        if answer != "COMMIT" or link.warnings:
            # A cancelled wait for the standby is a warning: the batch is here, and nobody knows whether it is there.
            self._in_doubt = True
            self._sent = None
            self._head = sent[0].head if answer == "COMMIT" else self._head
            link.drop()
            raise StoreUnavailable(
                "the server committed without its standby, or not at all; look at its log", where="database"
            )
        self._known(sent)
        return sent

    def _known(self, sent: Sent) -> None:
        self._sent, self._in_doubt = None, False
        self._head = sent[0].head
        self._seen_epoch = max(self._seen_epoch, sent[1].epoch)

    def _certainly(self, attempt: Callable[[], _Outcome]) -> _Outcome | Sent:
        """Return what an attempt came to, settling doubt: read back what was sent, or try once again."""
        with pgfaults.reported_unless_refused():
            self._settle()
            try:
                return self._on_a_log(attempt)
            except Doubt as doubt:
                sent = self._sent
                if self._settle() and sent is not None:
                    return sent
                try:
                    return self._on_a_log(attempt)
                except Doubt as again:
                    raise StoreUnavailable(
                        pgfaults.sentence(again.__cause__ or doubt), where="database"
                    ) from again.__cause__

    def _on_a_log(self, attempt: Callable[[], _Outcome]) -> _Outcome:
        """Return what an attempt came to, on a new log if this store's was ended while it was cut off."""
        try:
            return attempt()
        except psycopg.Error as error:
            if pgfaults.state_of(error) != pgfaults.LOG_ENDED:
                raise
        self._head = pgcalls.new_head(secrets.token_hex(entries.LOG_ID_BYTES))
        pgcalls.lease(self._writer.open(), self.log_id)
        return attempt()

    def _settle(self) -> bool:
        """Find out what became of the last transaction, if there is doubt; return whether what was sent is there.

        The old session has ended when this returns, and what was found is durable.
        """
        if self._closed:
            raise StoreUnavailable("the store is closed", where="database")
        if not self._in_doubt:
            return False
        found = pgcalls.settle(self._writer.open(), self.log_id) or pgcalls.new_head(self.log_id)
        sent = self._sent
        if sent is not None and _same(found, sent[0].head):
            self._known(sent)
            return True
        if not _same(found, self._head):
            raise RollbackSuspected(
                "the database holds less than it did: an older copy was put in its place; look into it, then restart",
                where="database",
            )
        self._sent, self._in_doubt = None, False
        return False

    def _check_and_lease(self, connection: Connection) -> None:
        self._check_writer(connection)
        pgcalls.bound_idling(connection, self._limits.answer_seconds * FENCE_SHARE)
        pgcalls.lease(connection, self.log_id)

    def _check_operator(self, connection: Connection) -> None:
        pgsafety.check_server(connection)
        pgsafety.check_role(connection, pgsafety.OPERATOR)
        pgcalls.bound_idling(connection, CHANGING_SECONDS)


def _same(found: Head, known: Head) -> bool:
    return (found.next_seq, found.next_batch, found.head_hash) == (known.next_seq, known.next_batch, known.head_hash)
