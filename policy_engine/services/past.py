"""The registers as the log says they were, moved forward entry by entry, and the log in the order in which it happened.

Rules of the room:
- What deciding asks of a store (`store.registerinterfaces`) is answered from the entries applied so far, and release
  content by its hash. No register table is read.
- Where there are several logs, a store gives each change an instant later than every entry before it, and no entry an
  instant before the change that it was written under (`services.timeline`): at one instant, changes come first.
- Bytes are looked at before they are parsed: of most entries nobody needs more than to know that they are no change.
Left to others: opening sealed rows (`services.unseal`), what follows what (`services.projection`), who may ask.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from policy_engine.ledger.encoding import parse_public
from policy_engine.services.projection import Projection
from policy_engine.services.unseal import Unsealer
from policy_engine.store.interfaces import LogView, Row, State, StoredEntry

_CHANGES = b'"rows":['
"""Canonical JSON escapes quotes within a text, so these bytes are a member of that name."""

_AT = re.compile(rb'"at":([0-9]+)[,}]')


class Past:
    """State and registers after the entries applied so far."""

    def __init__(self, unsealer: Unsealer, content: Callable[[str], bytes | None]) -> None:
        self._unsealer = unsealer
        self._content = content
        self._projection = Projection()
        self.touched: tuple[tuple[str, str], ...] = ()
        """Register and id of each row that the change applied last wrote."""

    def apply(self, entry: StoredEntry) -> Mapping[str, Any] | None:
        """Apply an entry if it is a change, and return its public part then; every other entry changes nothing.

        Raises `VerificationFailed` when the change does not open, or does not follow the changes before it.
        """
        if not is_change(entry):
            return None
        public = parse_public(entry.public)
        if "rows" not in public:
            return None
        self._projection.follow(public)
        rows = self._unsealer.rows(entry, public)
        self._projection.put(entry.log_id, entry.seq, rows)
        self.touched = tuple((row.register, row.id) for row in rows if row is not None)
        return public

    def state(self) -> State:
        """Return the state then."""
        return self._projection.state

    def row(self, register: str, id: str) -> Row | None:
        """Return a row as it was then, `None` when there was none."""
        opened = self._projection.rows.get(register, {}).get(id)
        if opened is None or opened.document is None:
            return None
        made_by = self._projection.made_by[register, id]
        return Row(register, id, opened.revision, opened.document, opened.salt, *made_by)

    def rows(self, register: str, *, after: str = "", limit: int | None = None) -> list[Row]:
        """Return the rows of then, in order of id."""
        ids = sorted(id for id in self._projection.rows.get(register, {}) if id > after)
        found = (self.row(register, id) for id in ids)
        return [row for row in found if row is not None][:limit]

    def blob(self, hash: str) -> bytes | None:
        """Return release content, which never changes under its hash."""
        return self._content(hash)


def is_change(entry: StoredEntry) -> bool:
    """Return whether an entry can be a change, by its bytes alone; `"rows" in` its public part says it for certain."""
    return _CHANGES in entry.public


def is_decision(entry: StoredEntry) -> bool:
    """Return whether an entry can be a decision, by its bytes alone."""
    return b'"kind":"decision"' in entry.public


def in_order(view: LogView) -> Iterator[StoredEntry]:
    """Yield every entry behind the changes that it was written under and before every later one."""
    if view.one_log:
        yield from view.scan_entries()
        return
    together: list[StoredEntry] = []
    instant: int | None = None
    for entry in view.scan_entries(by_instant=True):
        at = instant_of(entry.public)
        if at != instant:
            yield from sorted(together, key=lambda one: not is_change(one))
            together, instant = [], at
        together.append(entry)
    yield from sorted(together, key=lambda one: not is_change(one))


def instant_of(public: bytes) -> int:
    """Return `at` of an entry; parsed whole only where a member within another could be meant."""
    found: list[bytes] = _AT.findall(public)
    return int(found[0]) if len(found) == 1 else int(parse_public(public)["at"])
