"""The sequencer that is killed: it appends and integrates until it dies, and tells of each checkpoint that it gave out.

`python -m tests.attacks.treekilled sqlite FILE` or `... postgres WRITER SEQUENCER` says `R`, waits for a line, and then
writes one line for each checkpoint, `size root`, as soon as `integrate` has returned it.
"""

from __future__ import annotations

import os
import sys

from policy_engine import logs
from policy_engine.ledger.checkpoint import parse_checkpoint
from policy_engine.ledger.note import parse_note
from policy_engine.services.logkey import LogKey, seeded
from policy_engine.services.sequencer import Sequencer
from policy_engine.store.interfaces import Store
from policy_engine.store.pgtree import PostgresSequencing
from policy_engine.store.postgres import PostgresStore
from policy_engine.store.sqlite import SqliteStore
from policy_engine.store.treewriting import TreeStore
from tests.store.samples import VAULT
from tests.store.trees import ORIGIN, SEED, append


def main(kind: str, *places: str) -> None:
    """Work until killed."""
    logs.configure(level="error")  # on standard error; standard output is for what was given out
    store: Store
    through: TreeStore
    if kind == "sqlite":
        store = SqliteStore(places[0], VAULT)
        through = SqliteStore(places[0], VAULT)
    else:
        store, through = PostgresStore(places[0], VAULT), PostgresSequencing(places[1])
    sequencer = Sequencer(through, LogKey(seeded(SEED), ORIGIN).signer)
    os.write(1, b"R\n")
    sys.stdin.readline()
    while True:
        append(store, 2)
        found = sequencer.integrate()
        if found is not None:
            root = parse_checkpoint(parse_note(found.note).text).root
            os.write(1, f"{found.size} {root.hex()}\n".encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
