"""Tampering: whatever is flipped, deleted, swapped or inserted in the database is found and located."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pysqlite3.dbapi2 as dbapi
import pytest

from policy_engine.core.decision import Request
from policy_engine.errors import VerificationFailed
from policy_engine.ledger.encoding import header_hash
from policy_engine.ledger.merkle import leaf_hash, root
from policy_engine.services.verify import NOTE, UNOPENED, Report, verify
from policy_engine.store.interfaces import Change, Write
from policy_engine.store.sessions import Reader, make_engine
from policy_engine.store.view import StoreView
from tests.services.evidencesamples import PEP, VAULT, open_desk

CONTENT = b"rules of the sample"
BLOB = sha256(CONTENT).hexdigest()


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with decisions, notes, a gap, facts, orders, keys, an approval, a release, a row taken away."""
    path = tmp_path_factory.mktemp("honest") / "log.db"
    desk = open_desk(path)
    store = desk.store
    desk.decide(*[desk.evaluation(f"u{n}") for n in range(4)])
    private = Request("alice", "infer", "fable-5", "alice-home")
    desk.decide(desk.evaluation(request=private, tenant_sealed=True), desk.evaluation("bob", allowed=False))
    while store.index_tags(100):
        pass
    store.change(Change("facts.set", {}, (Write("persons", "alice", {"facts": {"a": "1"}}, 1),), raises_epoch=False))
    store.change(Change("facts.set", {}, (Write("persons", "eve", {"facts": {}}, 0),), raises_epoch=False))
    store.change(Change("facts.gone", {}, (Write("persons", "eve", None, 1),), raises_epoch=False))
    store.change(Change("release.stored", {}, (), raises_epoch=False, blobs={BLOB: CONTENT}))
    proposal = {"status": "approved", "proposed_by": "olga", "decided_by": "paul"}
    store.change(
        Change(
            "switch.engaged",
            {"by": "key-1"},
            (Write("switches", "stop", {"reason": "x"}, 0), Write("approvals", "p1", proposal, 0)),
            raises_epoch=True,
        )
    )
    state = store.state()
    desk.recorder.write([desk.recorder.note("search", {"n": 1}, PEP, state, body={"q": "x"}, subject="bob")], state)
    desk.recorder.missed("log.unavailable")
    desk.decide(desk.evaluation("u9"))
    desk.close()
    return path


@pytest.fixture
def database(honest: Path, tmp_path: Path) -> Path:
    """A copy to tamper with."""
    return Path(shutil.copy(honest, tmp_path / "log.db"))


def verified(path: Path, *, key: bool = True) -> Report:
    """Verify a file as it lies there, without the checks of opening a store."""
    engine = make_engine(path)
    connection = engine.raw_connection()
    reader = Reader(connection.dbapi_connection)
    try:
        with reader.at_one_moment():
            return verify(StoreView(reader), VAULT if key else None)
    finally:
        connection.close()
        engine.dispose()


def opened(path: Path) -> Any:
    """Open the file as its owner can: without triggers."""
    connection = dbapi.connect(str(path), isolation_level=None)
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    return connection


def tampered(path: Path, *statements: str) -> Report:
    """Run statements as the owner of the file, then verify."""
    connection = opened(path)
    for statement in statements:
        assert connection.execute(statement).rowcount != 0, statement
    connection.close()
    return verified(path)


def test_an_honest_log_verifies_with_and_without_the_key(honest: Path) -> None:
    """Nothing is found, everything is counted, and the note says what cannot be seen."""
    report = verified(honest)
    assert report.ok
    assert report.findings == ()
    report.raise_if_failed()
    assert report.note == NOTE
    assert report.counts["entries"] == 15
    assert report.counts["bodies"] == 13
    assert report.counts["rows"] == 9
    without = verified(honest, key=False)
    assert without.findings == ()
    assert without.note == f"{NOTE} {UNOPENED}"


def test_a_data_key_named_beside_rows_is_found(database: Path) -> None:
    """Rows of a change have each their own key: one that is named for all of them was written by nobody here."""
    report = tampered(database, "UPDATE bodies SET data_key = 'x' WHERE seq = 0")
    assert [finding.message for finding in report.findings] == [
        "its body names a data key, and its rows have each their own"
    ]


def test_progress_is_reported(honest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The callback hears of entries done and in all, and of the end."""
    monkeypatch.setattr("policy_engine.services.verify.PROGRESS_ENTRIES", 5)
    heard: list[tuple[int, int]] = []
    desk = open_desk(honest, new=False)
    desk.evidence.verify(lambda done, total: heard.append((done, total)))
    desk.close()
    assert heard == [(5, 15), (10, 15), (15, 15), (15, 15)]


def edit(old: str, new: str, seq: int) -> str:
    """Return the statement that replaces a text in the public part of an entry."""
    return (
        f"UPDATE entries SET public = CAST(replace(CAST(public AS TEXT), '{old}', '{new}') AS BLOB) WHERE seq = {seq}"
    )


COPY = "SELECT '{}', revision, document, salt, log_id, seq, item FROM"

ATTACKS = [
    (edit("allow", "denyy", 2), "entry 2"),
    ("UPDATE entries SET leaf = x'00' WHERE seq = 3", "entry 3"),
    ("UPDATE entries SET public = x'7b7d' WHERE seq = 3", "entry 3"),
    ("DELETE FROM entries WHERE seq = 3", "entry 3"),
    ("DELETE FROM entries WHERE seq = 0", "entry 0"),
    ("DELETE FROM entries WHERE seq = 14", "entry 14"),
    ("INSERT INTO entries SELECT log_id, 15, public, leaf FROM entries WHERE seq = 3", "entry 15"),
    ("INSERT INTO entries SELECT 'aa', seq, public, leaf FROM entries WHERE seq = 3", "entry 3 of log aa"),
    ("UPDATE entries SET seq = 99 WHERE seq = 4", "entry 4"),
    ("UPDATE bodies SET sealed = x'00' WHERE seq = 2", "entry 2"),
    ("UPDATE bodies SET sealed = x'', tags = x'' WHERE seq = 2", "entry 2"),
    ("DELETE FROM bodies WHERE seq = 2", "entry 2"),
    ("DELETE FROM bodies WHERE seq = 7", "entry 7"),
    ("INSERT INTO bodies SELECT log_id, 10, data_key, sealed, tags FROM bodies WHERE seq = 2", "entry 10"),
    ("INSERT INTO bodies SELECT log_id, 99, data_key, sealed, tags FROM bodies WHERE seq = 2", "entry 99"),
    ("UPDATE bodies SET data_key = (SELECT data_key FROM bodies WHERE seq = 1) WHERE seq = 2", "entry 2"),
    ("UPDATE bodies SET data_key = NULL WHERE seq = 2", "entry 2"),
    ("UPDATE bodies SET data_key = 'none' WHERE seq = 2", "entry 2"),
    ("UPDATE bodies SET tags = (SELECT tags FROM bodies WHERE seq = 1) WHERE seq = 2", "entry 2"),
    ("UPDATE bodies SET tags = x'' WHERE seq = 12", "entry 12"),
    ("UPDATE bodies SET tags = zeroblob(16) WHERE seq = 14", "entry 14"),
    ("DELETE FROM tags WHERE seq = 4 AND tag = (SELECT max(tag) FROM tags WHERE seq = 4)", "entry 4"),
    ("INSERT INTO tags SELECT zeroblob(16), log_id, 4 FROM heads", "entry 4"),
    ("INSERT INTO tags SELECT substr(tags, 1, 16), log_id, 1 FROM bodies WHERE seq = 4", "entry 1"),
    ("UPDATE heads SET tagged = 99", "head"),
    ("UPDATE heads SET tagged = 14", "entry 14"),
    ("UPDATE heads SET tagged = 3", "entry 4"),
    ("UPDATE batches SET header = x'00' WHERE batch_no = 2", "batch 2"),
    ("UPDATE batches SET hash = 'x' WHERE batch_no = 2", "batch 2"),
    ("UPDATE batches SET n = n + 1 WHERE batch_no = 2", "batch 2"),
    ("UPDATE batches SET first_seq = first_seq + 100 WHERE batch_no = 2", "batch 2"),
    ("UPDATE batches SET batch_no = 99 WHERE batch_no = 2", "batch 99"),
    ("DELETE FROM batches WHERE batch_no = 2", "batch 3"),
    ("DELETE FROM batches WHERE batch_no = 0", "batch 1"),
    ("DELETE FROM batches WHERE batch_no = (SELECT max(batch_no) FROM batches)", "entry 14"),
    ("INSERT INTO batches SELECT log_id, 99, 99, n, header, hash FROM batches WHERE batch_no = 2", "batch 99"),
    ("UPDATE heads SET head_hash = 'x'", "head"),
    ("UPDATE heads SET next_seq = next_seq - 1", "head"),
    ("UPDATE heads SET next_batch = next_batch + 1", "head"),
    ("UPDATE heads SET last_at = last_at - 1", "head"),
    ("DELETE FROM heads", "head"),
    ("INSERT INTO heads SELECT 'aa', 0, 0, '', 0, 0", "head"),
    ("UPDATE state SET epoch = epoch + 1", "state"),
    ("UPDATE state SET release = 'sha256:bb'", "state"),
    ("UPDATE state SET facts_revision = facts_revision + 1", "state"),
    ("UPDATE state SET sample = 1", "state"),
    ("DELETE FROM state", "state"),
    ("UPDATE persons SET document = '{\"facts\":{\"a\":\"2\"}}' WHERE id = 'alice'", "persons row 1"),
    ("UPDATE persons SET document = '{\"facts\": {\"a\":\"1\"}}' WHERE id = 'alice'", "persons row 1"),
    ("UPDATE persons SET document = 'null' WHERE id = 'eve'", "persons row 3"),
    ("UPDATE persons SET document = '{}' WHERE id = 'eve'", "persons row 3"),
    ("UPDATE persons SET document = NULL WHERE id = 'alice'", "persons row 1"),
    ("UPDATE persons SET revision = 9 WHERE id = 'alice'", "persons row 1"),
    ("UPDATE persons SET salt = zeroblob(32) WHERE id = 'alice'", "persons row 1"),
    ("UPDATE persons SET id = 'mallory' WHERE id = 'alice'", "persons row 3"),
    ("UPDATE persons SET seq = 1 WHERE id = 'alice'", "persons row 1"),
    ("UPDATE persons SET item = 1 WHERE id = 'alice'", "persons row 1"),
    ("UPDATE persons SET log_id = 'aa' WHERE id = 'alice'", "persons row 1"),
    ("DELETE FROM persons WHERE id = 'bob'", "persons, item 2 of entry 0"),
    ("DELETE FROM persons WHERE id = 'eve'", "persons, item 0 of entry 9"),
    ("DELETE FROM switches", "switches, item 0 of entry 11"),
    (f"INSERT INTO persons {COPY.format('mallory')} persons WHERE id = 'bob'", "persons row 4"),
    (f"INSERT INTO orders {COPY.format('lic-1')} switches", "orders row lic-1"),
    ("UPDATE keys SET hash = 'forged' WHERE id = 'key-uma'", "keys row key-uma"),
    ("UPDATE keys SET hash = NULL WHERE id = 'key-uma'", "keys row key-uma"),
    ("UPDATE approvals SET decided_by = 'mallory'", "approvals row p1"),
    ("UPDATE approvals SET status = 'waiting'", "approvals row p1"),
    (f"UPDATE blobs SET content = x'00' WHERE hash = '{BLOB}'", f"blob {BLOB}"),
    ("DELETE FROM blobs", f"blob {BLOB}"),
    ("INSERT INTO blobs VALUES ('aa', x'00')", "blob aa"),
    ("UPDATE data_keys SET wrapped = zeroblob(60) WHERE id = (SELECT data_key FROM bodies WHERE seq = 2)", "entry 2"),
    ("DELETE FROM data_keys WHERE id = (SELECT data_key FROM bodies WHERE seq = 2)", "entry 2"),
]  # fmt: skip


@pytest.mark.parametrize(("statement", "place"), ATTACKS)
def test_each_attack_is_found_and_located(database: Path, statement: str, place: str) -> None:
    """One edit, deletion or insertion anywhere gives a finding whose place names it."""
    report = tampered(database, statement)
    assert any(place in finding.place for finding in report.findings), [str(finding) for finding in report.findings]
    with pytest.raises(VerificationFailed) as failed:
        report.raise_if_failed()
    assert len(failed.value.findings) == len(report.findings)


def test_findings_name_no_person(database: Path) -> None:
    """Places of persons' rows are numbers, so a report can be shown to anybody."""
    report = tampered(database, "UPDATE persons SET salt = zeroblob(32)", "DELETE FROM persons WHERE id = 'bob'")
    text = " ".join(str(finding) for finding in report.findings)
    assert report.findings
    assert not any(name in text for name in ("alice", "bob", "eve"))


@pytest.mark.parametrize(("table", "column"), [("entries", "public"), ("bodies", "sealed"), ("batches", "header")])
def test_swapping_two_is_found(database: Path, table: str, column: str) -> None:
    """Two contents that change places are both located."""
    key = "batch_no" if table == "batches" else "seq"
    pair = f"SELECT {column} FROM {table} WHERE {key} = "
    report = tampered(
        database,
        f"CREATE TEMP TABLE was AS {pair}1",
        f"UPDATE {table} SET {column} = ({pair}2) WHERE {key} = 1",
        f"UPDATE {table} SET {column} = (SELECT {column} FROM was) WHERE {key} = 2",
    )
    places = " ".join(finding.place for finding in report.findings)
    word = "batch" if table == "batches" else "entry"
    assert f"{word} 1 " in places
    assert f"{word} 2 " in places


def test_tags_changed_with_their_index_are_found(database: Path) -> None:
    """Tags that agree with each other and not with the sealed body are found by the key."""
    report = tampered(
        database,
        "DELETE FROM tags WHERE seq = 4",
        "UPDATE bodies SET tags = zeroblob(16) WHERE seq = 4",
        "INSERT INTO tags SELECT tags, log_id, seq FROM bodies WHERE seq = 4",
    )
    assert [finding.message for finding in report.findings] == ["its tags are not those of its sealed body"]


def test_a_header_that_leaves_the_chain_is_found(database: Path) -> None:
    """A header with another predecessor, and the right hash beside it, breaks the chain at itself and behind it."""
    connection = opened(database)
    (header,) = connection.execute("SELECT header FROM batches WHERE batch_no = 2").fetchone()
    text = header.decode()
    forged = text.replace(text.split('"prev":"')[1][:64], "0" * 64).encode()
    change = "UPDATE batches SET header = ?, hash = ? WHERE batch_no = 2"
    connection.execute(change, (forged, header_hash(forged)))
    connection.close()
    findings = verified(database).findings
    *batches, log = findings
    assert [finding.place.split(" of ")[0] for finding in batches] == ["batch 2", "batch 3"]
    assert "batch 2 that is pending can never be integrated" in str(log)


def test_an_older_row_put_back_is_found(tmp_path: Path) -> None:
    """A row of an earlier revision, genuine once, is not taken for the present one."""
    path = tmp_path / "log.db"
    desk = open_desk(path)
    connection = opened(path)
    old = connection.execute("SELECT * FROM persons WHERE id = 'alice'").fetchone()
    desk.store.change(Change("facts.set", {}, (Write("persons", "alice", {"facts": {"a": "1"}}, 1),), False))
    desk.close()
    connection.execute("INSERT OR REPLACE INTO persons VALUES (?, ?, ?, ?, ?, ?, ?)", old)
    connection.close()
    (finding,) = verified(path).findings
    assert finding.place == "persons row 1 in order of id"
    assert finding.message == "the row is not the newest that an entry made"


def test_a_body_moved_with_its_hash_and_root_is_found_by_the_key(database: Path) -> None:
    """Whoever recomputes leaves, roots and chain cannot make one entry's sealed part open as another's."""
    connection = opened(database)
    bodies = dict(connection.execute("SELECT seq, sealed FROM bodies WHERE seq IN (1, 2)").fetchall())
    for seq, other in ((1, 2), (2, 1)):
        connection.execute("UPDATE bodies SET sealed = ? WHERE seq = ?", (bodies[other], seq))
        (public,) = connection.execute("SELECT public FROM entries WHERE seq = ?", (seq,)).fetchone()
        forged = public.replace(sha256(bodies[seq]).hexdigest().encode(), sha256(bodies[other]).hexdigest().encode())
        connection.execute("UPDATE entries SET public = ? WHERE seq = ?", (forged, seq))
    recompute(connection)
    connection.close()
    places = [finding.place for finding in verified(database).findings]
    assert any(place.startswith("entry 1 ") for place in places)
    assert any(place.startswith("entry 2 ") for place in places)


def recompute(connection: Any) -> None:
    """Make leaves, roots, headers, chain and head agree again, as a thorough forger does."""
    hash = "0" * 64
    rows = connection.execute("SELECT batch_no, first_seq, n, header FROM batches ORDER BY batch_no").fetchall()
    for batch, first, n, header in rows:
        publics = connection.execute(
            "SELECT seq, public FROM entries WHERE seq >= ? AND seq < ? ORDER BY seq", (first, first + n)
        ).fetchall()
        leaves = [leaf_hash(public) for _, public in publics]
        for (seq, _), leaf in zip(publics, leaves, strict=True):
            connection.execute("UPDATE entries SET leaf = ? WHERE seq = ?", (leaf, seq))
        text = header.decode()
        old_prev = text.split('"prev":"')[1][:64]
        old_root = text.split('"root":"')[1][:64]
        text = text.replace(old_prev, hash, 1).replace(old_root, root(leaves).hex(), 1)
        hash = header_hash(text.encode())
        connection.execute("UPDATE batches SET header = ?, hash = ? WHERE batch_no = ?", (text.encode(), hash, batch))
    connection.execute("UPDATE heads SET head_hash = ?", (hash,))


def test_what_it_cannot_see_is_what_the_note_says(database: Path) -> None:
    """A recomputed log, and a log whose end was cut off, verify: the note says so, and only checkpoints can tell."""
    connection = opened(database)
    (public,) = connection.execute("SELECT public FROM entries WHERE seq = 6").fetchone()
    forged = public.replace(b'"outcome":"deny"', b'"outcome":"allow"')
    assert forged != public
    connection.execute("UPDATE entries SET public = ? WHERE seq = 6", (forged,))
    recompute(connection)
    assert verified(database).findings == ()
    last, first, hash, at = connection.execute(
        "SELECT batch_no, first_seq, (SELECT hash FROM batches b WHERE b.batch_no = a.batch_no - 1),"
        " (SELECT json_extract(CAST(header AS TEXT), '$.at') FROM batches b WHERE b.batch_no = a.batch_no - 1)"
        " FROM batches a ORDER BY batch_no DESC LIMIT 1"
    ).fetchone()
    for table in ("entries", "bodies", "tags"):
        connection.execute(f"DELETE FROM {table} WHERE seq >= ?", (first,))
    connection.execute("DELETE FROM batches WHERE batch_no = ?", (last,))
    connection.execute(
        "UPDATE heads SET next_seq = ?, next_batch = ?, head_hash = ?, last_at = ?, tagged = min(tagged, ?)",
        (first, last, hash, at, first),
    )
    connection.close()
    report = verified(database)
    assert report.findings == ()
    assert "cut off" in report.note
    assert "recomputed" in report.note


COLUMNS = {
    "entries": ("public", "leaf", "log_id", "seq"),
    "bodies": ("sealed", "tags", "data_key", "seq"),
    "batches": ("header", "hash", "first_seq", "n", "batch_no", "log_id"),
    "heads": ("head_hash", "next_seq", "next_batch", "last_at", "log_id"),
    "persons": ("document", "salt", "revision", "seq", "item", "id", "log_id"),
    "keys": ("document", "salt", "hash", "id"),
    "approvals": ("document", "status", "proposed_by"),
    "state": ("epoch", "release", "facts_revision"),
    "blobs": ("hash", "content"),
    "tags": ("tag", "seq"),
}


def flips(number: int, seed: int) -> Iterator[tuple[str, str, random.Random]]:
    """Yield tables and columns in turn."""
    chosen = random.Random(seed)
    every = [(table, column) for table, columns in COLUMNS.items() for column in columns]
    for n in range(number):
        yield (*every[n % len(every)], chosen)


def flip(connection: Any, table: str, column: str, chosen: random.Random) -> str | None:
    """Flip one bit of a random value and return the statement that puts it back, or `None` when nothing is there."""
    rows = connection.execute(f"SELECT rowid, {column} FROM {table}").fetchall() if table != "tags" else None
    if rows is None:
        rows = connection.execute(f"SELECT tag, {column} FROM tags").fetchall()
    key, value = chosen.choice(rows)
    if not value and value != 0:
        return None
    name = "tag" if table == "tags" else "rowid"
    if isinstance(value, int):
        sql, parameter = f"UPDATE {table} SET {column} = ? WHERE {name} = ?", value ^ (1 << chosen.randrange(20))
    else:
        data = bytearray(value.encode() if isinstance(value, str) else value)
        data[chosen.randrange(len(data))] ^= 1 << chosen.randrange(8)
        cast = "CAST(? AS TEXT)" if isinstance(value, str) else "?"
        sql, parameter = f"UPDATE {table} SET {column} = {cast} WHERE {name} = ?", bytes(data)
    limit = " AND seq = (SELECT min(seq) FROM tags t WHERE t.tag = tags.tag)" if table == "tags" else ""
    connection.execute(sql + limit, (parameter, key))
    return f"{table}.{column} {key!r}"


def test_any_flipped_bit_is_found(honest: Path, tmp_path: Path) -> None:
    """A single bit changed in any column of the log, the registers, the state, the index or the contents is found."""
    base = tmp_path / "base.db"
    shutil.copy(honest, base)
    opened(base).close()
    missed: list[str] = []
    for number, (table, column, chosen) in enumerate(flips(180, seed=20260601)):
        path = Path(shutil.copy(base, tmp_path / f"{number}.db"))
        connection = dbapi.connect(str(path), isolation_level=None)
        try:
            done = flip(connection, table, column, chosen)
        except dbapi.IntegrityError:  # the schema itself refused it: an id that is taken, a flag out of range
            done = None
        connection.close()
        if done is not None and not verified(path).findings:
            missed.append(done)
        for file in tmp_path.glob(f"{number}.db*"):
            file.unlink()
    assert missed == []


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE entries SET public = CAST('{\"rows\":[5]}' AS BLOB) WHERE seq = 2",
        edit('"rows":[', '"rows":[5,', 0),
        edit('"at":1', '"at":"x","au":1', 2),
        edit('"kind":"decision"', '"kind":[]', 2),
        edit('"blobs":[', '"blobs":[[],', 10),
        edit('"epoch":1', '"epoch":"1"', 2),
        "UPDATE persons SET document = CAST(x'ff' AS TEXT) WHERE id = 'alice'",
        "UPDATE persons SET document = '[]' WHERE id = 'alice'",
        "UPDATE persons SET id = CAST(x'ff' AS TEXT) WHERE id = 'alice'",
        "UPDATE batches SET log_id = CAST(x'ff' AS TEXT) WHERE batch_no = 2",
    ],
)  # fmt: skip
def test_nonsense_is_a_finding_and_no_crash(database: Path, damage: str) -> None:
    """Values of a wrong type or that are no text give findings; the rest of the log is still checked."""
    report = tampered(database, damage)
    assert report.findings
    assert report.counts["batches"] > 8


def test_findings_are_bounded(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thoroughly damaged log gives a bounded list, and the rest as a number."""
    monkeypatch.setattr("policy_engine.services.verify.FINDINGS_COUNT", 3)
    report = tampered(database, "UPDATE entries SET leaf = x'00'")
    assert len(report.findings) == 3
    assert report.more >= 12


FORGERIES: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("a change that does not raise the epoch", lambda p: p.replace(b'"epoch":2', b'"epoch":1')),
    ("an epoch that jumps", lambda p: p.replace(b'"epoch":2', b'"epoch":4')),
    ("a release nobody activated", lambda p: p.replace(b'"release":"sha256:aa"', b'"release":"sha256:bb"')),
    ("a time before the last entry", lambda p: p.replace(b'"at":1', b'"at":0').replace(b'"at":0', b'"at":', 1)),
    ("another log", lambda p: p.replace(b'"log":"', b'"log":"0')[:-1] + b"}"),
    ("another number", lambda p: p.replace(b'"seq":11', b'"seq":12')),
    ("another register", lambda p: p.replace(b'["switches",', b'["orders",')),
]


@pytest.mark.parametrize(("what", "forge"), FORGERIES)
def test_a_recomputed_forgery_that_breaks_a_rule_is_found(
    database: Path, what: str, forge: Callable[[bytes], bytes]
) -> None:
    """A forger who recomputes every hash still cannot break the rules of the log unseen."""
    connection = opened(database)
    (public,) = connection.execute("SELECT public FROM entries WHERE seq = 11").fetchone()
    forged = forge(public)
    assert forged != public, what
    connection.execute("UPDATE entries SET public = ? WHERE seq = 11", (forged,))
    recompute(connection)
    connection.close()
    assert any("entry 11 " in finding.place for finding in verified(database).findings)
