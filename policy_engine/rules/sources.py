"""Text as it stands in a release's files: reading it strictly, and saying in which line a thing stands.

Rules of the room: nothing is guessed. A bare word, a date or a number where a text belongs is refused with the line
and the way to mend it; what is not UTF-8 or too long is refused before it is parsed.
A file's size is asked for before it is read. Left to others: what the text means.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from policy_engine.core.tomltext import NotToml, loads_toml
from policy_engine.errors import LoadRefused

_HEADER = re.compile(r"^\s*\[\[?\s*+([A-Za-z0-9_.\"' -]*[A-Za-z0-9_.\"'-])\s*\]\]?\s*(#.*)?$")


class Strict(BaseModel):
    """Base of what is read from files: no unknown key, nothing converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


Read = TypeVar("Read", bound=Strict)


def release_hash(files: Mapping[str, bytes]) -> str:
    """Return `sha256:…` over the canonical JSON of the sorted paths with the hashes of their content."""
    return hash_of(digests(files))


def digests(files: Mapping[str, bytes]) -> dict[str, str]:
    """Return the hex SHA-256 of each file."""
    return {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}


def hash_of(hashes: Mapping[str, str]) -> str:
    """Return the hash of the release whose files have these digests."""
    text = json.dumps(sorted(hashes.items()), ensure_ascii=False, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def read_within(file: Path, name: str, most_bytes: int) -> bytes:
    """Return the content of a file. Raises `LoadRefused`, before reading, for one that is too large or no file."""
    try:
        found = file.stat()
        if not stat.S_ISREG(found.st_mode):
            raise LoadRefused("this is no ordinary file; put one in its place", where=name)
        if found.st_size > most_bytes:
            raise LoadRefused(f"the file is longer than {most_bytes} bytes; split it", where=name)
        with file.open("rb") as opened:
            return opened.read(most_bytes + 1)  # one more than may be, so that a file that grew meanwhile is refused
    except OSError as error:
        message = f"the file cannot be read ({type(error).__name__}); check it and its rights"
        raise LoadRefused(message, where=name) from None


def decode(path: str, content: bytes, most_bytes: int) -> str:
    """Return the text of a file. Raises `LoadRefused` when it is too long, not UTF-8 or begins with an order mark."""
    if len(content) > most_bytes:
        raise LoadRefused(f"the file is longer than {most_bytes} bytes; split it", where=path)
    if content.startswith(codecs.BOM_UTF8):
        message = "the file begins with a byte order mark, which would be read as text; save it as UTF-8 without one"
        raise LoadRefused(message, where=f"{path}:1")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise LoadRefused("the line is not UTF-8; save the file as UTF-8", where=f"{path}:{line}") from None


class TomlFile:
    """A parsed TOML file that remembers its lines. Where a key stands is searched for when it is asked."""

    __slots__ = ("_spans", "data", "lines", "path")

    def __init__(self, path: str, text: str, data: dict[str, Any]) -> None:
        self.path = path
        self.lines = tuple(text.splitlines())
        self.data = data
        headers = [
            (at, name)
            for at, line in enumerate(self.lines)
            if "[" in line and line.lstrip().startswith("[") and (name := _header(line)) is not None
        ]
        ends = [at for at, _ in headers[1:]] + [len(self.lines)]
        self._spans: dict[str, list[tuple[int, int]]] = {}
        for (start, name), end in zip(headers, ends, strict=False):
            self._spans.setdefault(name, []).append((start, end))

    def line(self, table: str, index: int | None = None, key: str | None = None, *, after: str | None = None) -> int:
        """Return the line (from 1) of a table, of the `index`-th of its kind, or of a key in it, `after` another."""
        if key is not None and f"{table}.{key}" in self._spans:
            return self._spans[f"{table}.{key}"][0][0] + 1
        spans = self._spans.get(table, [])
        place = index or 0
        start, end = spans[place] if place < len(spans) else (0, len(self.lines))
        if key is None:
            return start + 1
        pattern = re.compile(rf"(^|[\s{{,])[\"']?{re.escape(key)}[\"']?\s*=")
        first = start if after is None else self.line(table, index, after) - 1
        return next((at + 1 for at in range(first, end) if pattern.search(self.lines[at])), first + 1)

    def where(self, table: str, index: int | None = None, key: str | None = None, *, after: str | None = None) -> str:
        """Return `file:line` of a table or key."""
        return f"{self.path}:{self.line(table, index, key, after=after)}"


def _header(line: str) -> str | None:
    match = _HEADER.match(line)
    return None if match is None else match.group(1)


def read_toml(path: str, content: bytes, most_bytes: int) -> TomlFile:
    """Return the parsed file. Raises `LoadRefused` with the line of what is no TOML."""
    text = decode(path, content, most_bytes)
    try:
        data = loads_toml(text)
    except NotToml as error:
        where = f"{path}:{error.line or len(text.splitlines()) or 1}"  # no line: at the end
        message = 'this is no TOML; every text stands in quotes (a bare NO is no word, "NO" is Norway)'
        raise LoadRefused(f"{message}: {error}", where=where) from None
    return TomlFile(path, text, data)


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
        where = file.where(table, index, key, after=names[1] if len(names) > 2 else None)
        raise LoadRefused(_mend(first["type"], ".".join(names), first["msg"]), where=where) from None


def _mend(kind: str, name: str, message: str) -> str:
    if kind == "extra_forbidden":
        return f"`{name}` is no key that is known here; correct or remove it"
    if kind == "missing":
        return f"`{name}` is missing; add it"
    if kind == "model_type":
        return f"`{name}` is no table of names and values; write it as {{ name = value }}"
    if kind in ("string_type", "list_type", "dict_type", "bool_type", "int_type"):
        return f"`{name}` has the wrong type ({message.lower()}); texts and codes stand in quotes"
    return f"`{name}` is not accepted: {message.lower()}"
