"""The office of the tests in this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.exports.office import Office, open_office


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    """Offer an office; whatever was written verifies at the end."""
    (tmp_path / "office").mkdir()
    opened = open_office(tmp_path / "office")
    yield opened
    assert opened.house.evidence.verify().findings == ()
    opened.house.close()
