"""The house of services that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.governed import House, open_house


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """Offer the changing services on a fresh database with the usual people."""
    opened = open_house(tmp_path)
    yield opened
    opened.close()
