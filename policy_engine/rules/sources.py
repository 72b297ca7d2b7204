"""Text as it stands in a release's files: reading it strictly, and saying in which line a thing stands.

Rules of the room: nothing is guessed. A bare word, a date or a number where a text belongs is refused with the line
and the way to mend it; what is not UTF-8 or too long is refused before it is parsed.
Left to others: what the text means.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from policy_engine.errors import LoadRefused

_LINE = re.compile(r"at line (\d+)")
_HEADER = re.compile(r"^\s*\[\[?\s*([A-Za-z0-9_.\"' -]+?)\s*\]\]?\s*(#.*)?$")


class Strict(BaseModel):
    """Base of what is read from files: no unknown key, nothing converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


Read = TypeVar("Read", bound=Strict)


def decode(path: str, content: bytes, most_bytes: int) -> str:
    """Return the text of a file. Raises `LoadRefused` when it is too long or not UTF-8."""
    if len(content) > most_bytes:
        raise LoadRefused(f"the file is longer than {most_bytes} bytes; split it", where=path)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise LoadRefused("the file is not UTF-8; save it as UTF-8", where=path) from None


@dataclass(frozen=True, slots=True)
class TomlFile:
    """A parsed TOML file that remembers its lines."""

    path: str
    lines: tuple[str, ...]
    data: dict[str, Any]
    headers: dict[str, list[int]]
    """Where each table's header stands, in order; a release names a line for every rule, so they are found once."""
    starts: list[int]

    def line(self, table: str, index: int | None = None, key: str | None = None, *, after: str | None = None) -> int:
        """Return the line (from 1) of a table, of the `index`-th of its kind, or of a key in it, `after` another."""
        start, end = self._span(table, index or 0)
        own = self.headers.get(f"{table}.{key}")
        if own:
            return own[0] + 1
        if key is not None:
            pattern = re.compile(rf"(^|[\s{{,])[\"']?{re.escape(key)}[\"']?\s*=")
            first = start if after is None else self.line(table, index, after) - 1
            for at in range(first, end):
                if pattern.search(self.lines[at]):
                    return at + 1
        return start + 1

    def where(self, table: str, index: int | None = None, key: str | None = None, *, after: str | None = None) -> str:
        """Return `file:line` of a table or key."""
        return f"{self.path}:{self.line(table, index, key, after=after)}"

    def _span(self, table: str, index: int) -> tuple[int, int]:
        places = self.headers.get(table, ())
        if index >= len(places):
            return (places[-1] if places else 0), len(self.lines)
        following = bisect_right(self.starts, places[index])
        return places[index], self.starts[following] if following < len(self.starts) else len(self.lines)


def _header(line: str) -> str | None:
    match = _HEADER.match(line)
    return None if match is None else match.group(1)


def read_toml(path: str, content: bytes, most_bytes: int) -> TomlFile:
    """Return the parsed file. Raises `LoadRefused` with the line of what is no TOML."""
    text = decode(path, content, most_bytes)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _LINE.search(str(error))
        where = f"{path}:{found.group(1)}" if found else path
        message = 'this is no TOML; every text stands in quotes (a bare NO is no word, "NO" is Norway)'
        raise LoadRefused(f"{message}: {str(error).partition(' (at')[0].lower()}", where=where) from None
    lines = tuple(text.splitlines())
    headers: dict[str, list[int]] = {}
    starts: list[int] = []
    for at, line in enumerate(lines):
        header = _header(line)
        if header is not None:
            headers.setdefault(header, []).append(at)
            starts.append(at)
    return TomlFile(path, lines, data, headers, starts)


def read_strict(file: TomlFile, data: dict[str, Any], shape: type[Read]) -> Read:
    """Return the data in its shape. Raises `LoadRefused` with the line of the first part that does not fit."""
    try:
        return shape.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        parts = [part for part in first["loc"] if not isinstance(part, str) or not part.startswith(("str", "list["))]
        names = [part for part in parts if isinstance(part, str)]
        index = next((part for part in parts if isinstance(part, int)), None)
        table = names[0] if names else ""
        key = names[-1] if len(names) > 1 else None
        where = file.where(table, index, key)
        raise LoadRefused(_mend(first["type"], ".".join(names), first["msg"]), where=where) from None


def _mend(kind: str, name: str, message: str) -> str:
    if kind == "extra_forbidden":
        return f"`{name}` is no key that is known here; correct or remove it"
    if kind == "missing":
        return f"`{name}` is missing; add it"
    if kind in ("string_type", "list_type", "dict_type", "bool_type", "int_type"):
        return f"`{name}` has the wrong type ({message.lower()}); texts and codes stand in quotes"
    return f"`{name}` is not accepted: {message.lower()}"
