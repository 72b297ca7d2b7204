"""Registers: reading rows, and applying a change with its entry inside a transaction that somebody else commits.

Rules: every row that changes is sealed with its own data key and committed to in the entry's public part; the row in
clear carries the salt of that commitment; a row taken away leaves its id and revision, so that no revision repeats;
what a change rests on is compared inside its transaction. A change of orders, switches, keys or the active release
that would not raise the epoch is a programming error and refused.
Left to others: deciding whether a change is permitted (`services`), committing it (the stores).
"""

from __future__ import annotations

import os
from hashlib import sha256
from typing import Any, Protocol
from uuid import uuid4

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from policy_engine.errors import Conflict, InputRefused, Overtaken, TooLarge
from policy_engine.ledger.canonical import canonical, parse
from policy_engine.ledger.encoding import Place, change_public
from policy_engine.ledger.sealing import (
    KEY_BYTES,
    NONCE_BYTES,
    SALT_BYTES,
    KeyVault,
    RowBody,
    join_rows,
    place_of,
    row_key_id,
    seal_body,
)
from policy_engine.limits import Limits
from policy_engine.store import statements
from policy_engine.store.erasureinterfaces import ERASABLE, Erasure, Pruning
from policy_engine.store.interfaces import (
    EPOCH_REGISTERS,
    FACT_REGISTERS,
    Change,
    Encoded,
    Row,
    State,
    Write,
)
from policy_engine.store.sessions import Reader, Writer
from policy_engine.store.sessions import Row as Columns
from policy_engine.store.tables import TYPED

REMOVALS: dict[str, type] = {"erased": Erasure, "pruned": Pruning}
"""The kinds of entry that take something out of the log, with what each takes."""

RECOVERED = "epoch.recovered"
"""The kind of entry with which two persons take an older copy of the database for the one that counts."""


class Rows(Protocol):
    """What a change reads and writes inside its transaction, in whichever store."""

    def revision(self, register: str, id: str) -> tuple[int, bool] | None:
        """Return the last revision given to an id and whether the row is there now; `None` for a new id."""
        ...

    def put(self, register: str, id: str, values: tuple[Any, ...], *, new: bool) -> None:
        """Write a row: `values` are its columns behind the id, the typed ones last."""
        ...

    def data_key(self, key_id: str) -> bytes | None:
        """Return a wrapped data key."""
        ...

    def add_data_key(self, key_id: str, wrapped: bytes) -> None:
        """Store a wrapped data key whose id is free."""
        ...

    def has_blob(self, hash: str) -> bool:
        """Return whether content is stored."""
        ...

    def add_blob(self, hash: str, content: bytes) -> None:
        """Store content by its hash."""
        ...

    def last_erased(self, key_id: str) -> int:
        """Return the last revision of a row that was erased, by the id of its data key; 0 without one."""
        ...

    def remove(
        self,
        removes: Erasure | Pruning,
        place: Place,
        state: State,
        vault: KeyVault,
        written: frozenset[tuple[str, str]],
    ) -> dict[str, Any]:
        """Take away what a change erases or prunes, and return the member of its entry that says so."""
        ...


class WriterRows:
    """`Rows` on a writer, statement by statement."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def revision(self, register: str, id: str) -> tuple[int, bool] | None:
        """Return the last revision of an id and whether the row is there."""
        found = self._writer.one(statements.REGISTERS[register].revision, id)
        return None if found is None else (int(found[0]), bool(found[1]))

    def put(self, register: str, id: str, values: tuple[Any, ...], *, new: bool) -> None:
        """Write a row."""
        own = statements.REGISTERS[register]
        if new:
            self._writer.run(own.add, id, *values)
        else:
            self._writer.run(own.put, *values, id)

    def data_key(self, key_id: str) -> bytes | None:
        """Return a wrapped data key."""
        found = self._writer.one(statements.READ_DATA_KEY, key_id)
        return None if found is None else bytes(found[0])

    def add_data_key(self, key_id: str, wrapped: bytes) -> None:
        """Store a wrapped data key."""
        self._writer.run(statements.ADD_DATA_KEY, key_id, wrapped)

    def has_blob(self, hash: str) -> bool:
        """Return whether content is stored."""
        return self._writer.one(statements.READ_BLOB, hash) is not None

    def add_blob(self, hash: str, content: bytes) -> None:
        """Store content."""
        self._writer.run(statements.ADD_BLOB, hash, content)


def to_row(register: str, columns: Columns) -> Row:
    """Return a row from its columns, in the order of the statements."""
    id, revision, document, salt, log_id, seq, item = columns
    return Row(register, id, revision, parse(document.encode(), "a register row"), bytes(salt), log_id, seq, item)


def revision_of(reader: Reader, register: str, id: str) -> int:
    """Return the revision of a row, 0 when there is none."""
    found = reader.one(statements.REGISTERS[register].revision, id)
    return int(found[0]) if found and found[1] else 0


def live_revision(rows: Rows, register: str, id: str) -> int:
    """Return the revision of a row inside a change, 0 when there is none."""
    found = rows.revision(register, id)
    return found[0] if found and found[1] else 0


def check(change: Change, limits: Limits) -> None:
    """Refuse a change that no state could accept."""
    needs_epoch = (
        change.activate is not None
        or change.removes is not None
        or any(write.register in EPOCH_REGISTERS for write in change.writes)
    )
    if needs_epoch and not change.raises_epoch:
        raise ValueError("a change of orders, switches, keys or the active release, and an erasure, raises the epoch")
    if (change.beyond is None) == (change.kind == RECOVERED) or change.beyond != change.public.get("beyond"):
        raise ValueError("a recovery alone goes beyond an epoch, and its entry says which")
    if (change.removes is None) == (change.kind in REMOVALS) or (
        change.removes is not None and type(change.removes) is not REMOVALS[change.kind]
    ):
        raise ValueError("what erases is of the kind `erased`, what prunes of the kind `pruned`, and nothing else is")
    if isinstance(change.removes, Erasure) and not {row[0] for row in change.removes.rows} <= set(ERASABLE):
        raise ValueError(f"an erasure takes rows of {', '.join(ERASABLE)} only")
    if change.kind != "genesis" and len(change.writes) > limits.rows_per_entry_count:
        raise TooLarge(f"one entry holds at most {limits.rows_per_entry_count} rows", where="change")
    if len({(write.register, write.id) for write in change.writes}) != len(change.writes):
        raise ValueError("a change writes each row once")
    for hash, content in change.blobs.items():
        if hash != sha256(content).hexdigest():
            raise ValueError("a blob's key is the hex SHA-256 of its content")


def state_after(change: Change, state: State) -> State:
    """Return the state once the change is applied."""
    erased = change.removes.rows if isinstance(change.removes, Erasure) else ()
    touched = (*(write.register for write in change.writes), *(row[0] for row in erased))
    facts = any(register in FACT_REGISTERS for register in touched)
    return State(
        epoch=max(state.epoch, change.beyond or 0) + change.raises_epoch,
        release=state.release if change.activate is None else change.activate,
        facts_revision=state.facts_revision + facts,
        sample=state.sample or change.mark_sample,
    )


def apply(rows: Rows, change: Change, vault: KeyVault, place: Place, state: State) -> Encoded:
    """Write the rows, blobs and keys of a change and return its entry. `place` holds the state after the change.

    Raises `Conflict` when something it rests on has moved.
    """
    if change.expect_release is not None and state.release != change.expect_release:
        raise Conflict("the active release has changed meanwhile; look again and decide anew", where="release")
    if change.expect_epoch is not None and state.epoch != change.expect_epoch:
        raise Overtaken("something else has changed meanwhile; look again and decide anew", where="epoch")
    for register, id, revision in change.expects:
        if live_revision(rows, register, id) != revision:
            raise Conflict("a row that this change rests on has changed meanwhile; look again", where=register)
    gone: dict[str, Any] = {}
    if change.removes is not None:
        written = frozenset((write.register, write.id) for write in change.writes)
        gone = rows.remove(change.removes, place, state, vault, written)
    sealed: list[tuple[str, bytes]] = []
    commitments: list[tuple[str, str]] = []
    for item, write in enumerate(change.writes):
        key_id, ciphertext, commit = _put(rows, write, vault, place, item)
        sealed.append((key_id, ciphertext))
        commitments.append((write.register, commit))
    for hash, content in change.blobs.items():
        if not rows.has_blob(hash):
            rows.add_blob(hash, content)
    if change.activate is not None and live_revision(rows, "releases", change.activate) == 0:
        raise Conflict("the release to activate is not stored", where="release")
    body = join_rows(sealed) if sealed else b""
    members = {name: value for name, value in change.public.items() if name != "id"}
    public = change_public(
        change.kind,
        str(change.public.get("id") or uuid4().hex),
        place,
        members,
        rows=commitments,
        sealed=sha256(body).hexdigest() if body else "",
        activates=change.activate,
        blobs=tuple(change.blobs),
        sample=change.mark_sample,
        removes=gone,
    )
    return Encoded(public, body, None)


def _put(rows: Rows, write: Write, vault: KeyVault, place: Place, item: int) -> tuple[str, bytes, str]:
    """Write one row and return its key's id, its ciphertext and its commitment."""
    found = rows.revision(write.register, write.id)
    now = found[0] if found and found[1] else 0
    if now != write.expect:
        raise Conflict("the row has changed since it was read; look again", where=write.register)
    if write.document is None and now == 0:
        raise Conflict("there is no row to take away", where=write.register)
    key_id = row_key_id(vault.index_key(), write.register, write.id)
    revision = (rows.last_erased(key_id) if found is None else found[0]) + 1
    salt = os.urandom(SALT_BYTES)
    row = RowBody(write.register, write.id, revision, write.document).encode()
    cipher = _row_cipher(rows, key_id, vault)
    body = seal_body(cipher, os.urandom(NONCE_BYTES), salt, place_of(place.log_id, place.seq, item), row)
    document = None if write.document is None else canonical(write.document).decode()
    values = (revision, document, salt, place.log_id, place.seq, item, *typed_values(write.register, write.document))
    rows.put(write.register, write.id, values, new=found is None)
    return key_id, body.ciphertext, body.commit


def typed_values(register: str, document: Any) -> tuple[str | None, ...]:
    """Return the typed columns that a document implies: its own text members, or null."""
    return tuple(_text(document, name) for name in TYPED.get(register, ()))


def _text(document: Any, name: str) -> str | None:
    value = None if document is None else document.get(name)
    if value is not None and not isinstance(value, str):
        raise InputRefused("a member that the schema knows must be text", where=name)
    return value


def _row_cipher(rows: Rows, key_id: str, vault: KeyVault) -> AESGCM:
    """Return the data key under which the history of this row is sealed, making and storing it when there is none."""
    stored = rows.data_key(key_id)
    if stored is not None:
        return AESGCM(vault.unwrap(key_id, stored))
    key = os.urandom(KEY_BYTES)
    rows.add_data_key(key_id, vault.wrap(key_id, key))
    return AESGCM(key)
