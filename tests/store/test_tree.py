"""The global tree on every store: what was committed is integrated once, in order, and signed for what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policy_engine.ledger.leaves import Closed, Opened, parse_leaf
from tests.store.conftest import KINDS
from tests.store.samples import SECOND, AnyStore, Clock, Database, genesis, put
from tests.store.trees import ORIGIN, SIGNER, append, check_tree, retire, sequencer


def test_an_empty_tree_has_nothing(store: AnyStore, database: Database, clock: Clock) -> None:
    """Before the first commit there is no leaf, no checkpoint and nothing pending, and integrating does nothing."""
    assert sequencer(database, clock).integrate() is None
    state = store.tree_state()
    assert (state.size, state.origin, state.key, state.indexed) == (0, "", "", 0)
    assert list(store.scan_leaves()) == []
    assert store.pending(10) == []
    assert store.checkpoint() is None
    assert store.tile(0, 0) is None
    assert store.leaf_of("0" * 16, 0) is None


def test_what_was_committed_is_integrated(store: AnyStore, database: Database, clock: Clock) -> None:
    """The log opens, each batch follows, and the checkpoint that is returned is the one that is stored."""
    genesis(store)
    committed = append(store, 3, clock)
    pending = store.pending(10)
    assert [leaf.batch for leaf in pending] == [None, 0, 1]
    newest = sequencer(database, clock).integrate()
    leaves = check_tree(store)
    assert [(leaf.leaf, leaf.batch, leaf.data) for leaf in leaves] == [
        (leaf.leaf, leaf.batch, leaf.data) for leaf in pending
    ]
    assert newest is not None
    assert newest == store.checkpoint() == store.checkpoint(3)
    state = store.tree_state()
    assert (state.size, state.origin, state.key) == (3, ORIGIN, str(SIGNER.key))
    assert store.leaf_of(committed.log_id, committed.seqs[0]) == leaves[2]
    assert store.leaf_of(committed.log_id, committed.seqs[-1] + 1) is None
    opened = parse_leaf(leaves[0].data)
    assert isinstance(opened, Opened)
    assert opened.log_id == committed.log_id


def test_integrating_again_adds_what_is_new_and_no_more(store: AnyStore, database: Database, clock: Clock) -> None:
    """A second integration continues the tree; one without anything new writes nothing."""
    genesis(store)
    made = sequencer(database, clock)
    first = made.integrate()
    append(store, 1, clock)
    second = made.integrate()
    assert made.integrate() is None
    assert first is not None
    assert second is not None
    assert (first.size, second.size) == (2, 3)
    check_tree(store)


def test_a_tree_of_many_tiles(store: AnyStore, database: Database, clock: Clock) -> None:
    """Past 256 and 512 leaves, integrated in several steps and by several sequencers, tiles of two levels are exact."""
    genesis(store)
    for count in (254, 1, 1, 3, 260):
        for _ in range(count):
            append(store, 1, clock)
        sequencer(database, clock).integrate()
        check_tree(store)
        retire(database)
    assert store.tile(1, 0) is not None


def test_the_horizon_is_behind_everything_integrated(store: AnyStore, database: Database, clock: Clock) -> None:
    """After integrating, nothing dated before the horizon is pending or can still be written."""
    genesis(store)
    append(store, 1, clock)
    made = sequencer(database, clock)
    made.integrate()
    clock.now += 3 * SECOND
    committed = append(store, 1, clock)
    made.integrate()
    made.integrate()
    horizon = store.tree_state().horizon
    assert horizon >= committed.at
    clock.now -= SECOND // 2
    assert append(store, 1, clock).at >= horizon


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.campaign)])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=st.lists(st.sampled_from(["a", "b", "c", "change", "close", "integrate", "wait"]), max_size=24))
def test_any_interleaving_of_writers_gives_one_good_tree(kind: str, tmp_path_factory: Any, acts: list[str]) -> None:
    """Whatever several writers append, in whatever order, the logs accept the leaves and the root is the naive root."""
    database = KINDS[kind](Path(tmp_path_factory.mktemp("tree")))
    clock = Clock()
    try:
        stores: dict[str, AnyStore] = {"a": database.open(clock)}
        genesis(stores["a"])
        made = [sequencer(database, clock), sequencer(database, clock)]
        for turn, act in enumerate(acts):
            if act in "abc":
                append(stores.setdefault(act, database.open(clock)), 1 + turn % 3, clock)
            elif act == "change":
                stores["a"].change(put("orders", f"o-{turn}", 0))
            elif act == "close":
                for store in [stores.pop(name) for name in list(stores) if name != "a"]:
                    store.close()
            elif act == "integrate":
                made[turn % 2].integrate()
                check_tree(stores["a"], complete=False)
            else:
                clock.now += SECOND // 3
        for each in made:  # on PostgreSQL one of them leads
            each.integrate()
        leaves = check_tree(stores["a"])
        ended = [leaf for leaf in leaves if isinstance(parse_leaf(leaf.data), Closed)]
        assert database.one_log <= (not ended)
        assert database.verify().findings == ()
    finally:
        database.close()
        database.drop()
