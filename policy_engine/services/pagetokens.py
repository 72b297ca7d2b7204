"""Tokens that continue a listing: where its next page begins, sealed.

Rules of the room:
- A token says nothing to whoever holds it (it may name a person) and cannot be made or changed by anybody else:
  AES-SIV (RFC 5297) under a key of the vault, which every process on the database shares.
- It belongs to its question and its caller, the associated data: with any other it does not open.
- The same place in the same listing gives the same token, so that equal requests have equal answers. AES-SIV is made
  for that: it needs no nonce, and equal tokens say no more than that they are equal.
- Its key changes at midnight UTC, and the key of the day before still opens: a token is good for a day at least and two
  at most, and nothing has to be kept.
- One sentence refuses every token that does not open; it does not say how near it was.
Left to others: what is asked from there on (`search`).
"""

from __future__ import annotations

import hmac
import json
from base64 import b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Callable
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from policy_engine.core.decision import Principal
from policy_engine.core.instants import DAY
from policy_engine.errors import InputRefused
from policy_engine.ledger.sealing import KeyVault
from policy_engine.limits import LIMITS, Limits
from policy_engine.services.queries import Listing, Sought

WHERE: Final = "page.token"
_LABEL: Final = "policy-engine search pages v1 "
_BLOCK_BYTES: Final = 48
"""Tokens are filled up to whole blocks: their length tells no id, and their base64 has no bits that mean nothing."""
_SIV_BYTES: Final = 16


class Cursor(NamedTuple):
    """Where a page begins: behind the id `after` (`""`: at the first), with the limit that the listing began with."""

    after: str
    limit: int | None


class PageTokens:
    """Makes and reads the tokens of listings."""

    def __init__(self, vault: KeyVault, clock: Callable[[], int], limits: Limits = LIMITS) -> None:
        self._vault = vault
        self._clock = clock
        self._limits = limits
        self._ciphers: dict[int, AESSIV] = {}

    def make(self, principal: Principal, listing: Listing, cursor: Cursor) -> str:
        """Return the token with which this caller continues this listing."""
        plain = json.dumps([cursor.after, cursor.limit], ensure_ascii=False, separators=(",", ":")).encode()
        plain += b" " * (-(len(plain) + _SIV_BYTES) % _BLOCK_BYTES)
        sealed = self._cipher(self._clock() // DAY).encrypt(plain, [_binding(principal, listing)])
        return urlsafe_b64encode(sealed).decode("ascii")

    def read(self, principal: Principal, listing: Listing) -> Cursor:
        """Return where the page asked for begins; without a token, at the first id.

        Raises `InputRefused` for a token that this caller was not given for this question, or not lately, and for a
        limit that is not the one that the listing began with.
        """
        if listing.token is None:
            return Cursor("", listing.limit)
        after, limit = json.loads(self._opened(listing.token, _binding(principal, listing)))
        if listing.limit not in (None, limit):
            raise InputRefused("must stay the same from page to page, or be left out", where="page.limit")
        return Cursor(after, limit)

    def _opened(self, token: str, binding: bytes) -> bytes:
        if len(token) <= self._limits.search_token_characters:
            today = self._clock() // DAY
            try:
                sealed = b64decode(token, b"-_", validate=True)
                if urlsafe_b64encode(sealed).decode("ascii") == token:
                    for day in (today, today - 1):
                        try:
                            return self._cipher(day).decrypt(sealed, [binding])
                        except InvalidTag:
                            continue
            except (Base64Error, ValueError):
                pass  # refused below, in the one sentence
        raise InputRefused(
            "is no token of this listing: it was changed, is too old, or was given to another caller or for another "
            "question; repeat the question exactly, or begin again without a token",
            where=WHERE,
        )

    def _cipher(self, day: int) -> AESSIV:
        cipher = self._ciphers.get(day)
        if cipher is None:
            cipher = AESSIV(hmac.digest(self._vault.index_key(), f"{_LABEL}{day}".encode(), "sha512"))
            self._ciphers = {kept: old for kept, old in self._ciphers.items() if abs(kept - day) <= 1} | {day: cipher}
        return cipher


def _binding(principal: Principal, listing: Listing) -> bytes:
    """Return what a token belongs to: the caller as far as answers depend on it, and the question without its page."""
    request, sought = listing.request, listing.sought
    place = request.location
    parts = (
        str(sought),
        (str(principal.kind), principal.id, _sorted(principal.tenants), _sorted(principal.supplies)),
        (request.subject_type, None if sought is Sought.SUBJECT else request.subject_id),
        (request.resource_type, None if sought is Sought.RESOURCE else request.model),
        None if sought is Sought.ACTION else request.action,
        request.tenant,
        None if place is None else (place.country, place.region, place.anonymiser),
        request.serving_region,
        {name: member for name, member in request.raw.items() if name != sought},
    )
    return json.dumps(parts, sort_keys=True, separators=(",", ":")).encode("ascii")


def _sorted(names: frozenset[str] | None) -> list[str] | None:
    return None if names is None else sorted(names)
