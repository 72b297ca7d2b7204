"""The program whose checkpoint is split by a reader, and whose disk then fails once: `... FOLDER`.

The first checkpoint stops where a reader still reads. From there on one follows each commit: the next one's fsync of
the database fails, and the later ones succeed.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

from policy_engine.bootstrap import Engine, open_engine
from policy_engine.services.permissions import LOCAL
from policy_engine.settings import Settings
from policy_engine.store import checkpoints
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
    decide(engine, disk, 5)
    with engine.store.view() as view:
        list(view.scan_batches())
        checkpoints.FRAMES_COUNT = 1
        decide(engine, disk, 5)
    disk.arm(Fault(("fsync",), "engine.db", errno.EIO))
    decide(engine, disk, 1)
    if disk.mend() != 1:
        sys.exit("no checkpoint met the disk that fails")
    decide(engine, disk, 30)
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
