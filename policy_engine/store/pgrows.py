"""What a change writes, collected for one call of the database's function; reads see what was collected before.

Left to others: what a change writes (`registers`), the call (`pgcalls`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from policy_engine.errors import InputRefused
from policy_engine.ledger.encoding import Place
from policy_engine.ledger.sealing import KeyVault
from policy_engine.store import erasing, statements
from policy_engine.store import erasuretables as marks
from policy_engine.store.erasing import Removal, Written
from policy_engine.store.erasureinterfaces import Erasure, Pruning, prunes
from policy_engine.store.interfaces import FACT_REGISTERS, State
from policy_engine.store.sessions import Reader


@dataclass(frozen=True, slots=True)
class _Put:
    """One row: the revision that lies in the database, and what replaces it."""

    was: int
    revision: int
    document: str | None
    salt: bytes
    seq: int
    item: int


class CollectedRows:
    """`registers.Rows` that reads in the transaction of a change and writes to memory."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._puts: dict[tuple[str, str], _Put] = {}
        self._last_revisions: dict[str, int] | None = None
        self.removal: Removal | Pruning | None = None
        self.removed_by: Place | None = None
        self.keys: dict[str, bytes] = {}
        self.blobs: dict[str, bytes] = {}

    def revision(self, register: str, id: str) -> tuple[int, bool] | None:
        """Return the last revision of an id and whether the row is there."""
        put = self._puts.get((register, id))
        if put is not None:
            return put.revision, put.document is not None
        found = self._reader.one(statements.REGISTERS[register].revision, id)
        return None if found is None else (int(found[0]), bool(found[1]))

    def put(self, register: str, id: str, values: tuple[Any, ...], *, new: bool) -> None:
        """Collect a row. The typed columns are left out: the database takes them from the document."""
        if "\0" in id:
            raise InputRefused("an id cannot hold a NUL", where=register)
        revision, document, salt, _, seq, item, *_ = values
        before = self._puts.get((register, id))
        was = before.was if before is not None else 0 if new else revision - 1
        self._puts[register, id] = _Put(was, revision, document, salt, seq, item)

    def data_key(self, key_id: str) -> bytes | None:
        """Return a wrapped data key."""
        if key_id in self.keys:
            return self.keys[key_id]
        if isinstance(self.removal, Removal) and key_id in self.removal.keys:
            return None
        found = self._reader.one(statements.READ_DATA_KEY, key_id)
        return None if found is None else bytes(found[0])

    def add_data_key(self, key_id: str, wrapped: bytes) -> None:
        """Collect a wrapped data key."""
        self.keys[key_id] = wrapped

    def has_blob(self, hash: str) -> bool:
        """Return whether content is stored or collected."""
        return hash in self.blobs or self._reader.one(statements.READ_BLOB, hash) is not None

    def add_blob(self, hash: str, content: bytes) -> None:
        """Collect content."""
        self.blobs[hash] = content

    def last_erased(self, key_id: str) -> int:
        """Return the last revision of a row that was erased, 0 without one."""
        if self._last_revisions is None:
            self._last_revisions = {key: int(last) for key, last in self._reader.all(marks.READ_LAST_REVISIONS)}
        return self._last_revisions.get(key_id, 0)

    def remove(
        self, removes: Erasure | Pruning, place: Place, state: State, vault: KeyVault, written: Written
    ) -> dict[str, Any]:
        """Collect what a change erases or prunes and return the member of its entry that says so."""
        self.removed_by = place
        if isinstance(removes, Pruning):
            erasing.check_pruning(removes, state)
            self.removal = removes
            bodies = [self._reader.all(marks.READ_BODIES, *part) for part in removes.ranges]
            return {"prunes": prunes(removes, sum(map(len, bodies)))}
        self.removal = erasing.plan(
            self, erasing.found_bodies(self._reader, removes.tags), removes, vault, state, written
        )
        return self.removal.public()

    @property
    def touches_facts(self) -> bool:
        """Return whether a person or tenant is among the rows that are written."""
        return any(register in FACT_REGISTERS for register, _ in self._puts)

    def columns(self) -> tuple[list[Any], ...]:
        """Return the rows as arrays, one a column, in the order of the function's parameters."""
        rows = self._puts.items()
        return (
            [register for (register, _), _ in rows],
            [id for (_, id), _ in rows],
            *([getattr(put, name) for _, put in rows] for name in _Put.__slots__),
        )
