"""The program whose disk fails while it writes files that others rely on: bundles, exports, key files.

`python -m tests.durability.exporting FOLDER DATABASE SITES` reads a JSON list of `[act, kind, skip, times, errno]`,
does each act in `FOLDER/n` with its fault, and writes one JSON object each to `SITES.found`. When an act said that it
was done it marks the journal with `done n`. The database lies outside the fault disk: only what is written is tried.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from policy_engine.errors import PolicyEngineError
from policy_engine.services.bundle import write_bundle
from policy_engine.services.exports.files import whole_file
from policy_engine.services.keyfile import open_vault
from policy_engine.services.newfile import replace, write_once
from policy_engine.store.sqlite import SqliteStore
from tests.durability.layer import Disk, Fault

CONTENT = bytes(range(256)) * 40
NAME = "target"

Act = Callable[[SqliteStore, Path], None]


def bundle(store: SqliteStore, folder: Path) -> None:
    """Write a bundle as a folder."""
    with store.view() as view:
        write_bundle(view, folder / NAME)


def packed(store: SqliteStore, folder: Path) -> None:
    """Write a bundle as a .zip."""
    with store.view() as view:
        write_bundle(view, folder / f"{NAME}.zip")


def file(store: SqliteStore, folder: Path) -> None:
    """Write an export with a sheet beside it."""
    with whole_file(folder / NAME, force=False) as pending:
        pending.beside[folder / f"{NAME}.sheet"] = CONTENT
        pending.part.write_bytes(CONTENT)


def over(store: SqliteStore, folder: Path) -> None:
    """Write an export over an older one."""
    with whole_file(folder / NAME, force=True) as pending:
        pending.part.write_bytes(CONTENT)


def key(store: SqliteStore, folder: Path) -> None:
    """Write a key file."""
    write_once(folder / NAME, CONTENT.hex(), "key file")


def rewritten(store: SqliteStore, folder: Path) -> None:
    """Write a key file in the place of another."""
    replace(folder / NAME, CONTENT.hex(), "key file")


ACTS: dict[str, Act] = {act.__name__: act for act in (bundle, packed, file, over, key, rewritten)}
REPLACING = ("over", "rewritten")
OLD = b"the older one"


def digests(folder: Path) -> dict[str, str]:
    """Return the files below a folder with a digest of each."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): digest(path.name, path.read_bytes()) for path in files}


def digest(name: str, content: bytes) -> str:
    """Return the digest of a file; of a .zip that of its members, for it also holds the times when they were made."""
    if not name.endswith(".zip"):
        return hashlib.sha256(content).hexdigest()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [(member, archive.read(member)) for member in sorted(archive.namelist())]
    except zipfile.BadZipFile:
        return "no whole archive"
    return hashlib.sha256(repr(members).encode()).hexdigest()


def try_site(disk: Disk, store: SqliteStore, folder: Path, number: int, site: list[Any]) -> dict[str, Any]:
    """Do one act with one fault; return what was said and what is there."""
    act, kind, skip, times, error = site
    folder.mkdir()
    if act in REPLACING:
        (folder / NAME).write_bytes(OLD)
        for path in (folder / NAME, folder, folder.parent):
            handle = os.open(path, os.O_RDONLY)
            os.fsync(handle)
            os.close(handle)
    before = dict(disk.counted())
    disk.arm(Fault((kind,), "", error, skip=skip, times=times))
    said = "done"
    try:
        ACTS[act](store, folder)
        disk.mark(f"done {number}")
    except PolicyEngineError as refusal:
        said = f"refused: {refusal}"
    except Exception as problem:  # noqa: BLE001  whatever it is, the test reports it with its site
        said = f"{type(problem).__name__}: {problem}"
    counted = {kind: count - before[kind] for kind, count in disk.counted().items()}
    return {"said": said, "failed": disk.mend(), "operations": counted, "files": digests(folder)}


def main(folder: Path, database: Path, sites: Path) -> None:
    """Work through the sites."""
    disk = Disk()
    store = SqliteStore(database, open_vault(Path(f"{database}.keys"), database_is_empty=False, now=0))
    with sites.with_name(f"{sites.name}.found").open("w") as output:
        for number, site in enumerate(json.loads(sites.read_text())):
            output.write(json.dumps(try_site(disk, store, folder / str(number), number, site)) + "\n")
    store.close()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
