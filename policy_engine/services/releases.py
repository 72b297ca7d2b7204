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
from policy_engine.rules.release import digests_of
from policy_engine.rules.sources import hash_of
from policy_engine.store.registerinterfaces import RegisterReader

CATALOGUE_FILE = "models.toml"
_KEPT_RELEASES_COUNT = 8
Kept = TypeVar("Kept")


class ReleaseLoader:
    """Loads releases and keeps the last few compiled; safe to share between engines of one process.

    A release is built from one loaded before it, as far as they agree. Compiled rules are kept apart, so that many
    catalogues over a few sets of rules compile each set once.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[str, AnyRelease] = OrderedDict()
        self._compiled: OrderedDict[str, Release] = OrderedDict()
        self._last: AnyRelease | None = None
        self._lock = Lock()

    def load(self, files: Mapping[str, bytes]) -> AnyRelease:
        """Return the compiled release of these files. Raises `LoadRefused` with file, line and a fix."""
        with self._lock:
            release = load_release(files, previous=self._nearest(files))
            self._last = release
            _keep(self._kept, release.hash, release)
            if isinstance(release, Release):
                _keep(self._compiled, _rules_hash(release), release)
            return release

    def _nearest(self, files: Mapping[str, bytes]) -> AnyRelease | None:
        """Return the release to build from: one that differs in the catalogue alone, else the one loaded last."""
        if is_plain(files):
            return self._last
        same = (release for release in reversed(self._compiled.values()) if _same_rules(release.files, files))
        return next(same, self._last)

    def stored(self, store: RegisterReader, hash: str) -> AnyRelease:
        """Return the release with this hash from memory or from the store.

        Raises `LoadRefused` when the store lacks it or holds content that does not hash to its name.
        """
        kept = self._kept.get(hash)
        if kept is not None:
            return kept
        last = self._last
        known = {} if last is None else {digest: last.files[path] for path, digest in digests_of(last).items()}
        return self._checked(self.load(read_files(store, hash, known)), hash)

    @staticmethod
    def _checked(release: AnyRelease, hash: str) -> AnyRelease:
        if release.hash != hash:
            raise LoadRefused("the stored content does not hash to its name; restore it from a copy", where=hash)
        return release


def _rules_hash(release: Release) -> str:
    """Return what names a release's files without the catalogue."""
    return hash_of({path: digest for path, digest in digests_of(release).items() if path != CATALOGUE_FILE})


def _same_rules(held: Mapping[str, bytes], files: Mapping[str, bytes]) -> bool:
    """Return whether two releases' files differ in nothing but the catalogue."""
    return held.keys() == files.keys() and all(
        content == files[path] for path, content in held.items() if path != CATALOGUE_FILE
    )


def _keep(kept: OrderedDict[str, Kept], key: str, release: Kept) -> None:
    kept[key] = release
    kept.move_to_end(key)
    while len(kept) > _KEPT_RELEASES_COUNT:
        kept.popitem(last=False)


def read_files(store: RegisterReader, hash: str, known: Mapping[str, bytes] | None = None) -> dict[str, bytes]:
    """Return the files of a stored release; content that is `known` by its hex SHA-256 is not read from the store.

    Raises `LoadRefused` when a part of it is missing.
    """
    row = store.row("releases", hash)
    if row is None:
        raise LoadRefused("no such release is stored; publish it first", where=hash)
    files: dict[str, bytes] = {}
    for path, digest in row.document["files"]:
        content = (known or {}).get(digest)
        if content is None:
            content = store.blob(digest)
        if content is None:
            raise LoadRefused("a file of the release is missing from the store; publish it again", where=path)
        files[path] = content
    return files
