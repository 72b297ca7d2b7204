"""Which kind of release a folder or a set of files is: packs, or a plain Casbin folder. Chosen here for the whole room.

Rules of the room: with `policy.csv` and without packs it is a plain folder; everything else is held to be packs, and
refused as such. Left to others: reading each kind (`rules.release`, `rules.plain`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from policy_engine.core.plain import POLICY_FILE, AnyRelease, PlainRelease
from policy_engine.core.release import Release
from policy_engine.errors import InputRefused, LoadRefused
from policy_engine.limits import LIMITS, Limits
from policy_engine.rules import release as packed
from policy_engine.rules.facets import PATH as FACETS_FILE
from policy_engine.rules.packs import FOLDER as PACKS
from policy_engine.rules.plain import load_plain, read_plain_folder
from policy_engine.rules.plainmodel import MODEL_FILE


def is_plain(files: Mapping[str, bytes]) -> bool:
    """Return whether files are those of a plain Casbin folder."""
    return POLICY_FILE in files and not _packed(files)


def _packed(files: Mapping[str, bytes]) -> bool:
    return any(path.startswith(PACKS) for path in files)


def read_folder(path: Path | str) -> dict[str, bytes]:
    """Return the files of a policies folder that make its release, of either kind.

    Raises `LoadRefused`, also for a folder that this process may not look into.
    """
    root = Path(path)
    with readable(root):
        # A link to packs that leads nowhere makes no plain folder: that would consult no person and no directive.
        if (root / POLICY_FILE).exists() and not os.path.lexists(root / PACKS):
            return read_plain_folder(root)
        return packed.read_folder(root)


@contextmanager
def readable(root: Path) -> Iterator[None]:
    """Turn what the system refuses while a policies folder is looked at into `LoadRefused`."""
    try:
        yield
    except OSError as error:
        closed = str(error.filename or root) if os.access(root, os.X_OK) else str(root)
        message = f"the folder cannot be read ({type(error).__name__}); check it and its rights"
        raise LoadRefused(message, where=closed) from None


def load_release(
    files: Mapping[str, bytes], *, previous: AnyRelease | None = None, limits: Limits = LIMITS
) -> AnyRelease:
    """Return the release that files make. Raises `LoadRefused` with file, line and a fix.

    `previous` is a release that the new one may be built from, where they differ little.
    """
    if MODEL_FILE in files and FACETS_FILE not in files and POLICY_FILE not in files and not _packed(files):
        message = "there are no rules: add policy.csv, which makes this a plain Casbin folder, or packs/"
        raise LoadRefused(message, where=POLICY_FILE)
    if is_plain(files):
        return load_plain(files, previous=previous if isinstance(previous, PlainRelease) else None, limits=limits)
    return packed.load_release(files, previous=previous if isinstance(previous, Release) else None, limits=limits)


def require_packs(files: Mapping[str, bytes], what: str) -> None:
    """Raise `InputRefused` where something needs packs and the folder is a plain Casbin folder."""
    if is_plain(files):
        message = "need packs: they lay persons, tenants and orders, which a plain Casbin folder does not consult"
        raise InputRefused(f"{what} {message}", where=POLICY_FILE)
