"""The part `casbin`: our enforcer beside stock pycasbin and cedarpy, judged, saved and drawn."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from benchmarks import hostile, plot, report, side_by_side, upkeep, verdicts
from benchmarks.enforcers import CEDAR, OURS, STOCK
from benchmarks.progress import Live

PICTURE = "cost-against-rules.svg"
FIGURES = "casbin.json"


@dataclass(frozen=True, slots=True)
class Found:
    """The judged lines, the sentences of what could not be measured of ours, and those of what was left out."""

    lines: list[report.Line]
    unmeasured: list[str]
    left_out: list[str]


def measure(folder: Path, out: Path, about: dict[str, Any], *, quick: bool, say: Live) -> Found:
    """Run everything, write the figures and the picture to `out`. Raises `AnswersDiffer`."""
    grid = side_by_side.measure(side_by_side.QUICK if quick else side_by_side.FULL, folder, say)
    lines, unmeasured = verdicts.judge(grid)
    for more, without in (
        upkeep.measure(grid, folder, 1 if quick else 3, say),
        hostile.measure(hostile.VALUES_QUICK if quick else hostile.VALUES, folder, say),
    ):
        lines += more
        unmeasured += without
    _save(out / FIGURES, grid, about)
    packages = about["packages"]
    versions = {OURS: packages["policy-engine"], STOCK: packages["pycasbin"], CEDAR: packages["cedarpy"]}
    plot.draw(grid.points, versions, machine_class(about), out / PICTURE)
    left_out = [
        f"{each.engine}, {each.shape}, from {each.size:,} rules: {each.why}"
        for each in grid.absent
        if each.engine != OURS
    ]
    return Found(lines, unmeasured, left_out)


def machine_class(about: dict[str, Any]) -> str:
    """Return what kind of machine the figures are from, without naming it."""
    return f"{about['processor']}, {about['cores']} cores, Python {about['python']}"


def _save(path: Path, grid: side_by_side.Grid, about: dict[str, Any]) -> None:
    document = {
        "about": about | {"clock_us": _clock_microseconds()},
        "points": [{**asdict(each), "cost_us": each.cost} for each in grid.points],
        "absent": [asdict(each) for each in grid.absent],
        "build_seconds": [
            {"shape": shape, "size": size, "engine": engine, "seconds": round(seconds, 4)}
            for (shape, size, engine), seconds in grid.builds.items()
        ],
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _clock_microseconds(turns: int = 10_000) -> float:
    """Return what reading the clock twice costs: every timed call carries so much."""
    clock = perf_counter_ns
    times = sorted(-(clock() - clock()) for _ in range(turns))
    return times[turns // 2] / 1_000
