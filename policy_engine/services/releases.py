"""Compiled releases by hash: loaded from the store's blobs, compiled once, shared where only the catalogue differs.

Left to others: what a release is (`rules`), publishing one (`services.publish`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from threading import Lock
from typing import TypeVar

from policy_engine.core.plain import AnyRelease
from policy_engine.core.release import Release
from policy_engine.errors import LoadRefused
from policy_engine.rules.folder import is_plain, load_release
from policy_engine.rules.release import with_catalogue
from policy_engine.rules.sources import release_hash
from policy_engine.store.interfaces import ReadStore

CATALOGUE_FILE = "models.toml"
_KEPT_RELEASES_COUNT = 8
Kept = TypeVar("Kept")


class ReleaseLoader:
    """Loads releases and keeps the last few compiled; safe to share between engines of one process.

    Compiled rules are kept apart, so that many catalogues over a few sets of rules compile each set once. A plain
    Casbin folder is built from the one loaded before it, as far as they agree.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[str, AnyRelease] = OrderedDict()
        self._compiled: OrderedDict[str, Release] = OrderedDict()
        self._last: AnyRelease | None = None
        self._lock = Lock()

    def load(self, files: Mapping[str, bytes]) -> AnyRelease:
        """Return the compiled release of these files. Raises `LoadRefused` with file, line and a fix."""
        with self._lock:
            release = load_release(files, previous=self._last) if is_plain(files) else self._packed(files)
            self._last = release
            _keep(self._kept, release.hash, release)
            return release

    def _packed(self, files: Mapping[str, bytes]) -> AnyRelease:
        rules = release_hash({path: content for path, content in files.items() if path != CATALOGUE_FILE})
        compiled = self._compiled.get(rules)
        if compiled is None or CATALOGUE_FILE not in files:
            release = load_release(files)
        elif compiled.files[CATALOGUE_FILE] == files[CATALOGUE_FILE]:
            release = compiled
        else:
            release = with_catalogue(compiled, files)
        if isinstance(release, Release):
            _keep(self._compiled, rules, release)
        return release

    def stored(self, store: ReadStore, hash: str) -> AnyRelease:
        """Return the release with this hash from memory or from the store.

        Raises `LoadRefused` when the store lacks it or holds content that does not hash to its name.
        """
        kept = self._kept.get(hash)
        return kept if kept is not None else self._checked(self.load(read_files(store, hash)), hash)

    @staticmethod
    def _checked(release: AnyRelease, hash: str) -> AnyRelease:
        if release.hash != hash:
            raise LoadRefused("the stored content does not hash to its name; restore it from a copy", where=hash)
        return release


def _keep(kept: OrderedDict[str, Kept], key: str, release: Kept) -> None:
    kept[key] = release
    kept.move_to_end(key)
    while len(kept) > _KEPT_RELEASES_COUNT:
        kept.popitem(last=False)


def read_files(store: ReadStore, hash: str) -> dict[str, bytes]:
    """Return the files of a stored release. Raises `LoadRefused` when a part of it is missing."""
    row = store.row("releases", hash)
    if row is None:
        raise LoadRefused("no such release is stored; publish it first", where=hash)
    files: dict[str, bytes] = {}
    for path, digest in row.document["files"]:
        content = store.blob(digest)
        if content is None:
            raise LoadRefused("a file of the release is missing from the store; publish it again", where=path)
        files[path] = content
    return files
