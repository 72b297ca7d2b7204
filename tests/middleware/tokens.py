"""Keys and tokens as an issuer makes them, good and bad."""

from __future__ import annotations

import base64
import functools
import json
import time
from typing import Any

from joserfc import jws
from joserfc.jwk import ECKey, OctKey, RSAKey

ISSUER, AUDIENCE = "https://issuer.example", "models"


@functools.cache
def key(kid: str, kind: str = "RSA") -> Any:
    """Return a private key of a name; the same in each call."""
    if kind == "RSA":
        return RSAKey.generate_key(2048, {"kid": kid})
    return ECKey.generate_key("P-256", {"kid": kid}) if kind == "EC" else OctKey.generate_key(256, {"kid": kid})


def key_set(*keys: Any) -> dict[str, Any]:
    """Return the public set of keys."""
    return {"keys": [each.as_dict(private=False) for each in keys]}


def claims(**more: Any) -> dict[str, Any]:
    """Return claims that are right now, changed as wanted; `None` leaves one out."""
    now = int(time.time())
    own = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "tenant": "acme", "nbf": now - 5, "exp": now + 300}
    return {name: value for name, value in {**own, **more}.items() if value is not None}


def token(
    body: dict[str, Any] | None = None,
    *,
    by: Any = None,
    algorithm: str = "RS256",
    header: dict[str, Any] | None = None,
) -> str:
    """Return a signed token."""
    signer = by if by is not None else key("one")
    head = {"alg": algorithm, "typ": "JWT", "kid": signer.kid, **(header or {})}
    registry = jws.JWSRegistry(algorithms=[algorithm], strict_check_header=False)
    payload = json.dumps(claims() if body is None else body).encode()
    signed = jws.serialize_compact({k: v for k, v in head.items() if v is not None}, payload, signer, registry=registry)
    return str(signed)


def part(value: Any) -> str:
    """Return one part of a token that nobody signed."""
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def unsigned(header: dict[str, Any], body: dict[str, Any] | None = None, signature: str = "") -> str:
    """Return a token with this header and any signature."""
    return f"{part(header)}.{part(claims() if body is None else body)}.{signature}"
