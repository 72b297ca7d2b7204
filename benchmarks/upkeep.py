"""What 100,000 rules cost to compile, to hold and to change by one.

Compiling is the whole of `CompiledEnforcer(model, policy)` from two files, Casbin's own reading included; stock's
construction from the same files stands beside it. Memory is what `tracemalloc` finds kept once it is built, in a run of
its own, for tracing slows it. A change must show: the new row's request is denied before and allowed after.
"""

from __future__ import annotations

import gc
import statistics
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.apart import Say, apart
from benchmarks.enforcers import STOCK, NotMeasured, compiled, write
from benchmarks.report import Line
from benchmarks.shapes import SHAPES, Shape, named
from benchmarks.side_by_side import AnswersDiffer, Grid

RULES = 100_000
COMPILE_SECONDS = 2.0
UPDATE_MILLISECONDS = 20.0


def measure(grid: Grid, folder: Path, runs: int, say: Say) -> tuple[list[Line], list[str]]:
    """Return the lines of compiling and changing for every shape, and a sentence for each that is not measured."""
    lines: list[Line] = []
    unmeasured: list[str] = []
    for done, shape in enumerate(SHAPES):
        say(f"{shape.name}, compiling {RULES:,} rules", done, len(SHAPES))
        stock = grid.builds.get((shape.name, RULES, STOCK))
        try:
            lines += apart(say, _measured, shape.name, folder, runs, stock)
        except NotMeasured as error:
            unmeasured.append(f"{shape.name}, compiling and changing {RULES:,} rules: {error}")
    return lines, unmeasured


def _measured(name: str, folder: Path, runs: int, stock: float | None, say: Say) -> list[Line]:
    shape = named(name)
    paths = write(shape, shape.rows(RULES), folder)
    lines = [_compile(shape, paths, runs, stock), _memory(shape, paths)]
    return [*lines, _update(shape, paths, 5 * runs)] if name in ADDED else lines


def _compile(shape: Shape, paths: tuple[str, str], runs: int, stock: float | None) -> Line:
    seconds = []
    for _ in range(runs):
        gc.collect()
        began = perf_counter()
        compiled(*paths)
        seconds.append(perf_counter() - began)
    median = statistics.median(seconds)
    detail = {"seconds": [round(each, 3) for each in seconds]}
    name = f"{shape.name}, {RULES:,} rules: compiled"
    return Line(name, "s", median, stock, median, COMPILE_SECONDS, at_most=True, detail=detail)


def _memory(shape: Shape, paths: tuple[str, str]) -> Line:
    kept = float(_kept(paths))
    return Line(f"{shape.name}, {RULES:,} rules: kept for each", "bytes", kept, None, kept, None, at_most=True)


def _kept(paths: tuple[str, str]) -> int:
    """Return the bytes that one rule keeps, everything that the enforcer holds divided by the rules."""
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        enforcer = compiled(*paths)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        del enforcer
    finally:
        tracemalloc.stop()
    return (after - before) // RULES


# A row that no policy has, by number, and a request that it alone allows.
ADDED: dict[str, Callable[[int], tuple[list[str], tuple[Any, ...]]]] = {
    "table": lambda number: (
        [f"new{number}", "*", f"new-tenant{number}", "*", f"new-model{number}", "read"],
        (f"new{number}", "any", f"new-tenant{number}", "any", f"new-model{number}", "read"),
    ),
    "acl": lambda number: ([f"new{number}", "thing", "read"], (f"new{number}", "thing", "read")),
    "keymatch": lambda number: (
        [f"new{number}", f"/new{number}/*", "^GET$"],
        (f"new{number}", f"/new{number}/file", "GET"),
    ),
}


def _update(shape: Shape, paths: tuple[str, str], turns: int) -> Line:
    """Time adding one row, each time to the enforcer before; nothing else in the policy may change its answer."""
    enforcer = compiled(*paths)
    if not hasattr(enforcer, "updated"):
        raise NotMeasured("this version of `CompiledEnforcer` has no `updated`")
    old = shape.repeated(RULES)
    milliseconds = []
    for number in range(turns):
        row, request = ADDED[shape.name](number)
        began = perf_counter()
        newer = enforcer.updated(add=[["p", *row]])
        milliseconds.append((perf_counter() - began) * 1e3)
        if enforcer.enforce(*request) or not newer.enforce(*request):
            raise AnswersDiffer(f"{shape.name}: an added row does not allow its request, or did before it was added")
        if [newer.enforce(*each) for each in old] != [at % 2 == 0 for at in range(len(old))]:
            raise AnswersDiffer(f"{shape.name}: adding a row changed the answer to another request")
        enforcer = newer
    median = statistics.median(milliseconds)
    name = f"{shape.name}, {RULES:,} rules: one row added"
    detail = {"milliseconds": [round(each, 2) for each in milliseconds]}
    return Line(name, "ms", median, None, median, UPDATE_MILLISECONDS, at_most=True, detail=detail)
