"""The load: `wrk -t1` posting prepared bodies, and what it counted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("post.lua")
HOW_TO_GET_WRK = "`wrk` is not installed. On Debian and Ubuntu: apt-get install wrk"


class LoadFailed(RuntimeError):
    """The load could not be run, or an answer was not 2xx: no figure of such a run is worth printing."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of wrk counted."""

    requests: int
    microseconds: int
    failed: int
    p50_us: int
    p99_us: int
    max_us: int

    @property
    def rate(self) -> float:
        """Return answered requests per second."""
        return self.requests * 1e6 / self.microseconds


def required() -> None:
    """Raise `LoadFailed` with the way to get wrk when it is missing."""
    if shutil.which("wrk") is None:
        raise LoadFailed(HOW_TO_GET_WRK)


def post(url: str, bodies: Path, key: str, *, connections: int, seconds: float) -> Load:
    """Post the file's bodies to `url` in turn. Raises `LoadFailed` when any request failed or was refused."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency", "-s", str(SCRIPT), url]
    environment = os.environ | {"BENCH_BODIES": str(bodies), "BENCH_KEY": key}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    said = [line for line in done.stdout.splitlines() if line.startswith("BENCH ")]
    if done.returncode or not said:
        raise LoadFailed(f"wrk ended with {done.returncode}: {(done.stderr or done.stdout).strip()}")
    load = Load(**json.loads(said[-1].removeprefix("BENCH ")))
    if load.failed or not load.requests:
        raise LoadFailed(f"{load.failed} of {load.requests} requests to {url} failed")
    return load
