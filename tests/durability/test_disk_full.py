"""The disk is full: allows stop at once, denies go on, and everything heals by itself when there is space again.

The same program runs on the fault disk, which needs no rights, and on a real volume of 4 MB where one can be mounted.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from policy_engine.ledger.encoding import parse_public
from policy_engine.services.keyfile import open_vault
from policy_engine.services.verify import verify
from policy_engine.store.sqlite import SqliteStore
from tests.durability.layer import ROOT, run_on

Filled = Callable[[str], Path]

STOP_SECONDS = 1.0
HEALED_SECONDS = 2.0


def check(folder: Path, rounds: int) -> str:
    """Compare what each round showed with what is promised; return the figures as a line."""
    found = [json.loads(line) for line in folder.with_name(f"{folder.name}.rounds").read_text().splitlines()]
    assert len(found) == rounds
    for one in found:
        assert one["last_allow_seconds"] < STOP_SECONDS
        assert one["denied"] + one["away"] > 10
        assert one["slowest_answer_seconds"] < 2.0
        assert 0 <= one["healed_seconds"] < HEALED_SECONDS
    vault = open_vault(folder / "engine.db.keys", database_is_empty=False, now=0)
    store = SqliteStore(folder / "engine.db", vault)
    try:
        entries = Counter(parse_public(public)["id"] for _, _, public in store.entries(limit=10_000_000))
        kinds = Counter(parse_public(public)["kind"] for _, _, public in store.entries(limit=10_000_000))
        with store.view() as view:
            assert verify(view, vault).findings == ()
    finally:
        store.close()
    allowed = [id for one in found for id in one["allowed"]]
    assert [id for id in allowed if entries[id] != 1] == []
    assert kinds["gap"] >= rounds
    healed = max(one["healed_seconds"] for one in found)
    last = max(one["last_allow_seconds"] for one in found)
    away = sum(one["away"] for one in found)
    return (
        f"disk full: {rounds} times, {away} denies without the log, the last allow {max(last, 0.0):.3f} s "
        f"after the first refusal, recorded again after at most {healed:.3f} s; "
        f"{len(allowed)} allows, each with its entry"
    )


@pytest.mark.parametrize("rounds", [1, pytest.param(10, marks=pytest.mark.nightly)])
def test_a_disk_that_takes_no_more(filled: Filled, rounds: int, tell: Callable[[str], None]) -> None:
    """With no byte more to be had, allows stop within a second, denies are answered, and space is all it takes."""
    folder = filled("full")
    run_on(folder, "tests.durability.filling", str(folder), str(rounds), "limited")
    line = check(folder, rounds)
    if rounds > 1:
        tell(line)


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A volume of four megabytes; only an administrator can mount one."""
    folder = (tmp_path / "volume").resolve()
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        missing = "mounting a small volume needs an administrator; the fault disk tests the same without one"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_real_volume_that_is_full(filled: Filled, volume: Path) -> None:
    """The same on a file system that is really full."""
    for path in filled("template").iterdir():
        shutil.copy(path, volume)
    command = [sys.executable, "-m", "tests.durability.filling", str(volume), "1", "real"]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, timeout=120)
    check(volume, 1)
