"""Line 1: steps 2 to 8 of a decision in this process, from the bytes of a body to an evaluation, facts in memory.

No entry is written: that is what the HTTP lines are for. Each sample question is timed singly and in turn, so that no
question is answered twice in a row from the same warm caches; judged is the median of all. The number of rules that
match each question is counted, and more than ten is an error: the line promises a cost per matching rule.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns

from benchmarks import over_http
from benchmarks.report import Line

MATCHING_RULES_MAX = 10
BOUND_MICROSECONDS = 30.0
TURNS = 20_000
TURNS_QUICK = 3_000


class TooManyRules(RuntimeError):
    """A sample question matches more rules than the line is about."""


def measure(folder: Path, policies: Path, turns: int, say: Callable[[str], None]) -> list[Line]:
    """Open an embedded engine on a new database with the sample world and time the sample questions."""
    from policy_engine.api.authzen import read_evaluation
    from policy_engine.api.parse import parse_object
    from policy_engine.bootstrap import open_engine
    from policy_engine.services.permissions import LOCAL
    from policy_engine.settings import Settings

    say("in process, from bytes to evaluation")
    settings = Settings(policies=policies, database=f"sqlite:///{folder / 'in-process.db'}")
    engine = open_engine(settings)
    try:
        bodies = [json.dumps(over_http.evaluation(*row[:4])).encode() for row in over_http.ASKED]
        matching = []
        for body, row in zip(bodies, over_http.ASKED, strict=True):
            found = engine.decider.evaluate(read_evaluation(parse_object(body)), LOCAL)
            matching.append(len(found.matched))
            if (found.outcome == "allow") is not row[4] or len(found.matched) > MATCHING_RULES_MAX:
                raise TooManyRules(f"a sample question came out {found.outcome} with {len(found.matched)} rules")

        def once(body: bytes) -> int:
            began = perf_counter_ns()
            engine.decider.evaluate(read_evaluation(parse_object(body)), LOCAL)
            return perf_counter_ns() - began

        for turn in range(turns // 10):  # warm up: first-seen facts are read from the database
            once(bodies[turn % len(bodies)])
        times = [once(bodies[turn % len(bodies)]) / 1_000 for turn in range(turns)]
    finally:
        engine.close()
    median = statistics.median(times)
    each = [round(statistics.median(times[start :: len(bodies)]), 2) for start in range(len(bodies))]
    detail = {
        "p99_us": round(statistics.quantiles(times, n=100)[98], 2),
        "median_us_by_question": each,
        "matching_rules": matching,
        "turns": turns,
    }
    name = f"in process, at most {max(matching)} matching rules"
    return [Line(name, "us", median, None, median, BOUND_MICROSECONDS, at_most=True, detail=detail)]
