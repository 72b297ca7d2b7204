"""The running service that the tests of remote engines share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.api.served import Served, serving


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Offer one running service, as one of the replicas, to all tests of a process."""
    with serving(tmp_path_factory.mktemp("served"), replica=True) as running:
        yield running
