"""Controls: what each law's test must notice. Reads the registry, patches a copy of the product, runs one test there.

Rules:
- The copy holds everything that a test may read, and the process that runs the test checks that it imports the copy.
- One process imports the copy and collects the tests; a fork of it runs a control (`warm` says how it is patched).
- A patch replaces one whole line that occurs exactly once; a line that moved or doubled is refused, not guessed.
- "Fails" means that the test ran and failed: a broken import, a test not found or nothing collected is no failure.
- Generated examples are the same each time, and a failing one is not made smaller: nobody reads it.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.house.repository import ROOT
from tests.house.warm import COLD

REGISTRY = ROOT / "tests" / "controls" / "controls.toml"
COPIED = ("policy_engine", "policies", "migrations", "tests", "docs", "benchmarks", "verifier", "witness")
COPIED_FILES = ("pyproject.toml", "README.md", "Makefile", "alembic.ini")
SECONDS_MAX = 240
NOT_THE_COPY = 70

OPTIONS = ("-q", "-x", "-p", "no:cacheprovider", "-m", "nightly or not nightly")

RUNNER = """
import sys

from tests.house.controls import OPTIONS, SameExamples, require_copy

require_copy()
import pytest

sys.exit(pytest.main([*OPTIONS, *sys.argv[1:]], plugins=[SameExamples()]))
"""
"""Runs the named tests in a fresh process. `tests.house.warm` does the same in a process that has imported them."""


class SameExamples:
    """A plugin that chooses the same examples each time, after conftest has chosen its profile."""

    def pytest_configure(self) -> None:
        """Load the profile before a test module is imported."""
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


def require_copy() -> None:
    """End the process unless it imports the copy that it runs in."""
    import policy_engine

    if not Path(policy_engine.__file__).is_relative_to(Path.cwd()):
        sys.exit(NOT_THE_COPY)


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


def patch(root: Path, control: Control) -> tuple[Path, str, str]:
    """Replace the control's line; return the file, its text before and after. `LookupError` unless it is there once."""
    path = root / control.file
    old = path.read_text(encoding="utf-8")
    lines = old.split("\n")
    count = lines.count(control.line)
    if count != 1:
        raise LookupError(f"{control.file} has the line of `{control.name}` {count} times; it must be there once")
    lines[lines.index(control.line)] = control.replacement
    new = "\n".join(lines)
    path.write_text(new, encoding="utf-8")
    return path, old, new


@contextmanager
def patched(root: Path, control: Control) -> Iterator[tuple[Path, str, str]]:
    """Patch a copy for as long as the context lasts."""
    path, old, new = patch(root, control)
    try:
        yield path, old, new
    finally:
        path.write_text(old, encoding="utf-8")


def environment(root: Path) -> dict[str, str]:
    """Return the variables of a process that sees a copy and nothing of the original."""
    spared = {name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE", "PYTEST", "COV_"))}
    return spared | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1", "HYPOTHESIS_PROFILE": "default"}


def run(root: Path, *tests: str) -> Run:
    """Run tests in a copy, in a fresh process."""
    ended = subprocess.run(
        [sys.executable, "-c", RUNNER, *tests],
        cwd=root,
        env=environment(root),
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    return Run(ended.returncode, ended.stdout + ended.stderr)


class Trials:
    """A copy of the product, and a session in it that has imported everything and forks for each control."""

    def __init__(self, root: Path, tests: Iterable[str]) -> None:
        self.root = copy_product(root.resolve())
        self.channel, other = socket.socketpair()
        self.channel.settimeout(SECONDS_MAX)
        command = [sys.executable, "-m", "tests.house.warm", str(other.fileno()), *sorted(set(tests))]
        with other, (self.root / "warm.txt").open("wb") as out:
            self.process = subprocess.Popen(
                command,
                cwd=self.root,
                env=environment(self.root),
                pass_fds=[other.fileno()],
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.answers = self.channel.makefile("r", encoding="utf-8")
        self.answer()  # it is ready: a patch before that would be imported as the product

    def tried(self, control: Control) -> Run:
        """Run the control's test on the patched copy: in a fork, or afresh where a fork cannot run the patched text."""
        with patched(self.root, control) as (path, old, new):
            found = self.asked((control.test,), path, old, new)
            return run(self.root, control.test) if found.code == COLD else found

    def asked(self, tests: Sequence[str], path: Path, old: str, new: str) -> Run:
        """Run tests in a fork in which a file's text is another."""
        output = self.root / "output.txt"
        asked = {"tests": tests, "file": str(path), "old": old, "new": new, "output": str(output)}
        with suppress(BrokenPipeError):
            self.channel.sendall(json.dumps(asked).encode() + b"\n")
        return Run(self.answer()["code"], output.read_text(encoding="utf-8", errors="replace"))

    def answer(self) -> dict[str, Any]:
        """Return the next answer. Raises `RuntimeError` with the session's output when there is none."""
        try:
            line = self.answers.readline()
        except OSError:
            line = ""
        if not line:
            raise RuntimeError((self.root / "warm.txt").read_text(encoding="utf-8")[-3_000:])
        return dict(json.loads(line))

    def close(self) -> None:
        """End the session and whatever it started."""
        self.channel.close()
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


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
