"""Walking the log once from its beginning: changes are applied as they come, decisions are opened where they stand.

Rules of the room:
- One walk sees one moment of the database, and its memory grows with the registers and not with the log.
- What does not open is handed over as such, with a sentence: nothing is passed over in silence.
- A body is opened only for entries that are wanted by what is public of them.
Left to others: deciding again (`services.rejudge`), who may ask and the entry that says so (`services.replay`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from policy_engine.errors import Gone, VerificationFailed
from policy_engine.ledger.decisions import require_decision
from policy_engine.ledger.encoding import parse_public
from policy_engine.ledger.sealing import KeyVault, row_key_id
from policy_engine.services.marks import ERASED, PRUNED, Marks
from policy_engine.services.past import Past, in_order, instant_of, is_decision
from policy_engine.services.questions import entry_name
from policy_engine.services.rejudge import Recorded
from policy_engine.services.unseal import Unsealer
from policy_engine.store.interfaces import LogView, StoredEntry

PROGRESS_ENTRIES = 2_000
"""Entries between two calls of the progress callback."""

UNREADABLE = "unreadable"

Progress = Callable[[int, int], None]
"""Called with entries walked so far and entries in all."""

Wanted = Callable[[Mapping[str, Any]], bool]
"""Whether a decision is wanted, by its public members."""

MakePast = Callable[[Unsealer, Callable[[str], bytes | None]], Past]


@dataclass(frozen=True, slots=True)
class Closed:
    """An entry that could not be used: `status` is `erased`, `pruned` or `unreadable`, `note` says by what or why.

    `public` are its public members, `None` where they are not those of an entry.
    """

    log_id: str
    seq: int
    status: str
    note: str
    public: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Changed:
    """A change that was applied: the registers are now those after it."""

    log_id: str
    seq: int
    entry: StoredEntry
    public: Mapping[str, Any]


Step = Recorded | Closed | Changed


class Walk:
    """One walk over a view of the log. `past` are the registers at the step that was yielded last."""

    def __init__(
        self,
        view: LogView,
        vault: KeyVault,
        content: Callable[[str], bytes | None],
        *,
        past: MakePast = Past,
        progress: Progress | None = None,
    ) -> None:
        self._view = view
        self._vault = vault
        self.marks = Marks.of(view)
        self._unsealer = Unsealer(vault, view.data_key, self.marks)
        self._progress = progress or (lambda done, total: None)
        self.one_log = view.one_log
        self.past = past(self._unsealer, content)

    def steps(
        self, wanted: Wanted, *, may: Callable[[StoredEntry], bool] = is_decision, until: int | None = None
    ) -> Iterator[Step]:
        """Yield changes, and decisions that are wanted, in the order in which they happened, before `until`.

        `may` says by an entry's bytes, before they are parsed, whether it can be wanted at all.
        """
        total = sum(head.next_seq for head in self._view.heads())
        done = 0
        for done, entry in enumerate(in_order(self._view), start=1):
            if done % PROGRESS_ENTRIES == 0:
                self._progress(done, total)
            if until is not None and instant_of(entry.public) >= until:
                break
            step = self._step(entry, wanted, may)
            if step is not None:
                yield step
        self._progress(done, total)

    def whole(
        self, wanted: Wanted, *, may: Callable[[StoredEntry], bool] = is_decision, until: int | None = None
    ) -> Iterator[Step]:
        """Yield the same for a question whose answer has no place for what it lacks.

        Raises `VerificationFailed` at an entry that cannot be read.
        """
        for step in self.steps(wanted, may=may, until=until):
            if isinstance(step, Closed) and step.status == UNREADABLE:
                place = f"entry {step.seq} of log {step.log_id}"
                raise VerificationFailed(f"the answer would lack {place}: {step.note}; run `audit verify`")
            yield step

    def _step(self, entry: StoredEntry, wanted: Wanted, may: Callable[[StoredEntry], bool]) -> Step | None:
        public: Mapping[str, Any] | None = None
        try:
            public = self.past.apply(entry)
            if public is not None:
                return Changed(entry.log_id, entry.seq, entry, public)
            if not may(entry):
                return None
            found = parse_public(entry.public)
            if found["kind"] != "decision":
                return None
            require_decision(found)
            public = found
            if not wanted(public):
                return None
            return Recorded(entry.log_id, entry.seq, entry.public, public, self._unsealer.body(entry, public))
        except Gone as gone:
            status = PRUNED if gone.message.startswith(PRUNED) else ERASED
            return Closed(entry.log_id, entry.seq, status, gone.message, public)
        except VerificationFailed as failed:
            return Closed(entry.log_id, entry.seq, UNREADABLE, failed.message, public)

    def erased_basis(self, step: Recorded) -> str | None:
        """Return by what a row was erased that a decision was evaluated on, `None` when all of them are there."""
        if not self.marks.keys:
            return None
        gone = (self.row_gone(register, id, step) for register, id, _ in step.body["revisions"])
        return next((by for by in gone if by is not None), None)

    def row_gone(self, register: str, id: str, step: Recorded | None = None) -> str | None:
        """Return by what a row was erased, as it was at a decision or at any time, `None` when it never was."""
        key = row_key_id(self._vault.index_key(), register, id)
        if step is None:
            mark = self.marks.last_of_key(key)
        else:
            mark = self.marks.of_key(key, step.log_id, step.seq, step.public["at"])
        return None if mark is None else str(mark)

    def basis_gone(self, step: Recorded) -> Closed | None:
        """Return a decision as erased when a row was that it was evaluated on, `None` when all of them are there.

        Nobody can tell how it would come out under a supposition: it would differ by what is missing.
        """
        gone = self.erased_basis(step)
        return None if gone is None else Closed(step.log_id, step.seq, ERASED, gone, step.public)

    def name(self, step: Step) -> str:
        """Return how the entry of a step is called."""
        return entry_name(step.log_id, step.seq, one_log=self.one_log)
