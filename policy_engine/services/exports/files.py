"""Whole files or none: written beside their place, synced, and put there in one step.

Rules of the room:
- A file that exists is not touched unless the caller says so; that is checked before the work and again at the end,
  where a link, which never replaces anything, does it. What is there and no file (a device, a pipe) is never replaced.
- What is not finished is taken away again, whatever stopped it. What a power cut leaves is called `.NAME.….part`.
- Files are readable by their owner alone: what is in them may be personal.
- The proof sheets are put down before the file they speak of, so that a file that is there has its sheets.
Left to others: what is in the files.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from policy_engine.errors import Conflict, InputRefused

MODE = 0o600


@dataclass(slots=True)
class Pending:
    """Files under way: `part` is where the content of `place` is written; `beside` are small ones that go with it."""

    place: Path
    part: Path
    beside: dict[Path, bytes] = field(default_factory=dict)


@contextmanager
def whole_file(place: Path, *, force: bool) -> Iterator[Pending]:
    """Offer a place to write to, and put what was written at `place` when the block ends without an error.

    Raises `Conflict` when `place` exists and `force` is false, `InputRefused` when its folder cannot be written.
    """
    _refuse_existing(place, force)
    pending = Pending(place, part_of(place))
    laid: list[Path] = []
    try:
        _create(pending.part)
        yield pending
        sync(pending.part)
        for beside, content in pending.beside.items():
            _write_small(beside, content, force=force)
            laid.append(beside)
        _put(pending.part, place, force)
        laid.append(place)
        sync(place.parent)
        laid.clear()
    except OSError as error:
        reason = error.strerror or "input or output error"
        raise InputRefused(f"cannot be written ({reason})", where=str(place)) from None
    finally:
        for left in (pending.part, *laid):
            with suppress(OSError):
                left.unlink(missing_ok=True)


def digest_of(path: Path) -> str:
    """Return the hex SHA-256 of a file as it lies there."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refuse_existing(place: Path, force: bool) -> None:
    if str(place) == "-":
        raise InputRefused("means standard output elsewhere, and here a file with its proof sheet; name it", where="-")
    if place.is_dir():
        raise InputRefused("is a folder; name a file in it", where=str(place))
    if place.exists() and not place.is_file():
        raise InputRefused("is a device or a pipe, which a file would take the place of; name a file", where=str(place))
    if not force and place.exists():
        raise Conflict(f"{place} exists already; name another file, or say --force to replace it")


def part_of(place: Path) -> Path:
    """Return a name beside a place, for what is under way to it."""
    return place.with_name(f".{place.name}.{secrets.token_hex(4)}.part")


def _create(part: Path) -> None:
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, MODE))


def _write_small(place: Path, content: bytes, *, force: bool) -> None:
    part = part_of(place)
    try:
        _create(part)
        part.write_bytes(content)
        sync(part)
        _put(part, place, force)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Make a file's content, or the names in a folder, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _put(part: Path, place: Path, force: bool) -> None:
    """Give what is in `part` the name `place`: in one step, and over nothing unless `force` says so."""
    if force:
        _refuse_existing(place, force)
        part.replace(place)
        return
    try:
        os.link(part, place)
    except FileExistsError:
        raise Conflict(f"{place} exists already; it came while this was written, and was not touched") from None
    except OSError:  # a file system without links
        _refuse_existing(place, force)
        part.rename(place)
