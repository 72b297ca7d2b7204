"""Replaying: recorded decisions decided again with the state of their own time, and whether they come out the same.

Rules of the room:
- A replay reads sealed parts, so it needs a person's key with `audit:unseal`, and an entry of kind `read` says who
  asked before anything is shown. It decides nothing and changes nothing else.
- Whoever is bounded to tenants replays decisions of those tenants, and nothing else.
- One walk over the log, however many decisions; registers come from the log alone, release content by its hash. So a
  row that was edited and restored, a body that was altered, or another answer than the rules give is found.
- What was erased or pruned answers by which entry, also where only facts of that time were; what does not open is
  named. None of it counts as the same.
Left to others: deciding (`services.rejudge`), what would be with another fact or order (`services.supposed`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from policy_engine.core.decision import Principal
from policy_engine.core.instants import ENDLESS
from policy_engine.errors import InputRefused, LoadRefused, NotFound, VerificationFailed
from policy_engine.ledger.sealing import KeyVault
from policy_engine.services.marks import ERASED
from policy_engine.services.past import is_change
from policy_engine.services.permissions import Caller, acting_person
from policy_engine.services.questions import Question, person_of
from policy_engine.services.record import Recorder
from policy_engine.services.rejudge import Difference, Recorded, Rejudge, differences
from policy_engine.services.releases import ReleaseLoader
from policy_engine.services.sealedterms import groups_of, holds
from policy_engine.services.walk import UNREADABLE, Changed, Closed, Progress, Step, Walk
from policy_engine.store.interfaces import Store, StoredEntry

SAME: Final = "same"
DIFFERENT: Final = "different"

_ID = re.compile(r"[0-9a-f]{32}")
_PLACE = re.compile(r"(?:([0-9a-f]{1,64}):)?([0-9]{1,18})")
_EVERYTHING = Question()


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of one entry: `status` is `same`, `different`, `erased`, `pruned` or `unreadable`.

    `note` says by which entry it was erased or pruned, or why it cannot be read.

    `public` are the public members recorded, `None` for an entry that cannot be read at all.
    """

    entry: str
    status: str
    differences: tuple[Difference, ...] = ()
    note: str = ""
    public: Mapping[str, Any] | None = None


class Replay:
    """Decides recorded decisions again, for whoever may read what is sealed of them.

    `store`, `vault` and `releases` are what it reads, for the other questions of this kind.
    """

    def __init__(self, store: Store, recorder: Recorder, vault: KeyVault, releases: ReleaseLoader) -> None:
        self.store = store
        self._recorder = recorder
        self.vault = vault
        self.releases = releases

    def one(self, principal: Principal, name: str, progress: Progress | None = None) -> Replayed:
        """Replay one decision, named by its entry (`17`, or `LOG:17` where there are several logs) or its id.

        Raises `NotPermitted` without a person's key that holds `audit:unseal`, `NotFound` when there is no such
        decision or it is not the caller's to see, and `InputRefused` for an entry that is no decision.
        """
        caller = acting_person(self.store, principal, "audit:unseal")
        is_it = self.named(name)
        with self.store.view() as view:
            walk = Walk(view, self.vault, self.store.blob, progress=progress)
            rejudge = Rejudge(walk.past, self.releases)
            for step in walk.steps(lambda public: sees(caller, public), may=is_it):
                if isinstance(step, Changed):
                    _refuse_change(is_it, step)
                elif isinstance(step, Recorded) or step.public is not None or self._is(step, is_it):
                    found = replayed(walk, rejudge, step)
                    self.log_read(principal, {"what": "replay", "entry": found.entry}, {}, step)
                    return found
        raise NotFound("there is no such decision", where="entry")

    def all(
        self, principal: Principal, question: Question = _EVERYTHING, progress: Progress | None = None, text: str = ""
    ) -> Iterator[Replayed]:
        """Replay every decision that a question asks for, in the order in which they happened, in one walk.

        A change that cannot be read is handed over too, since whatever follows rests on it. `text` is the question as
        it was asked, for the entry of the read, which is durable before the first result. Raises as `one`.
        """
        caller = acting_person(self.store, principal, "audit:unseal")
        self.log_read(principal, {"what": "replay"}, {"question": text}, person_of(question))
        return self._all(caller, question, progress)

    def _all(self, caller: Caller, question: Question, progress: Progress | None) -> Iterator[Replayed]:
        with self.store.view() as view:
            walk = Walk(view, self.vault, self.store.blob, progress=progress)
            rejudge, groups = Rejudge(walk.past, self.releases), groups_of(walk.past, self.releases)
            for step in walk.steps(lambda public: sees(caller, public) and question.matches(public)):
                if isinstance(step, Changed):
                    continue
                if isinstance(step, Closed) or holds(question, step, groups):
                    yield replayed(walk, rejudge, step)

    # For the other questions that read what is sealed

    def named(self, name: str) -> Callable[[StoredEntry], bool]:
        """Return what recognises the entry that a name means. Raises `InputRefused` for a text that is no name."""
        if _ID.fullmatch(name):
            mark = f'"id":"{name}"'.encode()
            return lambda entry: mark in entry.public
        found = _PLACE.fullmatch(name)
        if found is None:
            raise InputRefused("must be the number of an entry, LOG:NUMBER, or a decision's id", where="entry")
        log_id, seq = found[1], int(found[2])
        if log_id is None and not self.store.one_log:
            raise InputRefused("there are several logs here; name the entry as LOG:NUMBER", where="entry")
        return lambda entry: entry.seq == seq and log_id in (None, entry.log_id)

    def _is(self, step: Closed, is_it: Callable[[StoredEntry], bool]) -> bool:
        """Return whether a name means an entry of which nothing can be read, and not a change in front of it."""
        entry = self.store.entry(step.log_id, step.seq)
        return entry is not None and not is_change(entry) and is_it(entry)

    def log_read(
        self, principal: Principal, members: Mapping[str, Any], body: Mapping[str, Any], about: Step | str = ""
    ) -> None:
        """Write the entry of a read; of one decision, or one person, it is sealed for and found by whom it is about."""
        subject, tenant = about if isinstance(about, str) else "", None
        if isinstance(about, Recorded):
            subject, tenant = str(about.body["subject"]), about.body["tenant"]
        self._recorder.record(
            lambda state: self._recorder.note(
                "read", members, principal, state, body=body, subject=subject, tenant=tenant, until=ENDLESS
            )
        )


def replayed(walk: Walk, rejudge: Rejudge, step: Recorded | Closed) -> Replayed:
    """Return what became of a decision that was decided again, or why it was not."""
    name = walk.name(step)
    if isinstance(step, Closed):
        return Replayed(name, step.status, note=step.note, public=step.public)
    try:
        odd = differences(step, rejudge(step))
    except (VerificationFailed, LoadRefused) as failed:
        return Replayed(name, UNREADABLE, note=failed.message, public=step.public)
    gone = walk.erased_basis(step) if odd else None
    if gone is not None:
        return Replayed(name, ERASED, note=gone, public=step.public)
    return Replayed(name, DIFFERENT if odd else SAME, odd, public=step.public)


def sees(caller: Caller, public: Mapping[str, Any]) -> bool:
    """Whoever is bounded to tenants sees the decisions of those tenants."""
    return caller.tenants is None or public.get("tenant") in caller.tenants


def _refuse_change(is_it: Callable[[StoredEntry], bool], step: Changed) -> None:
    if is_it(step.entry):
        raise InputRefused("the entry is a change; only decisions are replayed", where="entry")
