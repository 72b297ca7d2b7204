"""The fault disk itself: what it notes is what happened, and what it lets survive is what a disk may keep.

A layer that kept too much would prove nothing about the engine; one that kept too little would accuse it wrongly.
"""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.durability.images import LOSSES, Disk, File, image, put
from tests.durability.journal import Step, read_journal
from tests.durability.layer import run_on

WAYS = {way.name: way for way in LOSSES}
CHANCE = random.Random(1)


def disk(*steps: tuple[str, int, bytes]) -> Disk:
    """Return a disk with one file `a`, number 1, after some steps on it."""
    made = Disk()
    made.follow([Step("C", 1, 0, b"a"), Step("D", 9, 0, b"")])
    made.follow([Step(kind, 1, offset, data) for kind, offset, data in steps])
    return made


def left(made: Disk, way: str) -> bytes | None:
    """Return what a loss leaves of the file."""
    return image(made, WAYS[way], random.Random(3)).get("a")


def test_what_was_synced_survives_and_nothing_else_must() -> None:
    """Bytes before an fsync are there after every loss; the ones behind it are gone when nothing arrived."""
    made = disk(("W", 0, b"kept"), ("S", 0, b"a"), ("W", 4, b"lost"))
    assert left(made, "drop") == b"kept"
    assert left(made, "keep") == b"keptlost"
    for way in WAYS:
        assert (left(made, way) or b"")[:4] == b"kept"


def test_a_cut_and_a_hole() -> None:
    """A file cut and not synced has its old length; one written behind its end is zeros in between."""
    assert left(disk(("W", 0, b"12345"), ("S", 0, b"a"), ("T", 2, b"")), "drop") == b"12345"
    assert left(disk(("W", 0, b"12345"), ("T", 2, b""), ("S", 0, b"a")), "drop") == b"12"
    assert left(disk(("W", 3, b"x"), ("S", 0, b"a")), "drop") == b"\0\0\0x"


def test_a_name_needs_the_sync_of_its_folder() -> None:
    """A new file whose folder was not synced may be gone, whatever was written to it; so may a name taken away."""
    made = Disk()
    made.follow([Step("C", 1, 0, b"a"), Step("W", 1, 0, b"x"), Step("S", 1, 0, b"a")])
    assert image(made, WAYS["drop"], CHANCE) == {}
    assert image(made, WAYS["keep"], CHANCE) == {"a": b"x"}
    made.follow([Step("D", 9, 0, b""), Step("U", 1, 0, b"a")])
    assert image(made, WAYS["drop"], CHANCE) == {"a": b"x"}
    assert image(made, WAYS["keep"], CHANCE) == {}


def test_a_name_in_another_folder_is_not_synced() -> None:
    """Syncing one folder makes no names of another durable."""
    made = Disk()
    made.follow([Step("C", 1, 0, b"b/a"), Step("D", 9, 0, b"")])
    assert image(made, WAYS["drop"], CHANCE) == {}
    made.follow([Step("D", 8, 0, b"b")])
    assert image(made, WAYS["drop"], CHANCE) == {"b/a": b""}


def test_a_name_moved_between_folders() -> None:
    """Synced where it went, a file is there under its new name; its old one goes with the sync of the old folder."""
    made = Disk()
    made.follow([Step("C", 1, 0, b"b/a"), Step("D", 8, 0, b"b"), Step("R", 1, 0, b"b/a\0a"), Step("D", 9, 0, b"")])
    assert set(image(made, WAYS["drop"], CHANCE)) == {"a", "b/a"}
    assert set(image(made, WAYS["keep"], CHANCE)) == {"a"}


def test_what_a_failed_sync_left_is_not_written_by_the_next() -> None:
    """After an fsync that failed, only pages written again are made durable."""
    page = b"p" * 4096
    made = disk(("W", 0, page), ("W", 4096, page), ("s", 0, b"a"), ("S", 0, b"a"))
    assert left(made, "keep") == b""
    made.follow([Step("W", 1, 5, b"!"), Step("S", 1, 0, b"a")])
    assert left(made, "drop") == b"ppppp!" + page[6:]


def test_a_torn_write_keeps_whole_sectors() -> None:
    """A write that is torn keeps a beginning of whole sectors."""
    made = disk(("W", 0, bytes(range(256)) * 32))
    lengths = {len(image(made, WAYS["tear"], random.Random(n)).get("a", b"")) for n in range(100)}
    assert all(length % 512 == 0 for length in lengths)
    assert len(lengths) > 5


def test_sectors_come_in_any_order() -> None:
    """Of two writes to one place the older may be the one that stays."""
    made = disk(("W", 0, b"o" * 512), ("W", 0, b"n" * 512))
    found = {image(made, WAYS["shuffle"], random.Random(n)).get("a", b"")[:1] for n in range(60)}
    assert found == {b"", b"o", b"n"}


WRITES = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 9_000), st.binary(min_size=1, max_size=3_000)),
        st.tuples(st.integers(0, 9_000), st.none()),
    ),
    max_size=8,
)


@given(WRITES, WRITES, st.integers())
def test_every_loss_of_a_file_is_made_of_its_writes(synced: list, pending: list, seed: int) -> None:
    """Whatever survives, each byte is the durable one, zero, or one that a pending write put there."""
    file = File()
    for writes in (synced, pending):
        for offset, data in writes:
            file.cut(offset) if data is None else file.write(offset, data)
        if writes is synced:
            file.sync()
    for way in LOSSES:
        content = bytearray(file.durable)
        for write in way.keeps(random.Random(seed), file.pending):
            put(content, write)
        for at, byte in enumerate(content):
            durable = file.durable[at : at + 1]
            written = {data[at - offset] for offset, data in pending if data and offset <= at < offset + len(data)}
            assert byte in {0, *durable, *written}


def test_the_journal_says_what_happened(tmp_path: Path) -> None:
    """Replaying every step gives, byte for byte, the files that the program left: nothing went past the disk."""
    folder, journal = (tmp_path / "disk").resolve(), tmp_path / "journal"
    folder.mkdir()
    (folder / "old").write_bytes(b"old")
    before = Disk.of(folder)
    run_on(folder, "tests.durability.scribbling", str(folder), "0", journal=journal)
    before.follow(read_journal(journal))
    left = [path for path in folder.rglob("*") if path.is_file() and not path.name.endswith("-shm")]
    files = {str(path.relative_to(folder)): path.read_bytes() for path in left}
    assert image(before, WAYS["keep"], CHANCE) == files
    assert len(files) > 5
    assert before.said == ["one", "two"]


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_an_armed_disk_fails_as_told(tmp_path: Path, number: int) -> None:
    """The named operation fails with the named error, as often as told, and on the named file only."""
    (tmp_path / "disk").mkdir()
    output = run_on((tmp_path / "disk").resolve(), "tests.durability.scribbling", str(tmp_path / "disk"), str(number))
    assert output.split() == ["fsync", os.strerror(number).split()[0], "write", os.strerror(number).split()[0], "full"]


def test_the_engine_runs_its_own_sqlite(tmp_path: Path) -> None:
    """Under the disk the engine's driver is the one it always has: the same library file and version."""
    ask = "import pysqlite3._sqlite3 as own, pysqlite3.dbapi2 as d; print(own.__file__, d.sqlite_version)"
    plain = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout
    (tmp_path / "disk").mkdir()
    assert run_on((tmp_path / "disk").resolve(), "tests.durability.scribbling", "own", "-1") == plain
