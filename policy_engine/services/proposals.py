"""A proposal as its register holds it: what is asked, on what it rests, who decided. Pure.

Rules of the room: the content hash covers kind, payload, the revisions under it and the active release; a random salt
goes first, because the hash is public and payloads may name a person. Left to others: deciding (`approvals`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from policy_engine.core.instants import format_instant, parse_instant
from policy_engine.ledger.canonical import canonical
from policy_engine.services.permissions import Basis, Caller
from policy_engine.store.interfaces import Row, Write

WAITING: Final = "waiting"
APPROVED: Final = "approved"
REFUSED: Final = "refused"
FAILED: Final = "failed"
EXPIRED: Final = "expired"


@dataclass(frozen=True, slots=True)
class Proposal:
    """One proposed change. `basis` are the rows it rests on; `release` was active when it was made; instants in us.

    `note` is the proposer's, `reason` the decider's. `salt` keeps the content hash, which is public, from being tried
    out against a guessed payload.
    """

    id: str
    kind: str
    payload: Mapping[str, Any]
    salt: str
    hash: str
    proposed_by: str
    proposed_key: str
    proposed_at: int
    basis: tuple[Basis, ...]
    release: str | None
    expires_at: int
    note: str = ""
    status: str = WAITING
    decided_by: str | None = None
    decided_key: str | None = None
    decided_at: int | None = None
    reason: str = ""
    revision: int = 0


def public_members(proposal: Proposal, caller: Caller) -> dict[str, Any]:
    """Return what anyone may read of a proposal in the log: ids of keys, never names of persons."""
    return {
        "by": caller.key_id,
        "proposal": proposal.id,
        "proposed": proposal.kind,
        "proposed_by": proposal.proposed_key,
        "hash": proposal.hash,
    }


def content_hash(salt: str, kind: str, payload: Mapping[str, Any], basis: Sequence[Basis], release: str | None) -> str:
    """Return the hash of what is asked and on what it rests: what an approver approves."""
    content = {"kind": kind, "payload": payload, "base": [list(row) for row in basis], "release": release}
    return hashlib.sha256(bytes.fromhex(salt) + canonical(content)).hexdigest()


def decided(proposal: Proposal, caller: Caller, status: str, reason: str) -> Proposal:
    """Return the proposal as somebody decided it, one revision on."""
    return replace(
        proposal,
        status=status,
        decided_by=caller.person,
        decided_key=caller.key_id,
        decided_at=caller.at,
        reason=reason,
        revision=proposal.revision + 1,
    )


def redacted(decided: Proposal) -> Proposal:
    """Return a decided proposal without what it asked for and rested on, and without the salt that would prove it."""
    return replace(decided, payload={"redacted": True}, salt="", basis=())


def put(decided: Proposal) -> Write:
    """Return the write that stores a decided proposal over the waiting one."""
    return Write("approvals", decided.id, document_of(decided), expect=decided.revision - 1)


def document_of(proposal: Proposal) -> dict[str, Any]:
    """Return the document that the register holds."""
    decided_at = proposal.decided_at
    return {
        "kind": proposal.kind,
        "payload": proposal.payload,
        "salt": proposal.salt,
        "hash": proposal.hash,
        "proposed_by": proposal.proposed_by,
        "proposed_key": proposal.proposed_key,
        "proposed_at": format_instant(proposal.proposed_at),
        "base": [list(row) for row in proposal.basis],
        "release": proposal.release,
        "expires_at": format_instant(proposal.expires_at),
        "note": proposal.note,
        "status": proposal.status,
        "decided_by": proposal.decided_by,
        "decided_key": proposal.decided_key,
        "decided_at": None if decided_at is None else format_instant(decided_at),
        "reason": proposal.reason,
    }


def read_proposal(row: Row) -> Proposal:
    """Return the proposal of a register row."""
    document = row.document
    decided_at = document["decided_at"]
    return Proposal(
        id=row.id,
        kind=document["kind"],
        payload=document["payload"],
        salt=document["salt"],
        hash=document["hash"],
        proposed_by=document["proposed_by"],
        proposed_key=document["proposed_key"],
        proposed_at=parse_instant(document["proposed_at"]),
        basis=tuple((register, id, revision) for register, id, revision in document["base"]),
        release=document["release"],
        expires_at=parse_instant(document["expires_at"]),
        note=document["note"],
        status=document["status"],
        decided_by=document["decided_by"],
        decided_key=document["decided_key"],
        decided_at=None if decided_at is None else parse_instant(decided_at),
        reason=document["reason"],
        revision=row.revision,
    )
