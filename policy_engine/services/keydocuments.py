"""A key as its register holds it, and what a key may be asked to be. Pure, but for the random text of a new one.

Rules of the room: of a key's text only its SHA-256 is kept; names that differ in case only are one name too many; a
service's key holds no scope that changes anything. A row may have a token identity in place of a text: it lets in who
brings that issuer's token, and no text. One such row of an identity is alive at a time; a new one may follow it.
Left to others: granting and revoking (`keys`), what makes a token good (`tokens`).
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from policy_engine.core.decision import PrincipalKind
from policy_engine.core.instants import format_instant, parse_instant
from policy_engine.errors import Conflict, InputRefused, VerificationFailed
from policy_engine.limits import Limits
from policy_engine.services.permissions import LOCAL, SCOPES, SERVICE_SCOPES, lives
from policy_engine.store.interfaces import ReadStore, Row
from policy_engine.tokens.identity import TokenIdentity, is_issuer, is_subject

FIRST_SCOPES: Final = tuple(scope for scope in SCOPES if scope != "audit:unseal")
"""What the first keys hold: everything but unsealing, which two persons may grant later."""

FIRST_SUPPLIES: Final = ("location", "serving_region")

_TOKEN = re.compile(r"pe_[A-Za-z0-9_-]{43}")
_HASH = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:+-]*")
_PATH = re.compile(r"(?:(?:subject|resource|action)\.properties|context)(?:\.[A-Za-z_][A-Za-z0-9_-]*)+")
_SUPPLIES = frozenset(("location", "serving_region", "*"))


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """What a key should be: whose, with which scopes, bounded to which tenants (`None`: all), supplying which facts."""

    principal: str
    kind: PrincipalKind
    scopes: tuple[str, ...]
    tenants: tuple[str, ...] | None = None
    supplies: tuple[str, ...] = ()
    expires_at: int | None = None
    identity: TokenIdentity | None = None
    """In place of a secret: whose tokens let in."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A key just made. `secret` is shown this once (`None`: a hash or a token identity was given); `proposal` waits."""

    id: str
    principal: str
    secret: str | None = field(repr=False)
    proposal: str | None


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it is listed: never its secret and never its hash. Instants in microseconds."""

    id: str
    prefix: str
    principal: str
    kind: PrincipalKind
    scopes: tuple[str, ...]
    tenants: tuple[str, ...] | None
    supplies: tuple[str, ...]
    created_at: int
    expires_at: int | None
    revoked_at: int | None
    issued_by: str | None
    approved_by: str | None
    issuer: str | None = None
    subject: str | None = None


def new_secret() -> str:
    """Return the text of a new key: 256 random bits."""
    return f"pe_{secrets.token_urlsafe(32)}"


def is_token(text: str) -> bool:
    """Return whether a text has the form of a key."""
    return _TOKEN.fullmatch(text) is not None


def is_hash(text: str) -> bool:
    """Return whether a text is a SHA-256 in hex."""
    return _HASH.fullmatch(text) is not None


def hash_of(secret: str) -> str:
    """Return the SHA-256 of a key's text in hex. The text is random, so nothing slower is needed."""
    return hashlib.sha256(secret.encode()).hexdigest()


def validate(request: KeyRequest, at: int, limits: Limits) -> None:
    """Refuse a request for a key that could not mean anything, naming the member and not its value."""
    name = request.principal
    if len(name) > limits.id_characters or _NAME.fullmatch(name) is None or name.casefold() == LOCAL.id:
        raise InputRefused(
            f"must be a name of at most {limits.id_characters} letters, digits and . _ @ : + -, and not `{LOCAL.id}`",
            where="principal",
        )
    if not request.scopes:
        raise InputRefused(f"names none; choose from {', '.join(SCOPES)}", where="scopes")
    known = SCOPES if request.kind is PrincipalKind.PERSON else sorted(SERVICE_SCOPES)
    for number, scope in enumerate(request.scopes):
        if scope not in known:
            raise InputRefused(f"of a {request.kind} must be one of {', '.join(known)}", where=f"scopes[{number}]")
    for number, path in enumerate(request.supplies):
        if path not in _SUPPLIES and (len(path) > limits.id_characters or _PATH.fullmatch(path) is None):
            raise InputRefused(
                "must be location, serving_region, * or a path such as subject.properties.role",
                where=f"supplies[{number}]",
            )
    if request.tenants is not None and not request.tenants:
        raise InputRefused("is empty; leave it out for every tenant, or name one", where="tenants")
    if request.expires_at is not None and request.expires_at <= at:
        raise InputRefused("must be an instant that is still to come", where="expires_at")
    if request.identity is not None:
        _validate_identity(request.identity, limits)


def _validate_identity(identity: TokenIdentity, limits: Limits) -> None:
    if not is_issuer(identity.issuer, limits):
        most = limits.id_characters
        raise InputRefused(
            f"must be a text of 1 to {most} characters, none of them a control character", where="issuer"
        )
    if not is_subject(identity.subject, limits):
        most = limits.token_subject_characters
        raise InputRefused(
            f"must be a text of 1 to {most} characters, none of them a control character", where="subject"
        )


def identity_of(row: Row) -> TokenIdentity | None:
    """Return the token identity of a row, `None` where it has a key's text."""
    token = row.document.get("token")
    return None if token is None else TokenIdentity(token["issuer"], token["subject"])


def digest_of(identity: TokenIdentity, rows: Iterable[Row]) -> str:
    """Return the hash of a row for an identity, after those of it that have ended.

    The register takes each hash once, so of two rows that would follow the same one comes to nothing.
    """
    return identity.digest(sum(1 for row in rows if identity_of(row) == identity))


def validate_owner(document: Mapping[str, Any], rows: Iterable[Row], at: int) -> None:
    """Refuse a key text used before, a second spelling of a principal, and one that is a person and a service.

    And a token identity that another row, which may be used at the instant, has.
    """
    owner = document["principal"]
    for row in rows:
        other = row.document["principal"]
        if document.get("token") is not None and row.document.get("token") == document["token"] and lives(row, at):
            raise Conflict("the subject of that issuer is registered already; revoke that key first")
        if row.document["hash"] == document["hash"]:
            raise Conflict("a key with this text exists already; make another")
        if other["id"] == owner["id"]:
            if other["kind"] != owner["kind"]:
                raise Conflict("the principal has a key of the other kind; give the service a name of its own")
        elif other["id"].casefold() == owner["id"].casefold():
            raise Conflict("a principal of that name, spelt with other capitals, has a key already")


def approves(row: Row, at: int) -> bool:
    """Return whether a person can be counted on to approve with the key at the instant; not if bounded to tenants.

    Nor with a token identity: it ends with its issuer, or with a setting, and nobody might be left to mend that.
    """
    document = row.document
    if document["principal"]["kind"] != PrincipalKind.PERSON or "approve" not in document["scopes"]:
        return False
    return lives(row, at) and document["tenants"] is None and document.get("token") is None


def document_of(request: KeyRequest, digest: str, prefix: str, *, issued_by: str | None) -> dict[str, Any]:
    """Return the document of a key that is not made yet: `created_at` and `approved_by` come with its approval."""
    expires_at, identity = request.expires_at, request.identity
    token = {} if identity is None else {"token": {"issuer": identity.issuer, "subject": identity.subject}}
    return {
        "hash": digest,
        "prefix": prefix,
        "principal": {"id": request.principal, "kind": str(request.kind)},
        "scopes": sorted(set(request.scopes), key=SCOPES.index),
        "tenants": None if request.tenants is None else sorted(set(request.tenants)),
        "supplies": sorted(set(request.supplies)),
        "created_at": None,
        "expires_at": None if expires_at is None else format_instant(expires_at),
        "revoked_at": None,
        "issued_by": issued_by,
        "approved_by": None,
        **token,
    }


def rows_of(store: ReadStore) -> list[Row]:
    """Return the rows of all keys. Raises `VerificationFailed` for one that this program does not write."""
    rows = store.rows("keys")
    for row in rows:
        try:
            read_key(row)
            known = isinstance(row.document["hash"], str)
        except (AttributeError, LookupError, TypeError, ValueError):
            known = False
        if not known:
            raise VerificationFailed(f"the row of the key {row.id} is not what this program writes; run `audit verify`")
    return rows


def read_key(row: Row) -> Key:
    """Return the key of a register row."""
    document = row.document
    expires_at, revoked_at, tenants = document["expires_at"], document["revoked_at"], document["tenants"]
    identity = identity_of(row)
    return Key(
        id=row.id,
        prefix=document["prefix"],
        principal=document["principal"]["id"],
        kind=PrincipalKind(document["principal"]["kind"]),
        scopes=tuple(document["scopes"]),
        tenants=None if tenants is None else tuple(tenants),
        supplies=tuple(document["supplies"]),
        created_at=parse_instant(document["created_at"]),
        expires_at=None if expires_at is None else parse_instant(expires_at),
        revoked_at=None if revoked_at is None else parse_instant(revoked_at),
        issued_by=document.get("issued_by"),
        approved_by=document.get("approved_by"),
        issuer=None if identity is None else identity.issuer,
        subject=None if identity is None else identity.subject,
    )
