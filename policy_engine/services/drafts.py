"""Drafts: entries before they have a place, as the recorder hands them to the store (`interfaces.Draft`).

Rules: nothing personal gets into the public part (who asked, from where, an individual's tenant, words a caller made
up); every input of the decision is in the sealed part; a draft is encoded inside the committing transaction, with a
fresh salt and nonce each time. Personal facets by which an entry can be found are `TAGGED_FACETS`, as keyed tags.
Left to others: bytes (`ledger.decisions`, `ledger.encoding`), commits (`services.record`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from policy_engine.core.decision import Evaluation, Outcome, Principal
from policy_engine.core.instants import ENDLESS
from policy_engine.ledger.canonical import INTEGER_MAX, canonical
from policy_engine.ledger.decisions import DecisionBody, DecisionMembers, Tagged, decision_public
from policy_engine.ledger.encoding import Place, note_public
from policy_engine.ledger.sealing import NONCE_BYTES, SALT_BYTES, SealedBody, place_of, seal_body
from policy_engine.services.datakeys import DataKeys, Tags
from policy_engine.services.permissions import named_by
from policy_engine.services.randomness import random_bytes
from policy_engine.store.interfaces import Encoded, State

TAGGED_FACETS = ("location", "counted", "us_person", "evidence")
"""Personal facets that an entry is found by, beside its subject and, where it is sealed, its tenant."""

STANDARD_ACTIONS = frozenset({"infer", "fine_tune", "download_weights", "list"})
"""Actions that every policy knows. Another word is public only once the rules have seen and known it."""


class SealedDraft:
    """What drafts with a sealed part share: their data key, and the facts and instants they rest on."""

    __slots__ = ("_cipher", "_keys", "_offered", "_subject", "_tags", "_tenant", "id")

    def __init__(self, keys: DataKeys, tags: Tags, tenant: str | None, subject: str) -> None:
        self.id = new_id()
        self._keys = keys
        self._tags = tags
        self._tenant = tenant
        self._subject = subject
        self._cipher: tuple[str, AESGCM] | None = None
        self._offered: bytes | None = None

    @property
    def under(self) -> tuple[int, str | None]:
        """The epoch and release that the entry will name."""
        raise NotImplementedError

    def new_keys(self) -> Sequence[tuple[str, bytes]]:
        """Return the data key to store with the entry, if it is new."""
        key_id, _ = self._cipher = self._keys.cipher(self._tenant, self._subject, self.under[0])
        wrapped = self._offered = self._keys.offered(key_id)
        return () if wrapped is None else ((key_id, wrapped),)

    def adopt(self, key_id: str, wrapped: bytes) -> None:
        """Take the stored data key instead of the one made here."""
        self._cipher = self._keys.adopt(self._tenant, self._subject, key_id, wrapped)

    def stored(self) -> None:
        """Say that the entry, and its data key with it, is durable."""
        if self._cipher is not None and self._offered is not None:
            self._keys.stored(self._cipher[0], self._offered)

    def _seal(self, log_id: str, seq: int, body: bytes) -> tuple[str, SealedBody]:
        """Return the id of the data key and the body sealed under it for a place."""
        if self._cipher is None:
            raise RuntimeError("the store asks for new keys before it encodes")
        key_id, cipher = self._cipher
        random = random_bytes(NONCE_BYTES + SALT_BYTES)
        return key_id, seal_body(cipher, random[:NONCE_BYTES], random[NONCE_BYTES:], place_of(log_id, seq), body)


class DecisionDraft(SealedDraft):
    """The entry of one decision."""

    __slots__ = ("_by", "_clock_set", "_evaluation", "_raw", "_tagged", "facts_revision")

    def __init__(
        self,
        evaluation: Evaluation,
        principal: Principal,
        facts_revision: int,
        keys: DataKeys,
        tags: Tags,
        *,
        clock_set: bool,
        raw: str | None,
    ) -> None:
        if evaluation.hypothetical:
            raise ValueError("a hypothetical evaluation is no decision and has no entry")
        super().__init__(keys, tags, evaluation.request.tenant, evaluation.request.subject_id)
        self.facts_revision = facts_revision
        self._evaluation = evaluation
        self._by = named_by(principal)
        self._clock_set = clock_set
        self._raw = raw
        self._tagged: Tagged = ()

    @property
    def under(self) -> tuple[int, str | None]:
        """The epoch and release that the entry will name."""
        return self._evaluation.epoch, self._evaluation.release or None

    @property
    def allows(self) -> bool:
        """Whether an allow leaves on this entry."""
        return self._evaluation.outcome is Outcome.ALLOW

    @property
    def instant(self) -> int:
        """The instant it was evaluated at."""
        return self._evaluation.at

    @property
    def until(self) -> int:
        """The instant at which it goes stale."""
        return self._evaluation.until

    @property
    def revisions(self) -> tuple[tuple[str, str, int], ...]:
        """The rows it was evaluated on."""
        return self._evaluation.revisions

    def encode(self, log_id: str, seq: int, at: int) -> Encoded:
        """Return the entry for its place."""
        key_id, body = self._seal(log_id, seq, self._body())
        public = decision_public(self._members(), log_id, seq, at, body.commit, body.sealed)
        return Encoded(public, body.ciphertext, key_id, self._entry_tags(at))

    def _members(self) -> DecisionMembers:
        return public_members(self._evaluation, self.id, self._by, clock_set=self._clock_set)

    def _body(self) -> bytes:
        """The sealed part. Of a remembered evaluation only the instant differs from one entry to the next."""
        found = self._evaluation
        shared = None if self._raw is not None else found.shared
        if shared is not None and "body" in shared:
            before, after, self._tagged = shared["body"]
            return b"%b%d%b" % (before, found.at, after)
        self._tagged = tagged_facets(found.facets)
        body = sealed_members(found, self._tagged, self._raw).encode()
        mark = b'"values":[%d,' % found.at  # the last member; inside a text its quotes would be escaped
        if shared is not None and body.count(mark) == 1:
            place_of_instant = body.index(mark) + len(b'"values":[')
            after = body[place_of_instant + len(b"%d" % found.at) :]
            shared["body"] = (body[:place_of_instant], after, self._tagged)
        return body

    def _entry_tags(self, at: int) -> tuple[bytes, ...]:
        found = self._evaluation
        tag = self._tags.tag
        tags = self._tags.facet_tags(at, self._tagged)
        if found.tenant_sealed and found.request.tenant is not None:
            tags = (tag(at, "tenant", found.request.tenant), *tags)
        return (tag(at, "subject", found.request.subject_id), *tags)


def public_members(found: Evaluation, id: str, by: str, *, clock_set: bool) -> DecisionMembers:
    """Return what anyone may read of an evaluation that the key `by` asked for."""
    request = found.request
    known = found.values is not None and found.action_known
    return DecisionMembers(
        id=id,
        outcome=found.outcome.value,
        action=request.action if known or request.action in STANDARD_ACTIONS else None,
        model=found.model,
        asked=None if found.model is None or found.model == request.model else request.model,
        tier=found.tier,
        tenant=None if found.tenant_sealed else request.tenant,
        reasons=tuple((reason.rule, reason.code, reason.orders) for reason in found.reasons),
        rules=found.matched,
        lifted=found.lifted,
        licences=found.licences,
        missing=found.missing,
        flags=found.flags,
        until=None if found.until > INTEGER_MAX else found.until,  # in the year 2255: the log has no number for it
        instant=found.at,
        by=by,
        reached=found.values is not None,
        epoch=found.epoch,
        release=found.release or None,
        clock_set=clock_set,
    )


def sealed_members(found: Evaluation, tagged: Tagged, raw: str | None) -> DecisionBody:
    """Return what is sealed of an evaluation: every personal input. `raw` is the request where rules read it."""
    request = found.request
    place = request.location
    return DecisionBody(
        action=request.action,
        model=request.model,
        subject=request.subject_id,
        subject_type=request.subject_type,
        resource_type=request.resource_type,
        tenant=request.tenant,
        location=None if place is None else (place.country, place.region, place.anonymiser),
        serving_region=request.serving_region,
        revisions=found.revisions,
        values=found.values,
        raw=raw,
        tagged=tagged or None,
    )


def tagged_facets(facets: Mapping[str, Any] | None) -> Tagged:
    """Return the personal facets that have tags, with their values."""
    if facets is None:
        return ()
    return tuple([(name, _values(facets[name])) for name in TAGGED_FACETS if facets.get(name) is not None])


def _values(value: str | frozenset[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value) if len(value) < 2 else tuple(sorted(value))


class NoteDraft(SealedDraft):
    """The entry of a search, a read or a gap: no register changes and no allow leaves on it."""

    __slots__ = ("_body", "_clock_set", "_kind", "_members", "_state", "instant", "revisions", "until")

    allows = False

    def __init__(
        self,
        kind: str,
        members: Mapping[str, Any],
        body: Mapping[str, Any] | None,
        state: State,
        keys: DataKeys,
        tags: Tags,
        *,
        instant: int,
        until: int = ENDLESS,
        tenant: str | None = None,
        subject: str = "",
        revisions: tuple[tuple[str, str, int], ...] = (),
        clock_set: bool = False,
    ) -> None:
        super().__init__(keys, tags, tenant, subject)
        self.instant = instant
        self.until = until
        self.revisions = revisions
        self._kind = kind
        self._members = members
        self._body = None if body is None else canonical({**body, "subject": subject, "tenant": tenant})
        self._state = state
        self._clock_set = clock_set

    @property
    def under(self) -> tuple[int, str | None]:
        """The epoch and release that the entry will name."""
        return self._state.epoch, self._state.release

    @property
    def facts_revision(self) -> int:
        """The facts revision it was made on."""
        return self._state.facts_revision

    def new_keys(self) -> Sequence[tuple[str, bytes]]:
        """Return the data key to store with the entry, if there is a body and its key is new."""
        return () if self._body is None else super().new_keys()

    def encode(self, log_id: str, seq: int, at: int) -> Encoded:
        """Return the entry for its place."""
        place = Place(log_id, seq, at, self._state.epoch, self._state.release, self._clock_set)
        if self._body is None:
            return Encoded(note_public(self._kind, self.id, place, self._members, commit="", sealed=""), b"", None)
        key_id, body = self._seal(log_id, seq, self._body)
        public = note_public(self._kind, self.id, place, self._members, commit=body.commit, sealed=body.sealed)
        tags = (self._tags.tag(at, "subject", self._subject),) if self._subject else ()
        return Encoded(public, body.ciphertext, key_id, tags)


def new_id() -> str:
    """Return a random id, 32 hex digits, in the form of a version 4 UUID."""
    digits = random_bytes(16).hex()
    return f"{digits[:12]}4{digits[13:16]}a{digits[17:]}"
