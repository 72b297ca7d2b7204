"""The engine that the doors of this folder ask, and the operator who withdraws models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.laws.sample import opened


@pytest.fixture
def running(sample_database: Any, compiled: Any) -> Iterator[Any]:
    """Offer an engine on the real clock with its sample principals, as `(engine, principals)`."""
    with opened(sample_database, compiled) as found:
        yield found
