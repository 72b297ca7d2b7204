"""Checks of methods: OPTIONS, HEAD, and those that nobody thought of.

Rules of the room: an answer to HEAD has no body, so it counts as an answer of the forbidden model only where a header
names that model; a bare 200 is unclear. Left to others: the paths (`routes`), upgrades (`websocket`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from policy_engine.probe.asks import Ask
from policy_engine.probe.checking import Check, Scene, Verdict, evidence, judged, withheld
from policy_engine.probe.reading import Kind, read
from policy_engine.probe.wire import Answer

GROUP: Final = "methods"
PREFLIGHT: Final = (
    ("Origin", "https://probe.invalid"),
    ("Access-Control-Request-Method", "POST"),
    ("Access-Control-Request-Headers", "authorization,content-type"),
)
_EMPTY: Final = frozenset({200, 204})


def options(scene: Scene) -> Verdict:
    """Ask by OPTIONS with the forbidden model in the body, and by POST dressed up as a preflight."""
    question = scene.form.ask(scene.forbidden, "OPTIONS with the model in its body")
    asks = (
        replace(question, method="OPTIONS"),
        replace(question, method="OPTIONS", sent="a preflight with the model in its body").with_headers(*PREFLIGHT),
        replace(question, sent="POST with the headers of a preflight").with_headers(*PREFLIGHT),
    )
    pairs, edge = [], 0
    for ask in asks:
        answer = scene.sender.ask(ask)
        reading = read(answer, scene.names)
        if reading.kind is Kind.UNCLEAR and isinstance(answer, Answer) and answer.status in _EMPTY:
            behind = sorted(scene.marks & {name for name, _ in answer.headers})
            if not behind:  # answered at the edge, as preflights commonly are: no model is behind such an answer
                edge += 1
                continue
            reading = replace(reading, found=f"{answer.status} with the upstream's header {behind[0]}: it went through")
        pairs.append((reading, evidence(ask, reading)))
    return judged(pairs, f"; {edge} answered at the edge" if edge else "")


def head(scene: Scene, model: str) -> Iterator[Ask]:
    """Ask by HEAD with the model in the body."""
    yield replace(scene.form.ask(model, "HEAD with the model in its body"), method="HEAD")


def odd(scene: Scene, model: str) -> Iterator[Ask]:
    """Ask by methods that carry no question, that nobody knows, or that say they are POST."""
    question = scene.form.ask(model, "")
    for method in ("GET", "PUT", "PATCH", "DELETE", "TRACE", "post", "PROBE"):
        yield replace(question, method=method, sent=f"{method} with the model in its body")
    for name in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
        dressed = replace(question, method="GET", sent=f"GET with {name}: POST")
        yield dressed.with_headers((name, "POST"))


_EVERY: Final = "decide for every method alike; let no method through unasked"

CHECKS: Final = (
    Check("options", GROUP, f"{_EVERY}; answer preflights at the edge, without the upstream", options),
    Check("head", GROUP, _EVERY, withheld(head)),
    Check("methods", GROUP, _EVERY, withheld(odd)),
)
