"""Exports as text: JSON Lines of the public bytes as they were committed, and CSV.

Rules of the room: a line of JSON Lines is the entry's canonical bytes, never written anew, so that leaf hashes can be
computed from the file. CSV is RFC 4180 in UTF-8 (commas, CRLF, quotes where needed, a header line) with cells as
`neutral` makes them.
Left to others: which entries (`source`), whole files (`files`).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import orjson

from policy_engine.services.exports.columns import COLUMNS, cell_of, row_of
from policy_engine.services.exports.neutral import neutral
from policy_engine.services.exports.source import Entry


def write_jsonl(part: Path, pages: Iterable[Sequence[Entry]]) -> None:
    """Write one line an entry: its public bytes. Canonical JSON holds no line break."""
    with part.open("wb") as file:
        for page in pages:
            file.write(b"\n".join([public for _, _, public in page]))
            file.write(b"\n")


def write_csv(part: Path, pages: Iterable[Sequence[Entry]]) -> None:
    """Write a header line and one row an entry."""
    with part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\r\n")
        writer.writerow([column.name for column in COLUMNS])
        for page in pages:
            writer.writerows(_cells(orjson.loads(public)) for _, _, public in page)


def _cells(public: dict[str, Any]) -> list[str | int | None]:
    cells = [cell_of(column, value) for column, value in zip(COLUMNS, row_of(public), strict=True)]
    return [neutral(cell) if isinstance(cell, str) else cell for cell in cells]
