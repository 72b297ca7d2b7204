"""What the trials of this room share: a filled database to start from."""

from __future__ import annotations

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
