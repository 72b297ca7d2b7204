"""What attacks share: a running service, and an office in which there is something of Zoe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.served import Served, serving
from tests.attacks.zoe import ZOE
from tests.services.erasedsamples import Office
from tests.store.samples import PostgresDatabase, SqliteDatabase

KINDS = {"sqlite": SqliteDatabase, "postgres": PostgresDatabase}


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Offer one running service to all tests of a process."""
    with serving(tmp_path_factory.mktemp("served")) as running:
        yield running


@pytest.fixture(params=sorted(KINDS))
def office(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Office]:
    """An office on either store in which there is something of Zoe; whatever a test leaves must verify."""
    database = KINDS[request.param](tmp_path)
    opened = Office(database)
    opened.tick()
    opened.person(ZOE, "acme")
    opened.tick()
    opened.decide(ZOE)
    opened.tick()
    yield opened
    assert opened.verify().findings == ()
    opened.close()
    database.close()
    database.drop()
