"""Exports of sealed bodies: one person proposes, another approves, and the proposer makes exactly that export, once.

Rules of the room:
- A proposal fixes question, range, form and instant; approved, it allows that one export, by its proposer, until it
  expires. Using it is a change of its own (`export.unsealed`) whose entry is durable before a body is opened: an export
  that fails after that is proposed anew.
- When the file is whole, a `read` entry names its SHA-256 and how many entries it holds.
- A body that was erased or pruned is said to be absent; nothing is skipped.
Left to others: opening bodies (`services.unseal`), two persons (`services.approvals`), files (`files`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import orjson

from policy_engine.core.decision import Principal
from policy_engine.core.instants import format_instant, parse_instant
from policy_engine.errors import Conflict, Gone, InputRefused, NotFound, NotPermitted, VerificationFailed
from policy_engine.ledger.encoding import parse_public
from policy_engine.ledger.sealing import KeyVault
from policy_engine.services.approvals import Approvals, Effect
from policy_engine.services.exports.source import Asked, Entry, read_asked
from policy_engine.services.marks import marks_of
from policy_engine.services.permissions import Caller, acting_person, require, require_unbounded
from policy_engine.services.proposals import APPROVED, Proposal, document_of, public_members, read_proposal
from policy_engine.services.unseal import Unsealer, row_documents
from policy_engine.store.interfaces import Change, Committed, Store, Write

KIND: Final = "export.unsealed"
USED: Final = "used"
"""Status of an approved proposal after its export began."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """An export that may go ahead: what is asked, in which form, and where the log says that it began."""

    asked: Asked
    form: str
    proposal: Proposal
    committed: Committed


class Unsealing:
    """The proposals for exports of sealed bodies."""

    def __init__(self, store: Store, approvals: Approvals) -> None:
        self._store = store
        self._approvals = approvals
        approvals.register(KIND, self._approved)

    def propose(self, principal: Principal, asked: Asked, form: str, reason: str) -> Proposal:
        """Propose an export. Raises `NotPermitted` without a person's unbounded key with `audit:unseal`."""
        caller = self._person(principal)
        if not reason.strip():
            raise InputRefused("say why sealed bodies are exported; who approves it reads this", where="--reason")
        payload = {
            "question": asked.text,
            "since": _text(asked.question.since),
            "until": _text(asked.question.until),
            "form": form,
            "asked_at": format_instant(caller.at),
            # An erasure finds what names a subject by whole texts, and words of a question are none.
            "subjects": sorted({value for term in asked.question.sealed for value in term.values}),
        }
        # Words such as `since 7d` must mean the same when the export is made.
        if _read(payload).question != asked.question:
            raise Conflict("the question means another time by now; ask again")
        return self._approvals.propose(caller, KIND, payload, (), note=reason)

    def form_of(self, id: str) -> str | None:
        """Return the form that a proposal is for, `None` when there is no such proposal for an export."""
        row = self._store.row("approvals", id)
        return None if row is None or row.document["kind"] != KIND else str(row.document["payload"]["form"])

    def begin(
        self,
        principal: Principal,
        id: str,
        asked: Asked | None,
        form: str | None,
        ready: Callable[[], None] = lambda: None,
    ) -> Allowed:
        """Use an approved proposal, once. `asked` and `form`, where given, must be those that were approved.

        `ready` is called when nothing else speaks against it: what it raises leaves the approval as it was.
        Raises `NotFound` for a proposal that is none of an export, `NotPermitted` for anybody but its proposer,
        `Conflict` when it is not approved, used already, expired, or for another export.
        """
        caller = self._person(principal)
        row = self._store.row("approvals", id)
        if row is None or row.document["kind"] != KIND:
            raise NotFound("there is no such proposal for an export")
        proposal = read_proposal(row)
        if proposal.proposed_by != caller.person:
            raise NotPermitted("an approved export is made by the person who proposed it, and by nobody else")
        _require_usable(proposal, caller.at)
        allowed = _read(proposal.payload)
        approved_form = str(proposal.payload["form"])
        if (asked is not None and asked.text and asked.text != allowed.text) or form not in (None, approved_form):
            raise Conflict(f"the proposal {id} was approved for another question or form; leave both out")
        if asked is not None and not _same_range(asked, allowed):
            raise Conflict(f"the proposal {id} was approved for another range; leave --since and --until out")
        ready()
        used = replace(proposal, status=USED, revision=proposal.revision + 1)
        committed = self._store.change(
            Change(
                kind=KIND,
                public=public_members(proposal, caller),
                writes=(Write("approvals", id, document_of(used), expect=row.revision),),
                raises_epoch=False,
                expects=(caller.basis,),
            )
        )
        return Allowed(allowed, approved_form, proposal, committed)

    def _person(self, principal: Principal) -> Caller:
        caller = acting_person(self._store, principal, "audit:unseal")
        require(principal, "audit:read")
        require_unbounded(caller)
        return caller

    def _approved(self, proposal: Proposal, approver: Caller) -> Effect:
        return Effect("export.approved", {}, ())


def _require_usable(proposal: Proposal, at: int) -> None:
    if proposal.status == USED:
        raise Conflict(f"the proposal {proposal.id} was used for its one export already; propose another")
    if proposal.status != APPROVED:
        raise Conflict(f"the proposal {proposal.id} is {proposal.status}; an export needs it approved")
    if at >= proposal.expires_at:
        raise Conflict(f"the proposal {proposal.id} has expired; propose the export again")


def _read(payload: Mapping[str, Any]) -> Asked:
    """Return what a payload asks, its words taken as they were meant when it was proposed."""
    at = parse_instant(payload["asked_at"])
    found = read_asked(payload["question"], at)
    since, until = (None if payload[name] is None else parse_instant(payload[name]) for name in ("since", "until"))
    return replace(found, question=replace(found.question, since=since, until=until))


def _same_range(asked: Asked, allowed: Asked) -> bool:
    """Return whether a range given with the use of an approval is the approved one, as far as it is given."""
    own = [(asked.question.since, allowed.question.since), (asked.question.until, allowed.question.until)]
    return bool(asked.text) or all(given in (None, approved) for given, approved in own)


def _text(at: int | None) -> str | None:
    return None if at is None else format_instant(at)


@dataclass(slots=True)
class Absent:
    """Bodies that an export could not open: those that were erased or pruned, and those that should be there."""

    gone: int = 0
    broken: int = 0

    @property
    def notes(self) -> list[str]:
        """What the proof sheet says of them."""
        gone = f"{self.gone} bodies are absent: erased or pruned by the entries that the lines name."
        broken = f"{self.broken} bodies are missing or do not open, and no entry says why: run `audit verify`."
        return [*([gone] if self.gone else []), *([broken] if self.broken else [])]


class Opener:
    """Opens bodies for an export. Marks of what is gone are read anew when something does not open."""

    def __init__(self, store: Store, vault: KeyVault) -> None:
        self._store = store
        self._vault = vault
        self._unsealer = self._fresh()
        self.absent = Absent()

    def open(self, log_id: str, seq: int, public: Mapping[str, Any]) -> tuple[Any, str | None]:
        """Return the body of an entry, and why it is not there, if it is not."""
        if public["sealed"] == "":
            return None, None
        try:
            return self._opened(log_id, seq, public), None
        except Gone as gone:
            self.absent.gone += 1
            return None, gone.message
        except VerificationFailed as failed:
            self.absent.broken += 1
            return None, failed.message

    def _opened(self, log_id: str, seq: int, public: Mapping[str, Any]) -> Any:
        try:
            return self._once(log_id, seq, public)
        except VerificationFailed:  # perhaps erased since the marks were read
            self._unsealer = self._fresh()
            return self._once(log_id, seq, public)

    def _once(self, log_id: str, seq: int, public: Mapping[str, Any]) -> Any:
        entry = self._store.entry(log_id, seq)
        if entry is None:
            raise VerificationFailed("the entry is missing")
        if "rows" not in public:
            return self._unsealer.body(entry, public)
        return {"rows": row_documents(self._unsealer.rows(entry, public), public)}

    def _fresh(self) -> Unsealer:
        return Unsealer(self._vault, self._store.data_key, marks_of(self._store))


def write_opened(part: Path, pages: Iterable[Sequence[Entry]], opener: Opener) -> None:
    """Write one JSON line an entry, `{"body": …, "public": …}`.

    A body is that of a decision or note, or `{"rows": […]}` for a change; where the entry has one and it is not there,
    it is `null` and `absent` says why.
    """
    with part.open("wb") as file:
        for page in pages:
            for log_id, seq, data in page:
                body, why = opener.open(log_id, seq, parse_public(data))
                absent = b"" if why is None else b'"absent":%b,' % orjson.dumps(why)
                file.write(b'{%b"body":%b,"public":%b}\n' % (absent, orjson.dumps(body), data))
