"""The promises, judged from made-up measurements: kept, missed at one size, and not measurable."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import plot, report, verdicts
from benchmarks.casbin_shapes import machine_class
from benchmarks.enforcers import CEDAR, ENGINES, OURS, STOCK
from benchmarks.report import Line
from benchmarks.shapes import SHAPES
from benchmarks.side_by_side import FLOWS, SIZES, Absent, Grid, Point


def _grid(ours: float = 1.0, stock_per_rule: float = 5.0) -> Grid:
    """Return measurements of an engine that does not grow beside one that grows with every rule."""
    points = [
        Point(shape.name, size, name, flow, cost / 2, cost, 100)
        for shape in SHAPES
        for size in SIZES
        for flow in FLOWS
        for name, cost in ((OURS, ours), (STOCK, stock_per_rule * size), (CEDAR, size + 50.0))
    ]
    return Grid(points=points)


def _replaced(grid: Grid, **changed: object) -> Grid:
    """Return the grid with one of our points as dear as `cost`."""
    wanted = (changed["shape"], changed["size"], OURS, changed["flow"])
    cost = float(str(changed["cost"]))
    points = [
        Point(each.shape, each.size, each.engine, each.flow, cost, cost / 2, 1)
        if (each.shape, each.size, each.engine, each.flow) == wanted
        else each
        for each in grid.points
    ]
    return Grid(points=points)


def _missed(grid: Grid) -> list[str]:
    lines, unmeasured = verdicts.judge(grid)
    assert unmeasured == []
    return [line.name for line in lines if not line.met]


def test_a_fast_engine_keeps_every_promise() -> None:
    """One line of times faster for the table, growth and dearest for each inverted flow, two for each pattern shape."""
    lines, unmeasured = verdicts.judge(_grid())
    assert unmeasured == []
    assert all(line.met for line in lines)
    assert len(lines) == 1 + 4 * 2 * 2 + 3 * 2


@pytest.mark.parametrize("flow", FLOWS)
def test_one_dear_outcome_at_one_size_misses(flow: str) -> None:
    """A single size and outcome over 10 us, or growth over 8, is enough to miss, whatever the other points say."""
    grown = _replaced(_grid(), shape="acl", size=100_000, flow=flow, cost=8.5)
    dear = _replaced(_grid(), shape="rbac", size=1_000, flow=flow, cost=10.5)
    assert _missed(grown) == [f"acl, {flow}, 10 to 100,000 rules: growth"]
    assert _missed(dear) == [f"rbac, {flow}, 10 to 100,000 rules: dearest"]


def test_the_table_is_judged_at_a_thousand_rules_by_its_worse_flow() -> None:
    """999 times stock in one flow is a miss even where the other flow has more."""
    slow = _replaced(_grid(), shape="table", size=1_000, flow="first seen", cost=5_000 / 999)
    assert _missed(slow) == ["table, 1,000 rules: times faster than stock"]


def test_patterns_are_judged_at_their_worst_size() -> None:
    """Slower than stock at one size misses for first-seen values, less than 20 times for repeated ones."""
    first = _replaced(_grid(), shape="keymatch", size=10, flow="first seen", cost=51.0)
    again = _replaced(_grid(), shape="keymatch2", size=10, flow="repeated", cost=2.6)
    assert _missed(first) == ["keymatch, first seen, any size: times faster than stock"]
    assert _missed(again) == ["keymatch2, repeated, any size: times faster than stock"]


def test_a_refused_shape_is_unmeasured_and_the_rest_is_judged() -> None:
    """A shape that our enforcer refuses gives its sentence and no line; an absent other engine gives neither."""
    grid = _grid()
    grid.points = [each for each in grid.points if (each.shape, each.engine) != ("keymatch", OURS)]
    grid.absent = [Absent("keymatch", 10, OURS, "no such term"), Absent("acl", 100_000, STOCK, "slow")]
    lines, unmeasured = verdicts.judge(grid)
    assert unmeasured == ["keymatch, from 10 rules: no such term"]
    assert not any(line.name.startswith("keymatch,") for line in lines)
    assert len(lines) == 1 + 4 * 2 * 2 + 2 * 2


def test_a_comparison_without_the_other_side_is_unmeasured() -> None:
    """Without stock at the size of a line, the line is said to be unmeasured rather than met."""
    grid = _grid()
    grid.points = [each for each in grid.points if (each.shape, each.engine) != ("table", STOCK)]
    lines, unmeasured = verdicts.judge(grid)
    assert [each.split(":")[0] for each in unmeasured] == ["table"]
    assert not any(line.name.startswith("table, 1,000") for line in lines)


def test_a_line_without_a_bound_is_shown() -> None:
    """Such a line is in the table with its figure, is never missed, and is not called met."""
    line = Line("kept for each", "bytes", 700.0, None, 700.0, None)
    assert line.met
    assert report.table([line]).splitlines()[1].split()[-1] == "shown"


def test_the_picture_is_the_same_for_the_same_points(tmp_path: Path) -> None:
    """Two drawings are equal to the byte, hold no date, name each engine's version and the class of machine."""
    about = {"processor": "A processor", "cores": 2, "python": "3.11.7"}
    for name in ("one.svg", "two.svg"):
        plot.draw(_grid().points, dict.fromkeys(ENGINES, "9.9"), machine_class(about), tmp_path / name)
    drawn = (tmp_path / "one.svg").read_bytes()
    assert drawn == (tmp_path / "two.svg").read_bytes()
    assert b"<dc:date>" not in drawn
    for text in ("A processor, 2 cores, Python 3.11.7.", f"{OURS} 9.9", "table: 6 columns"):
        assert text.encode() in drawn  # matplotlib keeps each text as a comment beside its outline


def test_more_rules_stand_further_right(tmp_path: Path) -> None:
    """Different points give a different picture: nothing in it is fixed but its frame."""
    machine = "m"
    plot.draw(_grid().points, {}, machine, tmp_path / "one.svg")
    plot.draw(_grid(ours=3.0).points, {}, machine, tmp_path / "two.svg")
    assert (tmp_path / "one.svg").read_bytes() != (tmp_path / "two.svg").read_bytes()
