"""Users of a guarded application by claims of their bearer tokens.

Rules of the room: whom the claims name is read from a token that was verified, and only then.
Left to others: what makes a token good and where keys come from (`policy_engine.tokens`), what users may do (the
engine).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from policy_engine.errors import NotAuthenticated
from policy_engine.limits import LIMITS, Limits
from policy_engine.middleware.head import Head
from policy_engine.middleware.subjects import PERSON, Subject
from policy_engine.tokens.identity import is_plain_text
from policy_engine.tokens.keysets import key_source
from policy_engine.tokens.verifying import TYPES, Tokens


class TokenSubjects:
    """Subjects named by claims of a bearer token."""

    def __init__(
        self,
        tokens: Tokens,
        *,
        claim: str = "sub",
        tenant: str | None = None,
        type: str = PERSON,
        limits: Limits = LIMITS,
    ) -> None:
        self._tokens = tokens
        self._claim = claim
        self._tenant = tenant
        self._type = type
        self._limits = limits

    def identify(self, head: Head) -> Subject:
        """Return whom the token names. Raises `NotAuthenticated`."""
        return self._subject(self._tokens.verify(_bearer(head)))

    async def identify_async(self, head: Head) -> Subject:
        """The same; nothing holds up the event loop."""
        return self._subject(await self._tokens.verify_async(_bearer(head)))

    def _subject(self, claims: Mapping[str, Any]) -> Subject:
        tenant = None if self._tenant is None else self._text(claims, self._tenant)
        return Subject(self._text(claims, self._claim), self._type, tenant)

    def _text(self, claims: Mapping[str, Any], name: str) -> str:
        value = claims.get(name)
        if not is_plain_text(value, self._limits.id_characters):
            raise NotAuthenticated("the token does not name whom it is about")
        return value


def from_jwt(
    claim: str = "sub",
    *,
    issuer: str,
    audience: str,
    jwks: str | Path | Mapping[str, Any],
    algorithms: Collection[str] = ("RS256",),
    tenant: str | None = None,
    type: str = PERSON,
    leeway_seconds: float = 0.0,
    types: Collection[str] = TYPES,
) -> TokenSubjects:
    """Name the subject by a claim of a bearer token, and the tenant by another claim.

    `jwks` is a key set (a mapping, or the path of a file) that is pinned, or one https URL from which it is fetched
    again when keys rotate. Raises `InputRefused` for settings that could verify nothing or anything,
    and `StartRefused` where the extra `jwt` is not installed.
    """
    tokens = Tokens(
        key_source(jwks),
        issuer=issuer,
        audience=audience,
        algorithms=algorithms,
        types=types,
        leeway_seconds=leeway_seconds,
    )
    return TokenSubjects(tokens, claim=claim, tenant=tenant, type=type)


def _bearer(head: Head) -> str:
    sent = head.header("authorization")
    if sent is None:
        raise NotAuthenticated("the request needs a bearer token in Authorization")
    scheme, _, token = sent.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise NotAuthenticated("the request needs a bearer token in Authorization")
    return token
