"""Exports as bundles for the separate verifier: which may be made, and putting one in place with its sheets.

Rules of the room: a bundle is a time of the whole log, for nothing can be left out of a proof: questions and keys that
are bounded to tenants are refused. A folder's hash is that of the lines `HASH  PATH` of its files, as `sha256sum`
writes them, in the order of the paths.
Left to others: what is in a bundle (`services.bundle`), who may open bodies (`unsealed`).
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from policy_engine.core.decision import Principal
from policy_engine.errors import Conflict, InputRefused, LoadRefused, NotPermitted
from policy_engine.services.bundleplace import put_folder, remove_aside, require_replaceable
from policy_engine.services.bundletexts import release_files
from policy_engine.services.exports.files import Pending, digest_of, part_of, whole_file
from policy_engine.services.exports.source import Asked
from policy_engine.services.permissions import is_local, require
from policy_engine.services.releases import ReleaseLoader
from policy_engine.store.interfaces import ReadStore

FOLDER_MODE = 0o700


def require_bundle(principal: Principal, asked: Asked) -> None:
    """Raise `NotPermitted` or `InputRefused` unless this caller may have a bundle of what is asked."""
    if not is_local(principal):
        require(principal, "audit:read")
    if principal.tenants is not None:
        raise NotPermitted("a bundle is of the whole log, and the caller's key is bounded to tenants")
    if not asked.is_range:
        raise InputRefused(
            "a bundle is of a time, not of what entries say; leave the question out, or give --since and --until",
            where="QUESTION",
        )


@contextmanager
def placed_bundle(place: Path, *, force: bool, beside: tuple[Path, ...]) -> Iterator[Pending]:
    """Offer a place for a bundle next to its own, and put it there when the block ends without an error.

    A folder stands in its place a moment before its sheets do: no single step moves all of them. Raises as
    `files.whole_file` does, before anything is done, and for a folder that is no bundle and would be replaced.
    """
    for taken in (place, *beside):
        if not force and taken.exists():
            raise Conflict(f"{taken} exists already; name another place, or say --force to replace it")
    if place.suffix == ".zip":
        with whole_file(place, force=force) as whole:
            pending = Pending(place, whole.part.with_name(f"{whole.part.name}.zip"))
            with _removed(pending.part):
                yield pending
                pending.part.replace(whole.part)
                whole.beside = pending.beside
        return
    require_replaceable(place)
    pending = Pending(place, part_of(place))
    with _removed(pending.part):
        pending.part.mkdir(mode=FOLDER_MODE)  # a place where nothing can be written uses no approval up
        pending.part.rmdir()
        yield pending
        aside = put_folder(pending.part, place, force=force)
        try:
            for path, content in pending.beside.items():
                with whole_file(path, force=force) as small:
                    small.part.write_bytes(content)
        finally:
            remove_aside(aside)


@contextmanager
def _removed(part: Path) -> Iterator[None]:
    """Take away what is left at a place, whatever stopped the work."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or "input or output error"
        raise InputRefused(f"cannot be written ({reason})", where=part.name) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
        with suppress(OSError):
            part.unlink(missing_ok=True)


def measured(place: Path) -> tuple[str, int]:
    """Return the hash and the size in bytes of a bundle, a file or a folder."""
    if place.is_file():
        return digest_of(place), place.stat().st_size
    whole, size = hashlib.sha256(), 0
    for path in sorted(place.rglob("*"), key=lambda path: path.relative_to(place).as_posix()):
        if path.is_file():
            whole.update(f"{digest_of(path)}  {path.relative_to(place).as_posix()}\n".encode())
            size += path.stat().st_size
    return whole.hexdigest(), size


def releases_of(store: ReadStore, loader: ReleaseLoader) -> dict[str, dict[str, bytes]]:
    """Return what the verifier's replay needs of every stored release that can be loaded."""
    found: dict[str, dict[str, bytes]] = {}
    for row in store.rows("releases"):
        with suppress(LoadRefused):
            found[row.id] = release_files(loader.stored(store, row.id))
    return found
