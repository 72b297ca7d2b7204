"""Which persons a listing asks about: on either store in the order of ids, from behind any id on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from policy_engine.services import candidates
from policy_engine.services.candidates import Candidates
from policy_engine.services.factcache import FactCache
from tests.services.erasedsamples import Office
from tests.store.samples import PostgresDatabase, SqliteDatabase

KINDS = {"sqlite": SqliteDatabase, "postgres": PostgresDatabase}
IDS = ("Zed", "alice", "alice2", "zoe", "ärger", "\U0001f600")


@pytest.fixture(params=sorted(KINDS))
def office(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Office]:
    """Offer an office with a few persons, on either kind of store."""
    database = KINDS[request.param](tmp_path)
    opened = Office(database)
    for id in reversed(IDS):
        opened.tick()
        opened.person(id, "acme")
    yield opened
    opened.close()
    database.close()
    database.drop()


def behind(office: Office, after: str) -> tuple[str, ...]:
    """Return the ids behind one, read with memories that are empty."""
    found = Candidates(office.store, FactCache(office.store))
    return tuple(found._persons(after, office.store.state().facts_revision))


def test_ids_come_in_order_from_behind_any_id(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Upper case before lower case before other scripts, as Python sorts them; behind an id that is gone as well."""
    monkeypatch.setattr(candidates, "_ROWS_COUNT", 2)
    assert behind(office, "") == IDS == tuple(sorted(IDS))
    assert behind(office, "alice") == IDS[2:]
    office.tick()
    office.erase("alice2")
    assert behind(office, "alice2") == IDS[3:]
    assert behind(office, "") == IDS[:2] + IDS[3:]
    assert behind(office, IDS[-1]) == ()


def test_rows_that_were_read_are_known_without_another_look(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a listing reads in one go is what its questions are answered from."""
    facts = FactCache(office.store)
    revision = office.store.state().facts_revision
    assert len(tuple(Candidates(office.store, facts)._persons("", revision))) == len(IDS)
    monkeypatch.setattr(office.store, "row", None)
    known = [facts.person(id, revision) for id in IDS]
    assert all(each.subject is not None and each.subject.tenants == {"acme"} for each in known)
