"""The sequencer beside a service: within a second, quiet when nothing is pending, and never in the way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pysqlite3.dbapi2 as dbapi
import pytest

from policy_engine import PolicyEngine
from policy_engine.errors import StoreUnavailable, VerificationFailed
from policy_engine.ledger.canonical import canonical
from policy_engine.ledger.leaves import Opened, parse_leaf
from policy_engine.ledger.note import Signer, parse_key
from policy_engine.ledger.receipts import check_receipt, parse_receipt
from policy_engine.ledger.refusals import EvidenceRefused
from policy_engine.limits import LIMITS
from policy_engine.services.logkey import LogKey, seeded
from policy_engine.services.sequencer import Sequencer
from policy_engine.store.migrate import copy_template
from policy_engine.store.sqlite import SqliteStore
from policy_engine.store.treeinterfaces import TreeState
from tests.store.samples import VAULT, genesis
from tests.store.trees import append, check_tree

QUICK = replace(LIMITS, integrate_seconds=0.05, integrate_idle_seconds=0.2)
ASKED: dict[str, Any] = {
    "subject": "alice",
    "model": "fable-5",
    "action": "infer",
    "tenant": "acme",
    "location": "US",
    "serving_region": "US",
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    """A store with a first entry."""
    made = SqliteStore(copy_template(tmp_path / "log.db"), VAULT)
    genesis(made)
    yield made
    made.close()


@pytest.fixture
def sequencer(store: SqliteStore) -> Iterator[Sequencer]:
    """A sequencer on it that hears of every commit."""
    made = Sequencer(store, LogKey(seeded(bytes(32))).signer, limits=QUICK)
    store.on_commit = made.wake
    yield made
    made.close(last=False)


def until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_commit_is_integrated_by_itself(store: SqliteStore, sequencer: Sequencer) -> None:
    """The first commit starts the thread, and each is in the tree soon after."""
    assert sequencer._thread is None
    for size in (3, 4, 5):
        append(store, 1)
        until(lambda size=size: store.tree_state().size == size)
    check_tree(store)


def test_nothing_pending_writes_nothing(store: SqliteStore, sequencer: Sequencer) -> None:
    """A sequencer that has nothing to do leaves the file as it is."""
    sequencer.start()
    until(lambda: store.tree_state().size == 2)
    before = store.checkpoint()
    time.sleep(0.6)
    assert store.checkpoint() == before
    assert store.tree_state().size == 2


def test_what_another_process_wrote_is_found_without_a_wake_up(store: SqliteStore, sequencer: Sequencer) -> None:
    """Whoever was killed before it integrated leaves its entries to the one that runs."""
    sequencer.start()
    until(lambda: store.tree_state().size == 2)
    other = SqliteStore(store._path, VAULT)
    append(other, 1)
    other.close()
    until(lambda: store.tree_state().size == 3)


def test_two_processes_that_sign_first_name_one_log(store: SqliteStore) -> None:
    """Workers that open an empty database together: who is overtaken signs on under the name that the tree has."""
    first = Sequencer(store, LogKey(seeded(bytes(32))).signer, limits=QUICK)
    key = LogKey(seeded(bytes(32)))

    def overtaken(state: TreeState) -> Signer:
        signer = key.signer(state)
        if not state.origin:
            first.integrate()
        return signer

    with closing(SqliteStore(store._path, VAULT)) as other:
        second = Sequencer(other, overtaken, limits=QUICK)
        second.integrate()
        append(store, 1)
        second.integrate()
        assert (second.trouble, store.tree_state().size) == (None, 3)
        check_tree(store)


def test_closing_integrates_what_is_left_once(store: SqliteStore) -> None:
    """At the end nothing is pending; closing again does nothing, and no thread is left."""
    before = set(threading.enumerate())
    made = Sequencer(store, LogKey(seeded(bytes(32))).signer, limits=QUICK)
    append(store, 1)
    made.close()
    assert store.tree_state().size == 3
    append(store, 1)
    made.close()
    made.wake()
    assert store.tree_state().size == 3
    assert not [thread for thread in threading.enumerate() if thread.name == "sequencer" and thread not in before]


def test_a_store_that_is_away_is_tried_again(
    store: SqliteStore, sequencer: Sequencer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the disk is full nothing is lost and nobody gives up."""

    def away(growth: object) -> bool:
        raise StoreUnavailable("the disk is full")

    monkeypatch.setattr(store, "integrate", away)
    append(store, 1)
    time.sleep(0.3)
    assert sequencer.trouble is None
    monkeypatch.undo()
    until(lambda: store.tree_state().size == 3)


JOINED = (
    "UPDATE entries SET public = CAST(public || char(10) || (SELECT public FROM entries AS next WHERE next.seq = 2)"
    " AS BLOB) WHERE seq = 1",
    "DELETE FROM entries WHERE seq = 2",
)


@pytest.mark.parametrize("statements", [JOINED[:1], JOINED])
def test_two_entries_in_one_row_are_not_two_entries(store: SqliteStore, statements: tuple[str, ...]) -> None:
    """Somebody writes an entry's bytes behind those of the one before, and leaves its row or takes it away: refused."""
    made = Sequencer(store, LogKey(seeded(bytes(32))).signer, limits=QUICK)
    append(store, 3)
    with closing(dbapi.connect(str(store._path))) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            assert connection.execute(statement).rowcount == 1
        connection.commit()
    with pytest.raises(VerificationFailed, match="entries of a batch are not those"):
        made.integrate()


def test_more_than_one_step_takes_is_taken_in_steps(store: SqliteStore) -> None:
    """A backlog is integrated in several checkpoints, and the horizon does not run ahead of them."""
    few = replace(QUICK, integrate_leaves_count=4)
    made = Sequencer(store, LogKey(seeded(bytes(32))).signer, limits=few)
    for _ in range(9):
        append(store, 1)
    made.integrate()
    sizes = [leaf.leaf for leaf in check_tree(store)]
    with store.view() as view:
        assert [checkpoint.size for checkpoint in view.scan_checkpoints()] == [4, 8, 11]
    assert len(sizes) == 11


def test_an_embedded_allow_has_a_receipt_that_holds(tmp_path: Path) -> None:
    """`Decision.receipt` is made on demand, checks against the `open` leaf's key, and convicts a changed entry."""
    with PolicyEngine.open("policies/", database=f"sqlite:///{tmp_path / 'engine.db'}") as engine:
        decision = engine.decide(**ASKED)
        denied = engine.decide(**{**ASKED, "subject": "eve"})
        assert decision.receipt is not None
        assert denied.receipt is None
        until(lambda: engine._asked.engine.store.tree_state().size >= 3)
        store = engine._asked.engine.store
        opened = parse_leaf(next(store.scan_leaves()).data)
        assert isinstance(opened, Opened)
        key = parse_key(opened.key or "")
        receipt = parse_receipt(canonical(decision.receipt))
        entry = store.entry(opened.log_id, receipt.seq)
        assert entry is not None
        checked = check_receipt(receipt, (key,), entry.public)
        leaf = store.leaf_of(opened.log_id, receipt.seq)
        assert leaf is not None
        assert leaf.data == checked.header_bytes
        with pytest.raises(EvidenceRefused):
            check_receipt(receipt, (key,), entry.public.replace(b'"allow"', b'"deny"'))
    with PolicyEngine.open("policies/", database=f"sqlite:///{tmp_path / 'engine.db'}") as again:
        later = again.decide(**ASKED).receipt
        assert later is not None
        check_receipt(parse_receipt(canonical(later)), (key,))
        assert again._asked.engine.store.pending(1) == [] or again._asked.engine.store.tree_state().size >= 4


def test_an_engine_that_closes_leaves_nothing_pending(tmp_path: Path) -> None:
    """What a short program decided is signed for when it ends."""
    path = tmp_path / "engine.db"
    with PolicyEngine.open("policies/", database=f"sqlite:///{path}") as engine:
        for _ in range(3):
            engine.decide(**ASKED)
    store = SqliteStore(path, engine._asked.engine.exports._vault)
    check_tree(store)
    store.close()
