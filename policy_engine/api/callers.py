"""Who calls: the `Authorization` header to a principal, the same way for every door.

Rules of the room:
- The header is `Bearer` and one key or token (JWT); whatever is not exactly that is not authenticated. Of a key the
  answer never says how near it was; of a token it says what is wrong, by a constant sentence, but not whether its
  subject is known. Scopes are asked for by name.
- While no keys of a token's issuer are known, nobody knows whose it is: `IssuerUnavailable`, no refusal of the token.
- `identify` may wait for keys of a token's issuer, bounded; `identify_now` never waits.
- A token ends at its own time as well: a question that took longer to arrive is not asked with it (`require_time`).
- A key is looked up under an epoch. A decision that was made under another epoch than its caller was authenticated
  under asks again before it allows: between the two the key may have been revoked.
Left to others: the key register and its clock (`services.keys`), what makes a token good (`tokens`), the status codes
(`problems`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from policy_engine.core.decision import Principal
from policy_engine.errors import NotAuthenticated, NotPermitted
from policy_engine.limits import LIMITS

_SCHEME: Final = b"bearer "
_KEY_PREFIX: Final = "pe_"


@dataclass(frozen=True, slots=True)
class Authenticated:
    """A principal, the epoch under which its key was found alive, and when its token ends (`None`: it brought none)."""

    principal: Principal
    epoch: int
    until: int | None = None


class Keys(Protocol):
    """The part of the key service that a door needs."""

    def authenticate(self, token: str, *, fresh: bool) -> Authenticated:
        """Return the principal of a living key or a good token; raise `NotAuthenticated` otherwise. Never waits.

        `fresh` asks the store for the epoch; otherwise the epoch that decisions are made under is enough.
        """
        ...

    async def ready(self, token: str) -> None:
        """Wait, bounded, for what `authenticate` may need to know a token. Says nothing about the token."""
        ...

    def now(self) -> int:
        """Return the clock by which keys and tokens end, in microseconds."""
        ...


async def identify(keys: Keys, authorization: bytes | None, *, fresh: bool = True) -> Authenticated:
    """Return the principal behind the header. Raises `NotAuthenticated` and `IssuerUnavailable`."""
    token = _token(authorization)
    if not token.startswith(_KEY_PREFIX):
        await keys.ready(token)
    return keys.authenticate(token, fresh=fresh)


def identify_now(keys: Keys, authorization: bytes | None, *, fresh: bool = True) -> Authenticated:
    """The same, with the keys of issuers that are known already."""
    return keys.authenticate(_token(authorization), fresh=fresh)


def _token(authorization: bytes | None) -> str:
    if (
        authorization is None
        or authorization[:7].lower() != _SCHEME
        or len(authorization) > len(_SCHEME) + LIMITS.token_bytes
    ):
        raise NotAuthenticated("send the header Authorization: Bearer followed by a key")
    try:
        return authorization[7:].strip().decode("ascii")
    except UnicodeDecodeError:
        raise NotAuthenticated("the key is unknown") from None


def identify_again(keys: Keys, authorization: bytes | None, before: Authenticated) -> None:
    """Raise `NotAuthenticated` unless the header's key is still alive, now, and its principal what it was."""
    if identify_now(keys, authorization).principal != before.principal:
        raise NotAuthenticated("the key has changed; ask again")


def require_time(keys: Keys, caller: Authenticated) -> None:
    """Raise `NotAuthenticated` when the caller's token has ended since it was looked at."""
    if caller.until is not None and keys.now() >= caller.until:
        raise NotAuthenticated("the token has expired")


def require_scope(principal: Principal, scope: str) -> None:
    """Raise `NotPermitted` unless the principal holds the scope."""
    if scope not in principal.scopes:
        raise NotPermitted(f"this needs the scope {scope}, which the key does not hold")
