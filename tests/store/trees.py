"""Sequencers and naive trees for tests: what a store holds is put into a tree a second time, the slow way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from policy_engine.ledger.chain import Logs
from policy_engine.ledger.checkpoint import open_checkpoint
from policy_engine.ledger.merkle import leaf_hash, root
from policy_engine.ledger.note import Ed25519Signer, parse_key
from policy_engine.limits import LIMITS, Limits
from policy_engine.services.logkey import LogKey, seeded
from policy_engine.services.sequencer import Sequencer
from policy_engine.store.interfaces import Committed, Store
from policy_engine.store.pgtree import PostgresSequencing
from policy_engine.store.treeinterfaces import StoredLeaf
from policy_engine.store.treewriting import TreeStore
from tests.store.samples import Clock, Database, PostgresDatabase, Sample

SEED = bytes(range(32))
ORIGIN = "log.example/test"
SIGNER = Ed25519Signer(ORIGIN, SEED)


def tree_store(database: Database, clock: Clock | None = None, limits: Limits = LIMITS) -> TreeStore:
    """Return what a sequencer writes through: another store on the file, or the sequencer's login."""
    if isinstance(database, PostgresDatabase):
        made = PostgresSequencing(database.server.url(database.name, "pe_sequencer"), clock=clock, limits=limits)
        database.also.append(made)
        return made
    return database.open(clock, limits)


def sequencer(database: Database, clock: Clock | None = None, limits: Limits = LIMITS, **more: Any) -> Sequencer:
    """Return a sequencer over a database that signs with the key of these tests."""
    return Sequencer(tree_store(database, clock, limits), LogKey(seeded(SEED), ORIGIN).signer, limits=limits, **more)


def retire(database: Database) -> None:
    """End the sequencers of a PostgreSQL database, so that another may lead."""
    if isinstance(database, PostgresDatabase):
        for each in database.also:
            each.close()


def append(store: Store, count: int, clock: Clock | None = None) -> Committed:
    """Append a batch of samples under the state that holds now."""
    state = store.state()
    instant = store.now() if clock is None else clock.now
    drafts = [Sample(state, instant=instant, until=2**62) for _ in range(count)]
    committed = store.append(drafts, state)
    assert isinstance(committed, Committed)
    return committed


def check_tree(store: Store, *, complete: bool = True) -> list[StoredLeaf]:
    """Hold the stored tree against the log, leaf by leaf, and return its leaves.

    The logs accept the leaves; the root that the newest checkpoint signs is the naive root; every tile holds what it
    must; every batch stands there once.
    """
    with store.view() as view:
        leaves = list(view.scan_leaves())
        state, newest = view.tree_state(), view.checkpoint()
        batches = [(batch.log_id, batch.batch, batch.header) for batch in view.scan_batches()]
        pending = view.pending(10_000)
        tiles = {(level, number): data for level, number, data in view.scan_tiles()}  # type: ignore[attr-defined]  # of views
    assert [leaf.leaf for leaf in leaves] == list(range(state.size))
    logs = Logs()
    for leaf in leaves:
        assert logs.add(leaf.data).log_id == leaf.log_id
    hashes = [leaf_hash(leaf.data) for leaf in leaves]
    if leaves:
        assert newest is not None
        opened = open_checkpoint(newest.note, state.origin, (parse_key(state.key),)).checkpoint
        assert (opened.size, opened.root) == (len(leaves), root(hashes))
    assert tiles == naive_tiles(hashes)
    there = [(leaf.log_id, leaf.batch, leaf.data) for leaf in leaves if leaf.batch is not None]
    assert len(there) == len({(log, batch) for log, batch, _ in there})
    if complete:
        assert pending == []
        assert sorted(there) == sorted(batches)
    return leaves


def naive_tiles(hashes: Sequence[bytes]) -> dict[tuple[int, int], bytes]:
    """Return every tile over leaf hashes, each hash computed as the root of its own leaves."""
    found: dict[tuple[int, int], bytes] = {}
    level, width = 0, 1
    while width <= len(hashes):
        row = [root(hashes[at : at + width]) for at in range(0, len(hashes) - width + 1, width)]
        for number in range((len(row) + 255) // 256):
            found[level, number] = b"".join(row[number * 256 : (number + 1) * 256])
        level, width = level + 1, width * 256
    return found
