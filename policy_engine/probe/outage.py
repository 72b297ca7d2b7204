"""The check of a gateway without its authorizer: whoever cannot ask must deny. Only with the operator's leave.

Rules of the room: the authorizer is brought back whatever happens, and it is waited for. An allow may be used for as
long as its budget, so only what is answered later counts.
Left to others: how the authorizer goes and comes (`cli.probe`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final

from policy_engine.errors import PolicyEngineError
from policy_engine.limits import LIMITS
from policy_engine.probe.asks import Ask
from policy_engine.probe.checking import Check, Scene, Verdict, judged, skipped, unprobed
from policy_engine.probe.outcomes import Outcome
from policy_engine.probe.reading import Kind

GROUP: Final = "withdrawal"
LOOK_SECONDS: Final = 0.2


def authorizer_down(scene: Scene) -> Verdict:
    """Take the authorizer away and ask for both models; bring it back and wait until the allowed one is served."""
    down, up = scene.target.down, scene.target.up
    if down is None or up is None:
        return skipped("no way to take the authorizer away: give --authorizer-down and --authorizer-up")
    try:
        down()
        verdict = _while_down(scene)
    except PolicyEngineError as failed:
        verdict = unprobed(f"the authorizer could not be taken away: {failed}")
    finally:
        problem = _brought_back(scene, up)
    if not problem:
        return verdict
    outcome = verdict.outcome if verdict.outcome is Outcome.HOLE else Outcome.UNPROBED
    return Verdict(outcome, f"{verdict.finding}. {problem}", verdict.evidence)


def _while_down(scene: Scene) -> Verdict:
    pairs = [scene.put(ask) for ask in _both(scene, "at once")]
    time.sleep(scene.target.stale_seconds)  # until allows of before are used up
    later = f"{scene.target.stale_seconds:g} s later"
    pairs += [scene.put(ask) for ask in _both(scene, later)]
    verdict = judged(pairs, failing=True)
    if verdict.outcome is not Outcome.PASSED:
        return verdict
    reading, shown = scene.put(scene.form.ask(scene.allowed, f"the allowed model without an authorizer, {later}"))
    if reading.kind is Kind.SERVED:
        why = "it is still answered, so the authorizer is not away, or its answers are kept for longer"
        return Verdict(Outcome.UNCLEAR, f"{shown.sent}: {why}", (shown,))
    return verdict


def _both(scene: Scene, when: str) -> Iterator[Ask]:
    yield scene.form.ask(scene.forbidden, f"the forbidden model without an authorizer, {when}")
    yield scene.form.ask(scene.forbidden, f"the forbidden model, streamed, without an authorizer, {when}", stream=True)


def _brought_back(scene: Scene, up: Callable[[], None]) -> str:
    """Bring the authorizer back; return what is wrong, empty when the allowed model is served again in time."""
    try:
        up()
    except PolicyEngineError as failed:
        return f"The authorizer was not brought back: {failed}"
    until = time.monotonic() + LIMITS.probe_return_seconds
    while time.monotonic() < until:
        reading, _ = scene.put(scene.form.ask(scene.allowed, "the allowed model, with the authorizer back"))
        if reading.kind is Kind.SERVED:
            return ""
        time.sleep(LOOK_SECONDS)
    return f"The allowed model was not served within {LIMITS.probe_return_seconds:g} s of the authorizer's return"


CHECKS: Final = (
    Check("authorizer-down", GROUP, "deny when the authorizer fails or is slow: failure_mode_allow off, no fail-open",
          authorizer_down),
)  # fmt: skip
