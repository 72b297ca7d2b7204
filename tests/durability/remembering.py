"""The program whose log ends in a batch that only memory holds: `... FOLDER TIMES`, on one thread.

A commit's fsync fails with EIO, and so do the next ones of the log, TIMES together: the second is the one with which
the last connection closes, so SQLite keeps the log as it reads. Changes are tried until the disk is well and five are
acknowledged (`C seq`); the log is not carried over meanwhile, nor at the end.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

from policy_engine.errors import StoreUnavailable
from policy_engine.services.keyfile import open_vault
from policy_engine.store.interfaces import Change, Write
from policy_engine.store.sqlite import SqliteStore
from tests.durability.layer import Disk, Fault

CHANGES_COUNT = 5
TRIES_COUNT = 20


def main(folder: Path, times: int) -> None:
    """Change, fail, change again."""
    disk = Disk()
    vault = open_vault(folder / "engine.db.keys", database_is_empty=False, now=0)
    store = SqliteStore(folder / "engine.db", vault)
    store.change(change("before"))
    disk.arm(Fault(("fsync",), "-wal", errno.EIO, times=times))
    acknowledged = 0
    for number in range(TRIES_COUNT):
        try:
            committed = store.change(change(f"x-{number}"))
        except StoreUnavailable:
            continue
        disk.mark(f"C {committed.seqs[0]}")
        acknowledged += 1
        if acknowledged == CHANGES_COUNT:
            break
    if disk.mend() != times or acknowledged < CHANGES_COUNT:
        sys.exit("the log did not meet the disk that fails as often as it should have, or never again one that works")
    os._exit(0)


def change(id: str) -> Change:
    """Return a change of a fact."""
    return Change("x", {}, (Write("persons", id, {"facts": {}}, 0),), raises_epoch=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), int(sys.argv[2]))
