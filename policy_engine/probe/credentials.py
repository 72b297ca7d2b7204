"""Checks of who asks: nobody, a stranger, a token that nobody signed, one that was changed, one that has expired.

Each asks for the model that the caller may use, so that only the credential can be why it is refused.
Rules of the room: a changed token is made of the caller's own and never shown. Left to others: identity headers
(`headers`).
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

from policy_engine.probe.asks import Ask, Bearer
from policy_engine.probe.checking import Check, Run, Scene, Verdict, skipped, unanswered
from policy_engine.probe.places import EVERY, asked_at

GROUP: Final = "credentials"
AUTHORIZATION: Final = "Authorization"
_LATER_SECONDS: Final = 315_360_000


def nobody(scene: Scene) -> Iterator[Ask]:
    """Ask without a credential at every interface, and with what is none where the plain question is asked."""
    plain = replace(scene.form.ask(scene.allowed, "no credential"), bearer=Bearer.NOBODY)
    yield plain
    for name, value in _voids(scene.target.credentials.header):
        sent = f"{name}: {value}" if value else f"an empty {name}"
        yield replace(plain, sent=sent).with_headers((name, value))
    for path, body in EVERY:
        ask = asked_at(path, body, scene.allowed)
        if ask.path != plain.path:
            yield replace(ask, sent=f"no credential at {path}", bearer=Bearer.NOBODY)


def _voids(header: str) -> Iterator[tuple[str, str]]:
    """Return what clients send that have no credential, in the usual header and in the gateway's own."""
    for value in ("", "Bearer", "Bearer null", "Bearer undefined", "Basic Og=="):
        yield AUTHORIZATION, value
    if header.lower() != AUTHORIZATION.lower():
        yield from ((header, value) for value in ("", "null", "undefined"))


def stranger(scene: Scene) -> Iterator[Ask]:
    """Ask with credentials that are none here: made up, and the stranger's that the operator gave."""
    if scene.target.credentials.foreign:
        yield _with(scene, scene.target.credentials.foreign, "the stranger's credential")
    for prefix in ("pe_", "sk-", ""):
        yield _with(scene, prefix + secrets.token_urlsafe(24), f"a made-up credential {prefix}…")


def unsigned(scene: Scene) -> Iterator[Ask]:
    """Ask with the caller's token under `alg: none`, with and without its signature, and without a signature alone."""
    head, body, signature = scene.target.credentials.own.split(".")
    for name in ("none", "None", "NONE", "nOnE"):
        renamed = _part({**_parsed(head), "alg": name})
        yield _with(scene, f"{renamed}.{body}.", f"a token with alg {name}")
        yield _with(scene, f"{renamed}.{body}.{signature}", f"a token with alg {name} and its signature")
    yield _with(scene, f"{head}.{body}.", "a token without its signature")


def changed(scene: Scene) -> Iterator[Ask]:
    """Ask with the caller's token, its claims or its signature changed."""
    head, body, signature = scene.target.credentials.own.split(".")
    claims = _parsed(body)
    later = _part({**claims, "exp": int(claims.get("exp") or 0) + _LATER_SECONDS})
    yield _with(scene, f"{head}.{later}.{signature}", "a token with a later end")
    for who in scene.target.privileged:
        yield _with(scene, f"{head}.{_part({**claims, 'sub': who})}.{signature}", "a token with another subject")
    flipped = ("A" if signature[:1] != "A" else "B") + signature[1:]
    yield _with(scene, f"{head}.{body}.{flipped}", "a token with another signature")


def expired(scene: Scene) -> Iterator[Ask]:
    """Ask with the expired credential that the operator gave."""
    yield _with(scene, scene.target.credentials.expired, "the expired credential")


def _with(scene: Scene, secret: str, sent: str) -> Ask:
    plain = replace(scene.form.ask(scene.allowed, sent), bearer=Bearer.NOBODY)
    return plain.with_headers(*scene.target.credentials.headers(secret))


def is_token(secret: str) -> bool:
    """Say whether a credential is a signed token in the compact form, whose parts can be read."""
    parts = secret.split(".")
    return len(parts) == 3 and bool(parts[2]) and bool(_parsed(parts[0])) and bool(_parsed(parts[1]))


def _parsed(part: str) -> dict[str, Any]:
    try:
        found = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _part(document: dict[str, Any]) -> str:
    packed = json.dumps(document, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def _needing(given: Callable[[Scene], bool], why: str, asks: Callable[[Scene], Iterator[Ask]]) -> Run:
    """Return a check that is skipped where the operator did not give what it needs."""

    def run(scene: Scene) -> Verdict:
        return unanswered(asks)(scene) if given(scene) else skipped(why)

    return run


def _own(scene: Scene) -> bool:
    return bool(scene.target.credentials.own)


def _token(scene: Scene) -> bool:
    return is_token(scene.target.credentials.own)


_NO_OWN: Final = "the caller has no credential: give one by POLICY_ENGINE_PROBE_CREDENTIAL or --credential-file"
_NOT_SIGNED: Final = "the caller's credential is no JWT"
_FIXED: Final = "verify tokens with a fixed list of algorithms and a pinned key set; never take either from the token"

CHECKS: Final = (
    Check("no-credentials", GROUP, "refuse whoever has no credential, on every route",
          _needing(_own, _NO_OWN, nobody), rests=()),
    Check("foreign-credentials", GROUP, "verify the credential against its issuer, audience and tenant at each request",
          _needing(_own, _NO_OWN, stranger), rests=()),
    Check("jwt-unsigned", GROUP, _FIXED, _needing(_token, _NOT_SIGNED, unsigned), rests=()),
    Check("jwt-changed", GROUP, _FIXED, _needing(_token, _NOT_SIGNED, changed), rests=()),
    Check("expired-credential", GROUP, "check `exp` and `nbf` at each request, with seconds of leeway and not minutes",
          _needing(lambda scene: bool(scene.target.credentials.expired), "no expired credential: give --expired-file",
                   expired), rests=()),
)  # fmt: skip
