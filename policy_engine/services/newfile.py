"""Writing a secret file so that a crash leaves either none or all of it, and two starts agree on one.

Rules: mode 0600 from the first byte; the file and its folder are synced before anybody relies on it. Left to others:
what the file says (`keyfile`, `logkey`).
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from policy_engine.errors import StartRefused


def write_once(path: Path, text: str, where: str) -> None:
    """Write a new file. When another start was first, its file counts. Raises `StartRefused` when it cannot be."""
    try:
        with _draft(path, text) as draft, suppress(FileExistsError):
            os.link(draft, path)
        _sync_folder(path)
    except OSError:
        raise _refused(where) from None


def replace(path: Path, text: str, where: str) -> None:
    """Write a file in the place of another. Raises `StartRefused` when it cannot be; the old one is whole then."""
    try:
        with _draft(path, text) as draft:
            draft.replace(path)
        _sync_folder(path)
    except OSError:
        raise _refused(where) from None


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Let one process at a time change files in the folder of a path."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


@contextmanager
def _draft(path: Path, text: str) -> Iterator[Path]:
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def _sync_folder(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _refused(where: str) -> StartRefused:
    return StartRefused(f"the {where} cannot be written; check the folder and its space", where=where)
