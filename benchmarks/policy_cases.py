"""Line 4: decision cases per second of the whole command `policy-engine policy test`, its start included."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from benchmarks.report import Line

BOUND_PER_SECOND = 100.0
CLOSING = re.compile(r"^(\d+) passed, (\d+) failed$", re.MULTILINE)


class CasesFailed(RuntimeError):
    """The command did not pass all cases: its speed means nothing."""


def measure(policies: Path, rounds: int, say: Callable[[str], None]) -> list[Line]:
    """Run the sample policy's cases several times and return cases per second of wall time."""
    say("policy test")
    rates = []
    count = 0
    for _ in range(rounds):
        began = perf_counter()
        count = _run(policies)
        rates.append(count / (perf_counter() - began))
    rate = statistics.median(rates)
    detail = {"cases": count, "rounds": [round(each, 1) for each in rates]}
    return [Line("policy test, start included", "cases/s", rate, None, rate, BOUND_PER_SECOND, detail=detail)]


def _run(policies: Path) -> int:
    program = str(Path(sys.executable).with_name("policy-engine"))
    settings = os.environ | {"POLICY_ENGINE_POLICIES": str(policies), "POLICY_ENGINE_KEY": ""}
    done = subprocess.run([program, "policy", "test"], env=settings, capture_output=True, text=True, check=False)
    closing = CLOSING.search(done.stdout + done.stderr)
    if done.returncode or closing is None or int(closing.group(2)):
        raise CasesFailed(f"policy test ended with {done.returncode}: {(done.stdout + done.stderr)[-500:]}")
    return int(closing.group(1))
