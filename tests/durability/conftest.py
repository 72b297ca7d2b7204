"""What the trials of this room share: a filled database to start from, and a way to tell figures."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from policy_engine.bootstrap import copy_template
from tests.conftest import SampleDatabase


@pytest.fixture
def filled(tmp_path: Path, sample_database: SampleDatabase) -> Callable[[str], Path]:
    """Offer `filled(name)`: a new folder with a database that holds the sample release and world."""

    def fill(name: str) -> Path:
        folder = (tmp_path / name).resolve()
        folder.mkdir()
        copy_template(sample_database.place, folder / "engine.db")
        return folder

    return fill


@pytest.fixture
def tell(capfd: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Offer a way to tell figures of a long campaign on stderr, past pytest's capture."""

    def write(line: str) -> None:
        with capfd.disabled():
            sys.stderr.write(f"\n{line}\n")

    return write
