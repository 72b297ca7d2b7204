"""Whom a token is about: an issuer and a subject, and the text that stands for the two where a key's text would.

Rules of the room: an issuer holds no control character, so the text can be read in one way only; it never has the form
of a key. Left to others: who registered an identity (`services.keys`), what a token must say (`verifying`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, TypeGuard

from policy_engine.limits import LIMITS, Limits

_PLAIN: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


@dataclass(frozen=True, slots=True)
class TokenIdentity:
    """A subject as its issuer names it."""

    issuer: str
    subject: str

    def digest(self, successor: int = 0) -> str:
        """Return the SHA-256, in hex, that stands for the identity in the register of keys.

        A `successor` is the second, third and so on to be registered, after those before have ended.
        """
        text = f"jwt\n{self.issuer}\n{self.subject}" + (f"\n{successor}" if successor else "")
        return sha256(text.encode("utf-8")).hexdigest()


def is_issuer(text: Any, limits: Limits = LIMITS) -> TypeGuard[str]:
    """Return whether something may be an issuer: a short text without control characters."""
    return is_plain_text(text, limits.id_characters)


def is_subject(text: Any, limits: Limits = LIMITS) -> TypeGuard[str]:
    """Return whether something may be a subject: the same, by the limit of subjects."""
    return is_plain_text(text, limits.token_subject_characters)


def is_plain_text(value: Any, characters_max: int) -> TypeGuard[str]:
    """Return whether something is a text that may be a name: not empty, not too long, without control characters."""
    return isinstance(value, str) and len(value) <= characters_max and _PLAIN.fullmatch(value) is not None
