"""A program that writes in every way there is, so that a test can compare the fault disk's journal with the files."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from pathlib import Path

import pysqlite3._sqlite3 as own
import pysqlite3.dbapi2 as dbapi

from tests.durability.layer import Disk, Fault


def scribble(folder: Path, disk: Disk) -> None:
    """Write, append, cut, rename, link, copy and remove, and let SQLite do what it does."""
    (folder / "a").write_bytes(b"first")
    with (folder / "a").open("ab") as file:
        file.write(b", then more")
        file.truncate(9)
    disk.mark("one")
    with (folder / "a").open("r+b", buffering=0) as file:
        file.seek(20)
        file.write(b"behind a hole")
        os.pwrite(file.fileno(), b"!!", 1)
        os.writev(file.fileno(), [b"in ", b"parts"])
        os.fsync(file.fileno())
    (folder / "old").rename(folder / "new")
    os.link(folder / "a", folder / "also")
    (folder / "inner").mkdir()
    shutil.copyfile(folder / "a", folder / "inner" / "copy")
    os.replace(folder / "inner" / "copy", folder / "new")
    (folder / "inner" / "kept").write_bytes(b"in a folder that moves")
    (folder / "inner").rename(folder / "moved")
    (folder / "tree" / "deep").mkdir(parents=True)
    (folder / "tree" / "deep" / "file").write_bytes(b"soon gone")
    shutil.rmtree(folder / "tree")
    (folder / "gone").write_bytes(b"x")
    (folder / "gone").unlink()
    (folder / "gone").write_bytes(b"back again")
    (folder / "gone").write_bytes(b"shorter")
    connection = dbapi.connect(str(folder / "db"), isolation_level=None)
    for text in ("PRAGMA journal_mode = WAL", "CREATE TABLE t (x)", "PRAGMA wal_autocheckpoint = 3"):
        connection.execute(text).fetchall()
    for number in range(30):
        connection.execute("INSERT INTO t VALUES (?)", (str(number) * 1_000,))
    connection.execute("DELETE FROM t WHERE rowid % 2")
    disk.mark("two")
    os._exit(0)  # with the log and all, as a crash leaves it


def fail(folder: Path, disk: Disk, number: int) -> None:
    """Say what fails."""
    said = []
    with (folder / "a").open("wb", buffering=0) as one, (folder / "b").open("wb", buffering=0) as two:
        for kind in ("fsync", "write"):
            disk.arm(Fault((kind,), "a", number, skip=1))
            for attempt in range(4):
                for file in (one, two):
                    try:
                        file.write(b"x")
                        os.fsync(file.fileno())
                    except OSError as error:
                        if (file, attempt, error.errno) != (one, 1, number):
                            raise
                        said += [kind, os.strerror(number).split()[0]]
            disk.mend()
        disk.limit(12)
        try:
            for _ in range(20):
                two.write(b"x")
        except OSError as error:
            said += ["full"] if error.errno == errno.ENOSPC else []
    sys.stdout.write(" ".join(said) + "\n")


def main(folder: str, number: int) -> None:
    """Scribble with 0, fail with the number of an error, or name the library with -1."""
    if number < 0:
        sys.stdout.write(f"{own.__file__} {dbapi.sqlite_version}\n")
    elif number:
        fail(Path(folder), Disk(), number)
    else:
        scribble(Path(folder), Disk())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
