"""The lines of a run and how they are shown: a table on the terminal, and the same as JSON in `out/`."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter_ns
from typing import Any

BUSY_LOAD = 0.7
BUSY_DISK_MICROSECONDS = 1_000
PACE_CHANGED = 1.3
PACE_TURNS = 200_000
PACKAGES = (
    "policy-engine",
    "pycasbin",
    "cedarpy",
    "cryptography",
    "orjson",
    "pysqlite3",
    "sqlalchemy",
    "uvicorn",
    "uvloop",
)


@dataclass(frozen=True, slots=True)
class Line:
    """One measured line. `figure` is what is judged: at most `bound` when `at_most`, else at least `bound`.

    `ours` and `theirs` are the two raw figures in `unit` (`theirs` is `None` where nothing stands beside). Without a
    bound the line is shown and not judged.
    """

    name: str
    unit: str
    ours: float
    theirs: float | None
    figure: float
    bound: float | None
    at_most: bool = False
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool:
        """Whether the line keeps its bound, if it has one."""
        if self.bound is None:
            return True
        return self.figure <= self.bound if self.at_most else self.figure >= self.bound


def table(lines: list[Line]) -> str:
    """Return the run as an aligned table, a missed line marked."""
    rows = [("what", "ours", "other side", "judged", "bound", "")]
    for line in lines:
        other = "-" if line.theirs is None else f"{_rounded(line.theirs)} {line.unit}"
        bound = "-" if line.bound is None else f"{'<=' if line.at_most else '>='} {line.bound:g}"
        verdict = "shown" if line.bound is None else "met" if line.met else "MISSED"
        own = f"{_rounded(line.ours)} {line.unit}"
        rows.append((line.name, own, other, f"{line.figure:.3g}", bound, verdict))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def _rounded(figure: float) -> str:
    return f"{figure:,.1f}" if figure < 1_000 else f"{figure:,.0f}"


def machine(folder: Path) -> dict[str, Any]:
    """Return what a figure depends on besides the code: processor, kernel, file system, versions, commit."""
    return {
        "processor": _first("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": os.cpu_count(),
        "memory": _first("/proc/meminfo", "MemTotal"),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 2),
        "file_system": _said("stat", "-f", "-c", "%T", str(folder)),
        "fdatasync_us": _fdatasync(folder),
        "pace_ns": [pace()],
        "commit": _said("git", "rev-parse", "HEAD"),
        "changed": bool(_said("git", "status", "--porcelain", "--untracked-files=no")),
        "wrk": (_said("wrk", "--version") or "").split(" Copyright")[0],
        "packages": {name: _version(name) for name in PACKAGES},
    }


def save(path: Path, lines: list[Line], about: dict[str, Any]) -> None:
    """Write the run as JSON, so that two runs can be compared."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"about": about, "lines": [{**asdict(line), "met": line.met} for line in lines]}
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def busy(about: dict[str, Any]) -> str | None:
    """Return a sentence when others use the machine or its disk: such figures are lower bounds, whatever they say."""
    load, disk = about["load_average"], about["fdatasync_us"]
    if load > BUSY_LOAD or disk["p90"] > BUSY_DISK_MICROSECONDS:
        return (
            f"the machine was busy before the run (load {load}, fdatasync p90 {disk['p90']:,} us): run it again alone"
        )
    paces = about["pace_ns"]
    if max(paces) > PACE_CHANGED * min(paces):
        return (
            f"the processor's speed changed during the run (a turn of a loop took {min(paces)} to {max(paces)} ns): "
            "others share it, and only figures beside each other can be compared"
        )
    return None


def pace() -> float:
    """Return the nanoseconds of one turn of a loop in this Python: how fast the processor is at the moment."""
    began = perf_counter_ns()
    total = 0
    for number in range(PACE_TURNS):
        total += number * number % 7
    return round((perf_counter_ns() - began) / PACE_TURNS, 1)


def _fdatasync(folder: Path, count: int = 200) -> dict[str, int]:
    """Return what a durable append of 4 KiB costs in a folder, in microseconds."""
    times = []
    place = folder / "fdatasync.probe"
    with place.open("wb", buffering=0) as out:
        for _ in range(count):
            began = perf_counter_ns()
            out.write(bytes(4096))
            os.fdatasync(out.fileno())
            times.append((perf_counter_ns() - began) // 1_000)
    place.unlink()
    times.sort()
    return {"p50": times[count // 2], "p90": times[count * 9 // 10]}


def _first(path: str, name: str) -> str | None:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), None)


def _said(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return (done.stdout or done.stderr).strip().splitlines()[0] if (done.stdout or done.stderr).strip() else ""


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
