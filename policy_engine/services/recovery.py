"""A database older than one served here is not believed: nothing is allowed until two persons have recovered it.

Rules of the room:
- Suspected is a database with an older epoch than this machine remembers, or without the entry that it remembers: a
  switch that was engaged in what was lost would be gone. Where what is remembered cannot be read nothing starts.
- While it is suspected everything is denied, with a code of its own. Changes can be made: what was lost is entered
  again before the recovery, not after it.
- The recovery names the epoch that was lost. One person proposes it, another approves it, and the epoch becomes one
  that nobody has seen: no number is used twice. Every machine that remembers no more than that epoch accepts it.
- Nothing is remembered of a database that is suspected.
Left to others: the file (`epochfile`), two persons (`approvals`), denying (`decide`), an older copy put in the place of
an open database (`store`), registers whose rows cannot be read (`snapshot`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from policy_engine.core.decision import Principal
from policy_engine.errors import Conflict, InputRefused, PolicyEngineError, RollbackSuspected, StartRefused
from policy_engine.ledger.merkle import leaf_hash
from policy_engine.limits import LIMITS
from policy_engine.services.approvals import Approvals, Effect
from policy_engine.services.epochfile import EpochFile, Remembered
from policy_engine.services.permissions import Caller, acting_person, require_unbounded
from policy_engine.services.proposals import APPROVED, Proposal, read_proposal
from policy_engine.services.snapshot import Snapshot, Snapshots
from policy_engine.store.interfaces import Store

RECOVER: Final = "epoch.recover"
RECOVERED: Final = "epoch.recovered"
EPOCH_MAX: Final = 2**52
"""Beyond this nobody can have been; the log writes whole numbers up to 2**53."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Suspicion:
    """Why the database is not believed. `epoch` is the one that was remembered."""

    epoch: int
    sentence: str

    def as_error(self) -> RollbackSuspected:
        """Return it as the error that denies."""
        return RollbackSuspected(self.sentence, where="database")


class Recovery:
    """What is remembered of a database, whether it is believed, and how two persons decide that it is."""

    def __init__(self, store: Store, approvals: Approvals, path: Path | None) -> None:
        self._store = store
        self._approvals = approvals
        self._file = None if path is None else EpochFile(path)
        self._remembered: Remembered | None = None
        self._examined = False
        self.suspicion: Suspicion | None = None
        approvals.register(RECOVER, self._approved)

    def sentence(self) -> str | None:
        """Return why the database is not believed, `None` while it is."""
        return None if self.suspicion is None else self.suspicion.sentence

    def examine(self, snapshots: Snapshots) -> None:
        """Compare the database with what is remembered, and remember it from now on unless it is suspected.

        Raises `StartRefused` when what is remembered cannot be read or written, `StoreUnavailable` as the store does.
        """
        if self._file is None:
            return
        self._examined = True
        self._look()
        self.remember()
        snapshots.subscribe(self._newer)

    def remember(self) -> None:
        """Write down how far the database has come, if it is believed. Raises as `examine`."""
        if self._file is None or not self._examined or self.suspicion is not None:
            return
        epoch = self._store.state().epoch
        if self._remembered is not None and epoch <= self._remembered.epoch:
            return
        for log_id, seq, public in self._store.entries(newest_first=True, limit=1):
            newer = Remembered(epoch, log_id, seq, leaf_hash(public).hex())
            self._file.remember(newer)
            self._remembered = newer

    def check_begun(self) -> None:
        """Raise `StartRefused` for an empty database where another one is remembered: it was lost, or is elsewhere."""
        there = None if self._file is None else self._file.read()
        if self._file is not None and there is not None:
            raise StartRefused(
                f"the database is empty, and one at epoch {there.epoch} is remembered here: put that one back, or take "
                f"{self._file.path} away to begin anew",
                where="epoch file",
            )

    def finish(self) -> None:
        """Remember what this process may have changed; a database or file that is away is no trouble now."""
        try:
            self.remember()
        except PolicyEngineError as error:
            log.error("epoch.not-remembered", code=error.code)

    def propose(self, principal: Principal, reason: str, *, beyond: int | None = None) -> Proposal:
        """Propose to take the database as it is for the one that counts, and to go on behind the epoch that was lost.

        `beyond` is that epoch, by default the one remembered here. Needs `switch:release`: what was withdrawn in what
        was lost is withdrawn no more. Raises `Conflict` when nothing is suspected here and no epoch is named.
        """
        caller = acting_person(self._store, principal, "switch:release")
        require_unbounded(caller)
        if not reason.strip():
            raise InputRefused("must not be empty", where="reason")
        if len(reason) > LIMITS.text_characters:
            raise InputRefused(f"is longer than {LIMITS.text_characters} characters", where="reason")
        lost = beyond if beyond is not None or self.suspicion is None else self.suspicion.epoch
        if lost is None:
            raise Conflict("no older epoch is remembered here; name the one that was lost", where="beyond")
        if not 0 <= lost <= EPOCH_MAX:
            raise InputRefused(f"must be an epoch from 0 to {EPOCH_MAX}", where="beyond")
        return self._approvals.propose(caller, RECOVER, {"beyond": lost, "reason": reason}, (), note=reason)

    def _approved(self, proposal: Proposal, approver: Caller) -> Effect:
        beyond = proposal.payload["beyond"]
        return Effect(RECOVERED, {"beyond": beyond}, (), beyond=beyond)

    def _look(self) -> None:
        """Say whether the database is suspected, by what is remembered now."""
        before = self.suspicion
        self.suspicion = self._suspected()
        if self.suspicion is not None and before is None:
            log.critical("rollback.suspected", message=self.suspicion.sentence)

    def _suspected(self) -> Suspicion | None:
        if self._file is None:
            return None
        self._remembered = remembered = self._file.read()
        epoch = self._store.state().epoch
        if remembered is None or (epoch >= remembered.epoch and self._holds(remembered)):
            return None
        if epoch > remembered.epoch and self._recovered(remembered.epoch):
            return None
        return Suspicion(
            remembered.epoch,
            f"it is at epoch {epoch} and is not the one that was at epoch {remembered.epoch} here: an older copy was "
            "restored; enter again what was lost, then have two persons recover it",
        )

    def _holds(self, remembered: Remembered) -> bool:
        entry = self._store.entry(remembered.log, remembered.seq)
        return entry is not None and leaf_hash(entry.public).hex() == remembered.leaf

    def _recovered(self, epoch: int) -> bool:
        """Return whether two persons have recovered the database from the loss of an epoch."""
        approved = map(read_proposal, self._store.rows_by("approvals", "status", APPROVED))
        return any(found.kind == RECOVER and found.payload["beyond"] >= epoch for found in approved)

    def _newer(self, snapshot: Snapshot) -> None:
        """Look again at a new epoch: it may be the recovery. Called by the snapshots, so it raises nothing."""
        try:
            if self.suspicion is not None:
                self._look()
        except PolicyEngineError as error:
            log.error("epoch.not-examined", code=error.code)
        self.finish()
