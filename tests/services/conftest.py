"""The houses and histories that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from policy_engine.services.releases import ReleaseLoader
from policy_engine.settings import Settings
from tests.laws.sample import opened
from tests.postgresql import running
from tests.services.governed import House, open_house
from tests.services.histories import POLICIES, History, played, sqlite_settings
from tests.services.longhistory import LongHistory, long_history_of_the_run
from tests.services.replays import SampleHouse


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """Offer the changing services on a fresh database with the usual people."""
    opened = open_house(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def sample_house(sample_database: Any, compiled: ReleaseLoader) -> Iterator[SampleHouse]:
    """Offer an engine on a copy of the sample database, with the sample principals by label."""
    with opened(sample_database, compiled) as made:
        yield made


@pytest.fixture(scope="session")
def history(tmp_path_factory: pytest.TempPathFactory) -> LongHistory:
    """The history of 200,000 entries."""
    return long_history_of_the_run(tmp_path_factory)


@pytest.fixture(params=["sqlite", "postgres"])
def story(request: pytest.FixtureRequest, tmp_path: Path, compiled: ReleaseLoader) -> Iterator[History]:
    """A house on either store with the sample world and a clock that is moved by hand; nothing was asked yet."""
    if request.param == "sqlite":
        with played(0, 0, [sqlite_settings(tmp_path / "engine.db")], compiled) as made:
            yield made
        return
    server = running()
    name = server.new_database()
    given = {"policies": POLICIES, "keys": tmp_path / "engine.keys", "sample_world": "yes", "serving_region": "US"}
    urls = {"database": server.url(name, "pe_writer"), "operator_database": server.url(name, "pe_operator")}
    with played(0, 0, [Settings(**urls, **given)], compiled) as made:
        yield made
    server.drop_database(name)
