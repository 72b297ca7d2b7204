"""Which Python the Makefile takes: the distribution's own of the same version where there is one, or the one named."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def taken(path: str, *arguments: str) -> str:
    """Return the Python that `make setup` would use with this PATH."""
    command = ["make", "-s", "--no-print-directory", "--eval", "show: ; @echo $(PYTHON)", "show", *arguments]
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHON", "MAKEFLAGS")}
    done = subprocess.run(
        command, cwd=ROOT, env={**environment, "PATH": path}, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def pretending(folder: Path, version: str) -> str:
    """Return a PATH on which `python3` comes first that says it is of this version."""
    program = folder / "python3"
    program.write_text(f"#!/bin/sh\necho {version}\n")
    program.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def test_the_distributions_python_of_the_same_version_is_taken(tmp_path: Path) -> None:
    """It is taken where it is there and can make environments; a version that it does not have is the PATH's."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    own = f"/usr/bin/python{version}"
    able = Path(own).exists() and not subprocess.run([own, "-c", "import ensurepip, venv"], check=False).returncode
    assert taken(pretending(tmp_path, version)) == (own if able else "python3")
    assert taken(pretending(tmp_path, "3.999")) == "python3"


def test_a_python_that_is_named_is_taken(tmp_path: Path) -> None:
    """Whatever is on the PATH; and without any Python there, the name is what the sentence of the refusal says."""
    assert taken(os.environ["PATH"], "PYTHON=python3.12") == "python3.12"
    assert taken(pretending(tmp_path, "")) == "python3"


def test_a_folder_whose_path_has_a_space_is_one_folder(tmp_path: Path) -> None:
    """`make clean` removes what is in it, and nothing of a neighbour that is called as its path begins."""
    neighbour, folder = tmp_path / "my", tmp_path / "my clone"
    for each in (neighbour, folder / ".venv", folder / ".venv-other"):
        each.mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", folder)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    planned = subprocess.run(
        ["make", "-n", "clean", "setup", "run", "test", "demo", "check", "bench"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "rm -rf" in planned.stdout and str(tmp_path) not in planned.stdout + planned.stderr
    subprocess.run(["make", "-s", "clean"], cwd=folder, env=environment, check=True)
    assert neighbour.exists() and sorted(each.name for each in folder.iterdir()) == ["Makefile"]


def test_each_distribution_carries_the_licence() -> None:
    """Whoever is given one of the three alone has the text that its licence says they must be given."""
    for folder in (ROOT, ROOT / "verifier", ROOT / "witness"):
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        assert project["license"] == "Apache-2.0" and project["license-files"] == ["LICENSE"]
        assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
