"""Signed tokens for tests, made with the standard library."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

KEY = b"a key of the tests and of nothing else"


def packed(data: bytes) -> str:
    """Return bytes as a part of a token."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unpacked(part: str) -> bytes:
    """Return the bytes of a part of a token."""
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def signature(signed: str) -> str:
    """Return the signature of a head and a body."""
    return packed(hmac.new(KEY, signed.encode(), hashlib.sha256).digest())


def token(**claims: Any) -> str:
    """Return a token that says so."""
    head = packed(json.dumps({"alg": "HS256", "typ": "JWT"}).encode())
    body = packed(json.dumps(claims).encode())
    return f"{head}.{body}.{signature(f'{head}.{body}')}"
