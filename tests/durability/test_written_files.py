"""The disk fails while a bundle, an export or a key file is written: it is there whole, or it is not there.

What was said to be done is there after a loss of power as well, byte for byte. A refusal is one clear sentence, leaves
nothing of its own behind while the disk lets it clean up, and leaves an older file as it was.
"""

from __future__ import annotations

import errno
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.durability.exporting import ACTS, OLD, REPLACING, digest
from tests.durability.images import LOSSES, Disk, image
from tests.durability.journal import read_journal
from tests.durability.layer import run_on

Filled = Callable[[str], Path]
Found = list[dict[str, Any]]

KINDS = ("write", "fsync", "open", "link", "rename", "unlink")
ERRORS = (errno.EIO, errno.ENOSPC)
NEVER = 10**9


def run(folder: Path, database: Path, sites: list[list[Any]], journal: Path | None = None) -> Found:
    """Let the program work through sites in a fresh folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    listed = folder.with_name("sites")
    listed.write_text(json.dumps(sites))
    run_on(folder, "tests.durability.exporting", str(folder), str(database), str(listed), journal=journal)
    return [json.loads(line) for line in listed.with_name("sites.found").read_text().splitlines()]


def every_site(plain: Found) -> list[list[Any]]:
    """Return each operation of each act with each error, failing once or until mended."""
    return [
        [act, kind, skip, times, error]
        for act, found in zip(ACTS, plain, strict=True)
        for kind in KINDS
        for skip in range(found["operations"][kind])
        for error in ERRORS
        for times in (1, -1)
    ]


def wrong(site: list[Any], found: dict[str, Any], whole: dict[str, str]) -> str | None:
    """Return what is wrong with how a site ended, or `None`."""
    act, kind, _, times, _ = site
    older = {"target": digest("target", OLD)} if act in REPLACING else {}
    files = found["files"]
    if found["said"] == "done":
        return None if files == whole or (found["failed"] and files.items() >= whole.items()) else "done, and not whole"
    if not found["said"].startswith("refused: "):
        return "an error that is no refusal"
    named = {name: content for name, content in files.items() if name in whole}
    if any(content not in (whole[name], older.get(name)) for name, content in named.items()):
        return "refused, and a part of it has its name"
    cleaned = kind != "unlink" and times == 1
    left = set(files) - set(whole) - set(older)
    return f"refused, and {sorted(left)} is left" if cleaned and left else None


def check(folder: Path, database: Path, chance: random.Random, count: int | None) -> str:
    """Try so many sites, all without a number; return the figures."""
    plain = run(folder, database, [[act, "write", NEVER, 1, errno.EIO] for act in ACTS])
    assert [found["said"] for found in plain] == ["done"] * len(ACTS)
    whole = {act: found["files"] for act, found in zip(ACTS, plain, strict=True)}
    sites = every_site(plain)
    sites = sites if count is None else chance.sample(sites, count)
    journal = folder.with_name("journal")
    found = run(folder, database, sites, journal)
    bad = [
        (site, one["said"], problem)
        for site, one in zip(sites, found, strict=True)
        if (problem := wrong(site, one, whole[site[0]]))
    ]
    assert bad == []
    disk = Disk()
    for step in read_journal(journal):
        disk.follow([step])
        if step.kind == "M":
            number = int(step.data.decode().removeprefix("done "))
            left = image(disk, chance.choice(LOSSES), chance, f"{number}/")
            after = {name: digest(name, content) for name, content in left.items()}
            expected = found[number]["files"]
            named = {name: content for name, content in expected.items() if not name.startswith(".")}
            assert named.items() <= after.items(), sites[number]
    done = sum(one["said"] == "done" for one in found)
    return f"files written on a failing disk: {len(sites)} sites, {done} done and whole, {len(sites) - done} refused"


def test_a_file_is_whole_or_not_there(filled: Filled, tmp_path: Path) -> None:
    """At 120 places where writing can fail: done and whole, also after a loss of power, or refused and not there."""
    database = filled("database") / "engine.db"
    check(tmp_path.resolve() / "out", database, random.Random(4), 120)


@pytest.mark.nightly
def test_a_file_is_whole_or_not_there_everywhere(filled: Filled, tmp_path: Path, tell: Callable[[str], None]) -> None:
    """The same at every place."""
    database = filled("database") / "engine.db"
    tell(check(tmp_path.resolve() / "out", database, random.Random(5), None))
