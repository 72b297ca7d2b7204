"""Opening the store that the settings name, and what integrates its log into the tree.

Rules of the room: on SQLite whoever writes integrates, with the key of the key file; on PostgreSQL only a process that
has a login for it and the file of the log's key. Left to others: everything over them (`bootstrap`).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from policy_engine.errors import StartRefused
from policy_engine.ledger.sealing import KeyVault
from policy_engine.limits import LIMITS
from policy_engine.services.logkey import LogKey, check_origin, open_log_key, seeded
from policy_engine.services.receipts import ReceiptKey
from policy_engine.services.sequencer import Sequencer
from policy_engine.settings import Settings
from policy_engine.store.interfaces import Store
from policy_engine.store.replicainterfaces import ReplicaRegister
from policy_engine.store.scrubbing import no_scrub, scrubber
from policy_engine.store.sqlite import SqliteStore
from policy_engine.store.sqlitereplicas import SqliteReplicas
from policy_engine.store.tree import Opening


def open_store(
    settings: Settings,
    vault: KeyVault,
    clock: Callable[[], int] | None = None,
    receipts: ReceiptKey | None = None,
) -> Store:
    """Open the store that the settings name; `receipts` is named when it opens a log. Raises what opening raises."""
    opening = Opening() if receipts is None else Opening(receipt_key=receipts.text)
    if not settings.on_postgres:
        return SqliteStore(settings.database_path, vault, clock=clock, opening=opening)
    from policy_engine.store.postgres import PostgresStore

    operator = settings.operator_database
    return PostgresStore(
        settings.database,
        vault,
        operator=None if operator is None else operator.get_secret_value(),
        clock=clock,
        opening=opening,
    )


def open_replicas(settings: Settings, store: Store) -> ReplicaRegister:
    """Return the register of the processes that serve this store; on PostgreSQL it connects when it is first asked."""
    if isinstance(store, SqliteStore):
        return SqliteReplicas(store)
    from policy_engine.store.pgreplicas import PostgresReplicas

    return PostgresReplicas(settings.database)


def replica_label() -> str:
    """Return what people know this process by: its machine and its number there."""
    return f"{socket.gethostname()}/{os.getpid()}"


def scrub_of(settings: Settings) -> Callable[[], None]:
    """Return what clears the unused parts of the database after an erasure; a server does that by itself."""
    return no_scrub if settings.on_postgres else scrubber(settings.database_path, LIMITS)


def open_sequencer(
    settings: Settings, store: Store, seed: bytes | None, clock: Callable[[], int] | None = None
) -> Sequencer | None:
    """Return what integrates in this process, `None` where another does. `seed` is the log key of SQLite's key file.

    Raises `StartRefused` for a login or key that will not do.
    """
    origin = check_origin(settings.log_origin)
    if isinstance(store, SqliteStore):
        if seed is None:
            return None
        sequencer = Sequencer(store, LogKey(seeded(seed), origin).signer)
        store.on_commit = sequencer.wake
        return sequencer
    if settings.sequencer_database is None:
        return None
    if settings.log_key is None:
        raise StartRefused(
            "whoever integrates signs: name the file with the log's key, which is made at the first start",
            where="POLICY_ENGINE_LOG_KEY",
        )
    from policy_engine.store.pgtree import PostgresSequencing

    key = open_log_key(settings.log_key, store.tree_state(), origin)
    through = PostgresSequencing(settings.sequencer_database.get_secret_value(), clock=clock)
    through.leads()  # a login that may not integrate is refused at the start
    return Sequencer(through, key.signer, polls=True, on_close=through.close)
