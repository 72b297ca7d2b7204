"""The index of columns, the same on every store: it has what the entries say, and verifying sees a difference."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pysqlite3
import pytest

from policy_engine.ledger.sealing import TAG_BYTES
from policy_engine.services.verify import verify
from policy_engine.store.indexing import label_of
from policy_engine.store.indexinterfaces import PENDING, START, Candidate
from tests.services.questionscenes import Scene, opened
from tests.store.conftest import KINDS
from tests.store.samples import VAULT, PostgresDatabase

FILLERS_COUNT, RACES_COUNT = 4, 80
FILL = "SELECT left_leaves FROM policy_engine.index_columns(1)"


@pytest.fixture(params=sorted(KINDS))
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    """A scene whose entries are in the tree and in the index, but for the last."""
    made = opened(KINDS[request.param], tmp_path, seed=3)
    for writer in range(6):
        made.decide(7, writer)
        made.wait(1)
        made.switch()
    made.sequencer.integrate()
    while made.stores[0].index_columns(10).leaves:
        pass
    made.decide(2)
    yield made
    made.close()
    made.database.close()
    made.database.drop()


def test_labels_are_what_entries_say(scene: Scene) -> None:
    """Each indexed entry lies in the list of the one label that says what it says, whoever filled the index."""
    with scene.stores[0].finding() as index:
        labels = {label: json.loads(says) for label, says in index.labels(0)}
        lists = index.listed(sorted(labels), START, (PENDING, 0), newest_first=False, count=1_000)
        read = {
            entry.position: entry
            for entry in index.read(START, (PENDING, 0), newest_first=False, with_tags=False, count=1_000)
        }
    listed = {candidate.position: label for label, found in lists.items() for candidate in found}
    assert listed.keys() == read.keys() and len(listed) > 40
    for position, label in listed.items():
        assert labels[label] == label_of(json.loads(read[position].public))


def test_filling_goes_by_whole_leaves_and_says_what_is_left(scene: Scene) -> None:
    """A leaf is indexed whole, however small the step; what is pending is counted and not indexed."""
    left = scene.stores[0].index_columns(1)
    assert left.leaves == 0 and left.pending > 0
    scene.sequencer.integrate()
    before = scene.stores[0].tree_state().indexed
    while scene.stores[0].index_columns(1).leaves:
        now = scene.stores[0].tree_state().indexed
        assert before < now
        before = now
    assert scene.stores[0].index_columns(1) == scene.stores[0].index_columns(100)
    assert scene.stores[0].tree_state().indexed == scene.stores[0].tree_state().size


def test_connections_that_fill_at_once_fill_once(tmp_path: Path) -> None:
    """On PostgreSQL several connections fill the same index: who comes late finds it filled, and nobody fails."""
    made = opened(PostgresDatabase, tmp_path, seed=3)
    place = made.database.server.url(made.database.name, "pe_writer")
    together = threading.Barrier(FILLERS_COUNT + 1, timeout=30)

    def fill() -> None:
        with psycopg.connect(place, autocommit=True) as connection:
            try:
                for number in range(RACES_COUNT):
                    together.wait()
                    for _ in range(number % 7):
                        connection.execute("SELECT 1")  # so that they do not come in step
                    while connection.execute(FILL).fetchall() != [(0,)]:
                        pass
            except psycopg.Error:
                together.abort()
                raise

    with ThreadPoolExecutor(FILLERS_COUNT) as pool:
        filling = [pool.submit(fill) for _ in range(FILLERS_COUNT)]
        with suppress(threading.BrokenBarrierError):
            for _ in range(RACES_COUNT):
                made.decide(1)
                made.sequencer.integrate()
                together.wait()
        failed = [error for each in filling if (error := each.exception(60)) is not None]
    with made.stores[0].view() as view:
        findings = verify(view, VAULT).findings
    made.close()
    made.database.close()
    made.database.drop()
    assert failed == [] and findings == ()


def test_positions_go_forth_and_back(scene: Scene) -> None:
    """An entry has the position under which it is read; one that is not there has none."""
    with scene.stores[0].finding() as index:
        entries = index.read(START, (PENDING, PENDING), newest_first=False, with_tags=False, count=1_000)
        for entry in entries:
            assert index.position_of(entry.log_id, entry.seq) == entry.position
            assert entry.log_id and entry.seq == entry.position[1]
        assert index.position_of(entries[0].log_id, 10**6) is None
        assert index.position_of("0" * 16, 0) is None
        back = index.read(START, (PENDING, PENDING), newest_first=True, with_tags=False, count=1_000)
    assert [entry.position for entry in back] == [entry.position for entry in reversed(entries)]


@pytest.mark.parametrize("ratio", [0, 10**9], ids=["each by itself", "all between them"])
def test_lists_of_tags_say_where_their_entries_lie(scene: Scene, ratio: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each entry with a tag is listed at its leaf and with its label, however its span is read, from both ends."""
    monkeypatch.setattr("policy_engine.store.pgindex._DENSE_RATIO", ratio)
    scene.sequencer.integrate()
    while scene.stores[0].index_tags(100) or scene.stores[0].index_columns(100).leaves:
        pass
    with scene.stores[0].finding() as index:
        read = index.read(START, (PENDING, 0), newest_first=False, with_tags=True, count=1_000)
        labels = [label for label, _ in index.labels(0)]
        lists = index.listed(labels, START, (PENDING, 0), newest_first=False, count=1_000)
        label_at = {each.position: label for label, found in lists.items() for each in found}
        wanted: dict[tuple[str, bytes], list[Candidate]] = {}
        for entry in read:
            own = Candidate(entry.position, entry.log_id, label_at[entry.position])
            for tag in {entry.tags[at : at + TAG_BYTES] for at in range(0, len(entry.tags), TAG_BYTES)}:
                wanted.setdefault((entry.log_id, tag), []).append(own)
        for (log_id, tag), expected in wanted.items():
            assert index.tagged([tag], log_id, 0, 10**6, newest_first=False, count=1_000)[tag] == expected
            part = index.tagged([tag], log_id, 0, 10**6, newest_first=True, count=2)[tag]
            assert part == expected[::-1][:2]
    assert len(wanted) > 20 and max(map(len, wanted.values())) > 5


def changed(scene: Scene, statement: str) -> None:
    """Change the database behind the engine's back."""
    if scene.database.one_log:
        connection: Any = pysqlite3.connect(str(scene.database.path))
        connection.execute(statement)
        connection.commit()
        connection.close()
    else:
        with scene.database.server.admin(scene.database.name) as session:
            session.execute("SET search_path = policy_engine")
            session.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM columns WHERE seq = 3",
        "INSERT INTO columns (label, leaf, seq) SELECT 1, max(leaf), 9999 FROM columns",
        "UPDATE spans SET labels = ids WHERE leaf = (SELECT min(leaf) FROM spans)",
        "UPDATE spans SET ids = labels WHERE leaf = (SELECT max(leaf) FROM spans)",
        "UPDATE spans SET top = top + 1 WHERE leaf = (SELECT max(leaf) FROM spans)",
        "DELETE FROM spans WHERE leaf = (SELECT max(leaf) FROM spans)",
        "UPDATE labels SET says = replace(says, 'deny', 'allow')",
        "DELETE FROM labels WHERE label = 2",
        "UPDATE eras SET leaf = leaf + 1 WHERE epoch = 2",
        "DELETE FROM eras WHERE epoch = 3",
    ],
)
def test_an_index_that_differs_from_the_log_is_found(scene: Scene, statement: str) -> None:
    """An entry that is missing from the index would be missing from answers: verifying names it."""
    with scene.stores[0].view() as view:
        assert verify(view, VAULT).findings == ()
    changed(scene, statement)
    with scene.stores[0].view() as view:
        assert verify(view, VAULT).findings != ()


def test_the_writer_of_postgresql_fills_the_index_by_the_function_alone(postgres_database: Any) -> None:
    """No login of the engine may write to the tables of the index."""
    postgres_database.open()
    for statement in ("DELETE FROM columns", "INSERT INTO labels VALUES (1, 'x', '{}')", "UPDATE tree SET indexed = 0"):
        with psycopg.connect(postgres_database.writer) as session:
            session.execute("SET search_path = policy_engine")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(statement)
