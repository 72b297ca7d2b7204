"""Compiled releases by hash: loaded from the store's blobs, compiled once, shared where only the catalogue differs.

Left to others: what a release is (`rules.release`), publishing one (`services.publish`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from threading import Lock

from policy_engine.core.release import Release
from policy_engine.errors import LoadRefused
from policy_engine.rules.release import load_release, release_hash, with_catalogue
from policy_engine.store.interfaces import ReadStore

CATALOGUE_FILE = "models.toml"
_KEPT_RELEASES_COUNT = 8


class ReleaseLoader:
    """Loads releases and keeps the last few compiled; safe to share between engines of one process.

    Compiled rules are kept apart, so that many catalogues over a few sets of rules compile each set once.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Release] = OrderedDict()
        self._compiled: OrderedDict[str, Release] = OrderedDict()
        self._lock = Lock()

    def load(self, files: Mapping[str, bytes]) -> Release:
        """Return the compiled release of these files. Raises `LoadRefused` with file, line and a fix."""
        with self._lock:
            rules = release_hash({path: content for path, content in files.items() if path != CATALOGUE_FILE})
            compiled = self._compiled.get(rules)
            if compiled is None or CATALOGUE_FILE not in files:
                release = load_release(files)
            elif compiled.files[CATALOGUE_FILE] == files[CATALOGUE_FILE]:
                release = compiled
            else:
                release = with_catalogue(compiled, files)
            _keep(self._compiled, rules, release)
            _keep(self._kept, release.hash, release)
            return release

    def stored(self, store: ReadStore, hash: str) -> Release:
        """Return the release with this hash from memory or from the store.

        Raises `LoadRefused` when the store lacks it or holds content that does not hash to its name.
        """
        kept = self._kept.get(hash)
        return kept if kept is not None else self._checked(self.load(read_files(store, hash)), hash)

    @staticmethod
    def _checked(release: Release, hash: str) -> Release:
        if release.hash != hash:
            raise LoadRefused("the stored content does not hash to its name; restore it from a copy", where=hash)
        return release


def _keep(kept: OrderedDict[str, Release], key: str, release: Release) -> None:
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
