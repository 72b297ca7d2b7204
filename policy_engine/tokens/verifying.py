"""Verifying JSON Web Tokens: one issuer, one audience, fixed algorithms, pinned keys.

Rules of the room:
- Only what this issuer signed for this audience, now: `iss`, `aud`, `exp` and `nbf` must be there and right, `typ` must
  be one of those expected, the algorithm one of those configured. Only asymmetric ones can be configured: with a shared
  secret every verifier could sign, and `none` signs nothing.
- Keys come from the configured set alone. What a token says about keys (`jku`, `x5u`, `jwk`) is never followed, and an
  extension that must be understood (`crit`) is not.
- A token that was verified is known by its hash while the very key that verified it is in the set, so that neither its
  signature, nor its issuer and audience, are checked again for each request; its times are.
- Sentences say what is wrong and hold nothing of the token.
Left to others: where keys come from (`keysets`), waiting for them (`refreshing`), whom the claims name (`issuers`,
`middleware.tokens`).
"""

from __future__ import annotations

import json
import re
import threading
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from importlib import import_module
from typing import Any, Final

from policy_engine.errors import InputRefused, IssuerUnavailable, NotAuthenticated
from policy_engine.limits import LIMITS, Limits
from policy_engine.tokens.keysets import KeySource
from policy_engine.tokens.refreshing import Refreshing

ALGORITHMS: Final = frozenset(
    ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
)
TYPES: Final = frozenset(("jwt", "at+jwt"))
LEEWAY_SECONDS_MAX: Final = 300
"""By how much clocks may differ at most; with more, tokens would be good long after their end."""

_MALFORMED: Final = "the token is malformed"
_COMPACT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_SECONDS_MAX: Final = 2**40
"""No token needs an instant beyond; numbers without bounds are trouble for arithmetic."""


@dataclass(frozen=True, slots=True)
class Named:
    """The key that a token says it is signed with. Nothing of it is believed yet."""

    kid: str | None
    algorithm: str


@dataclass(frozen=True, slots=True)
class _Signed:
    """A token by its hash: what its header says, and once verified, by which key and with which claims."""

    digest: bytes
    kid: str | None
    algorithm: str
    key: object = None
    claims: Mapping[str, Any] = field(default_factory=dict, repr=False)
    since: float = 0.0
    until: float = 0.0
    """From when, and until when, its claims say that it is good."""


class Tokens:
    """Verifies the tokens of one issuer for one audience."""

    def __init__(
        self,
        keys: KeySource,
        *,
        issuer: str,
        audience: str,
        algorithms: Collection[str],
        types: Collection[str] = TYPES,
        leeway_seconds: float = 0.0,
        clock: Callable[[], float] = time.time,
        limits: Limits = LIMITS,
    ) -> None:
        unknown = frozenset(algorithms) - ALGORITHMS
        if unknown or not algorithms:
            raise InputRefused(f"must be among {', '.join(sorted(ALGORITHMS))}", where="the algorithms of tokens")
        named: tuple[object, ...] = (issuer, audience)
        if not all(isinstance(each, str) and each for each in named):
            raise InputRefused("must be one text each", where="the issuer and audience of tokens")
        if not 0 <= leeway_seconds <= LEEWAY_SECONDS_MAX:
            raise InputRefused(f"must be from 0 to {LEEWAY_SECONDS_MAX} seconds", where="the leeway of tokens")
        self.refreshing = Refreshing(keys, limits)
        """By whom keys are read again, once for all who need them."""
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._algorithms = frozenset(algorithms)
        self._types = frozenset(each.lower() for each in types)
        self._leeway = leeway_seconds
        self._clock = clock
        self._limits = limits
        self._lock = threading.Lock()
        self._kept: dict[bytes, _Signed] = {}

    def verify(self, token: str) -> Mapping[str, Any]:
        """Return the claims. Raises `NotAuthenticated` and, where no keys are known, `IssuerUnavailable`; may wait for
        keys to be fetched."""
        signed = self._signed(token)
        self.refreshing.wait(signed.kid, signed.algorithm)
        return self._verified(token, signed)

    async def verify_async(self, token: str) -> Mapping[str, Any]:
        """The same, waiting on the running event loop."""
        signed = self._signed(token)
        await self.refreshing.wait_async(signed.kid, signed.algorithm)
        return self._verified(token, signed)

    def verify_now(self, token: str) -> Mapping[str, Any]:
        """The same, with the keys as they are: never waits."""
        return self._verified(token, self._signed(token))

    def knows(self, token: str) -> bool:
        """Return whether a token was verified here, of late; whether it still is good, `verify_now` says."""
        return bool(self._kept) and _digest(token) in self._kept

    def named(self, token: str) -> Named:
        """Return which key a token needs. Raises `NotAuthenticated` for one that no key can make good."""
        signed = self._signed(token)
        return Named(signed.kid, signed.algorithm)

    def until(self, claims: Mapping[str, Any]) -> float:
        """Return when a token with these claims is good no longer, in seconds."""
        return _instant(claims, "exp") + self._leeway

    def _signed(self, token: str) -> _Signed:
        """Return what the header says, after it was found to be one that may be verified at all, or what is kept."""
        if len(token) > self._limits.token_bytes:
            raise NotAuthenticated("the token is too long")
        digest = _digest(token)
        kept = self._kept.get(digest)
        if kept is not None:
            return kept
        if _COMPACT.fullmatch(token) is None:
            raise NotAuthenticated(_MALFORMED)
        header = _object(token.partition(".")[0])
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            raise NotAuthenticated("the token is not signed in a way that is accepted here")
        kind = header.get("typ")
        if not isinstance(kind, str) or kind.lower().removeprefix("application/") not in self._types:
            raise NotAuthenticated("the token is not of a type that is accepted here")
        if "crit" in header or "b64" in header:
            raise NotAuthenticated("the token needs an extension that is not accepted here")
        if kid is not None and not isinstance(kid, str):
            raise NotAuthenticated(_MALFORMED)
        return _Signed(digest, kid, algorithm)

    def _verified(self, token: str, signed: _Signed) -> Mapping[str, Any]:
        """Return the claims: those kept if the key that verified them is still in the set, else after verifying.

        Raises as `verify`: without a set of keys nobody knows whether the token is good.
        """
        key = self._keys.find(signed.kid, signed.algorithm)
        if key is None:
            if not self._keys.is_known():
                raise IssuerUnavailable("the keys of the token's issuer cannot be had at the moment; ask again later")
            raise NotAuthenticated("the token is signed with a key that is not accepted here")
        if signed.key is key:
            self._check_times(signed.since, signed.until)
            return signed.claims
        claims = _verified_by(key, signed.algorithm, token)
        self._check_names(claims)
        since, until = _instant(claims, "nbf") - self._leeway, self.until(claims)
        self._check_times(since, until)
        with self._lock:
            if len(self._kept) >= self._limits.tokens_kept_count:
                del self._kept[next(iter(self._kept))]
            self._kept[signed.digest] = replace(signed, key=key, claims=claims, since=since, until=until)
        return claims

    def _check_names(self, claims: Mapping[str, Any]) -> None:
        if claims.get("iss") != self._issuer:
            raise NotAuthenticated("the token is of another issuer")
        audiences = claims.get("aud")
        if audiences != self._audience and not (isinstance(audiences, list) and self._audience in audiences):
            raise NotAuthenticated("the token is for another audience")

    def _check_times(self, since: float, until: float) -> None:
        now = self._clock()
        if now >= until:
            raise NotAuthenticated("the token has expired")
        if now < since:
            raise NotAuthenticated("the token is not valid yet")


def load() -> None:
    """Load what checks signatures, now: a first token on an event loop must not wait for it."""
    for name in ("joserfc.jwk", "joserfc.jws"):
        import_module(name)


def _verified_by(key: Any, algorithm: str, token: str) -> Mapping[str, Any]:
    from joserfc.errors import JoseError
    from joserfc.jws import deserialize_compact

    try:
        payload = deserialize_compact(token, key, algorithms=[algorithm]).payload
    except (JoseError, ValueError, TypeError):
        raise NotAuthenticated("the token's signature does not hold") from None
    return _json(payload or b"")


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", "replace")).digest()


def claims_unverified(token: str, limits: Limits = LIMITS) -> Mapping[str, Any]:
    """Return what a token claims, which nobody has vouched for: good for choosing whom to ask, and for nothing else.

    Raises `NotAuthenticated`.
    """
    if len(token) > limits.token_bytes:
        raise NotAuthenticated("the token is too long")
    if _COMPACT.fullmatch(token) is None:
        raise NotAuthenticated(_MALFORMED)
    return _object(token.split(".")[1])


def _object(part: str) -> Mapping[str, Any]:
    try:
        return _json(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except ValueError:
        raise NotAuthenticated(_MALFORMED) from None


def _json(text: bytes) -> Mapping[str, Any]:
    """Return a JSON object whose members stand once. Raises `NotAuthenticated`."""
    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise NotAuthenticated(_MALFORMED) from None
    if not isinstance(value, dict):
        raise NotAuthenticated(_MALFORMED)
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member stands twice")
    return members


def _instant(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_SECONDS_MAX < value < _SECONDS_MAX:
        raise NotAuthenticated(f"the token does not say {name}")
    return value
