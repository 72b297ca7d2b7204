"""The measured shapes: as many rules as promised, requests with the answers they were made for, values that are new."""

from __future__ import annotations

from dataclasses import astuple, is_dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from benchmarks.enforcers import CEDAR, OURS, STOCK, build
from benchmarks.hostile import requests as hostile_requests
from benchmarks.shapes import SHAPES, Request, Shape
from benchmarks.side_by_side import QUICK, SIZES, Absent, AnswersDiffer, Grid, Plan, Point, cell, compare, measure

EVERY = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)


def _scalars(request: Request) -> set[Any]:
    found: set[Any] = set()
    for value in request:
        parts = astuple(value) if is_dataclass(value) else value.values() if isinstance(value, dict) else (value,)
        found |= set(parts)  # type: ignore[arg-type]  # a dataclass's instance, never its type
    return found


@EVERY
@pytest.mark.parametrize("size", [*SIZES[:4], 11, 12, 137])
def test_a_policy_has_as_many_rules_as_asked_for(shape: Shape, size: int) -> None:
    """Each generator gives exactly the number of lines, all different, at the measured sizes and at odd ones."""
    rows = shape.rows(size)
    assert len(rows) == size
    assert len(set(rows)) == size


@EVERY
@pytest.mark.parametrize("size", [10, 100, 137])
def test_stock_and_cedar_answer_what_each_request_was_made_for(shape: Shape, size: int, tmp_path: Path) -> None:
    """Even requests are allowed and odd ones denied, by both engines, repeated and first seen: no answer is assumed."""
    rows = shape.rows(size)
    requests = [*shape.repeated(size), *islice(shape.first_seen(size), 120)]
    wanted = [number % 2 == 0 for number in range(len(requests))]
    for name in (STOCK, CEDAR):
        engine = build(name, shape, rows, tmp_path)
        assert [engine.allowed(engine.ask(*engine.prepare(each))) for each in requests] == wanted, name


@EVERY
def test_our_enforcer_answers_every_shape(shape: Shape, tmp_path: Path) -> None:
    """No shape is refused, and every request is answered as it was made for."""
    requests = [*shape.repeated(100), *islice(shape.first_seen(100), 120)]
    engine = build(OURS, shape, shape.rows(100), tmp_path)
    assert [engine.allowed(engine.ask(*engine.prepare(each))) for each in requests] == [True, False] * 68


@EVERY
def test_denied_first_seen_requests_bring_new_values(shape: Shape) -> None:
    """Every first-seen request that is denied has a value that neither the pool nor any request before it had."""
    seen = set().union(*map(_scalars, shape.repeated(1_000)))
    for number, request in enumerate(islice(shape.first_seen(1_000), 2_000)):
        new = _scalars(request) - seen
        seen |= new
        assert new or number % 2 == 0, request


@pytest.mark.parametrize("name", ["table", "abac-eval", "keymatch", "keymatch2"])
def test_allowed_first_seen_requests_bring_new_values_where_the_policy_is_open(name: str) -> None:
    """Where a star, an attribute or a pattern leaves a place open, allowed requests bring new values too."""
    shape = next(each for each in SHAPES if each.name == name)
    seen: set[Any] = set()
    for request in islice(shape.first_seen(1_000), 0, 2_000, 2):
        new = _scalars(request) - seen
        seen |= new
        assert new, request


@pytest.mark.parametrize("name", ["table", "keymatch"])
def test_the_hostile_stream_is_answered_by_stock_as_it_was_made(name: str, tmp_path: Path) -> None:
    """Random, long and non-text values are denied and the others answered as intended; no request comes twice."""
    shape = next(each for each in SHAPES if each.name == name)
    asked = hostile_requests(shape, 0, 200)
    engine = build(STOCK, shape, shape.rows(10_000), tmp_path)
    assert len({request for request, _ in asked}) == 200
    assert {allowed for _, allowed in asked} == {True, False}
    assert [engine.ask(*request) for request, _ in asked[:32]] == [allowed for _, allowed in asked[:32]]


def test_a_wrong_answer_fails_the_run() -> None:
    """Engines that differ, and engines that agree on an answer the request was not made for, both stop the run."""
    compare({"one": [True, False], "other": [True]}, "here")
    with pytest.raises(AnswersDiffer, match="other denies"):
        compare({"one": [True, False], "other": [False]}, "here")
    with pytest.raises(AnswersDiffer, match="request 1, made to be denied"):
        compare({"one": [True, True], "other": [True, True]}, "here")


def test_a_cell_measures_each_engine_in_each_flow(tmp_path: Path) -> None:
    """Stock and Cedar over one small policy give four points, each with two medians and the requests planned."""
    shape = SHAPES[0]
    engines = [build(name, shape, shape.rows(10), tmp_path) for name in (STOCK, CEDAR)]
    points = cell(engines, Plan(rounds=2, requests=8, seconds=5.0), shape, 10)
    assert len({(each.engine, each.flow) for each in points}) == 4
    assert all(each.asked == 16 and min(each.allowed_us, each.denied_us) > 0 for each in points)


def test_a_slow_engine_is_left_out_with_a_sentence(tmp_path: Path) -> None:
    """With next to no seconds, each size after the first is left out for every engine, and the reason says so."""
    heard: list[str] = []
    plan = Plan(rounds=1, requests=2, seconds=1e-9, sizes=(10, 100))
    shapes = SHAPES[:2]
    grid = measure(plan, tmp_path, lambda text, done, total: heard.append(text), shapes)
    assert {each.size for each in grid.points} == {10}
    late = [each for each in grid.absent if each.size == 100]
    assert {each.shape for each in late} == {shape.name for shape in shapes}
    assert all("four requests would take" in each.why for each in late)
    assert len(heard) == 2 * len(shapes)


def test_quick_runs_reach_every_size() -> None:
    """`--quick` takes fewer requests, never fewer sizes: the promises speak of all of them."""
    assert QUICK.sizes == SIZES == (10, 100, 1_000, 10_000, 100_000)


def test_a_grid_finds_its_points() -> None:
    """A point is found by shape, size, engine and flow, and its cost is the dearer of its two medians."""
    point = Point("acl", 10, OURS, "repeated", 1.0, 2.0, 4)
    grid = Grid(points=[point], absent=[Absent("acl", 100, STOCK, "slow")])
    assert grid.point("acl", 10, OURS, "repeated") is point
    assert grid.point("acl", 10, STOCK, "repeated") is None
    assert point.cost == 2.0
