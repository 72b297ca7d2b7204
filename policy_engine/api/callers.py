"""Who calls: the `Authorization` header to a principal, the same way for every door.

Rules of the room:
- The header is `Bearer` and one token; whatever is not exactly that is not authenticated, and the answer never says how
  near it was. Scopes are asked for by name.
- A key is looked up under an epoch. A decision that was made under another epoch than its caller was authenticated
  under asks again before it allows: between the two the key may have been revoked.
Left to others: the key register and its clock (`services.keys`), the status codes (`problems`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from policy_engine.core.decision import Principal
from policy_engine.errors import NotAuthenticated, NotPermitted

_SCHEME: Final = b"bearer "
_TOKEN_BYTES_MAX: Final = 4_096


@dataclass(frozen=True, slots=True)
class Authenticated:
    """A principal, and the epoch under which its key was found alive."""

    principal: Principal
    epoch: int


class Keys(Protocol):
    """The part of the key service that a door needs."""

    def authenticate(self, token: str, *, fresh: bool) -> Authenticated:
        """Return the principal of a living key; raise `NotAuthenticated` otherwise.

        `fresh` asks the store for the epoch; otherwise the epoch that decisions are made under is enough.
        """
        ...


def identify(keys: Keys, authorization: bytes | None, *, fresh: bool = True) -> Authenticated:
    """Return the principal behind the header. Raises `NotAuthenticated`."""
    if authorization is None or authorization[:7].lower() != _SCHEME or len(authorization) > _TOKEN_BYTES_MAX:
        raise NotAuthenticated("send the header Authorization: Bearer followed by a key")
    try:
        token = authorization[7:].strip().decode("ascii")
    except UnicodeDecodeError:
        raise NotAuthenticated("the key is unknown") from None
    return keys.authenticate(token, fresh=fresh)


def identify_again(keys: Keys, authorization: bytes | None, before: Authenticated) -> None:
    """Raise `NotAuthenticated` unless the header's key is still alive, now, and its principal what it was."""
    if identify(keys, authorization).principal != before.principal:
        raise NotAuthenticated("the key has changed; ask again")


def require_scope(principal: Principal, scope: str) -> None:
    """Raise `NotPermitted` unless the principal holds the scope."""
    if scope not in principal.scopes:
        raise NotPermitted(f"this needs the scope {scope}, which the key does not hold")
