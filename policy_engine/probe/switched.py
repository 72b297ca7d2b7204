"""The checks of a switch: how long answers go on after it, and whether a stream that is open ends. Only when asked for.

Rules of the room: the switch is on a model that the operator names for it, is engaged once for both checks, and ends by
itself. Time counts from the moment at which the engine says that it is committed. An allow may be used for as long as
its budget; a stream must be cut sooner.
Left to others: watching the stream (`streams`), what a switch is (the engine that is asked).
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from policy_engine.limits import LIMITS
from policy_engine.probe.asks import JSON_TYPE, Ask, encoded, to_bytes
from policy_engine.probe.checking import Check, Scene, Verdict, skipped, unprobed
from policy_engine.probe.outcomes import Evidence, Outcome
from policy_engine.probe.reading import Kind
from policy_engine.probe.standing import folded
from policy_engine.probe.streams import Watched, watching
from policy_engine.probe.target import Switching, Target, address
from policy_engine.probe.wire import Answer, Unanswered, Wire

GROUP: Final = "withdrawal"
LOOK_SECONDS: Final = 0.1
AFTER_SECONDS: Final = 0.4
_CREATED: Final = 201
_LONGER: Final = "give a model that streams longer, or more --stream-tokens"
_NEEDS: Final = "no switch to engage: give --engine, --operator-key and --switch-model"


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen after one switch, committed at `committed`: answers, the last after `last` seconds; a stream."""

    committed: float = 0.0
    problem: str = ""
    last: float | None = None
    late: tuple[Evidence, ...] = ()
    refused: bool = False
    untold: tuple[Evidence, ...] = ()
    stream: Watched | None = None
    open_until: float = 0.0


def stale(scene: Scene) -> Verdict:
    """Say whether a question that is sent later than the budget after the switch is still answered."""
    if scene.target.switching is None:
        return skipped(_NEEDS)
    seen = sight(scene)
    if seen.problem:
        return unprobed(seen.problem)
    measured = None if seen.last is None else round(seen.last * 1_000)
    if seen.late:
        bound = scene.target.stale_seconds
        finding = f"the switched model still answered {seen.last:.1f} s after the switch, {bound:g} s are the bound"
        return Verdict(Outcome.HOLE, finding, seen.late, measured)
    if seen.untold or not seen.refused:
        return Verdict(Outcome.UNCLEAR, "no answer says whether the model was withdrawn", seen.untold, measured)
    last = (
        "none was answered" if seen.last is None else f"the last answered question was sent {seen.last:.2f} s after it"
    )
    return Verdict(Outcome.PASSED, f"refused after the switch; {last}", (), measured)


def cut(scene: Scene) -> Verdict:
    """Say whether a stream that was open at the switch went on."""
    if scene.target.switching is None:
        return skipped(_NEEDS)
    seen = sight(scene)
    stream, bound = seen.stream, scene.target.cut_seconds
    if seen.problem or stream is None or stream.problem:
        return unprobed(seen.problem or (stream.problem if stream else "there was no stream"))
    if stream.first is None or stream.last is None:
        return unprobed("the stream had not begun before the switch")
    ended = None if stream.ended is None else stream.ended - seen.committed
    if ended is not None and ended <= 0:
        return unprobed(f"the stream ended by itself before the switch: {_LONGER}")
    last = stream.last - seen.committed
    if last > bound:
        finding = f"the open stream went on for {last:.1f} s after the switch, {bound:g} s are the bound"
        return Verdict(Outcome.HOLE, finding, (), round(last * 1_000))
    if ended is None:
        return Verdict(
            Outcome.UNCLEAR, f"the stream is still open {seen.open_until:.1f} s after the switch, and silent"
        )
    if stream.finished and not stream.error:
        return Verdict(Outcome.UNCLEAR, f"the stream ended by itself: {_LONGER}")
    how = f"with {stream.error}" if stream.error else "without an error that a client would show"
    return Verdict(Outcome.PASSED, f"cut {ended:.2f} s after the switch, {how}", (), round(ended * 1_000))


def sight(scene: Scene) -> Sight:
    """Return what is seen after the switch, which is engaged when this is first called."""
    if "sight" not in scene.kept:
        scene.kept["sight"] = _look(scene)
    kept = scene.kept["sight"]
    return kept if isinstance(kept, Sight) else Sight(problem="nothing was seen")


def _look(scene: Scene) -> Sight:
    switching = scene.target.switching
    if switching is None:
        return Sight(problem=_NEEDS)
    tokens = {scene.form.tokens_member: scene.target.stream_tokens}
    ask = scene.form.ask(switching.model, "a stream of the switched model", stream=True, **tokens)
    bound = max(scene.target.stale_seconds, scene.target.cut_seconds)
    window = bound + max(AFTER_SECONDS, bound / 2)
    ask = replace(ask, timeout_seconds=3 * scene.target.timeout_seconds + window)
    before, _ = scene.put(scene.form.ask(switching.model, "the model to switch, before the switch"))
    if before.kind is not Kind.SERVED:
        return Sight(problem=f"the model to switch is not served before the switch: {before.found}")
    with watching(scene.sender, ask, scene.target.timeout_seconds) as stream:
        committed = engage(scene.target, switching, scene.run)
        if isinstance(committed, str):
            return Sight(problem=committed)
        seen = _asked(scene, switching.model, before.said, committed, window)
        kept = replace(seen, stream=replace(stream), open_until=window)
    return kept


def _asked(scene: Scene, model: str, said: str, committed: float, window: float) -> Sight:
    """Ask again and again until the window is over: an answer may also come back, from a replica that does not know.

    Only answers of the model that answered before count; another one in its place is a fallback, and no stale answer.
    """
    seen = Sight(committed)
    while (sent := time.monotonic() - committed) < window:
        reading, shown = scene.put(scene.form.ask(model, f"the switched model, {sent:.1f} s after the switch"))
        if reading.kind is Kind.SERVED and folded(reading.said) == folded(said):
            late = (*seen.late, shown) if sent > scene.target.stale_seconds else seen.late
            seen = replace(seen, last=sent, late=late)
        elif reading.kind is not Kind.UNCLEAR:
            seen = replace(seen, refused=True)
        else:
            seen = replace(seen, untold=(*seen.untold, shown))
        time.sleep(LOOK_SECONDS)
    return seen


def engage(target: Target, switching: Switching, run: str) -> float | str:
    """Engage the switch; return the moment at which it was committed by this clock, or why it was not."""
    to = address(switching.engine, "--engine")
    until = datetime.now(UTC) + timedelta(seconds=LIMITS.probe_switch_seconds)
    document = {
        "id": f"probe-{run}",
        "scope": {"models": [switching.model]},
        "reason": "policy-engine probe: how long answers go on after a switch",
        "until": until.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    ask = Ask("the switch", "/v1/switches", encoded(document), headers=(JSON_TYPE,))
    marks = (("Authorization", f"Bearer {switching.key}"), ("User-Agent", "policy-engine-probe"))
    request = to_bytes(ask, to.authority, to.prefix, marks)
    try:
        answer = Wire(to, target.ca_file).exchange(request, ask.method, target.timeout_seconds)
    except Unanswered:
        return "the engine that was to engage the switch did not answer"
    return time.monotonic() if answer.status == _CREATED else f"the switch was not engaged: {_detail(answer)}"


def _detail(answer: Answer) -> str:
    try:
        return f"{answer.status}, {str(json.loads(answer.body)['detail'])[: LIMITS.text_characters]}"
    except (ValueError, KeyError, TypeError, RecursionError):
        return str(answer.status)


CHECKS: Final = (
    Check(
        "stale-answer", GROUP, "keep an answer no longer than its valid_for_ms; follow /v1/revocations", stale, rests=()
    ),
    Check("stream-cut", GROUP, "hold the decision while a stream is open and cut it when the hold ends", cut, rests=()),
)
