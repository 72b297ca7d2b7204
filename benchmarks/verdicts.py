"""What is promised of the side-by-side run, line by line, judged from what was measured.

Rules of the room: costs are those of `side_by_side` (each engine's dearer outcome). Where a promise holds over several
sizes or flows, the worst of them is judged and named in the detail. A point that our enforcer lacks makes its lines
`unmeasured`, with the reason; a point that another engine lacks only narrows what is compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.enforcers import OURS, STOCK, NotMeasured
from benchmarks.report import Line
from benchmarks.shapes import SHAPES
from benchmarks.side_by_side import FIRST_SEEN, FLOWS, REPEATED, Grid, Point

TABLE_RULES = 1_000
TABLE_TIMES = 1_000.0
GROWTH_TIMES = 8.0
DECISION_MICROSECONDS = 10.0
PATTERN_TIMES = 1.0
PATTERN_REPEATED_TIMES = 20.0


def judge(grid: Grid) -> tuple[list[Line], list[str]]:
    """Return the judged lines, and a sentence for each that could not be measured."""
    lines: list[Line] = []
    unmeasured: list[str] = []
    for each in grid.absent:
        if each.engine == OURS:
            unmeasured.append(f"{each.shape}, from {each.size:,} rules: {each.why}")
    refused = {each.shape for each in grid.absent if each.engine == OURS}
    for shape in SHAPES:
        if shape.name in refused or not any(each.shape == shape.name for each in grid.points):
            continue
        try:
            lines += _pattern(grid, shape.name) if shape.pattern else _inverted(grid, shape.name)
        except NotMeasured as error:
            unmeasured.append(f"{shape.name}: {error}")
    return lines, unmeasured


def _inverted(grid: Grid, shape: str) -> Iterator[Line]:
    if shape == "table":
        pairs = [pair for flow in FLOWS for pair in _pairs(grid, shape, flow) if pair[0].size == TABLE_RULES]
        yield _ratio(f"{shape}, {TABLE_RULES:,} rules: times faster than stock", pairs, TABLE_TIMES)
    for flow in FLOWS:
        own = _own(grid, shape, flow)
        first, last = own[0], own[-1]
        name = f"{shape}, {flow}, {first.size:,} to {last.size:,} rules"
        growth = last.cost / first.cost
        detail: dict[str, Any] = {
            f"us_at_{each.size}": [round(each.allowed_us, 3), round(each.denied_us, 3)] for each in own
        }
        yield Line(f"{name}: growth", "us", last.cost, None, growth, GROWTH_TIMES, at_most=True, detail=detail)
        dearest = max(own, key=lambda each: each.cost)
        stock = grid.point(shape, dearest.size, STOCK, flow)
        other = None if stock is None else stock.cost
        detail = {"at": dearest.size}
        bound = DECISION_MICROSECONDS
        yield Line(f"{name}: dearest", "us", dearest.cost, other, dearest.cost, bound, at_most=True, detail=detail)


def _pattern(grid: Grid, shape: str) -> Iterator[Line]:
    every = {flow: _pairs(grid, shape, flow) for flow in FLOWS}
    yield _ratio(f"{shape}, {FIRST_SEEN}, any size: times faster than stock", every[FIRST_SEEN], PATTERN_TIMES)
    yield _ratio(f"{shape}, {REPEATED}, any size: times faster than stock", every[REPEATED], PATTERN_REPEATED_TIMES)


def _own(grid: Grid, shape: str, flow: str) -> list[Point]:
    return [each for each in grid.points if (each.shape, each.engine, each.flow) == (shape, OURS, flow)]


def _pairs(grid: Grid, shape: str, flow: str) -> list[tuple[Point, Point]]:
    """Return our points with stock's at the same size, where both are there."""
    both = [(each, grid.point(shape, each.size, STOCK, flow)) for each in _own(grid, shape, flow)]
    return [(own, stock) for own, stock in both if stock is not None]


def _both(point: Point) -> list[float]:
    """Return the medians over the allowed and over the denied requests."""
    return [round(point.allowed_us, 3), round(point.denied_us, 3)]


def _ratio(name: str, pairs: list[tuple[Point, Point]], bound: float) -> Line:
    """Return the line of the pair where we gain least. Raises `NotMeasured` without a pair."""
    if not pairs:
        raise NotMeasured("stock was not measured at any size that the line is about")
    own, stock = min(pairs, key=lambda pair: pair[1].cost / pair[0].cost)
    detail = {
        "at": own.size,
        "flow": own.flow,
        "ours_allowed_denied_us": _both(own),
        "stock_allowed_denied_us": _both(stock),
        "times_by_size": {f"{each.size} {each.flow}": round(other.cost / each.cost, 2) for each, other in pairs},
    }
    return Line(name, "us", own.cost, stock.cost, stock.cost / own.cost, bound, detail=detail)
