"""The journal of a fault disk: every change under its folder, in order, and what the program said in between."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_HEAD = struct.Struct("<cQQI")


@dataclass(frozen=True, slots=True)
class Step:
    """One record. `kind` is a letter:

    C a file was made, N a folder was made, W bytes were written at `offset`, T a file was cut to `offset` bytes,
    S a file's fsync returned, s it failed, D a folder's returned, d it failed, U a name was taken away, R a name was
    moved, P a folder was, L a name was added, M the program said something.
    """

    kind: str
    inode: int
    offset: int
    data: bytes

    @property
    def names(self) -> tuple[str, ...]:
        """The one or two names of a record about names."""
        return tuple(part.decode() for part in self.data.split(b"\0"))


def read_journal(path: Path) -> list[Step]:
    """Return every record of a journal. A record that was cut off when the program died is left out."""
    return list(_records(path.read_bytes()))


def _records(data: bytes) -> Iterator[Step]:
    at = 0
    while at + _HEAD.size <= len(data):
        kind, inode, offset, length = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        if at + length > len(data):
            return
        yield Step(kind.decode(), inode, offset, data[at : at + length])
        at += length
