"""The file of cells: where each cell is, and the file that holds the key with which it is asked.

Rules of the room:
- The text is read strictly: `[[cell]]` tables with `name`, `url` and `key_file`, nothing else, each name and address
  once. A cell that is misspelt must not go missing in silence.
- The key itself never stands in the file of cells; its own file may be read by its owner alone.
- What is wrong is said by the number of the table; no address and no key is repeated.
Left to others: speaking with a cell (`exchange`), what is said (`sending`, `standing`, `peers`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from policy_engine.core.tomltext import NotToml, loads_toml
from policy_engine.errors import StartRefused
from policy_engine.limits import LIMITS, Limits

_MEMBERS: Final = frozenset(("name", "url", "key_file"))
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_KEY = re.compile(r"pe_[A-Za-z0-9_-]{16,256}")


@dataclass(frozen=True, slots=True)
class CellEntry:
    """One table of the file: a cell's name, the prefix of its URL without a closing slash, and its key's file."""

    name: str
    url: str
    key_file: Path


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell that can be asked: its name, the prefix of its URL, and the key, which is never shown."""

    name: str
    url: str
    key: str = field(repr=False)


def parse_cells(text: str, where: str, limits: Limits = LIMITS) -> tuple[CellEntry, ...]:
    """Return the cells that a text names, in its order. Touches no file.

    Raises `StartRefused` with the table that is wrong, or the file when it is wrong as a whole.
    """
    try:
        document = loads_toml(text)
    except NotToml as refused:
        raise StartRefused(f"the file of cells is not TOML ({_line_of(refused)})", where=where) from None
    tables = document.get("cell")
    if set(document) != {"cell"} or not isinstance(tables, list) or not tables:
        raise StartRefused("the file of cells holds [[cell]] tables, at least one, and nothing else", where=where)
    if len(tables) > limits.cells_count:
        raise StartRefused(f"the file names more than {limits.cells_count} cells", where=where)
    found = tuple(_entry(table, f"{where}: cell {number}") for number, table in enumerate(tables, start=1))
    for member in ("name", "url"):
        if len({getattr(cell, member) for cell in found}) < len(found):
            raise StartRefused(f"two cells of the file have one {member}", where=where)
    return found


def read_cells(path: Path, limits: Limits = LIMITS) -> tuple[Cell, ...]:
    """Return the cells of a file with their keys; a relative `key_file` lies beside the file of cells.

    Raises `StartRefused` as `parse_cells`, and for a file that cannot be read or a key that others may read.
    """
    where = str(path)
    try:
        with path.open("rb") as file:
            data = file.read(limits.document_bytes + 1)
        text = data.decode()
    except (OSError, ValueError):
        raise StartRefused("the file of cells cannot be read as text in UTF-8", where=where) from None
    if len(data) > limits.document_bytes:
        raise StartRefused(f"the file of cells is larger than {limits.document_bytes} bytes", where=where)
    entries = parse_cells(text, where, limits)
    return tuple(
        Cell(entry.name, entry.url, _key(path.parent / entry.key_file, f"{where}: cell {number}: key_file"))
        for number, entry in enumerate(entries, start=1)
    )


def _entry(table: Any, where: str) -> CellEntry:
    if not isinstance(table, dict) or set(table) != _MEMBERS or not all(type(each) is str for each in table.values()):
        raise StartRefused("a cell has a `name`, a `url` and a `key_file`, all text, and nothing else", where=where)
    if _NAME.fullmatch(table["name"]) is None:
        raise StartRefused("the name of a cell is lower-case letters, digits and hyphens, at most 63", where=where)
    url = table["url"]
    try:
        parts = urlsplit(url)
        valid = parts.port is None or parts.port > 0
    except ValueError:
        valid = False
    if not valid or parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise StartRefused("the url of a cell is http or https with a host and without a user", where=where)
    if parts.query or parts.fragment or not url.isascii() or not url.isprintable() or " " in url:
        raise StartRefused("the url of a cell is a plain prefix without query or fragment", where=where)
    if not table["key_file"] or "\0" in table["key_file"]:
        raise StartRefused("the key_file of a cell names a file", where=where)
    return CellEntry(table["name"], url.rstrip("/"), Path(table["key_file"]))


def _key(path: Path, where: str) -> str:
    try:
        with path.open("rb") as file:
            mode = path.stat().st_mode
            key = file.read(LIMITS.text_characters + 1).decode("ascii").strip()
    except (OSError, ValueError):
        raise StartRefused("the file with the key of the cell cannot be read", where=where) from None
    if mode & 0o077:
        raise StartRefused("the file with the key may be read by others; set its mode to 0600", where=where)
    if _KEY.fullmatch(key) is None:
        raise StartRefused("the file holds no API key: one line that begins with pe_", where=where)
    return key


def _line_of(refused: NotToml) -> str:
    """Return where a text stops being TOML, without repeating any of it."""
    return "its end" if refused.line is None else f"line {refused.line}"
