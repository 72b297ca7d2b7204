"""Taking something out of the log for good, inside the transaction of the change whose entry says so.

Rules of the room:
- What goes is found here, inside the transaction, and compared with what the change looked at: whatever was written
  about the subject meanwhile, or a hold that came meanwhile, stops it (`Overtaken`), and it is looked at anew.
- Bodies are emptied with their tags, data keys destroyed and register rows taken away in the one change with its entry.
  A row that the same change writes is written under a fresh key.
- Bodies of changes stay: the rows in them are closed one by one, each by its own key.
Left to others: who may, and what is under a hold (`services.erasure`), the same on PostgreSQL (`pgrows`, migrations).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from policy_engine.errors import Conflict, Overtaken
from policy_engine.ledger.encoding import Place
from policy_engine.ledger.sealing import KeyVault, row_key_id
from policy_engine.store import entries
from policy_engine.store import erasuretables as statements
from policy_engine.store.erasureinterfaces import Erasure, Pruning, erases, prunes
from policy_engine.store.interfaces import State
from policy_engine.store.registers import WriterRows, live_revision
from policy_engine.store.sessions import Reader

Written = frozenset[tuple[str, str]]
"""`(register, id)` of the rows that the same change writes."""

_AGAIN = "what shall go was looked at before something else was written; look again"


@dataclass(frozen=True, slots=True)
class Removal:
    """What an erasure takes away: `rows` are `(register, id, revision)` that are not written anew."""

    keys: Mapping[str, tuple[str, int] | None]
    places: tuple[tuple[str, int], ...]
    rows: tuple[tuple[str, str, int], ...]

    def public(self) -> dict[str, Any]:
        """Return the member of the entry that says so."""
        rows = [(row[0], key, row[1]) for key, row in self.keys.items() if row is not None]
        return {"erases": erases(list(self.keys), rows, len(self.places))}


def plan(
    rows: Any, found: Mapping[tuple[str, int], str], erasure: Erasure, vault: KeyVault, state: State, written: Written
) -> Removal:
    """Return what an erasure takes away. `rows` are `registers.Rows`, `found` the bodies and keys that its tags find.

    Raises `Overtaken` when it is not what was looked at, `Conflict` when a row has moved.
    """
    if erasure.epoch != state.epoch or set(found) != set(erasure.places):
        raise Overtaken(_AGAIN, where="erasure")
    keys: dict[str, tuple[str, int] | None] = dict.fromkeys(found.values())
    keys |= {key: None for key in erasure.keys if rows.data_key(key) is not None}
    for register, id, revision in erasure.rows:
        if live_revision(rows, register, id) != revision:
            raise Conflict("a row that shall be erased has changed meanwhile; look again", where=register)
        keys[row_key_id(vault.index_key(), register, id)] = (register, revision)
    gone = tuple(row for row in erasure.rows if row[:2] not in written)
    return Removal(keys, tuple(found), gone)


def check_pruning(pruning: Pruning, state: State) -> None:
    """Raise `Overtaken` when an order, a hold among them, came after the ranges were chosen."""
    if pruning.epoch != state.epoch:
        raise Overtaken(_AGAIN, where="pruning")


class ErasingRows(WriterRows):
    """`registers.Rows` on a writer of SQLite, with what takes rows, keys and bodies away."""

    _last_revisions: Mapping[str, int] | None = None

    def last_erased(self, key_id: str) -> int:
        """Return the last revision of a row that was erased, 0 without one: no revision is ever given twice."""
        if self._last_revisions is None:
            self._last_revisions = {key: int(last) for key, last in self._writer.all(statements.READ_LAST_REVISIONS)}
        return self._last_revisions.get(key_id, 0)

    def remove(
        self, removes: Erasure | Pruning, place: Place, state: State, vault: KeyVault, written: Written
    ) -> dict[str, Any]:
        """Take away what a change erases or prunes and return the member of its entry that says so."""
        if isinstance(removes, Pruning):
            check_pruning(removes, state)
            return {"prunes": prunes(removes, self._prune(removes, place))}
        removal = plan(self, found_bodies(self._writer, removes.tags), removes, vault, state, written)
        for key, row in removal.keys.items():
            register, revision = row or (None, None)
            self._writer.run(statements.ADD_ERASED_KEY, key, place.log_id, place.seq, place.at, register, revision)
            self._writer.run(statements.DROP_DATA_KEY, key)
        for log_id, seq in removal.places:
            self._empty(log_id, seq)
        for register, id, revision in removal.rows:
            self._writer.run(statements.DROP_ROW[register], id, revision)
        return removal.public()

    def _empty(self, log_id: str, seq: int) -> None:
        found = self._writer.one(statements.READ_TAGS, log_id, seq)
        self._writer.run(statements.EMPTY_BODY, log_id, seq)
        for tag in () if found is None else entries.split_tags(found[0]):
            self._writer.run(statements.DROP_TAG, tag, log_id, seq)

    def _prune(self, pruning: Pruning, place: Place) -> int:
        count = 0
        for log_id, first, end in pruning.ranges:
            mark = (place.log_id, place.seq, log_id, first, end, place.at)
            self._writer.run(statements.ADD_PRUNED_RANGE, *mark)
            for seq, _ in self._writer.all(statements.READ_BODIES, log_id, first, end):
                self._empty(log_id, seq)
                count += 1
        return count


def found_bodies(reader: Reader, tags: tuple[bytes, ...]) -> dict[tuple[str, int], str]:
    """Return the places of the bodies that carry any of the tags and are not empty, each with its data key's id."""
    found = {(log_id, seq): key for tag in tags for log_id, seq, key in reader.all(statements.BODIES_BY_TAG, tag)}
    wanted = set(tags)
    for log_id, seq, key, joined in reader.stream(statements.UNINDEXED_BODIES):
        if not wanted.isdisjoint(entries.split_tags(joined)):
            found[log_id, seq] = key
    return found
