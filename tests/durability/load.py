"""The program that loses power: a whole engine that decides and changes, and says what it acknowledged.

`python -m tests.durability.load FOLDER SEED COUNT PAGES FAULTS` opens the engine on `FOLDER/engine.db`, decides until
COUNT decisions were acknowledged, is closed and opened again half way, and puts into the disk's journal: `A id` when an
allow has left, `R receipt` for some of them, `D id` for a deny with an entry, `C seq` for a change of facts, `S id` for
an engaged switch, `T note` for a checkpoint that was published, and `ready` after a start. PAGES is after how many
pages SQLite makes a checkpoint, 0 for the product's own number. FAULTS is how often fsync fails with EIO on the way,
once or several times in a row.
"""

from __future__ import annotations

import asyncio
import errno
import json
import random
import sys
import time
from pathlib import Path

from policy_engine.bootstrap import Engine, open_engine
from policy_engine.core.decision import Decision, Request
from policy_engine.core.facts import Location
from policy_engine.errors import StoreUnavailable
from policy_engine.services.permissions import LOCAL
from policy_engine.services.releases import ReleaseLoader
from policy_engine.settings import Settings
from policy_engine.store import checkpoints
from policy_engine.store.interfaces import Change, Write
from tests.durability.layer import Disk, Fault

POLICIES = Path(__file__).resolve().parents[2] / "policies"
ASKING_COUNT = 12
RECEIPT_EACH = 6
"""Of so many allows one caller keeps its receipt."""

ALLOWED = Request("alice", "infer", "fable-5", "acme", Location("US"))
DENIED = Request("bruno", "infer", "mythos-5", "acme-de", Location("DE"))


class Work:
    """One session of an engine, from several tasks and threads at once."""

    def __init__(self, engine: Engine, disk: Disk, chance: random.Random, count: int, faults: int = 0) -> None:
        self.engine = engine
        self.disk = disk
        self.chance = chance
        self.left = count
        self.faults = sorted(chance.sample(range(count), faults))
        self.number = chance.randrange(10**12)

    def tell(self, decision: Decision) -> None:
        """Say that a decision has left."""
        if decision.id:
            self.left -= 1
            if self.faults and self.left <= self.faults[-1]:
                self.faults.pop()
                self.break_disk()
            self.disk.mark(f"{'A' if decision.allowed else 'D'} {decision.id}")
            if decision.allowed and self.left % RECEIPT_EACH == 0:
                self.disk.mark(f"R {json.dumps(decision.receipt)}")

    def break_disk(self) -> None:
        """Let one of the next fsyncs fail, and perhaps those behind it."""
        where = self.chance.choice(("-wal", "-wal", "engine.db"))
        skip, times = self.chance.randrange(3), self.chance.choice((1, 1, 2, 3, 5, 8))
        self.disk.arm(Fault(("fsync",), where, errno.EIO, skip=skip, times=times))

    async def ask(self) -> None:
        """Ask on the event loop, as the service does."""
        while self.left > 0:
            request = ALLOWED if self.chance.random() < 0.9 else DENIED
            self.tell(await self.engine.decider.decide_async(request, LOCAL))
            await asyncio.sleep(0)

    def ask_in_thread(self) -> None:
        """Ask from a thread, as an embedding program does."""
        while self.left > 0:
            self.tell(self.engine.decider.decide(ALLOWED, LOCAL))

    def change(self) -> None:
        """Change facts, and engage a switch now and then."""
        while self.left > 0:
            self.number += 1
            id = f"x-{self.number}"
            try:
                if self.number % 5:
                    write = Write("persons", id, {"facts": {}}, 0)
                    committed = self.engine.store.change(Change("x", {}, (write,), raises_epoch=False))
                    self.disk.mark(f"C {committed.seqs[0]}")
                else:
                    self.engine.switches.engage(LOCAL, id, {"models": ["open-1"]}, "a trial")
                    self.disk.mark(f"S {id}")
                    self.integrate()
            except StoreUnavailable:
                self.disk.mark("refused")
            time.sleep(0.002)

    def integrate(self) -> None:
        """Integrate now, besides once a second, so that a short run has several checkpoints."""
        if self.engine.sequencer is not None:
            self.engine.sequencer.integrate()

    async def run(self) -> None:
        """Work until enough was acknowledged."""
        beside = [asyncio.to_thread(one) for one in (self.change, self.ask_in_thread)]
        await asyncio.gather(*beside, *(self.ask() for _ in range(ASKING_COUNT)))


def main(folder: Path, seed: int, count: int, pages: int, faults: int) -> None:
    """Open, work, close, open, work."""
    disk, chance, releases = Disk(), random.Random(seed), ReleaseLoader()
    settings = Settings(database=f"sqlite:///{folder / 'engine.db'}", policies=POLICIES)
    for session in range(2):
        engine = open_engine(settings, releases=releases)
        disk.mark("ready")
        if engine.sequencer is not None:
            engine.sequencer.published = lambda checkpoint: disk.mark(f"T {checkpoint.note.decode()}")
        if pages:
            checkpoints.FRAMES_COUNT = pages
        if count:
            asyncio.run(Work(engine, disk, chance, count // 2, faults // 2).run())
        disk.mend()
        if session == 0 or chance.random() < 0.5:
            engine.close()
            disk.mark("closed")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
