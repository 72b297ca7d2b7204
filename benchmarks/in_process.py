"""Line 1: steps 2 to 8 of a decision in this process, from the bytes of a body to an evaluation, facts in memory.

No entry is written: that is what the HTTP lines are for. Each sample question is timed singly and in turn, so that no
question is answered twice in a row from the same warm caches; judged is the median of all. The number of rules that
match each question is counted, and more than ten is an error: the line promises a cost per matching rule. The engine
remembers evaluations until something moves; here it does not, so every question costs what the first of its kind does.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from benchmarks import over_http
from benchmarks.report import Line

if TYPE_CHECKING:
    from policy_engine.bootstrap import Engine
    from policy_engine.core.decision import Evaluation
    from policy_engine.core.plain import AnyRelease

MATCHING_RULES_MAX = 10
BOUND_MICROSECONDS = 30.0
TURNS = 20_000
TURNS_QUICK = 3_000


class TooManyRules(RuntimeError):
    """A sample question matches more rules than the line is about."""


def measure(folder: Path, policies: Path, turns: int, say: Callable[[str], None]) -> list[Line]:
    """Open an embedded engine on a new database with the sample world and time the sample questions.

    The other side is stock Casbin on the exported release, given the same flat tuples: it starts where facts and facets
    are done already, and is timed fewer times, for it is slow.
    """
    from policy_engine.bootstrap import open_engine
    from policy_engine.settings import Settings

    say("in process, from bytes to evaluation")
    engine = open_engine(Settings(policies=policies, database=f"sqlite:///{folder / 'in-process.db'}"))
    try:
        evaluate = _steps(engine, remembers=False)
        bodies = [json.dumps(over_http.evaluation(*row[:4])).encode() for row in over_http.ASKED]
        found = [evaluate(body) for body in bodies]
        _check(found)
        times = _timed(evaluate, bodies, turns)
        again = _timed(_steps(engine, remembers=True), bodies, turns)
        release = engine.snapshots.current().release
        stock = _stock(release, folder, [each.values for each in found if each.values is not None], turns // 100)
    finally:
        engine.close()
    matching = [len(each.matched) for each in found]
    median = statistics.median(times)
    detail = {
        "p99_us": round(statistics.quantiles(times, n=100)[98], 2),
        "median_us_by_question": [
            round(statistics.median(times[start :: len(bodies)]), 2) for start in range(len(bodies))
        ],
        "matching_rules": matching,
        "turns": turns,
        "median_us_when_asked_again": round(statistics.median(again), 2),
        "other_side": "stock casbin.Enforcer.enforce on the exported release, facets given",
    }
    name = f"in process, at most {max(matching)} matching rules"
    return [Line(name, "us", median, stock, median, BOUND_MICROSECONDS, at_most=True, detail=detail)]


def _steps(engine: Engine, *, remembers: bool) -> Callable[[bytes], Evaluation]:
    """Return steps 2 to 8 as the decision service takes them: parse, read, the snapshot in memory, evaluate."""
    from policy_engine.api.authzen import read_evaluation
    from policy_engine.api.parse import parse_object
    from policy_engine.services.evaluate import Evaluator
    from policy_engine.services.factcache import FactCache
    from policy_engine.services.permissions import LOCAL

    evaluator = Evaluator(FactCache(engine.store), serving_region=None, remembers=remembers)

    def evaluate(body: bytes) -> Evaluation:
        request = read_evaluation(parse_object(body))
        return evaluator.evaluate(request, LOCAL, engine.snapshots.current(), engine.store.now())

    return evaluate


def _check(found: list[Evaluation]) -> None:
    """Raise `TooManyRules` unless each question has its expected outcome and matches ten rules at most."""
    for each, (*_, expected) in zip(found, over_http.ASKED, strict=True):
        if (each.outcome == "allow") is not expected or len(each.matched) > MATCHING_RULES_MAX:
            raise TooManyRules(f"a sample question came out {each.outcome} with {len(each.matched)} rules")


def _timed(evaluate: Callable[[bytes], object], bodies: list[bytes], turns: int) -> list[float]:
    """Return the microseconds of each turn, after a tenth of them unmeasured."""
    times = []
    unmeasured = turns // 10 // len(bodies) * len(bodies)  # whole turns, so that the first time is the first question's
    for turn in range(unmeasured + turns):
        body = bodies[turn % len(bodies)]
        began = perf_counter_ns()
        evaluate(body)
        times.append((perf_counter_ns() - began) / 1_000)
    return times[unmeasured:]


def _stock(release: AnyRelease | None, folder: Path, tuples: list[tuple[Any, ...]], turns: int) -> float:
    """Return the median microseconds of stock Casbin over the same tuples."""
    from policy_engine.rules.export import export
    from policy_engine.rules.stock import stock_enforcer

    if release is None:
        raise TooManyRules("no release is active")
    for name, content in export(release).items():
        (folder / name).write_bytes(content)
    enforcer = stock_enforcer(str(folder / "model.conf"), str(folder / "policy.csv"))
    times = []
    for turn in range(turns):
        values = tuples[turn % len(tuples)]
        began = perf_counter_ns()
        enforcer.enforce(*values)
        times.append((perf_counter_ns() - began) / 1_000)
    return statistics.median(times)
