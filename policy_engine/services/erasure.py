"""Erasing a subject: proposed by one person, approved by another, and then everything personal is gone at once.

Rules of the room:
- Proposing needs `facts:write`: whoever keeps the facts about people takes them away again. Neither the subject nor a
  key bounded to tenants may propose or approve. The proposal is an entry before anything found is shown.
- A legal hold beats it: when it is proposed and again, under one epoch, when it is approved.
- One change destroys the data keys, empties bodies and tags, takes rows away, and says so in its entry without a name;
  the proposal, which named the subject, goes too, and its row is written anew without the name.
- The reason outlives the erasure, so it may not hold the subject's id.
Left to others: what is found (`traces`), holds (`holds`), the transaction (`store.erasing`), answers (`marks`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from policy_engine.core.decision import Principal
from policy_engine.errors import Conflict, InputRefused, NotFound, NotPermitted, TooLarge, VerificationFailed
from policy_engine.ledger.encoding import parse_public
from policy_engine.ledger.sealing import KeyVault
from policy_engine.limits import LIMITS, Limits
from policy_engine.services.approvals import Approvals, Effect
from policy_engine.services.factdocuments import members_of
from policy_engine.services.heldchanges import held_change
from policy_engine.services.holdrules import Hold
from policy_engine.services.holds import in_force
from policy_engine.services.permissions import Caller, acting_person, require_unbounded
from policy_engine.services.proposals import Proposal
from policy_engine.services.traces import Traces, traces_of
from policy_engine.services.unseal import Unsealer
from policy_engine.services.vocabulary import require_id
from policy_engine.store.erasureinterfaces import Erasure
from policy_engine.store.interfaces import Store

PROPOSED = "subject.erase"


@dataclass(frozen=True, slots=True)
class Proposed:
    """An erasure that waits: how many entries lose their sealed part, which rows go, and which name the subject on.

    `kept` counts rows that are about others or about what the subject did as one who acts; they stay.
    """

    proposal: Proposal
    entries: int
    rows: Mapping[str, int]
    kept: Mapping[str, int]


class Erasures:
    """Proposing and applying the erasure of subjects. `scrub` is called when one was applied."""

    def __init__(
        self,
        store: Store,
        approvals: Approvals,
        vault: KeyVault,
        *,
        scrub: Callable[[], object] = lambda: None,
        limits: Limits = LIMITS,
    ) -> None:
        self._store = store
        self._approvals = approvals
        self._vault = vault
        self._scrub = scrub
        self._limits = limits
        approvals.register(PROPOSED, self._approved)

    def propose(self, principal: Principal, subject: str, reason: str) -> Proposed:
        """Propose to erase a subject. Nothing is gone until another person has approved.

        Raises `NotPermitted` for oneself, `NotFound` for a subject of whom there is nothing, `Conflict` under a legal
        hold or while a licence or grant for them is in force, `InputRefused` for a reason that names them.
        """
        caller = acting_person(self._store, principal, "facts:write")
        require_unbounded(caller)
        require_id(subject, "subject", self._limits)
        self._require_reason(reason, subject)
        _require_other(caller, subject)
        found = self._found(subject, caller.at)
        row = self._store.row("persons", subject)
        basis = (("persons", subject, 0 if row is None else row.revision),)
        payload = {"subject": subject, "reason": reason}
        proposal = self._approvals.propose(caller, PROPOSED, payload, basis, note=reason)
        return Proposed(proposal, len(found.places), found.counts(), found.kept)

    def _approved(self, proposal: Proposal, approver: Caller) -> Effect:
        subject = str(proposal.payload["subject"])
        _require_other(approver, subject)
        found = self._found(subject, approver.at)
        own = ("approvals", proposal.id, proposal.revision)
        rows = {(row.register, row.id, row.revision) for row in found.rows} | {own}
        removes = Erasure(found.epoch, found.tags, found.places, found.keys, tuple(sorted(rows)))
        return Effect("erased", {}, (), removes=removes, redacts=True, after=self._scrub)

    def _found(self, subject: str, at: int) -> Traces:
        """Return what there is of a subject, unless a hold covers any of it."""
        found = traces_of(self._store, self._vault, subject, at)
        holds = in_force(self._store)
        covering = self._covering(holds, subject, found) if holds else None
        if covering is not None:
            raise Conflict(f"the legal hold {covering} covers this subject; nothing of it is erased while it stands")
        if not found.places and all(row.register == "approvals" for row in found.rows):
            raise NotFound("there is nothing of this subject to erase", where="subject")
        if len(found.places) > self._limits.erased_bodies_count:
            raise TooLarge(f"one erasure empties at most {self._limits.erased_bodies_count} bodies", where="subject")
        return found

    def _covering(self, holds: tuple[Hold, ...], subject: str, found: Traces) -> str | None:
        """Return the id of a hold that covers the subject, a tenant of theirs, or an entry of or about them."""
        row = self._store.row("persons", subject)
        own = {gone.id for gone in found.rows if gone.register == "tenants"}  # theirs, whether or not they are a member
        tenants = own if row is None else own | members_of(row.document)
        for hold in holds:
            if hold.cover.subject == subject or (hold.cover.subject is None and hold.cover.tenant in tenants):
                return hold.id
        others = [hold for hold in holds if hold.cover.subject is None]
        if others:
            for log_id, seq in found.places:
                for hold in others:
                    if self._covers(hold, log_id, seq):
                        return hold.id
            with self._store.view() as view:
                return held_change(view, self._vault, others, found.rows, PROPOSED)
        return None

    def _covers(self, hold: Hold, log_id: str, seq: int) -> bool:
        entry = self._store.entry(log_id, seq)
        if entry is None:
            raise VerificationFailed("the index names an entry that is not there; run `audit verify`")
        public = parse_public(entry.public)
        tenant = public.get("tenant")
        if tenant is None and hold.cover.tenant is not None:
            tenant = Unsealer(self._vault, self._store.data_key).body(entry, public).get("tenant")
        return hold.cover.covers(public, subject=False, tenant=tenant == hold.cover.tenant)

    def _require_reason(self, reason: str, subject: str) -> None:
        if not reason.strip():
            raise InputRefused("must not be empty", where="reason")
        if len(reason) > self._limits.text_characters:
            raise TooLarge(f"is longer than {self._limits.text_characters} characters", where="reason")
        if subject.casefold() in reason.casefold():
            raise InputRefused("names the subject, and outlives the erasure: give a case number", where="reason")


def _require_other(caller: Caller, subject: str) -> None:
    if caller.person.casefold() == subject.casefold():
        raise NotPermitted("nobody erases themselves; two other persons must")
