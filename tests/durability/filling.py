"""The program whose disk is full: one engine that is asked all the time, before, while and after there is no space.

`python -m tests.durability.filling FOLDER ROUNDS KIND` opens the engine on `FOLDER/engine.db` and writes one JSON
object a round to `FOLDER.rounds`. With KIND `real` the folder is a small volume that a file fills up; with `limited`
the fault disk holds little more than it does at that moment. What fills the disk in the end are the engine's writes.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from policy_engine.bootstrap import Engine, open_engine
from policy_engine.services.permissions import LOCAL
from policy_engine.settings import Settings
from tests.durability.layer import Disk
from tests.durability.load import ALLOWED, DENIED, POLICIES

SPARE_BYTES = 60_000
FULL_SECONDS = 1.5


@dataclass
class Round:
    """What one time without space showed, in seconds since the disk was full."""

    last_allow_seconds: float = -1.0
    slowest_answer_seconds: float = 0.0
    denied: int = 0
    away: int = 0
    healed_seconds: float = -1.0
    allowed: list[str] = field(default_factory=list)


class Volume:
    """The space that is left, on a real small volume or as the fault disk says."""

    def __init__(self, folder: Path, real: bool) -> None:
        self.folder = folder
        self.disk = None if real else Disk()
        self.ballast = folder / "ballast"

    def fill(self) -> None:
        """Leave next to no space."""
        if self.disk is not None:
            self.disk.limit(sum(path.stat().st_size for path in self.folder.glob("engine.db*")) + SPARE_BYTES)
            return
        free = os.statvfs(self.folder)
        with suppress(OSError), self.ballast.open("wb", buffering=0) as file:  # the engine may have been quicker
            file.write(bytes(max(0, free.f_bavail * free.f_frsize - SPARE_BYTES)))

    def empty(self) -> None:
        """Give the space back."""
        if self.disk is not None:
            self.disk.limit(None)
        else:
            self.ballast.unlink()


class Asking:
    """Asks the engine from one thread, all the time, and remembers what it was told and when."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.round = Round()
        self.full_at: float | None = None
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        number = 0
        while not self.stop.is_set():
            number += 1
            began = time.monotonic()
            decision = self.engine.decider.decide(DENIED if number % 3 == 0 else ALLOWED, LOCAL)
            now = time.monotonic()
            if decision.allowed:
                self.round.allowed.append(decision.id)
            if self.full_at is not None:
                self._count(decision.allowed, bool(decision.id), now - self.full_at, now - began)

    def _count(self, allowed: bool, recorded: bool, seconds: float, took: float) -> None:
        found = self.round
        found.slowest_answer_seconds = max(found.slowest_answer_seconds, took)
        if allowed:
            found.last_allow_seconds = seconds
        elif recorded:
            found.denied += 1
        else:
            found.away += 1

    def recorded(self) -> bool:
        """Wait until a decision is recorded again, for at most five seconds."""
        had, until = len(self.round.allowed), time.monotonic() + 5
        while len(self.round.allowed) == had and time.monotonic() < until:
            time.sleep(0.002)
        return len(self.round.allowed) > had


def go_through(engine: Engine, volume: Volume) -> Round:
    """Fill the disk under an engine that works, wait, and give the space back."""
    asking = Asking(engine)
    try:
        asking.recorded()
        volume.fill()
        until = time.monotonic() + 10
        while asking.round.away == 0 and time.monotonic() < until:  # its own writes take what is left
            asking.full_at = asking.full_at or time.monotonic()
            time.sleep(0.001)
        asking.round.last_allow_seconds = -1.0
        asking.full_at = time.monotonic()
        time.sleep(FULL_SECONDS)
        asking.full_at, emptied = None, time.monotonic()
        volume.empty()
        if asking.recorded():
            asking.round.healed_seconds = time.monotonic() - emptied
        return asking.round
    finally:
        asking.stop.set()
        asking.thread.join()


def main(folder: Path, rounds: int, real: bool) -> None:
    """Go through so many rounds on one database."""
    engine = open_engine(Settings(database=f"sqlite:///{folder / 'engine.db'}", policies=POLICIES))
    volume = Volume(folder, real)
    with (folder.with_name(f"{folder.name}.rounds")).open("w") as output:
        for _ in range(rounds):
            output.write(json.dumps(asdict(go_through(engine, volume))) + "\n")
    engine.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "real")
