"""`/v1/approvals`: what waits for a second person, and that person's word.

Over HTTP an approval names the content hash that its person read: what is approved is that content and no other.
Left to others: who may approve what, and what happens then (`services.approvals`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from policy_engine.api.access import CHANGING, READING, READING_ONE, Caller, OpenEngine, route_options
from policy_engine.api.documents import Done, Id, Shown, Strict, Words, plain
from policy_engine.api.withdrawal import WaitQuery, with_withdrawal
from policy_engine.core.instants import format_instant
from policy_engine.services.approvals import Ruled

router = APIRouter(prefix="/v1/approvals", tags=["approvals"])

Status = Literal["waiting", "approved", "refused", "failed", "expired"]


class Approval(Strict):
    """The content hash of the proposal as its approver read it."""

    hash: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Refusal(Strict):
    """Why a proposal is refused."""

    reason: Words


class ProposalShown(Shown):
    """A proposal: what it would change (`kind`, `payload`), on which revisions it rests, who decided it."""

    id: str
    kind: str
    payload: dict[str, Any]
    salt: str
    hash: str
    proposed_by: str
    proposed_key: str
    proposed_at: str
    basis: list[list[Any]]
    release: str | None = None
    expires_at: str
    note: str
    status: str
    decided_by: str | None = None
    decided_key: str | None = None
    decided_at: str | None = None
    reason: str
    revision: int


class ProposalsShown(Shown):
    """Proposals, newest last."""

    approvals: list[ProposalShown]


class OnlyProposals(Strict):
    """Which proposals to list."""

    status: Status | None = None


@router.get("", **route_options(problems=READING))
def list_approvals(engine: OpenEngine, principal: Caller, only: Annotated[OnlyProposals, Query()]) -> ProposalsShown:
    """List proposals: all of them for approvers and auditors, else the caller's own."""
    found = engine.approvals.list(principal, status=only.status)
    return ProposalsShown(approvals=[ProposalShown(**plain(proposal)) for proposal in found])


@router.get("/{id}", **route_options(problems=READING_ONE))
def show_approval(engine: OpenEngine, principal: Caller, id: Id) -> ProposalShown:
    """Show a proposal: what it would change, and the content hash that is approved."""
    return ProposalShown(**plain(engine.approvals.show(principal, id)))


@router.post("/{id}/approve", **route_options("approve", problems=CHANGING))
def approve(engine: OpenEngine, principal: Caller, id: Id, body: Approval, waiting: WaitQuery) -> Done:
    """Approve a proposal of another person and apply it, in one change."""
    followed = engine.withdrawals.follow()
    ruled = engine.approvals.approve(principal, id, hash=body.hash)
    return with_withdrawal(_done(ruled), followed, ruled.committed, waiting)


@router.post("/{id}/refuse", **route_options(problems=CHANGING))
def refuse(engine: OpenEngine, principal: Caller, id: Id, body: Refusal) -> Done:
    """Refuse a proposal; nothing of it is applied. Its proposer may withdraw it so, without the scope `approve`."""
    return _done(engine.approvals.refuse(principal, id, body.reason))


def _done(ruled: Ruled) -> Done:
    committed = ruled.committed
    return Done(
        id=ruled.proposal.id,
        status=ruled.proposal.status,
        log=committed.log_id,
        seq=committed.seqs[-1],
        at=format_instant(committed.at),
    )
