"""All issuers whose tokens are taken, together: which one a token is of, and waiting for keys beside an event loop.

Rules of the room:
- `vouch` never waits and may be called on an event loop; `ready` before it waits for keys where that may help.
- Keys are read again in a thread of their own, one for an issuer at a time, however many ask. Whoever needs them waits,
  at most `limits.jwks_seconds`; whose key is known meanwhile does not. No more than `limits.token_waiting_count` wait
  for an issuer that hangs, for anybody can send made-up tokens and hold a place.
- What an unverified token says chooses the issuer whose keys it is tried with, and nothing else.
Left to others: what makes a token good (`verifying`), where keys come from (`keysets`), whom it lets in (`services`).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass

import structlog

from policy_engine.errors import NotAuthenticated
from policy_engine.limits import LIMITS, Limits
from policy_engine.tokens.anchors import Anchor
from policy_engine.tokens.identity import TokenIdentity, is_subject
from policy_engine.tokens.keysets import KeySource
from policy_engine.tokens.verifying import Tokens, claims_unverified, load

log = structlog.get_logger(__name__)

MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Vouched:
    """Whom a good token is about, and the instant, in microseconds, at which it is good no longer."""

    identity: TokenIdentity
    until: int


class Refreshing:
    """Keys of one source, read again in a thread: once for all who ask meanwhile."""

    def __init__(self, keys: KeySource) -> None:
        self._keys = keys
        self._lock = threading.Lock()
        self._flight: Future[None] | None = None

    def needed(self, kid: str | None, algorithm: str) -> Future[None] | None:
        """Return what a token of that key has to wait for, begun if need be; `None` when nothing would help."""
        if self._keys.is_due(kid):
            return self.begin(kid)
        flight = self._flight
        if flight is None or self._keys.find(kid, algorithm) is not None:
            return None
        return flight

    def begin(self, kid: str | None = None) -> Future[None]:
        """Begin to read the keys, unless that is under way."""
        with self._lock:
            if self._flight is None:
                self._flight = Future()
                self._flight.set_running_or_notify_cancel()  # who hangs up cancels it for nobody else
                threading.Thread(target=self._fly, args=(self._flight, kid), name="jwks", daemon=True).start()
            return self._flight

    def _fly(self, flight: Future[None], kid: str | None) -> None:
        try:
            self._keys.refresh(kid)
        except Exception as error:  # noqa: BLE001  whoever waits goes on with the keys there are
            log.error("jwks.not-read", cause=type(error).__name__)
        finally:
            with self._lock:
                self._flight = None
            flight.set_result(None)


@dataclass(slots=True, eq=False)
class _Trusted:
    """An anchor at work, and how many wait for its keys."""

    anchor: Anchor
    tokens: Tokens
    refreshing: Refreshing
    waiting: int = 0


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
        flight = trusted.refreshing.needed(named.kid, named.algorithm)
        if flight is None or trusted.waiting >= self._limits.token_waiting_count:
            return
        trusted.waiting += 1
        try:
            await asyncio.wait((asyncio.wrap_future(flight),), timeout=self._limits.jwks_seconds)
        finally:
            trusted.waiting -= 1

    def begin(self) -> None:
        """Begin to fetch keys that were never fetched, so that the first token finds them."""
        for trusted in self._trusted.values():
            if trusted.anchor.keys.is_due(None):
                trusted.refreshing.begin()

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
    return _Trusted(anchor, tokens, Refreshing(anchor.keys))
