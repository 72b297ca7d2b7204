"""Where a bundle goes: which places may take one, what a folder must be to be replaced, and putting one there.

Rules of the room:
- A folder is replaced only when it is a bundle: its manifest says so, and nothing stands in it that no bundle has.
  Whoever names the wrong folder with `--force` loses nothing.
- The old one is moved aside, looked at there, where nobody adds to it any more, and taken away when the new one stands.
Left to others: what is in a bundle (`bundle`), single files and proof sheets (`exports.files`).
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Final

import orjson

from policy_engine.core.plain import POLICY_FILE
from policy_engine.errors import InputRefused
from policy_engine.rules.release import MODEL_FILE
from policy_engine.services.exports.files import sync

FORMAT: Final = "policy-engine-bundle/v1"
MANIFEST: Final = "manifest.json"
LISTED: Final = "files.json"
"""The list of a release's files in an unsealed bundle."""

MANIFEST_BYTES: Final = 64 * 1024 * 1024
"""A longer one is none of ours; it names the logs, and the ranges of entries shown of each."""

_RELEASED: Final = "|".join(map(re.escape, (LISTED, MODEL_FILE, POLICY_FILE)))
_MEMBER: Final = re.compile(
    rf"checkpoint|{re.escape(MANIFEST)}|leaves\.jsonl|hashes/(?:leaves|[0-9a-f]{{16}})"
    rf"|(?:entries|sealed|bodies)/[0-9a-f]{{16}}\.jsonl|blobs/[0-9a-f]{{64}}|releases/[0-9a-f]{{64}}/(?:{_RELEASED})"
)
_FOLDER: Final = re.compile(r"hashes|entries|sealed|bodies|blobs|releases(?:/[0-9a-f]{64})?")


def require_name(place: Path) -> None:
    """Raise `InputRefused` for a place without a name of its own, such as `.` or `/`: nothing can stand beside it."""
    if place.name in ("", ".", ".."):
        raise InputRefused("names no place for a bundle; give the name of a .zip or of a folder", where=str(place))


def require_replaceable(place: Path) -> None:
    """Raise `InputRefused` unless a folder may be put at a place: nothing is there, or a bundle."""
    if not os.path.lexists(place):
        return
    if place.is_symlink() or not place.is_dir():
        raise InputRefused("is no folder, and a bundle is one unless its name ends in .zip", where=str(place))
    _require_bundle(place, str(place))


def put_folder(part: Path, place: Path, *, force: bool) -> Path | None:
    """Give a whole bundle its place, and return where the one lies that was there; `remove_aside` takes that away.

    Raises `InputRefused` when what is there is no bundle, and `OSError`; what was there is in its place again then.
    """
    aside = part.with_suffix(".old") if force and os.path.lexists(place) else None
    stands = False
    if aside is not None:
        place.rename(aside)
    try:
        if aside is not None:
            _require_bundle(aside, str(place))
        part.rename(place)
        stands = True
        sync(place.parent)
    except BaseException:
        if stands:
            place.rename(part)
        if aside is not None:
            aside.rename(place)
        raise
    return aside


def remove_aside(aside: Path | None) -> None:
    """Take away what a new bundle replaced. Raises `InputRefused` when it stays; the new one stands all the same."""
    try:
        if aside is not None:
            shutil.rmtree(aside)
    except OSError as error:
        reason = error.strerror or "input or output error"
        raise InputRefused(
            f"is what the new bundle replaced, and cannot be removed ({reason}); take it away", where=str(aside)
        ) from None


def _require_bundle(folder: Path, where: str) -> None:
    """Raise `InputRefused` unless a folder is a bundle and holds nothing else. `where` is how it is called."""
    if folder.is_symlink() or not _says_bundle(folder / MANIFEST):
        raise InputRefused("is no bundle, and only a bundle is replaced by one; name another place", where=where)
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        pattern = _FOLDER if path.is_dir() else _MEMBER
        if path.is_symlink() or pattern.fullmatch(name) is None:
            raise InputRefused(
                "holds something that no bundle has, and would be replaced with all that is in it; name another place",
                where=where,
            )


def _says_bundle(manifest: Path) -> bool:
    """Return whether a file is the manifest of a bundle."""
    try:
        if manifest.is_symlink() or not manifest.is_file() or manifest.stat().st_size > MANIFEST_BYTES:
            return False
        members = orjson.loads(manifest.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(members, dict) and members.get("format") == FORMAT
