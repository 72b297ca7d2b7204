"""Changes that loosen: proposed by one person, approved by another, applied with their approval in one transaction.

Rules of the room:
- A proposal fixes what it asks for by a content hash over its kind, payload, the revisions of the rows it rests on
  (the proposer's key among them) and the active release. Who approves, approves exactly that.
- Proposer and approver are different *persons*. A second key of the same person is the same person; services never
  approve. The store's schema refuses an approved row with equal names as well.
- If anything the proposal rests on has moved, the approval fails, and so does the proposal: it is made again or not
  at all. The revisions are compared inside the approving transaction. A proposer's key that expired has moved too.
- A proposal is approved, refused, failed or expired once. Its effect and its new status are one change.
Left to others: what a kind of proposal does (the `Handler` its service registers), keys and scopes (`permissions`).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from policy_engine.core.decision import Principal
from policy_engine.core.instants import DAY
from policy_engine.errors import (
    Conflict,
    InputRefused,
    NotFound,
    NotPermitted,
    Overtaken,
    PolicyEngineError,
    VerificationFailed,
)
from policy_engine.limits import LIMITS, Limits
from policy_engine.services.permissions import SCOPES, Basis, Caller, acting_person, lives, require_unbounded
from policy_engine.services.proposals import (
    APPROVED,
    EXPIRED,
    FAILED,
    REFUSED,
    WAITING,
    Proposal,
    content_hash,
    decided,
    document_of,
    public_members,
    put,
    read_proposal,
    redacted,
)
from policy_engine.store.erasureinterfaces import Erasure, Pruning
from policy_engine.store.interfaces import Change, Committed, Store, Write

ATTEMPTS_COUNT: Final = 8
"""How often what an effect rests on as a whole (what is erased, all names of principals) is looked at anew."""

READERS: Final = ("approve", "audit:read")
"""Scopes of which a person needs one to see what others proposed."""


@dataclass(frozen=True, slots=True)
class Ruled:
    """A proposal after it was approved or refused, and where the log says so."""

    proposal: Proposal
    committed: Committed


@dataclass(frozen=True, slots=True)
class Effect:
    """What an approved proposal does: the rows to write, the entry's kind and its public members.

    `removes` is what goes for good. `redacts` keeps the approved proposal without what it asked for, which named
    somebody. `beyond` and `expect_epoch` are as in `Change`. `after` is called once all of it is durable.
    """

    kind: str
    public: Mapping[str, Any]
    writes: tuple[Write, ...]
    activate: str | None = None
    removes: Erasure | Pruning | None = None
    redacts: bool = False
    beyond: int | None = None
    expect_epoch: int | None = None
    after: Callable[[], object] = lambda: None


Handler = Callable[[Proposal, Caller], Effect]
"""Makes the effect of a proposal for its approver. Raises `PolicyEngineError` when it can no longer be applied."""


class Approvals:
    """The register of proposals. Each service registers the kinds it proposes, with what they do."""

    def __init__(
        self,
        store: Store,
        *,
        limits: Limits = LIMITS,
        new_id: Callable[[], str] = lambda: f"prop-{secrets.token_hex(6)}",
        new_salt: Callable[[], str] = lambda: secrets.token_hex(32),
    ) -> None:
        self._store = store
        self._limits = limits
        self._new_id = new_id
        self._new_salt = new_salt
        self._handlers: dict[str, Handler] = {}

    def register(self, kind: str, handler: Handler) -> None:
        """Say what an approved proposal of this kind does. Raises `ValueError` when the kind has a handler."""
        if kind in self._handlers:
            raise ValueError(f"the proposal kind {kind} has a handler already")
        self._handlers[kind] = handler

    def prepare(
        self, caller: Caller, kind: str, payload: Mapping[str, Any], basis: Sequence[Basis], note: str = ""
    ) -> tuple[Proposal, Write]:
        """Return a waiting proposal and the write that stores it, to be part of a change of the caller's service.

        `basis` are the rows its effect will replace, at the revisions they have once that change is applied; the
        proposer's key is added to them.
        """
        if kind not in self._handlers:
            raise ValueError(f"the proposal kind {kind} has no handler")
        release = self._store.state().release
        rests_on, salt = (*basis, caller.basis), self._new_salt()
        proposal = Proposal(
            id=self._new_id(),
            kind=kind,
            payload=payload,
            salt=salt,
            hash=content_hash(salt, kind, payload, rests_on, release),
            proposed_by=caller.person,
            proposed_key=caller.key_id,
            proposed_at=caller.at,
            basis=rests_on,
            release=release,
            expires_at=caller.at + self._limits.proposal_days * DAY,
            note=note,
        )
        return proposal, Write("approvals", proposal.id, document_of(proposal), expect=0)

    def propose(
        self,
        caller: Caller,
        kind: str,
        payload: Mapping[str, Any],
        basis: Sequence[Basis],
        *,
        note: str = "",
        blobs: Mapping[str, bytes] | None = None,
    ) -> Proposal:
        """Store a proposal, with content that lies beside it and has no effect of its own, and return it.

        Raises `Conflict` when the rows it rests on moved before it could be stored.
        """
        proposal, write = self.prepare(caller, kind, payload, basis, note)
        self._store.change(
            Change(
                kind="proposal.made",
                public=public_members(proposal, caller),
                writes=(write,),
                raises_epoch=False,
                expects=proposal.basis,
                expect_release=proposal.release,
                blobs=blobs or {},
            )
        )
        return proposal

    def approve(self, principal: Principal, id: str, *, hash: str | None = None) -> Ruled:
        """Approve a waiting proposal and apply it, in one change.

        `hash`, when given, must be the proposal's content hash. Raises `NotPermitted` for the proposer, for a service
        and for a key without `approve`; `Conflict` when the proposal is decided, expired, or what it rests on moved
        (it is then marked as failed, which the log records).
        """
        caller = acting_person(self._store, principal, "approve")
        require_unbounded(caller)
        proposal = self._waiting(id)
        if caller.person == proposal.proposed_by:
            raise NotPermitted("who proposed a change cannot approve it; another person must")
        if hash is not None and hash != proposal.hash:
            raise Conflict("the proposal's content hash is not the one that was approved; nothing was applied")
        if caller.at >= proposal.expires_at:
            self._close(caller, proposal, EXPIRED, "the proposal expired before it was decided")
            raise Conflict(f"the proposal {id} has expired; propose the change again")
        content = (proposal.salt, proposal.kind, proposal.payload, proposal.basis, proposal.release)
        if content_hash(*content) != proposal.hash:
            raise VerificationFailed(f"the proposal {id} does not match its content hash; run `audit verify`")
        moved = self._moved(proposal, caller.at)
        if moved:
            self._close(caller, proposal, FAILED, moved)
            raise Conflict(f"{moved}; the proposal {id} has failed: propose the change again")
        return self._apply(caller, proposal)

    def refuse(self, principal: Principal, id: str, reason: str) -> Ruled:
        """Refuse a waiting proposal. One person with `approve` may, and the proposer may withdraw it."""
        if not reason.strip():
            raise InputRefused("say why the proposal is refused", where="reason")
        if len(reason) > self._limits.text_characters:
            raise InputRefused(f"is longer than {self._limits.text_characters} characters", where="reason")
        proposal = self._waiting(id)
        own = principal.id == proposal.proposed_by
        caller = acting_person(self._store, principal, *(SCOPES if own else ("approve",)))
        require_unbounded(caller)
        return self._close(caller, proposal, REFUSED, reason)

    def list(self, principal: Principal, *, status: str | None = None) -> tuple[Proposal, ...]:
        """Return proposals, newest last: all with one of `READERS` and a key not bounded to tenants, else one's own.

        A waiting proposal whose time is over is shown as `expired`.
        """
        mine = self._visible(principal)
        found = [self._shown(read_proposal(row)) for row in self._store.rows("approvals")]
        chosen = [p for p in found if (mine is None or p.proposed_by == mine) and status in (None, p.status)]
        return tuple(sorted(chosen, key=lambda p: (p.proposed_at, p.id)))

    def show(self, principal: Principal, id: str) -> Proposal:
        """Return one proposal. Raises `NotFound`, also for one the caller may not see."""
        mine = self._visible(principal)
        proposal = self._shown(self._read(id))
        if mine is not None and proposal.proposed_by != mine:
            raise NotFound("there is no such proposal")
        return proposal

    def _visible(self, principal: Principal) -> str | None:
        """Return the person whose proposals alone may be shown, or `None` for all."""
        sees_all = not principal.scopes.isdisjoint(READERS)
        caller = acting_person(self._store, principal, *(READERS if sees_all else SCOPES))
        return None if sees_all and caller.tenants is None else caller.person

    def _shown(self, proposal: Proposal) -> Proposal:
        over = proposal.status == WAITING and self._store.now() >= proposal.expires_at
        return replace(proposal, status=EXPIRED) if over else proposal

    def _read(self, id: str) -> Proposal:
        row = self._store.row("approvals", id)
        if row is None:
            raise NotFound("there is no such proposal")
        return read_proposal(row)

    def _waiting(self, id: str) -> Proposal:
        proposal = self._read(id)
        if proposal.status != WAITING:
            raise Conflict(f"the proposal {id} is {proposal.status} already; nothing was applied")
        return proposal

    def _moved(self, proposal: Proposal, at: int) -> str | None:
        """Return a sentence about the first thing under the proposal that moved by an instant, or `None`."""
        if self._store.state().release != proposal.release:
            return "the active release has changed since the proposal was made"
        for register, id, revision in proposal.basis:
            row = self._store.row(register, id)
            proposers = register == "keys" and id == proposal.proposed_key
            if (0 if row is None else row.revision) != revision:
                what = "the key of the proposer" if proposers else "the row"
                return f"{what} in the register of {register} has changed since the proposal was made"
            if proposers and not lives(row, at):  # an expiry moves no revision, and ends a person's word all the same
                return "the key of the proposer has expired since the proposal was made"
        return None

    def _apply(self, caller: Caller, proposal: Proposal) -> Ruled:
        handler = self._handlers.get(proposal.kind)
        if handler is None:
            raise PolicyEngineError(f"nothing here applies proposals of the kind {proposal.kind}")
        try:
            for attempt in range(1, ATTEMPTS_COUNT + 1):
                try:
                    return self._applied(caller, proposal, handler(proposal, caller))
                except Overtaken:
                    if attempt == ATTEMPTS_COUNT:
                        raise
        except Conflict as refusal:
            self._fail_if_moved(caller, proposal)
            raise Conflict(f"{refusal.message}; nothing was applied") from refusal
        raise AssertionError("the last attempt returns or raises")

    def _applied(self, caller: Caller, proposal: Proposal, effect: Effect) -> Ruled:
        approved = decided(proposal, caller, APPROVED, "")
        if effect.redacts:
            approved = redacted(approved)
        committed = self._store.change(
            Change(
                kind=effect.kind,
                public={**effect.public, **public_members(proposal, caller)},
                writes=(*effect.writes, put(approved)),
                raises_epoch=True,
                activate=effect.activate,
                expects=(*proposal.basis, caller.basis),
                expect_release=proposal.release,
                expect_epoch=effect.expect_epoch,
                removes=effect.removes,
                beyond=effect.beyond,
            )
        )
        effect.after()
        return Ruled(approved, committed)

    def _fail_if_moved(self, caller: Caller, proposal: Proposal) -> None:
        """Mark as failed a proposal that lost a race; one decided meanwhile by somebody else stays as it is."""
        row = self._store.row("approvals", proposal.id)
        moved = self._moved(proposal, caller.at)
        if row is not None and row.revision == proposal.revision and moved:
            self._close(caller, proposal, FAILED, moved)

    def _close(self, caller: Caller, proposal: Proposal, status: str, reason: str) -> Ruled:
        closed = decided(proposal, caller, status, reason)
        change = Change(
            kind=f"proposal.{status}",
            public=public_members(proposal, caller),
            writes=(put(closed),),
            raises_epoch=False,
            expects=(caller.basis,),
        )
        return Ruled(closed, self._store.change(change))
