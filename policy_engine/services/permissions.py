"""Who may change what: scopes, persons and services, and the key behind every call.

A worked story. Olga, the operator, holds `orders:write`, `switch:engage` and `switch:release`; Paul holds `approve`.
Olga engages a switch alone, for that only denies. To release it she proposes, and Paul, who is another *person* and did
not engage it, approves. Olga's second key is still Olga. The enforcement point's key belongs to a service: it asks for
decisions and changes nothing. A shell without a key is `local`: it may ask, and stop the sample world, no more.

Rules of the room:
- A scope is asked for by name; there is no scope that means all of them, and an unknown one is refused.
- A change needs a person's key, and the key is read again from its register when the change is made: a `Principal` that
  was authenticated an hour ago is no proof. Its revision goes into the change, so that a revocation in between wins.
- A key bounded to tenants changes nothing that reaches beyond them.
Left to others: turning a token into a principal (`keys`), two persons (`approvals`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from policy_engine.core.decision import Principal, PrincipalKind
from policy_engine.core.instants import parse_instant
from policy_engine.errors import NotAuthenticated, NotPermitted
from policy_engine.store.interfaces import ReadStore, Row

SCOPES: Final = (
    "decide",
    "facts:write",
    "orders:write",
    "approve",
    "switch:engage",
    "switch:release",
    "policy:write",
    "keys:write",
    "audit:read",
    "audit:unseal",
)
"""Every scope there is, in the order in which they are shown."""

SERVICE_SCOPES: Final = frozenset(("decide", "audit:read"))
"""What a service's key may hold; the other scopes change something, or unseal, and need a person."""

LOCAL: Final = Principal(
    id="local",
    kind=PrincipalKind.SERVICE,
    scopes=frozenset(("decide",)),
    tenants=None,
    supplies=frozenset(("location", "serving_region")),
    key_id=None,
)
"""The command line and the embedding process when they name no key."""


DRILL: Final = Principal(
    id="drill",
    kind=PrincipalKind.SERVICE,
    scopes=frozenset(("decide",)),
    tenants=None,
    supplies=frozenset(("location", "serving_region")),
    key_id=None,
)
"""Who asks in a drill of kill switches. It has no key, so no door can authenticate anybody as it."""


def is_drill(principal: Principal) -> bool:
    """Return whether a drill asks."""
    return principal.key_id is None and principal.id == DRILL.id


def named_by(principal: Principal) -> str:
    """Return what an entry says of who asked: the id of a key, `drill`, or `local`."""
    return DRILL.id if is_drill(principal) else principal.key_id or LOCAL.id


def is_local(principal: Principal) -> bool:
    """Return whether the caller is the command line or the embedding process without a key."""
    return principal.key_id is None and principal.id == LOCAL.id


Basis = tuple[str, str, int]
"""`(register, id, revision)` of a row that something rests on; revision 0 says that there is no such row."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A person whose key was found alive at the instant `at`; `basis` is the revision of that key."""

    person: str
    key_id: str
    tenants: frozenset[str] | None
    at: int
    basis: Basis


def require(principal: Principal, scope: str) -> None:
    """Raise `NotPermitted` unless the principal holds the scope."""
    if scope not in principal.scopes:
        raise NotPermitted(f"this needs the scope `{scope}`, which the caller's key does not hold")


def acting_person(store: ReadStore, principal: Principal, *scopes: str) -> Caller:
    """Return the person who acts, after reading the key again: alive, of that person, with one of the scopes.

    Raises `NotPermitted` for what the key does not cover and `NotAuthenticated` for one that ended meanwhile.
    """
    wanted = " or ".join(f"`{scope}`" for scope in scopes)
    if principal.key_id is None:
        raise NotPermitted(f"this needs a person's key with the scope {wanted}; name one in POLICY_ENGINE_KEY")
    if principal.kind is not PrincipalKind.PERSON:
        raise NotPermitted(f"this needs a person's key with the scope {wanted}; the caller's key belongs to a service")
    at = store.now()
    row = alive(store.row("keys", principal.key_id), at)
    owner = row.document["principal"]
    if owner["id"] != principal.id or owner["kind"] != PrincipalKind.PERSON:
        raise NotPermitted("the key does not belong to the person who is said to act")
    if not principal.scopes.intersection(scopes).intersection(row.document["scopes"]):
        raise NotPermitted(f"this needs the scope {wanted}, which the caller's key does not hold")
    tenants = row.document["tenants"]
    bounded = None if tenants is None else frozenset(tenants)
    return Caller(principal.id, row.id, bounded, at, ("keys", row.id, row.revision))


def alive(row: Row | None, at: int) -> Row:
    """Return the row of a key that may be used at the instant; raise `NotAuthenticated` saying what is wrong, no more.

    The three sentences name neither the key nor its owner: whoever holds a wrong key learns nothing else.
    """
    if row is None:
        raise NotAuthenticated("the key is unknown")
    if row.document["revoked_at"] is not None:
        raise NotAuthenticated("the key is revoked")
    expires_at = row.document["expires_at"]
    if expires_at is not None and at >= parse_instant(expires_at):
        raise NotAuthenticated("the key has expired")
    return row


def lives(row: Row | None, at: int) -> bool:
    """Return whether a row is that of a key that may be used at the instant."""
    try:
        alive(row, at)
    except NotAuthenticated:
        return False
    return True


def require_unbounded(caller: Caller) -> None:
    """Raise `NotPermitted` when the caller's key is bounded to tenants: what it asks for reaches beyond them."""
    if caller.tenants is not None:
        raise NotPermitted("this reaches beyond the tenants to which the caller's key is bounded")


def require_tenants(caller: Caller, tenants: frozenset[str]) -> None:
    """Raise `NotPermitted` unless the caller's key covers every one of the tenants, and there is at least one."""
    if caller.tenants is not None and not (tenants and tenants <= caller.tenants):
        raise NotPermitted("this concerns a tenant that the caller's key does not cover")
