"""Compressed headers of one connection, read by `hpack`, and remembered: a proxy sends nearly the same ones each time.

Rules of the room:
- A block means the same for as long as the table that it refers to stays as it is. So what a block meant is kept only
  if it changed nothing, and everything kept is forgotten by a block that does.
- Headers that HTTP/2 forbids (RFC 9113, 8.2 and 8.3) are none: a name in capitals, one of its own twice or behind
  others, one that speaks of the connection. Two readers could take them for two requests.
Left to others: which headers there must be (`connection`).
"""

from __future__ import annotations

from typing import Final

from hpack import Decoder

from policy_engine.api.checks.frames import Metadata

BLOCKS_KEPT: Final = 64
PSEUDO: Final = frozenset((":method", ":scheme", ":path", ":authority"))
OF_CONNECTIONS: Final = frozenset(("connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade"))


class HeaderBlocks:
    """The headers of a connection, block by block, in the order of their coming."""

    def __init__(self, bytes_max: int) -> None:
        self._decoder = Decoder(max_header_list_size=bytes_max)
        self._known: dict[bytes, Metadata | None] = {}

    def read(self, block: bytes) -> Metadata | None:
        """Return the headers of a block, `None` for such as are forbidden.

        Raises `hpack.HPACKError` for a block that cannot be read or says too much.
        """
        if block in self._known:
            return self._known[block]
        before = self._table()
        decoded = self._decoder.decode(block, raw=True)
        headers = tuple((bytes(name).decode("latin-1"), bytes(value)) for name, value in decoded)
        metadata = None if _forbidden(headers) else headers
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


def _forbidden(metadata: Metadata) -> bool:
    names = [name for name, _ in metadata]
    own = [name for name in names if name.startswith(":")]
    if names[: len(own)] != own or len(set(own)) != len(own) or not PSEUDO.issuperset(own):
        return True
    return not OF_CONNECTIONS.isdisjoint(names) or any(name != name.lower() for name in names)
