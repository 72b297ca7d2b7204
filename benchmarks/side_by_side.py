"""The three engines over every shape and size, in one run, their answers compared request by request.

Rules of the room:
- Each shape at each size is measured in a process of its own (`apart`).
- In each round every engine answers the same requests, one engine after the other, so what slows the machine for a
  while slows them all. Each call is timed singly, the clock's own cost included; judged are medians.
- Allowed and denied requests have a median each, and an engine's *cost* is the dearer of the two.
- A slow engine is asked fewer of the same requests, so that it keeps to its seconds; where not even two would fit, or
  building it would take too long, it is left out with a sentence (`Absent`).
- An answer that differs from another engine's, or from what the request was made to get, fails the run.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from benchmarks.apart import Say, apart
from benchmarks.enforcers import ENGINES, Engine, NotMeasured, build
from benchmarks.shapes import SHAPES, Request, Row, Shape, named

REPEATED, FIRST_SEEN = "repeated", "first seen"
FLOWS = (REPEATED, FIRST_SEEN)
SIZES = (10, 100, 1_000, 10_000, 100_000)
BUILD_SECONDS_MAX = 30.0


class AnswersDiffer(RuntimeError):
    """Two engines answered one request differently: no figure of such a run is worth printing."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much: `requests` for each flow in each of `rounds`, and `seconds` at most for each engine at each size."""

    rounds: int
    requests: int
    seconds: float
    sizes: tuple[int, ...] = SIZES


FULL = Plan(rounds=5, requests=400, seconds=6.0)
QUICK = Plan(rounds=3, requests=200, seconds=0.4)


@dataclass(frozen=True, slots=True)
class Point:
    """What one decision costs an engine, in microseconds: medians over the allowed and over the denied requests."""

    shape: str
    size: int
    engine: str
    flow: str
    allowed_us: float
    denied_us: float
    asked: int

    @property
    def cost(self) -> float:
        """Return the dearer of the two medians."""
        return max(self.allowed_us, self.denied_us)


@dataclass(frozen=True, slots=True)
class Absent:
    """An engine that was left out from a size on, and why."""

    shape: str
    size: int
    engine: str
    why: str


@dataclass(slots=True)
class Grid:
    """All that was measured, with the seconds each engine took to build."""

    points: list[Point] = field(default_factory=list)
    absent: list[Absent] = field(default_factory=list)
    builds: dict[tuple[str, int, str], float] = field(default_factory=dict)

    def point(self, shape: str, size: int, engine: str, flow: str) -> Point | None:
        """Return the point measured there, if any."""
        wanted = (shape, size, engine, flow)
        return next((each for each in self.points if (each.shape, each.size, each.engine, each.flow) == wanted), None)


def measure(plan: Plan, folder: Path, say: Say, shapes: Sequence[Shape] = SHAPES) -> Grid:
    """Measure every engine over every shape and size. Raises `AnswersDiffer`."""
    grid = Grid()
    cells = [(shape, size) for shape in shapes for size in plan.sizes]
    for done, (shape, size) in enumerate(cells):
        say(f"{shape.name}, {size:,} rules", done, len(cells))
        grid = apart(say, _measured, grid, plan, shape.name, size, folder)
    return grid


def _measured(grid: Grid, plan: Plan, name: str, size: int, folder: Path, say: Say) -> Grid:
    """Return the grid with one cell more."""
    shape = named(name)
    engines = _engines(grid, plan, shape, size, folder)
    gc.collect()
    grid.points += cell(engines, plan, shape, size)
    return grid


def cell(engines: Sequence[Engine], plan: Plan, shape: Shape, size: int) -> list[Point]:
    """Measure engines that are built over one policy. Raises `AnswersDiffer`."""
    pool = shape.repeated(size)
    fresh = shape.first_seen(size)
    probes = list(islice(fresh, 2))
    counts = {engine.name: _count(engine, probes, plan) for engine in engines}
    for engine in engines:
        if counts[engine.name][0] >= len(pool):
            _asked(engine, pool)
    times: dict[tuple[str, str], list[float]] = {(engine.name, flow): [] for engine in engines for flow in FLOWS}
    for turn in range(plan.rounds):
        start = turn * _shift(counts, len(pool))
        again = [pool[(start + at) % len(pool)] for at in range(plan.requests)]
        for flow, requests in ((REPEATED, again), (FIRST_SEEN, list(islice(fresh, plan.requests)))):
            answers = {}
            for engine in _turned(engines, turn):
                count = counts[engine.name][turn]
                found, answers[engine.name] = _asked(engine, requests[:count])
                times[engine.name, flow] += found
            compare(answers, f"{shape.name}, {size:,} rules, {flow}")
    return [
        Point(shape.name, size, name, flow, statistics.median(found[::2]), statistics.median(found[1::2]), len(found))
        for (name, flow), found in times.items()
    ]


def compare(answers: dict[str, list[bool]], where: str) -> None:
    """Raise `AnswersDiffer` unless each request has one answer from every engine asked, and the one it was made for."""
    for number in range(max(map(len, answers.values()), default=0)):
        given = {name: found[number] for name, found in answers.items() if number < len(found)}
        if set(given.values()) != {number % 2 == 0}:
            said = ", ".join(f"{name} {'allows' if answer else 'denies'}" for name, answer in given.items())
            raise AnswersDiffer(f"{where}: of request {number}, made to be {('allowed', 'denied')[number % 2]}: {said}")


def _engines(grid: Grid, plan: Plan, shape: Shape, size: int, folder: Path) -> list[Engine]:
    """Build the engines that can serve the shape at the size in time; note the others as absent."""
    rows: list[Row] = shape.rows(size)
    engines = []
    for name in ENGINES:
        if any(each.shape == shape.name and each.engine == name for each in grid.absent):
            continue
        try:
            _affordable(grid, plan, shape, size, name)
            engine = build(name, shape, rows, folder)
        except NotMeasured as error:
            grid.absent.append(Absent(shape.name, size, name, str(error)))
            continue
        grid.builds[shape.name, size, name] = engine.build_seconds
        engines.append(engine)
    return engines


def _affordable(grid: Grid, plan: Plan, shape: Shape, size: int, name: str) -> None:
    """Raise `NotMeasured` when, going by the sizes before, building or two requests of each flow take too long."""
    before = [at for at in plan.sizes if at < size and (shape.name, at, name) in grid.builds]
    if not before:
        return
    seconds = [grid.builds[shape.name, at, name] for at in before]
    steeper = seconds[-1] / seconds[-2] if len(seconds) > 1 and seconds[-1] > 0.1 else 0.0
    building = seconds[-1] * max(steeper, size / before[-1])
    if building > BUILD_SECONDS_MAX:
        raise NotMeasured(f"going by smaller sizes, building it would take about {building:,.0f} s")
    last = [grid.point(shape.name, before[-1], name, flow) for flow in FLOWS]
    asking = sum(2 * each.cost for each in last if each) / 1e6 * size / before[-1]
    if asking > plan.seconds:
        raise NotMeasured(f"going by smaller sizes, four requests would take about {asking:,.1f} s")


def _count(engine: Engine, probes: list[Request], plan: Plan) -> list[int]:
    """Return how many requests of each flow fit the engine's seconds in each round, always pairs, and one at least."""
    seconds = sum(_asked(engine, probes)[0]) / 1e6
    pairs = max(1, int(plan.seconds / len(FLOWS) / max(seconds, 1e-9)))
    most = plan.requests // 2
    if pairs >= plan.rounds:
        return [2 * min(most, pairs // plan.rounds)] * plan.rounds
    return [2 if turn < pairs else 0 for turn in range(plan.rounds)]


def _shift(counts: dict[str, list[int]], pool: int) -> int:
    """Return by how much the pool turns each round, so that an engine asked little meets other requests of it."""
    return min((count[0] for count in counts.values()), default=0) % pool


def _asked(engine: Engine, requests: Sequence[Request]) -> tuple[list[float], list[bool]]:
    """Return the microseconds and the answer of each request; all is prepared before and read afterwards."""
    prepared = [engine.prepare(request) for request in requests]
    times: list[int] = []
    results: list[Any] = []
    ask, clock = engine.ask, perf_counter_ns
    for arguments in prepared:
        began = clock()
        result = ask(*arguments)
        times.append(clock() - began)
        results.append(result)
    return [each / 1_000 for each in times], [engine.allowed(result) for result in results]


def _turned(engines: Sequence[Engine], turn: int) -> list[Engine]:
    """Return the engines, another first in each round."""
    at = turn % max(1, len(engines))
    return [*engines[at:], *engines[:at]]
