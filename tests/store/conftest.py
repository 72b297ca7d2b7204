"""One suite for every store: `database` is parametrised over the kinds, and verified when the test is over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from policy_engine.store.sqlite import SqliteStore
from tests.store.samples import Clock, SqliteDatabase

KINDS = {"sqlite": SqliteDatabase}


@pytest.fixture(params=sorted(KINDS))
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqliteDatabase]:
    """An empty migrated database; whatever the test wrote must verify."""
    made = KINDS[request.param](tmp_path)
    yield made
    made.close()
    assert made.verify().findings == ()


@pytest.fixture
def clock() -> Clock:
    """A clock that stands at noon."""
    return Clock()


@pytest.fixture
def store(database: SqliteDatabase, clock: Clock) -> SqliteStore:
    """A store on the database, with the standing clock."""
    return database.open(clock)
