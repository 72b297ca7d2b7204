"""Lines 2 and 3: authenticated, durably recorded decisions over HTTP, beside a server that does nothing.

The two sides take turns: a round is one run of each at one number of connections, same bytes, same seconds. Judged is
the median of the rounds' ratios, so that what slows both sides for a while slows neither alone. Before the load
the answers are looked at (the expected decision must come), and after it the log must hold an entry for every answered
request: an engine that skips its work is not measured.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import servers, wrk
from benchmarks.report import Line

SINGLE = "/access/v1/evaluation"
BATCH = "/access/v1/evaluations"
BATCH_ITEMS = 100

# Who asks what in turn: six allows and two denies of the sample world, so that both ends of an answer are measured.
ASKED = (
    ("alice", "acme", "US", "fable-5", True),
    ("bruno", "acme-de", "DE", "fable-5", True),
    ("mina", "acme", "US", "fable-5", True),
    ("dana", "acme", "GB", "fable-5", True),
    ("alice", "acme", "US", "opus-4-8", True),
    ("greg", "lab", "GB", "opus-4-8", True),
    ("eve", "acme", "US", "fable-5", False),
    ("alice", "acme", "IR", "opus-4-8", False),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how often: `rounds` of `seconds` for each side and each number of connections."""

    rounds: int
    seconds: int


FULL = Plan(rounds=7, seconds=5)
QUICK = Plan(rounds=3, seconds=2)


def evaluation(subject: str, tenant: str, location: str, model: str) -> dict[str, Any]:
    """Return an AuthZEN evaluation body of the sample world."""
    return {
        "subject": {"type": "person", "id": subject},
        "action": {"name": "infer"},
        "resource": {"type": "model", "id": model},
        "context": {"tenant": tenant, "location": location, "serving_region": "US"},
    }


def measure(folder: Path, plan: Plan, say: Callable[[str], None]) -> list[Line]:
    """Run both sides and return the lines for 16 and 64 connections and for batches. Needs wrk."""
    wrk.required()
    singles = write_bodies(folder / "singles.jsonl")
    batches = _write(folder / "batches.jsonl", [_batch()])
    with servers.do_nothing(folder) as nothing, servers.engine(folder) as engine:
        _check_answers(engine)
        sides = (nothing, engine)
        asked = 0
        lines = []
        for connections, bound in ((16, 0.15), (64, 0.20)):
            say(f"single evaluations, {connections} connections")
            theirs, ours = _rounds(sides, SINGLE, singles, connections, plan)
            asked += sum(load.requests for load in ours)
            lines.append(_line(f"HTTP single, {connections} connections", theirs, ours, bound, 1))
        say(f"batches of {BATCH_ITEMS}")
        theirs, ours = _rounds(sides, BATCH, batches, 16, plan)
        asked += sum(load.requests for load in ours) * BATCH_ITEMS
        lines.append(_line(f"HTTP batches of {BATCH_ITEMS}, 16 connections", theirs, ours, 0.30, BATCH_ITEMS))
        check_entries(engine, asked)
    return lines


def _batch() -> dict[str, Any]:
    items = [evaluation(*ASKED[number % len(ASKED)][:4]) for number in range(BATCH_ITEMS)]
    return {"evaluations": items}


def write_bodies(path: Path) -> Path:
    """Write the single evaluations that are asked in turn."""
    return _write(path, [evaluation(*row[:4]) for row in ASKED])


def _write(path: Path, bodies: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(body, separators=(",", ":")) + "\n" for body in bodies), encoding="utf-8")
    return path


def _rounds(
    sides: tuple[servers.Server, servers.Server], path: str, bodies: Path, connections: int, plan: Plan
) -> tuple[list[wrk.Load], list[wrk.Load]]:
    """Return the loads of the do-nothing side and of the engine, taken in turns, after one unmeasured second each."""
    for side in sides:
        wrk.post(side.url + path, bodies, side.key, connections=connections, seconds=1)
    pairs = [
        [wrk.post(side.url + path, bodies, side.key, connections=connections, seconds=plan.seconds) for side in sides]
        for _ in range(plan.rounds)
    ]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def _line(name: str, theirs: list[wrk.Load], ours: list[wrk.Load], bound: float, decisions: int) -> Line:
    echo = statistics.median(load.rate for load in theirs)
    rate = statistics.median(load.rate for load in ours) * decisions
    ratios = [own.rate * decisions / other.rate for own, other in zip(ours, theirs, strict=True)]
    return Line(
        name=name,
        unit="/s",
        ours=rate,
        theirs=echo,
        figure=statistics.median(ratios),
        bound=bound,
        detail={
            "rounds_judged": [round(ratio, 3) for ratio in ratios],
            "rounds_ours": [round(load.rate * decisions, 1) for load in ours],
            "rounds_do_nothing": [round(load.rate, 1) for load in theirs],
            "p50_us": statistics.median(load.p50_us for load in ours),
            "p99_us": statistics.median(load.p99_us for load in ours),
        },
    )


def _check_answers(engine: servers.Server) -> None:
    """Raise `LoadFailed` unless every body gets the decision that the sample world gives it."""
    for subject, tenant, location, model, expected in ASKED:
        body = json.dumps(evaluation(subject, tenant, location, model)).encode()
        answer = json.loads(servers.ask(engine.url + SINGLE, body, engine.key))
        if answer["decision"] is not expected:
            raise wrk.LoadFailed(f"the engine's answer to a sample question is not {expected}: {answer}")


def check_entries(engine: servers.Server, asked: int) -> None:
    """Raise `LoadFailed` unless the log holds at least one entry for each measured answer."""
    import pysqlite3

    with pysqlite3.connect(f"file:{engine.database}?mode=ro", uri=True) as database:
        (entries,) = database.execute("SELECT count(*) FROM entries").fetchone()
    if entries < asked:
        raise wrk.LoadFailed(f"the log holds {entries} entries after {asked} answers")
