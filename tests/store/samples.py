"""Sample drafts, changes and databases for tests of stores. Each kind of store is one `Database`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from policy_engine.ledger.canonical import canonical
from policy_engine.ledger.encoding import Place, note_public
from policy_engine.ledger.sealing import KeyVault, data_key_id, place_of, seal_body, tag
from policy_engine.limits import LIMITS, Limits
from policy_engine.services.datakeys import year_of
from policy_engine.services.keyfile import FileVault
from policy_engine.services.verify import Report, verify
from policy_engine.store.interfaces import Change, Encoded, State, Store, Write
from policy_engine.store.migrate import copy_template
from policy_engine.store.postgres import PostgresStore
from policy_engine.store.sqlite import SqliteStore
from tests import postgresql

VAULT = FileVault(b"m" * 32, b"i" * 32, b"t" * 32)
PATIENT = replace(LIMITS, answer_seconds=30.0)
"""For whoever makes a log to look at: a slow machine is no failure of what is tried then."""
NOON = 1_780_315_200_000_000
"""2026-06-01T12:00:00Z, where set clocks begin."""

SECOND = 1_000_000


@dataclass
class Clock:
    """A clock that stands until it is moved."""

    now: int = NOON

    def __call__(self) -> int:
        return self.now


@dataclass
class Sample:
    """A draft with everything a store looks at in the open; it seals under the key of its subject."""

    state: State
    allows: bool = True
    instant: int = NOON
    until: int = NOON + 3_600 * SECOND
    revisions: tuple[tuple[str, str, int], ...] = ()
    facts_revision: int = -1
    subject: str = "alice"
    key: bytes = field(default_factory=lambda: os.urandom(32))
    keys: dict[str, bytes] = field(default_factory=dict)
    clock_set: bool = True

    def __post_init__(self) -> None:
        if self.facts_revision == -1:
            self.facts_revision = self.state.facts_revision

    @property
    def key_id(self) -> str:
        return data_key_id(VAULT.index_key(), None, self.subject)

    def new_keys(self) -> Sequence[tuple[str, bytes]]:
        return ((self.key_id, VAULT.wrap(self.key_id, self.key)),)

    def adopt(self, key_id: str, wrapped: bytes) -> None:
        self.key = VAULT.unwrap(key_id, wrapped)

    def encode(self, log_id: str, seq: int, at: int) -> Encoded:
        place = Place(log_id, seq, at, self.state.epoch, self.state.release, self.clock_set)
        body = canonical({"subject": self.subject, "tenant": None})
        sealed = seal_body(AESGCM(self.key), os.urandom(12), os.urandom(32), place_of(log_id, seq), body)
        public = note_public(
            "search", f"{seq:032x}", place, {"by": "local"}, commit=sealed.commit, sealed=sealed.sealed
        )
        tags = (tag(VAULT.period_key(str(year_of(at))), "subject", self.subject),)
        return Encoded(public, sealed.ciphertext, self.key_id, tags)


class SqliteDatabase:
    """A migrated SQLite database in a folder, which any number of stores may open."""

    one_log = True
    """Whether all stores write to one log; else each has its own."""

    def __init__(self, folder: Path) -> None:
        self.path = copy_template(folder / "log.db")
        self.opened: list[SqliteStore] = []

    def open(
        self, clock: Callable[[], int] | None = None, limits: Limits = LIMITS, vault: KeyVault = VAULT
    ) -> SqliteStore:
        """Open another store on it."""
        store = SqliteStore(self.path, vault, clock=clock, limits=limits)
        self.opened.append(store)
        return store

    def verify(self) -> Report:
        """Verify the whole log."""
        store = SqliteStore(self.path, VAULT)
        try:
            with store.view() as view:
                return verify(view, VAULT)
        finally:
            store.close()

    def close(self) -> None:
        """Close every store opened on it."""
        for store in self.opened:
            store.close()

    def drop(self) -> None:
        """Leave the file to its folder."""


class PostgresDatabase:
    """An installed PostgreSQL database of the server of this test process, which any number of stores may open."""

    one_log = False

    def __init__(self, folder: Path | None, server: postgresql.Server | None = None) -> None:
        self.server = server or postgresql.running()
        self.name = self.server.new_database()
        self.opened: list[PostgresStore] = []
        self.also: list[Any] = []
        """What else was connected to it."""

    @property
    def writer(self) -> str:
        """The URL of a writer's login."""
        return self.server.url(self.name, "pe_writer")

    @property
    def operator(self) -> str:
        """The URL of an operator's login."""
        return self.server.url(self.name, "pe_operator")

    def open(
        self, clock: Callable[[], int] | None = None, limits: Limits = LIMITS, vault: KeyVault = VAULT
    ) -> PostgresStore:
        """Open another store on it."""
        store = PostgresStore(self.writer, vault, operator=self.operator, clock=clock, limits=limits)
        self.opened.append(store)
        return store

    def verify(self) -> Report:
        """Verify every log."""
        store = PostgresStore(self.writer, VAULT)
        try:
            with store.view() as view:
                return verify(view, VAULT)
        finally:
            store.close()

    def close(self) -> None:
        """Close every store opened on it."""
        for store in (*self.opened, *self.also):
            store.close()

    def drop(self) -> None:
        """Take the database away."""
        self.server.drop_database(self.name)


Database = SqliteDatabase | PostgresDatabase
AnyStore = SqliteStore | PostgresStore


def genesis(store: Store, *more: Write) -> None:
    """Lay a first state: a release, a person, a tenant and an order."""
    store.change(
        Change(
            "genesis",
            {"by": "local"},
            (
                Write("releases", "sha256:aa", {"hash": "sha256:aa", "status": "published"}, 0),
                Write("persons", "alice", {"facts": {"us_status": {"value": "citizen"}}}, 0),
                Write("tenants", "acme", {"facts": {}}, 0),
                Write("orders", "dir-1", {"kind": "directive", "body": {}}, 0),
                *more,
            ),
            raises_epoch=True,
            activate="sha256:aa",
        )
    )


def put(register: str, id: str, expect: int, document: Any = None, **more: Any) -> Change:
    """Return a change of one row that raises the epoch unless it is a fact or proposal."""
    raises = register not in ("persons", "tenants", "approvals")
    write = Write(register, id, {"n": expect} if document is None else document, expect)
    return Change(f"{register}.put", {"by": "local"}, (write,), raises_epoch=raises, **more)
