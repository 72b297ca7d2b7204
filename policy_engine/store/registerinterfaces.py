"""What deciding needs of a store: state, register rows and release content, as of one moment.

Rules of the room: a store has them as they are now (`interfaces.ReadStore`), the log as they were at any entry
(`services.past`); whoever decides asks for no more than this, so both decide by the same code.
Left to others: entries (`interfaces`), the tree (`treeinterfaces`).
"""

from __future__ import annotations

from typing import Protocol

from policy_engine.store.interfaces import Row, State


class RegisterReader(Protocol):
    """State, registers and content. Raises `StoreUnavailable` when it cannot know."""

    def state(self) -> State:
        """Return the state row."""
        ...

    def row(self, register: str, id: str) -> Row | None:
        """Return a row, `None` when there is none."""
        ...

    def rows(self, register: str, *, after: str = "", limit: int | None = None) -> list[Row]:
        """Return rows in order of id, keyset-paged by `after`."""
        ...

    def blob(self, hash: str) -> bytes | None:
        """Return stored release content by its hash."""
        ...
