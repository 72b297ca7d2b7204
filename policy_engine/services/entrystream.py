"""The entries of a log as a stream with a look ahead, so that each batch takes its own.

Left to others: what an entry must be like (`verify`).
"""

from __future__ import annotations

from collections.abc import Iterator

from policy_engine.store.interfaces import StoredEntry


class EntryStream:
    """Entries in their order, each of which is taken once."""

    def __init__(self, stream: Iterator[StoredEntry]) -> None:
        self._stream = stream
        self._next = next(stream, None)

    def before(self, log_id: str, seq: int) -> Iterator[StoredEntry]:
        """Yield the entries in front of a place."""
        while self._next is not None and (self._next.log_id, self._next.seq) < (log_id, seq):
            entry, self._next = self._next, next(self._stream, None)
            yield entry

    def rest(self) -> Iterator[StoredEntry]:
        """Yield what is left."""
        while self._next is not None:
            entry, self._next = self._next, next(self._stream, None)
            yield entry
