"""One suite for every store: `database` is parametrised over the kinds, and verified when the test is over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgresql import Server, running
from tests.store.samples import AnyStore, Clock, Database, PostgresDatabase, SqliteDatabase

KINDS: dict[str, type[SqliteDatabase | PostgresDatabase]] = {"sqlite": SqliteDatabase, "postgres": PostgresDatabase}


@pytest.fixture(params=sorted(KINDS))
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty migrated database; whatever the test wrote must verify."""
    made = KINDS[request.param](tmp_path)
    yield made
    made.close()
    findings = made.verify().findings
    made.drop()
    assert findings == ()


@pytest.fixture
def sqlite_database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    """An empty SQLite database, for what only a file has; verified as well."""
    made = SqliteDatabase(tmp_path)
    yield made
    made.close()
    assert made.verify().findings == ()


@pytest.fixture
def postgres_database(tmp_path: Path) -> Iterator[PostgresDatabase]:
    """An empty PostgreSQL database, for what only a server has; verified as well."""
    made = PostgresDatabase(tmp_path)
    yield made
    made.close()
    findings = made.verify().findings
    made.drop()
    assert findings == ()


@pytest.fixture
def server() -> Server:
    """The PostgreSQL server of this test process."""
    return running()


@pytest.fixture
def clock() -> Clock:
    """A clock that stands at noon."""
    return Clock()


@pytest.fixture
def store(database: Database, clock: Clock) -> AnyStore:
    """A store on the database, with the standing clock."""
    return database.open(clock)
