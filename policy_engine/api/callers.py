"""Who calls: the `Authorization` header to a principal, the same way for every door.

Rules of the room: the header is `Bearer` and one token; whatever is not exactly that is not authenticated, and the
answer never says how near it was. Scopes are asked for by name. Left to others: the key register and its clock
(`services.keys`), the status codes (`problems`).
"""

from __future__ import annotations

from typing import Final, Protocol

from policy_engine.core.decision import Principal
from policy_engine.errors import NotAuthenticated, NotPermitted

_SCHEME: Final = b"bearer "
_TOKEN_BYTES_MAX: Final = 4_096


class Keys(Protocol):
    """The part of the key service that a door needs."""

    def authenticate(self, token: str, /) -> Principal:
        """Return the principal of a living key; raise `NotAuthenticated` otherwise."""
        ...


def identify(keys: Keys, authorization: bytes | None) -> Principal:
    """Return the principal behind the header. Raises `NotAuthenticated`."""
    if authorization is None or authorization[:7].lower() != _SCHEME or len(authorization) > _TOKEN_BYTES_MAX:
        raise NotAuthenticated("send the header Authorization: Bearer followed by a key")
    try:
        token = authorization[7:].strip().decode("ascii")
    except UnicodeDecodeError:
        raise NotAuthenticated("the key is unknown") from None
    return keys.authenticate(token)


def require_scope(principal: Principal, scope: str) -> None:
    """Raise `NotPermitted` unless the principal holds the scope."""
    if scope not in principal.scopes:
        raise NotPermitted(f"this needs the scope {scope}, which the key does not hold")
