"""API keys: who holds one, what it may do, and how a token becomes a principal.

Rules of the room:
- A key is `pe_` and 43 url-safe characters (256 random bits). Only its SHA-256 is kept; the text is shown once, to the
  person who proposed it, and works only once a second person has approved it. Who wants nobody else to see a key gives
  its hash instead.
- Keys belong to principals. A person may have several and stays one person; two names that differ in case only are
  refused, and so is a name that is a person's on one key and a service's on another.
- A service's key asks; it never changes anything and never approves.
- The first keys are those of at least two persons, in one entry, while no person has one. Afterwards granting takes two
  persons and revoking one, and a revocation that would leave fewer than two approvers is refused.
- A row may have a token identity, an issuer and a subject, in place of a secret. Then no text lets in as it, not even
  one whose hash somebody gave; and no token lets in as a row that has none. Whatever holds for keys holds for it.
- `authenticate` costs one hash and two look-ups; the keys are read again whenever the epoch has moved, which every
  approval of a key and every revocation does.
Left to others: what a scope covers (`permissions`), the second person (`approvals`).
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from policy_engine.core.decision import Principal, PrincipalKind
from policy_engine.core.instants import format_instant, parse_instant
from policy_engine.errors import Conflict, InputRefused, NotAuthenticated, NotFound, TooLarge
from policy_engine.limits import LIMITS, Limits
from policy_engine.services.approvals import Approvals, Effect
from policy_engine.services.keydocuments import (
    FIRST_SCOPES,
    FIRST_SUPPLIES,
    Issued,
    Key,
    KeyRequest,
    approves,
    digest_of,
    document_of,
    hash_of,
    identity_of,
    is_hash,
    is_token,
    new_secret,
    read_key,
    rows_of,
    validate,
    validate_owner,
)
from policy_engine.services.permissions import SCOPES, Basis, Caller, acting_person, require_unbounded
from policy_engine.services.proposals import Proposal
from policy_engine.store.interfaces import Change, Committed, Row, Store, Write
from policy_engine.tokens.identity import TokenIdentity

__all__ = ["FIRST_SCOPES", "Issued", "Key", "KeyRequest", "Keys", "TokenIdentity", "hash_of"]


READERS: Final = ("keys:write", "audit:read")
"""Scopes of which a person needs one to see the keys of others."""


@dataclass(frozen=True, slots=True)
class _Held:
    """One key as authentication needs it."""

    principal: Principal
    expires_at: int | None
    revoked: bool


@dataclass(frozen=True, slots=True)
class _Ring:
    """All keys, as they were when the epoch was read or later."""

    epoch: int
    by_hash: Mapping[str, _Held]
    by_identity: Mapping[TokenIdentity, _Held]
    by_id: Mapping[str, _Held]


class Keys:
    """The register of keys."""

    def __init__(
        self,
        store: Store,
        approvals: Approvals,
        *,
        limits: Limits = LIMITS,
        new_id: Callable[[], str] = lambda: f"key-{secrets.token_hex(6)}",
    ) -> None:
        self._store = store
        self._approvals = approvals
        self._limits = limits
        self._new_id = new_id
        self._lock = threading.Lock()
        self._ring: _Ring | None = None
        approvals.register("key.create", self._create_approved)

    def authenticate(self, token: str | None, at: int | None = None, *, epoch: int | None = None) -> Principal:
        """Return the principal of a token at an instant of the store's clock (now, when none is given).

        `epoch` is the current one where the caller has just read it. Raises `NotAuthenticated` with one of four
        constant sentences: no key, unknown, expired, revoked.
        """
        if not token:
            raise NotAuthenticated("no key was given")
        if not is_token(token):
            raise NotAuthenticated("the key is unknown")
        ring = self._current_ring(self._store.state().epoch if epoch is None else epoch)
        return self._living(ring.by_hash.get(hash_of(token)), at)

    def authenticate_identity(
        self, identity: TokenIdentity, at: int | None = None, *, epoch: int | None = None
    ) -> Principal:
        """Return the principal for whom an identity was registered; whoever asks has verified the token.

        As `authenticate`, with the same sentences: who is not registered is as unknown as a key.
        """
        ring = self._current_ring(self._store.state().epoch if epoch is None else epoch)
        return self._living(ring.by_identity.get(identity), at)

    def _living(self, held: _Held | None, at: int | None) -> Principal:
        if held is None:
            raise NotAuthenticated("the key is unknown")
        if held.revoked:
            raise NotAuthenticated("the key is revoked")
        if held.expires_at is not None and (self._store.now() if at is None else at) >= held.expires_at:
            raise NotAuthenticated("the key has expired")
        return held.principal

    def still_alive(self, principal: Principal, at: int, *, epoch: int) -> bool:
        """Return whether the principal's key may still be used at an instant, as of an epoch at the earliest.

        For whoever decides again after the state moved: authentication happened under an older one. A principal without
        a key (`local`) always may.
        """
        if principal.key_id is None:
            return True
        held = self._current_ring(epoch).by_id.get(principal.key_id)
        return held is not None and not held.revoked and (held.expires_at is None or at < held.expires_at)

    def create_first(self, names: Sequence[str], *, scopes: Iterable[str] = FIRST_SCOPES) -> tuple[Issued, ...]:
        """Make the keys of at least two persons, in one entry, while no person has a key.

        Raises `Conflict` when one has, also when another process was first, and `InputRefused` for fewer than two.
        """
        if len({name.casefold() for name in names}) < max(2, len(names)):
            raise InputRefused("the first keys are those of at least two different persons", where="names")
        chosen = tuple(scopes)
        if "approve" not in chosen:
            raise InputRefused("the first keys must hold `approve`, or nothing could be approved", where="scopes")
        rows = rows_of(self._store)
        if any(row.document["principal"]["kind"] == PrincipalKind.PERSON for row in rows):
            raise Conflict("a person's key exists already; have `keys create` approved by a second person")
        requests = [KeyRequest(name, PrincipalKind.PERSON, chosen, supplies=FIRST_SUPPLIES) for name in names]
        # The ids are fixed, so that of two processes that try this at once the second meets a row that exists.
        numbered = {f"first-{number}": request for number, request in enumerate(requests, start=1)}
        writes, issued = self.genesis(numbered)
        for write in writes:
            validate_owner(write.document or {}, rows, self._store.now())
        self._store.change(Change("genesis", {"keys": [key.id for key in issued]}, writes, raises_epoch=True))
        return issued

    def genesis(self, requests: Mapping[str, KeyRequest]) -> tuple[tuple[Write, ...], tuple[Issued, ...]]:
        """Return the rows of keys for a genesis entry, by id, with their secrets. Nothing is written yet."""
        writes: list[Write] = []
        issued: list[Issued] = []
        at = self._store.now()
        for id, request in requests.items():
            validate(request, at, self._limits)
            if request.identity is not None:
                raise InputRefused("may not stand among the first keys: a token ends with its issuer", where="identity")
            secret = new_secret()
            document = document_of(request, hash_of(secret), secret[:7], issued_by=None)
            writes.append(Write("keys", id, {**document, "created_at": format_instant(at)}, expect=0))
            issued.append(Issued(id, request.principal, secret, proposal=None))
        return tuple(writes), tuple(issued)

    def create(self, principal: Principal, request: KeyRequest, *, key_hash: str | None = None) -> Issued:
        """Propose a key. Its secret is returned this once and works when a second person has approved.

        With `key_hash`, the SHA-256 of a key text that its owner made, nobody here ever sees the secret; with a token
        identity in the request there is none.
        """
        caller = acting_person(self._store, principal, "keys:write")
        require_unbounded(caller)
        validate(request, caller.at, self._limits)
        for number, tenant in enumerate(request.tenants or ()):
            if self._store.row("tenants", tenant) is None:
                raise InputRefused("is no tenant of the register", where=f"tenants[{number}]")
        if key_hash is not None and not is_hash(key_hash):
            raise InputRefused("must be the SHA-256 of the key's text, 64 hex digits", where="key_hash")
        if key_hash is not None and request.identity is not None:
            raise InputRefused("excludes a token identity: a row lets in by one of the two", where="key_hash")
        rows = tuple(rows_of(self._store))
        secret = new_secret() if key_hash is None and request.identity is None else None
        if request.identity is not None:
            digest, prefix = digest_of(request.identity, rows), ""
        else:
            digest, prefix = (key_hash or "", "") if secret is None else (hash_of(secret), secret[:7])
        id = self._new_id()
        document = document_of(request, digest, prefix, issued_by=caller.person)
        validate_owner(document, rows, caller.at)
        proposal = self._approvals.propose(
            caller, "key.create", {"id": id, "document": document}, basis=(("keys", id, 0),)
        )
        return Issued(id, request.principal, secret, proposal.id)

    def revoke(self, principal: Principal, id: str, reason: str = "") -> Committed:
        """Revoke a key at once. One person with `keys:write` may, and a person may revoke a key of their own.

        Raises `Conflict` when it is revoked already or when fewer than two approvers would be left.
        """
        row = self._store.row("keys", id)
        if row is not None and row.document["principal"]["id"] == principal.id:
            caller = acting_person(self._store, principal, *SCOPES)
        else:
            caller = acting_person(self._store, principal, "keys:write")
            require_unbounded(caller)
        if row is None:
            raise NotFound("there is no such key")
        if row.document["revoked_at"] is not None:
            raise Conflict(f"the key {id} is revoked already")
        if len(reason) > self._limits.text_characters:
            raise TooLarge(f"is longer than {self._limits.text_characters} characters", where="reason")
        remaining = self._approvers_without(row, caller.at)
        revoked = {
            **row.document,
            "revoked_at": format_instant(caller.at),
            "revoked_by": caller.person,
            "reason": reason,
        }
        own = () if caller.key_id == id else (caller.basis,)
        return self._store.change(
            Change(
                kind="key.revoked",
                public={"by": caller.key_id, "key": id},
                writes=(Write("keys", id, revoked, expect=row.revision),),
                raises_epoch=True,
                expects=(*own, *remaining),
            )
        )

    def list(self, principal: Principal) -> tuple[Key, ...]:
        """Return every key with `keys:write` or `audit:read` and a key that is not bounded, else one's own."""
        sees_all = not principal.scopes.isdisjoint(READERS)
        caller = acting_person(self._store, principal, *(READERS if sees_all else SCOPES))
        keys = [read_key(row) for row in rows_of(self._store)]
        if sees_all and caller.tenants is None:
            return tuple(keys)
        return tuple(key for key in keys if key.principal == caller.person)

    def _current_ring(self, epoch: int) -> _Ring:
        ring = self._ring
        if ring is not None and ring.epoch >= epoch:
            return ring
        with self._lock:
            if self._ring is None or self._ring.epoch < epoch:
                # The epoch is read before the rows: they may be newer than it says, never older.
                now = self._store.state().epoch
                self._ring = _ring_of(now, rows_of(self._store))
            return self._ring

    def _approvers_without(self, revoked: Row, at: int) -> tuple[Basis, ...]:
        """Return keys of two approvers that stay, which the revocation then rests on; none if it takes no approver."""
        if not approves(revoked, at):
            return ()
        staying: dict[str, Basis] = {}
        for row in rows_of(self._store):
            if row.id != revoked.id and approves(row, at):
                staying.setdefault(row.document["principal"]["id"], ("keys", row.id, row.revision))
        if len(staying) < 2:
            raise Conflict("this would leave fewer than two persons who can approve; create another approver first")
        return tuple(staying.values())[:2]

    def _create_approved(self, proposal: Proposal, approver: Caller) -> Effect:
        id, document = proposal.payload["id"], proposal.payload["document"]
        epoch = self._store.state().epoch  # read before the rows: a key that is made meanwhile raises it
        validate_owner(document, rows_of(self._store), approver.at)
        made = {**document, "created_at": format_instant(approver.at), "approved_by": approver.person}
        return Effect("key.created", {"key": id}, (Write("keys", id, made, expect=0),), expect_epoch=epoch)


def _ring_of(epoch: int, rows: Iterable[Row]) -> _Ring:
    """Return the ring of rows.

    Of the rows of one identity at most one is alive. It is the newest of those that are not revoked, for a new one is
    made only after the others have ended; where all are revoked, any of them says so.
    """
    by_hash: dict[str, _Held] = {}
    by_identity: dict[TokenIdentity, _Held] = {}
    by_id: dict[str, _Held] = {}
    for row in sorted(rows, key=_standing):
        held, identity = _held(row), identity_of(row)
        by_id[row.id] = held
        if identity is None:
            by_hash[row.document["hash"]] = held
        else:
            by_identity[identity] = held
    return _Ring(epoch, by_hash, by_identity, by_id)


def _standing(row: Row) -> tuple[bool, int]:
    return row.document["revoked_at"] is None, parse_instant(row.document["created_at"])


def _held(row: Row) -> _Held:
    key = read_key(row)
    tenants = None if key.tenants is None else frozenset(key.tenants)
    principal = Principal(key.principal, key.kind, frozenset(key.scopes), tenants, frozenset(key.supplies), key.id)
    return _Held(principal, key.expires_at, key.revoked_at is not None)
