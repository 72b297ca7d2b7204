"""Compressed headers of one connection, read by `hpack`, and remembered: a proxy sends nearly the same ones each time.

Rules of the room: a block means the same for as long as the table that it refers to stays as it is. So what a block
meant is kept only if it changed nothing, and everything kept is forgotten by a block that does.
Left to others: which headers there must be (`connection`).
"""

from __future__ import annotations

from typing import Final

from hpack import Decoder

from policy_engine.api.checks.frames import Metadata

BLOCKS_KEPT: Final = 64


class HeaderBlocks:
    """The headers of a connection, block by block, in the order of their coming."""

    def __init__(self, bytes_max: int) -> None:
        self._decoder = Decoder(max_header_list_size=bytes_max)
        self._known: dict[bytes, Metadata] = {}

    def read(self, block: bytes) -> Metadata:
        """Return the headers of a block. Raises `hpack.HPACKError` for one that cannot be read or says too much."""
        known = self._known.get(block)
        if known is not None:
            return known
        before = self._table()
        metadata = tuple(
            (bytes(name).decode("latin-1"), bytes(value)) for name, value in self._decoder.decode(block, raw=True)
        )
        after = self._table()
        if after[0] is not before[0] or after[1:] != before[1:]:
            self._known.clear()
        elif len(self._known) < BLOCKS_KEPT:
            self._known[block] = metadata
        return metadata

    def _table(self) -> tuple[object, int, int]:
        """Return what tells whether a block has changed the table: its newest entry, its length, and its bound."""
        table = self._decoder.header_table
        entries = table.dynamic_entries
        return (entries[0] if entries else None, len(entries), table.maxsize)
