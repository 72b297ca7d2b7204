"""Controls: what each law's test must notice. Reads the registry, patches a copy of the product, runs one test there.

Rules:
- The copy holds everything that a test may read, and the process that runs the test checks that it imports the copy.
- A patch replaces one whole line that occurs exactly once; a line that moved or doubled is refused, not guessed.
- "Fails" means that the test ran and failed: a broken import, a test not found or nothing collected is no failure.
- Generated examples are the same each time, and a failing one is not made smaller: nobody reads it.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from tests.house.repository import ROOT

REGISTRY = ROOT / "tests" / "controls" / "controls.toml"
COPIED = ("policy_engine", "policies", "migrations", "tests", "docs", "benchmarks", "verifier", "witness")
COPIED_FILES = ("pyproject.toml", "README.md", "Makefile", "alembic.ini")
SECONDS_MAX = 240
NOT_THE_COPY = 70

RUNNER = f"""
import sys
from pathlib import Path

import policy_engine

if not Path(policy_engine.__file__).is_relative_to(Path.cwd()):
    sys.exit({NOT_THE_COPY})
import pytest


class SameExamples:
    def pytest_configure(self, config):
        from hypothesis import HealthCheck, Phase, settings

        settings.register_profile(
            "controls",
            max_examples=100,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=[HealthCheck.too_slow],
        )
        settings.load_profile("controls")


options = ["-q", "-x", "-p", "no:cacheprovider", "-m", "nightly or not nightly"]
sys.exit(pytest.main([*options, *sys.argv[1:]], plugins=[SameExamples()]))
"""
"""Runs the named tests, after conftest has chosen its profile and before a test module is imported."""


@dataclass(frozen=True, slots=True)
class Control:
    """One line of the product, its patch, and the test that must fail under it."""

    law: int
    test: str
    file: str
    line: str
    replacement: str

    @property
    def name(self) -> str:
        """Return a short name: the law and the test's own name."""
        return f"law {self.law}: {self.test.rpartition('::')[2]}"


@dataclass(frozen=True, slots=True)
class Run:
    """How a test run ended. `output` is what it printed."""

    code: int
    output: str

    @property
    def passed(self) -> bool:
        """Return whether the tests ran and all passed."""
        return self.code == 0 and re.search(r"\b\d+ passed", self.output) is not None

    @property
    def failed(self) -> bool:
        """Return whether a test ran and failed, by its own assertion or by an error that the patch made in it."""
        return self.code == 1 and re.search(r"\b\d+ failed", self.output) is not None


def read_controls(path: Path = REGISTRY) -> list[Control]:
    """Return the registered controls. Raises `TypeError` for a member that is missing or unknown."""
    return [Control(**entry) for entry in tomllib.loads(path.read_text(encoding="utf-8"))["control"]]


def copy_product(into: Path) -> Path:
    """Copy everything that a test may read into a folder, and return it."""
    ignored = shutil.ignore_patterns("__pycache__", ".*_cache", ".hypothesis")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, into / name, ignore=ignored)
    for name in COPIED_FILES:
        if (ROOT / name).is_file():
            shutil.copy2(ROOT / name, into / name)
    return into


def patch(root: Path, control: Control) -> None:
    """Replace the control's line. Raises `LookupError` unless it occurs exactly once."""
    path = root / control.file
    lines = path.read_text(encoding="utf-8").split("\n")
    count = lines.count(control.line)
    if count != 1:
        raise LookupError(f"{control.file} has the line of `{control.name}` {count} times; it must be there once")
    lines[lines.index(control.line)] = control.replacement
    path.write_text("\n".join(lines), encoding="utf-8")


def run(root: Path, *tests: str) -> Run:
    """Run tests in a copy, in a process of their own that sees nothing of the original."""
    spared = {name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE", "PYTEST", "COV_"))}
    environment = spared | {
        "PYTHONPATH": str(root),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HYPOTHESIS_PROFILE": "default",
    }
    ended = subprocess.run(
        [sys.executable, "-c", RUNNER, *tests],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    return Run(ended.returncode, ended.stdout + ended.stderr)


def tried(root: Path, control: Control) -> Run:
    """Patch a fresh copy in an empty folder and run the control's test in it."""
    patch(copy_product(root), control)
    return run(root, control.test)


def docstring_of(control: Control) -> str:
    """Return the docstring of the control's test. Raises `LookupError` when there is no such test."""
    path, *names = control.test.partition("[")[0].split("::")
    scope: ast.AST = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    for name in names:
        found = [
            node
            for node in ast.iter_child_nodes(scope)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == name
        ]
        if not found:
            raise LookupError(f"{control.test}: there is no such test")
        scope = found[0]
    return ast.get_docstring(scope) or "" if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef) else ""


def squeezed(text: str) -> str:
    """Return a text with every run of white space as one space."""
    return " ".join(text.split())
