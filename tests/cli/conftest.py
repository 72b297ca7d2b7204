"""A shell in a test: the real commands on a real database of the sample world, run in this process."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from policy_engine.cli.app import app
from tests.commandline import CliRunner, releases_loaded_once

POLICIES = Path(__file__).parents[2] / "policies"
LABELS = ("enforcement point", "operator", "approver", "auditor")


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command did: its exit code and what it wrote where."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Return standard output as JSON."""
        return json.loads(self.out)


@dataclass(frozen=True, slots=True)
class Shell:
    """Runs commands on one database. `keys` are the sample keys by label."""

    database: Path
    keys: dict[str, str]

    def __call__(self, *words: str | Path, key: str | None = None, text: str | None = None, **settings: Any) -> Ran:
        """Run a command as the holder of a sample key (by label), or as `local`; `settings` replace the usual ones."""
        found = CliRunner().invoke(
            app,
            [str(word) for word in words],
            input=text,
            env=self.environment(key, **settings),
            prog_name="policy-engine",
        )
        if found.exception is not None and not isinstance(found.exception, SystemExit):
            raise found.exception
        return Ran(found.exit_code, found.stdout, found.stderr)

    def environment(self, key: str | None = None, **settings: Any) -> dict[str, str | None]:
        """Return the variables a command sees, the developer's own taken away."""
        foreign = {name: None for name in os.environ if name.startswith("POLICY_ENGINE_")}
        own = {"database": f"sqlite:///{self.database}", "policies": POLICIES, "serving_region": "US", **settings}
        if key is not None:
            own["key"] = self.keys.get(key, key)
        return {**foreign, **{f"POLICY_ENGINE_{name.upper()}": str(value) for name, value in own.items()}}

    def approved(self, proposal: str) -> Ran:
        """Have the approver approve a proposal."""
        ran = self("approvals", "approve", proposal, key="approver")
        assert ran.code == 0, ran.err
        return ran

    def asked(self, person: str = "alice", model: str = "fable-5", tenant: str = "acme", **options: str) -> Ran:
        """Ask for one decision: infer, from the US unless `location` says otherwise."""
        given = {"location": "US", **options}
        words = [word for name, value in given.items() for word in (f"--{name}", value)]
        return self("check", "--subject", person, "--model", model, "--action", "infer", "--tenant", tenant, *words)


@pytest.fixture(scope="package", autouse=True)
def _releases_loaded_once() -> Iterator[None]:
    with releases_loaded_once():
        yield


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """Fill one database with the sample release and world, by the first command that meets it."""
    return new_shell(tmp_path_factory.mktemp("filled") / "engine.db")


def new_shell(database: Path) -> Shell:
    """Make a database of the sample release and world, and return a shell on it with the keys that were printed."""
    shell = Shell(database, {})
    ran = shell("models", "list")
    assert ran.code == 0, ran.err
    for line in ran.err.splitlines():
        label, _, secret = line.partition(": ")
        shell.keys[label] = secret
    assert tuple(shell.keys) == LABELS
    return shell


@pytest.fixture
def shell(filled: Shell, tmp_path: Path) -> Shell:
    """Offer a shell on a fresh copy of the filled database."""
    return copy_of(filled, tmp_path / "engine.db")


def copy_of(filled: Shell, database: Path) -> Shell:
    """Copy a closed database with its key file."""
    for suffix in ("", "-wal", ".keys"):
        source = Path(f"{filled.database}{suffix}")
        if source.exists():
            shutil.copy(source, f"{database}{suffix}")
    return Shell(database, filled.keys)


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str, str], Path]:
    """Offer `written(name, text)`, which writes a file and returns its path."""

    def write(name: str, text: str) -> Path:
        file = tmp_path / name
        file.write_text(text, encoding="utf-8")
        return file

    return write
