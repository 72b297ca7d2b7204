"""Attacks on the tree and its signer: kills, races, older copies, forks, and edits of what is stored.

Each is tried on both stores. What must hold: no two signed trees of one size, nothing signed over what does not chain,
and whatever was edited named by `verify`.
"""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pysqlite3.dbapi2 as dbapi
import pytest

from policy_engine.errors import StoreUnavailable, VerificationFailed
from policy_engine.ledger.checkpoint import Checkpoint, sign_checkpoint
from policy_engine.ledger.merkle import leaf_hash, root
from policy_engine.services.growth import TreeRefused
from policy_engine.services.logkey import LogKey, seeded
from policy_engine.services.sequencer import Sequencer
from policy_engine.services.verify import verify
from policy_engine.store.pgtree import PostgresSequencing
from policy_engine.store.treeinterfaces import StoredCheckpoint
from tests.store.conftest import KINDS
from tests.store.samples import VAULT, Database, PostgresDatabase, SqliteDatabase, genesis
from tests.store.trees import ORIGIN, SIGNER, append, check_tree, retire, sequencer, tree_store

ROOT = Path(__file__).parents[2]
KILLS_COUNT = 6


@pytest.fixture(params=sorted(KINDS))
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database of each kind, which need not verify when the attack is over."""
    made = KINDS[request.param](tmp_path)
    yield made
    made.close()
    made.drop()


def edit(database: Database, *statements: tuple[str, Sequence[Any]]) -> None:
    """Change stored rows as the owner of the file or a superuser can, past every guard."""
    if isinstance(database, PostgresDatabase):
        with database.server.admin(database.name) as admin:
            admin.execute("SET session_replication_role = replica")
            admin.execute("SET search_path = policy_engine")
            for statement, parameters in statements:
                admin.execute(statement.replace("?", "%s"), parameters)  # type: ignore[arg-type]  # our own text
        return
    connection = dbapi.connect(str(database.path), isolation_level=None)
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    for statement, parameters in statements:
        connection.execute(statement, parameters)
    connection.close()


def grown(database: Database, batches: int = 5) -> tuple[Any, Sequencer]:
    """Return a store with some integrated batches, and the sequencer that has seen them."""
    store = database.open()
    genesis(store)
    for _ in range(batches):
        append(store, 2)
    made = sequencer(database)
    made.integrate()
    return store, made


# Kills and races


def test_a_sequencer_killed_at_any_point_never_signed_two_histories(database: Database) -> None:
    """Every checkpoint that was given out before a kill is of the tree that the next sequencer continues."""
    genesis(database.open())
    if isinstance(database, PostgresDatabase):
        words = ["postgres", database.writer, database.server.url(database.name, "pe_sequencer")]
    else:
        words = ["sqlite", str(database.path)]
    chance = random.Random(20261126)
    told: dict[int, str] = {}
    seconds = 0.25
    for number in itertools.count(1):
        for line in _killed_after(chance.uniform(0.02, seconds), words):
            size, hash = line.decode().split()
            assert told.setdefault(int(size), hash) == hash
        if number >= KILLS_COUNT:
            if told:
                break
            seconds *= 2  # a busy machine signs nothing in so short a time
            assert seconds < 20
    made, store = sequencer(database), database.open()
    _when_it_leads(made)
    hashes = [leaf_hash(leaf.data) for leaf in check_tree(store)]
    assert {size: root(hashes[:size]).hex() for size in told} == told
    assert database.verify().findings == ()


def _killed_after(seconds: float, words: list[str]) -> list[bytes]:
    """Run a sequencer, kill it after some time, and return what it gave out."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.attacks.treekilled", *words],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == b"R\n"
        child.stdin.write(b"\n")
        child.stdin.flush()
        time.sleep(seconds)
        child.kill()
        return child.stdout.read().split(b"\n")[:-1]


def _when_it_leads(made: Sequencer) -> None:
    """Integrate everything once the server has noticed that the killed sequencer is gone."""
    until = time.monotonic() + 20
    while not made._store.leads():
        assert time.monotonic() < until
        time.sleep(0.05)
    made.integrate()


def test_two_sequencers_at_once_never_sign_two_trees_of_one_size(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both believe that they lead; every checkpoint that either returns is the one that is stored for its size."""
    monkeypatch.setattr(PostgresSequencing, "leads", lambda self: True)
    store = database.open()
    genesis(store)
    found: list[StoredCheckpoint] = []
    ended = threading.Event()

    def integrate(made: Sequencer) -> None:
        while not ended.is_set():
            checkpoint = made.integrate()
            if checkpoint is not None:
                found.append(checkpoint)

    threads = [threading.Thread(target=integrate, args=(sequencer(database),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(60):
        append(store, 1)
        time.sleep(0.01)
    time.sleep(0.3)
    ended.set()
    for thread in threads:
        thread.join()
    sequencer(database).integrate()
    check_tree(store)
    assert len({checkpoint.size for checkpoint in found}) == len(found) > 3
    for checkpoint in found:
        kept = store.checkpoint(checkpoint.size)
        assert kept is not None
        assert kept.note == checkpoint.note


def test_a_lost_answer_of_a_commit_is_read_again(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A growth whose commit succeeded and whose answer got lost is not signed a second time in another form."""
    store, made = grown(database)
    append(store, 1)
    through = made._store
    real = through.integrate

    def lost(growth: Any) -> bool:
        real(growth)
        raise StoreUnavailable("the answer got lost")

    monkeypatch.setattr(through, "integrate", lost)
    with pytest.raises(StoreUnavailable):
        made.integrate()
    monkeypatch.undo()
    kept = store.checkpoint()
    append(store, 1)
    made.integrate()
    assert kept is not None
    assert store.checkpoint(kept.size) == kept
    check_tree(store)


# Older copies and forks


def test_an_older_copy_in_the_place_of_the_database_is_refused(sqlite_copy: tuple[Any, Any, Path]) -> None:
    """A running sequencer signs nothing more, says why, and does not change its mind."""
    store, made, older = sqlite_copy
    append(store, 1)
    made.integrate()
    size = store.tree_state().size
    source, target = dbapi.connect(str(older)), dbapi.connect(str(store._path))
    source.backup(target)
    source.close()
    target.close()
    assert store.tree_state().size < size
    with pytest.raises(TreeRefused, match="older copy"):
        made.integrate()
    assert made.trouble is not None
    with pytest.raises(TreeRefused):
        made.integrate()
    assert store.tree_state().size < size


@pytest.fixture
def sqlite_copy(tmp_path: Path) -> Iterator[tuple[Any, Any, Path]]:
    """A grown file with its sequencer, and a copy of the file from before."""
    made = SqliteDatabase(tmp_path)
    store, signer = grown(made)
    older = tmp_path / "older.db"
    source, target = dbapi.connect(str(made.path)), dbapi.connect(str(older))
    source.backup(target)
    source.close()
    target.close()
    yield store, signer, older
    made.close()


def test_a_tree_that_was_cut_back_is_refused(database: Database) -> None:
    """Leaves, tiles, logs and checkpoints cut back together leave a smaller tree than the sequencer has seen."""
    store, made = grown(database, 3)
    before = check_tree(store)
    size = store.tree_state().size
    append(store, 1)
    made.integrate()
    tile = b"".join(leaf_hash(leaf.data) for leaf in before)
    edit(
        database,
        ("DELETE FROM tree_leaves WHERE leaf >= ?", (size,)),
        ("DELETE FROM checkpoints WHERE size > ?", (size,)),
        ("UPDATE tree_tiles SET data = ?", (tile,)),
        ("UPDATE tree_logs SET batches = batches - 1", ()),
        ("UPDATE tree SET size = ?", (size,)),
    )
    with pytest.raises(TreeRefused, match="older"):
        made.integrate()


def test_a_fork_of_the_same_size_is_refused(database: Database) -> None:
    """A tree of the same size with another last leaf, signed with the stolen key, is refused by who saw it."""
    store, made = grown(database, 2)
    older = check_tree(store)
    hashes = [leaf_hash(leaf.data) for leaf in older]
    hashes[-1] = bytes(32)
    forged = sign_checkpoint(Checkpoint(ORIGIN, len(hashes), root(hashes)), (SIGNER,))
    edit(
        database,
        ("UPDATE tree_tiles SET data = ?", (b"".join(hashes),)),
        ("UPDATE checkpoints SET note = ? WHERE size = ?", (forged, len(hashes))),
    )
    append(store, 1)
    with pytest.raises(TreeRefused, match="fork"):
        made.integrate()
    assert any("leaf 3" in str(found) for found in database.verify().findings)


@pytest.mark.parametrize("other", [LogKey(seeded(bytes(32)), ORIGIN), LogKey(seeded(bytes(32)), "log.example/other")])
def test_another_key_or_origin_signs_nothing(database: Database, other: LogKey) -> None:
    """A key file of another database, or another origin, is refused before anything is signed."""
    store, _ = grown(database, 1)
    retire(database)
    append(store, 1)
    size = store.tree_state().size
    with pytest.raises(TreeRefused):
        Sequencer(tree_store(database), other.signer).integrate()
    assert store.tree_state().size == size


# Edits of what is stored

EDITS: dict[str, tuple[str, bool, str]] = {
    "a tile": ("UPDATE tree_tiles SET data = ? WHERE level = 0", True, "leaf 0"),
    "the newest checkpoint": ("UPDATE checkpoints SET note = ?", True, "checkpoint"),
    "the size": ("UPDATE tree SET size = size - 1, indexed = 0 WHERE ? = ?", True, "the tree says"),
    "the last leaf": ("DELETE FROM tree_leaves WHERE batch_no = 5 AND ? = ?", True, "the tree"),
    "a leaf in the middle": ("UPDATE tree_leaves SET batch_no = 99 WHERE batch_no = 2 AND ? = ?", False, "leaf 3"),
    "a header under the tree": ("UPDATE batches SET header = ? WHERE batch_no = 5", True, "leaf 6"),
    "an old header": ("UPDATE batches SET header = ? WHERE batch_no = 1", False, "leaf 2"),
    "the beginning of the log": ("UPDATE tree_leaves SET data = ? WHERE batch_no IS NULL", False, "leaf 0"),
    "the event": ("UPDATE log_events SET data = ?", False, "leaf 0"),
    "the log in the tree": ("UPDATE tree_logs SET batches = batches - 1 WHERE ? = ?", True, "log"),
}
"""What is edited: the statement, whether the next integration must already notice, and where `verify` finds it."""


@pytest.mark.parametrize("name", sorted(EDITS))
def test_an_edit_of_the_tree_is_found(database: Database, name: str) -> None:
    """Whatever the sequencer builds on is refused at once; all of it is found, and named, by `verify`."""
    statement, at_once, place = EDITS[name]
    store, made = grown(database)
    forged = b'{"at":1,"batch":1,"x":"0123456"}'
    assert len(forged) == 32
    parameters: Sequence[Any] = (1, 1) if "? = ?" in statement else (forged,)
    edit(database, (statement, parameters))
    append(store, 1)
    if at_once:
        with pytest.raises(VerificationFailed):
            made.integrate()
        assert made.trouble is not None
    with store.view() as view:
        found = [str(finding) for finding in verify(view, VAULT).findings]
    assert any(place in text for text in found), found


PENDING_EDITS = {
    "an entry": "UPDATE entries SET public = ? WHERE seq = 9",
    "a header": "UPDATE batches SET header = ? WHERE batch_no = 7",
    "a header's number": "UPDATE batches SET batch_no = 17 WHERE batch_no = 7 AND ? = ?",
    "an entry taken out": "DELETE FROM entries WHERE seq = 9 AND ? = ?",
    "a batch taken out": "DELETE FROM batches WHERE batch_no = 7 AND ? = ?",
}


@pytest.mark.parametrize("name", sorted(PENDING_EDITS))
def test_an_edit_before_it_was_signed_is_refused(database: Database, name: str) -> None:
    """What was committed and not integrated yet is read once more: an edited entry or header is never signed for.

    Control: policy_engine/services/growth.py
    `if len(hashes) != parsed.n or root(hashes).hex() != parsed.root:`
    """
    store = database.open()
    genesis(store)
    made = sequencer(database)
    for _ in range(5):
        append(store, 1)
    made.integrate()
    size = store.tree_state().size
    for _ in range(4):
        append(store, 1)
    statement = PENDING_EDITS[name]
    edit(database, (statement, (1, 1) if "? = ?" in statement else (b'{"v":1}',)))
    with pytest.raises(VerificationFailed):
        made.integrate()
    assert store.tree_state().size == size
    with store.view() as view:
        assert verify(view, VAULT).findings != ()
