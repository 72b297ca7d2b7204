"""Checks of headers: a model, a decision, a path or an identity that the caller writes there by itself.

Rules of the room: nothing here names a person; what is tried are the names that the operator gave, or `admin`, `root`.
Left to others: credentials (`credentials`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from policy_engine.probe.asks import Ask, Bearer, encoded_part
from policy_engine.probe.checking import Check, Scene, Verdict, closed, evidence, judged, withheld
from policy_engine.probe.outcomes import Evidence, Outcome
from policy_engine.probe.reading import Kind, Reading, read
from policy_engine.probe.wire import Answer, Lack

GROUP: Final = "headers"
MODEL_HEADERS: Final = ("X-Model", "X-AI-EG-Model", "X-Gateway-Model-Name", "Model", "X-LiteLLM-Model")
IDENTITY_HEADERS: Final = (
    "X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Preferred-Username", "X-Auth-Request-User", "X-User-Id",
    "X-User", "Remote-User", "X-Remote-User", "X-Consumer-Username", "X-OpenWebUI-User-Id", "Policy-Engine-Subject",
)  # fmt: skip
ROLE_HEADERS: Final = ("X-Forwarded-Groups", "X-OpenWebUI-User-Role", "X-User-Role", "X-Remote-Group")
HEALTH: Final = "/healthz"
PLACE_HEADERS: Final = (("X-Forwarded-For", "127.0.0.1"), ("X-Real-IP", "127.0.0.1"), ("Forwarded", "for=127.0.0.1"))
_NUMBER: Final = re.compile(rb"\d+")


def body_model(scene: Scene, model: str) -> Iterator[Ask]:
    """Ask for the model in the body, with the other one in headers or in the query that a gateway may route by."""
    other = scene.allowed if model == scene.forbidden else scene.forbidden
    yield from _beside(scene, model, other, "the model in the body, the other in")


def header_model(scene: Scene, model: str) -> Iterator[Ask]:
    """Ask for the other model in the body, with this one in headers or in the query that an upstream may route by."""
    other = scene.allowed if model == scene.forbidden else scene.forbidden
    yield from _beside(scene, other, model, "the other in the body, the model in")


def _beside(scene: Scene, body: str, beside: str, how: str) -> Iterator[Ask]:
    plain = scene.form.ask(body, "")
    for name in MODEL_HEADERS:
        yield replace(plain, sent=f"{how} {name}").with_headers((name, beside))
    every = tuple((name, beside) for name in MODEL_HEADERS)
    yield replace(plain, sent=f"{how} every header").with_headers(*every)
    yield replace(plain, sent=f"{how} the query", path=f"{plain.path}?model={encoded_part(beside)}")


def decisions(scene: Scene, model: str) -> Iterator[Ask]:
    """Ask with headers that say it has been decided already."""
    plain = scene.form.ask(model, "")
    for name, value in (
        ("Policy-Engine-Decision", "allow"),
        ("Policy-Engine-Decision-Ids", "probe"),
        ("Policy-Engine-Model", scene.allowed),
        ("X-Policy-Engine-Decision", "allow"),
        ("X-Ext-Authz-Check-Result", "allowed"),
        ("X-Envoy-Auth-Failure-Mode-Allowed", "true"),
        ("X-Envoy-Auth-Partial-Body", "true"),
        ("X-Envoy-Internal", "true"),
        ("X-Authorized", "true"),
        ("X-Internal", "true"),
        ("X-LiteLLM-Disable-Guardrails", "true"),
    ):
        yield replace(plain, sent=f"{name}: {value}").with_headers((name, value))


def rewrites(scene: Scene) -> Verdict:
    """Ask with headers that name another path or method, and at another path with this one in the header."""
    plain = scene.form.ask(scene.forbidden, "")
    names = ("X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Uri", "X-Original-Uri", "X-Forwarded-Path")
    asks = [replace(plain, sent=f"{name}: {HEALTH}").with_headers((name, HEALTH)) for name in names]
    for name in ("X-Forwarded-Method", "X-Original-Method"):
        asks.append(replace(plain, sent=f"{name}: OPTIONS").with_headers((name, "OPTIONS")))
    return judged([*(scene.claimed(ask) for ask in asks), *_from_health(scene, plain)])


def _from_health(scene: Scene, plain: Ask) -> Iterator[tuple[Reading, Evidence]]:
    """Ask a health check with headers that name the plain path. What it says without them too, it says by itself."""
    bare = replace(plain, path=HEALTH)
    itself: Answer | Lack | None = None
    for name in ("X-Original-URL", "X-Rewrite-URL"):
        ask = replace(bare, sent=f"a health check with {name}: {plain.path}").with_headers((name, plain.path))
        answer = scene.sender.ask(ask)
        reading = read(answer, scene.names)
        if reading.kind is Kind.UNCLEAR and not reading.failed:
            itself = itself or scene.sender.ask(bare)
            if _alike(answer, itself):
                reading = replace(reading, kind=Kind.REFUSED, found=f"{reading.status}, as without the header")
        yield reading, evidence(ask, reading)


def _alike(one: Answer | Lack, other: Answer | Lack) -> bool:
    """Say whether two answers have the same status and body, but for numbers: a health check may tell the time."""
    if not isinstance(one, Answer) or not isinstance(other, Answer) or one.status != other.status:
        return False
    return _NUMBER.sub(b"0", one.body) == _NUMBER.sub(b"0", other.body)


def identities(scene: Scene) -> Verdict:
    """Ask with headers that say who asks: with the caller's own credential, and with none where that is refused."""
    plain = scene.form.ask(scene.forbidden, "")
    asks = [_named(plain, name, who) for name in IDENTITY_HEADERS for who in scene.target.privileged]
    asks += [_named(plain, name, "admin") for name in ROLE_HEADERS]
    asks += [_named(plain, name, value) for name, value in PLACE_HEADERS]
    verdict = judged([scene.put(ask) for ask in asks])
    if verdict.outcome is not Outcome.PASSED or not scene.target.credentials.own:
        return verdict
    nobody = replace(scene.form.ask(scene.allowed, ""), bearer=Bearer.NOBODY)
    if closed([scene.put(nobody)]).outcome is not Outcome.PASSED:
        return verdict  # who needs no credential is the matter of `no-credentials`
    bare = closed(
        [scene.put(_named(nobody, name, who)) for name in IDENTITY_HEADERS for who in scene.target.privileged]
    )
    return bare if bare.outcome is not Outcome.PASSED else verdict


def _named(plain: Ask, name: str, value: str) -> Ask:
    without = " without a credential" if plain.bearer is Bearer.NOBODY else ""
    return replace(plain, sent=f"{name}: {value}{without}").with_headers((name, value))


_ONE: Final = "decide on the model that the upstream will use, and deny when header, query and body disagree"

CHECKS: Final = (
    Check("body-model", GROUP, _ONE, withheld(body_model)),
    Check("header-model", GROUP, "remove the caller's own routing headers; deny when header, query and body disagree",
          withheld(header_model)),
    Check("decision-headers", GROUP, "remove Policy-Engine-*, x-envoy-* and the like from what callers send",
          withheld(decisions)),
    Check("rewrite-headers", GROUP,
          "remove X-Original-* and X-Rewrite-*; let the proxy set X-Forwarded-* over the caller's", rewrites),
    Check("identity-headers", GROUP,
          "take the caller's identity from a verified token; remove identity headers of callers", identities),
)  # fmt: skip
