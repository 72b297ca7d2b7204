"""All issuers whose tokens are taken, together: which one a token is of, and waiting for keys beside an event loop.

Rules of the room:
- `vouch` never waits and may be called on an event loop; `ready` before it waits for keys where that may help.
- What an unverified token says chooses the issuer whose keys it is tried with, and nothing else.
Left to others: what makes a token good (`verifying`), where keys come from (`keysets`), reading them once for all who
ask (`refreshing`), whom it lets in (`services`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from policy_engine.errors import NotAuthenticated
from policy_engine.limits import LIMITS, Limits
from policy_engine.tokens.anchors import Anchor
from policy_engine.tokens.identity import TokenIdentity, is_subject
from policy_engine.tokens.verifying import Tokens, claims_unverified, load

MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Vouched:
    """Whom a good token is about, and the instant, in microseconds, at which it is good no longer."""

    identity: TokenIdentity
    until: int


@dataclass(slots=True, eq=False)
class _Trusted:
    """An anchor at work."""

    anchor: Anchor
    tokens: Tokens


class Issuers:
    """The issuers of a file, at a clock in microseconds."""

    def __init__(self, anchors: Iterable[Anchor], clock: Callable[[], int], limits: Limits = LIMITS) -> None:
        load()
        self._limits = limits
        self._trusted = {anchor.issuer: _trusted(anchor, clock, limits) for anchor in anchors}

    def vouch(self, token: str) -> Vouched:
        """Return whom a token is about, with the keys as they are; never waits.

        Raises `NotAuthenticated`, and `IssuerUnavailable` where no keys are known.
        """
        trusted = self._of(token)
        claims = trusted.tokens.verify_now(token)
        subject = claims.get(trusted.anchor.claim)
        if not is_subject(subject, self._limits):
            raise NotAuthenticated("the token does not name whom it is about")
        until = round(trusted.tokens.until(claims) * MICROSECONDS)
        return Vouched(TokenIdentity(trusted.anchor.issuer, subject), until)

    async def ready(self, token: str) -> None:
        """Wait, bounded, for the keys that a token may need; says nothing about the token."""
        try:
            trusted = self._of(token)
            named = trusted.tokens.named(token)
        except NotAuthenticated:
            return  # no key makes it good, and `vouch` will say why
        await trusted.tokens.refreshing.wait_async(named.kid, named.algorithm)

    def begin(self) -> None:
        """Begin to fetch keys that were never fetched, so that the first token finds them."""
        for trusted in self._trusted.values():
            if trusted.anchor.keys.is_due(None):
                trusted.tokens.refreshing.begin()

    def _of(self, token: str) -> _Trusted:
        for trusted in self._trusted.values():
            if trusted.tokens.knows(token):
                return trusted
        issuer = claims_unverified(token, self._limits).get("iss")
        found = self._trusted.get(issuer) if isinstance(issuer, str) else None
        if found is None:
            raise NotAuthenticated("the token is of another issuer")
        return found


def _trusted(anchor: Anchor, clock: Callable[[], int], limits: Limits) -> _Trusted:
    tokens = Tokens(
        anchor.keys,
        issuer=anchor.issuer,
        audience=anchor.audience,
        algorithms=anchor.algorithms,
        types=anchor.types,
        leeway_seconds=anchor.leeway_seconds,
        clock=lambda: clock() / MICROSECONDS,
        limits=limits,
    )
    return _Trusted(anchor, tokens)
