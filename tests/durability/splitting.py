"""The program whose checkpoint is split by a reader, and whose disk then fails once: `... FOLDER`.

It makes by hand the checkpoints that SQLite makes by itself, one behind commits: the first one stops where a reader
still reads, the second one's fsync of the database fails, which SQLite passes over, and the third one succeeds.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Any

from policy_engine.bootstrap import Engine, open_engine
from policy_engine.services.permissions import LOCAL
from policy_engine.settings import Settings
from policy_engine.store.faults import DatabaseError
from tests.durability.layer import Disk, Fault
from tests.durability.load import ALLOWED, POLICIES


def decide(engine: Engine, disk: Disk, count: int) -> None:
    """Decide so often and say what was allowed."""
    for _ in range(count):
        disk.mark(f"A {engine.decider.decide(ALLOWED, LOCAL).id}")


def main(folder: Path) -> None:
    """Split, fail, succeed, go on."""
    disk = Disk()
    engine = open_engine(Settings(database=f"sqlite:///{folder / 'engine.db'}", policies=POLICIES))
    store: Any = engine.store
    connection = store._writer._connection
    connection.execute("PRAGMA wal_autocheckpoint = 0").fetchall()
    checkpoint = "PRAGMA wal_checkpoint(PASSIVE)"
    decide(engine, disk, 5)
    with store.view() as view:
        list(view.scan_batches())
        decide(engine, disk, 5)
        connection.execute(checkpoint).fetchall()
    disk.arm(Fault(("fsync",), "engine.db", errno.EIO))
    try:
        connection.execute(checkpoint).fetchall()
    except DatabaseError:
        disk.mend()
    connection.execute(checkpoint).fetchall()
    decide(engine, disk, 30)
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
