"""The house of services that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.governed import House, open_house
from tests.services.longhistory import LongHistory, long_history


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """Offer the changing services on a fresh database with the usual people."""
    opened = open_house(tmp_path)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def history(tmp_path_factory: pytest.TempPathFactory) -> LongHistory:
    """The history of 200,000 entries: made once for all processes of a run, and read once by each."""
    folder = tmp_path_factory.getbasetemp()
    if "gw" in folder.name:  # a worker's own folder, beside those of the others
        folder = folder.parent
    place = folder / "long-history"
    place.mkdir(exist_ok=True)
    return long_history(place)
