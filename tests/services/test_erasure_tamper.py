"""Tampering with what was erased or pruned: what comes back, what goes unsaid, and marks that lie are found."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pysqlite3.dbapi2 as dbapi
import pytest

from policy_engine.core.instants import SECOND
from policy_engine.services.registercheck import RowsCheck
from policy_engine.services.verify import Report, verify
from policy_engine.store.sessions import Reader, make_engine
from policy_engine.store.view import StoreView
from tests.services.erasedsamples import Office, ten_years
from tests.store.samples import VAULT, SqliteDatabase

ZOE, BOB = "zoe-7731", "bob-7731"


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A database before and after Zoe was erased and what was old was pruned; entries 3 and 4 are Zoe's and Bob's."""
    folder = tmp_path_factory.mktemp("honest")
    database = SqliteDatabase(folder)
    office = Office(database)
    office.tick()
    office.facts.import_rows(
        office.people["nina"], [{"register": "persons", "id": id, "tenants": ["acme"]} for id in (ZOE, BOB)]
    )
    office.tick()
    places = [office.decide(ZOE), office.decide(BOB)]
    assert [seq for _, seq in places] == [2, 3]
    office.tick()
    office.scrub()
    before = Path(shutil.copy(database.path, folder / "before.db"))
    office.erase(ZOE)
    office.tick()
    office.decide(BOB)
    office.clock.at += ten_years()
    office.prune(office.clock() - ten_years() - SECOND // 2)
    office.close()
    return before, database.path


@pytest.fixture
def tampered(honest: tuple[Path, Path], tmp_path: Path) -> Iterator[dbapi.Connection]:
    """A copy without its guards, with the older copy beside it as `old`."""
    path = Path(shutil.copy(honest[1], tmp_path / "log.db"))
    connection = dbapi.connect(str(path), isolation_level=None)
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f'DROP TRIGGER "{name}"')
    connection.execute("ATTACH ? AS old", (str(honest[0]),))
    yield connection
    connection.close()


def checked(connection: dbapi.Connection, *, with_keys: bool) -> Report:
    """Return what verifying finds in the file that a connection has open."""
    path = next(file for _, name, file in connection.execute("PRAGMA database_list") if name == "main")
    engine = make_engine(Path(path))
    raw = engine.raw_connection()
    try:
        reader = Reader(raw.dbapi_connection)
        with reader.at_one_moment():
            return verify(StoreView(reader), VAULT if with_keys else None)
    finally:
        raw.close()
        engine.dispose()


def test_an_honest_database_has_nothing_to_find(tampered: dbapi.Connection) -> None:
    """Taking the guards away is no finding by itself; what is gone is counted by the entry that took it."""
    for with_keys in (True, False):
        found = checked(tampered, with_keys=with_keys)
        assert found.findings == ()
        assert sorted(text.split(" by ")[0] for text in found.gone) == ["erased", "pruned"]


EDITS = [
    ("UPDATE bodies SET sealed = (SELECT sealed FROM old.bodies o WHERE o.seq = 2) WHERE seq = 2", "entry 2", "both"),
    ("UPDATE bodies SET sealed = (SELECT sealed FROM old.bodies o WHERE o.seq = 3) WHERE seq = 3", "entry 3", "both"),
    ("UPDATE bodies SET tags = (SELECT tags FROM old.bodies o WHERE o.seq = 2) WHERE seq = 2", "entry 2", "both"),
    ("DELETE FROM bodies WHERE seq = 2", "entry 2", "both"),
    (
        "INSERT INTO data_keys SELECT * FROM old.data_keys o WHERE o.id NOT IN (SELECT id FROM data_keys)",
        "data key",
        "both",
    ),
    (f"INSERT INTO persons SELECT * FROM old.persons o WHERE o.id = '{ZOE}'", "persons row", "both"),
    ("DELETE FROM erased_keys", "entry 5", "both"),
    ("DELETE FROM erased_keys WHERE register = 'persons'", "entry 5", "both"),
    ("UPDATE erased_keys SET revision = revision + 1 WHERE register IS NOT NULL", "mark of entry 5", "both"),
    ("UPDATE erased_keys SET at = at + 1", "mark of entry 5", "both"),
    ("DELETE FROM pruned_ranges", "entry 8", "both"),
    ("UPDATE pruned_ranges SET end_seq = end_seq + 9", "mark of entry 8", "both"),
    ("UPDATE pruned_ranges SET by_seq = by_seq - 1", "mark of entry 7", "both"),
    (
        "UPDATE bodies SET sealed = x'', tags = x'' WHERE seq = (SELECT max(seq) FROM bodies WHERE data_key IS NOT NULL"
        " AND length(sealed) > 0)",
        "entry 6",
        "both",
    ),
    (
        "INSERT INTO erased_keys SELECT data_key, log_id, 8, 99999999999999999, NULL, NULL FROM bodies WHERE seq = 6",
        "mark of entry 8",
        "both",
    ),
    (f"DELETE FROM persons WHERE id = '{BOB}'", "persons, item 1 of entry 1", "keys"),
]


@pytest.mark.parametrize(("statement", "place", "found_with"), EDITS)
def test_each_edit_is_found_and_located(
    tampered: dbapi.Connection, statement: str, place: str, found_with: str
) -> None:
    """What came back, went without an entry or was marked by no entry is a finding, with the key file and without.

    Control: policy_engine/services/verify.py:
    `raise VerificationFailed(f"the sealed body was {mark} and is still there")`
    """
    tampered.execute(statement)
    for with_keys in (True, False) if found_with == "both" else (True,):
        found = [str(finding) for finding in checked(tampered, with_keys=with_keys).findings]
        assert any(finding.startswith(place) for finding in found), found


def test_a_body_emptied_with_a_mark_that_no_entry_made(tampered: dbapi.Connection) -> None:
    """Whoever empties a body and forges a mark for it is found by the mark."""
    tampered.execute("INSERT INTO pruned_ranges SELECT log_id, 8, log_id, 6, 7, 99999999999999999 FROM bodies LIMIT 1")
    tampered.execute("UPDATE bodies SET sealed = x'', tags = x'' WHERE seq = 6")
    for with_keys in (True, False):
        assert "mark of entry 8" in str(checked(tampered, with_keys=with_keys).findings)


def test_the_rows_check_knows_what_was_erased(tampered: dbapi.Connection) -> None:
    """The check of register rows by itself finds nothing in an honest database, and an erased row that came back."""

    def found() -> list[str]:
        reader = Reader(tampered)
        with reader.at_one_moment():
            return [str(finding) for finding in RowsCheck(StoreView(reader), VAULT).findings]

    assert found() == []
    tampered.execute(f"INSERT INTO persons SELECT * FROM old.persons o WHERE o.id = '{ZOE}'")
    assert len(found()) == 1
