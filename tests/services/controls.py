"""Controls: a law's own test must fail when one named line of the product is another. Run on a copy, in a process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
COPIED = ("policy_engine", "tests", "policies", "migrations", "pyproject.toml", "README.md")


def outcome_with(folder: Path, module: str, line: str, instead: str, test: str) -> str:
    """Return what pytest says of a test when a line that stands once in a module is another. Asserts that it does."""
    copy = folder / "copy"
    copy.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        else:
            shutil.copy(source, copy / name)
    text = (copy / module).read_text()
    assert text.count(line) == 1, f"{module} does not hold the line once: {line}"
    (copy / module).write_text(text.replace(line, instead))
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", test]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV"))}
    run = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert run.returncode in (0, 1), run.stdout + run.stderr
    return run.stdout
