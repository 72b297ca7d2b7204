"""The program whose disk fails: one engine after another, each with one fault at one place, and what it did about it.

`python -m tests.durability.faulted FOLDER TEMPLATE SITES` reads a JSON list of sites, each `[start, kind, skip, times,
errno, part]`, and writes one JSON object a site to `SITES.found`. With `start` the fault comes during a first start on
an empty folder, else while an engine on a copy of the template decides and changes. Number n works in `FOLDER/n` and
marks the journal: `site n`, then acknowledgements as `load` does, `broken` when its work under the fault is done and
`mended` at the end.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from policy_engine.bootstrap import Engine, open_engine
from policy_engine.core.decision import Request
from policy_engine.errors import PolicyEngineError, StoreUnavailable
from policy_engine.services.permissions import LOCAL
from policy_engine.services.releases import ReleaseLoader
from policy_engine.settings import Settings
from policy_engine.store import checkpoints, entries
from policy_engine.store.interfaces import Change, Write
from tests.durability.layer import Disk, Fault
from tests.durability.load import ALLOWED, DENIED, POLICIES

RELEASES = ReleaseLoader()
PAGES = 12
"""After so many pages SQLite makes a checkpoint here, so that a short run has several."""

ROUNDS_COUNT = 4
CHECKED_AT = [0]
"""How often the end of a log was checked, by the product's own check."""


@dataclass
class Found:
    """What one site showed."""

    failed: int = 0
    operations: dict[str, int] = field(default_factory=dict)
    allowed: int = 0
    denied: int = 0
    away: int = 0
    refused: int = 0
    healed_seconds: float = -1.0
    wrong: list[str] = field(default_factory=list)


def count_checks() -> None:
    """Count each time that the store checks the end of its log."""
    check = entries.verify_head

    def counted(*arguments: Any) -> Any:
        CHECKED_AT[0] += 1
        return check(*arguments)

    entries.verify_head = counted


class Site:
    """One engine in one folder, with one fault."""

    def __init__(self, disk: Disk, folder: Path, fault: Fault) -> None:
        self.disk = disk
        self.folder = folder
        self.fault = fault
        self.found = Found()
        self.unchecked: int | None = None
        self.failed_before = 0
        self.number = 0
        self.counted: dict[str, int] = {}

    def open(self) -> Engine:
        """Open the engine."""
        settings = Settings(database=f"sqlite:///{self.folder / 'engine.db'}", policies=POLICIES)
        return open_engine(settings, releases=RELEASES)

    def arm(self) -> None:
        """Let the fault come; from here its operations are counted."""
        self.counted = dict(self.disk.counted())
        self.disk.arm(self.fault)

    def mend(self) -> None:
        """Let the disk work again; up to here its operations were counted."""
        if not self.found.operations:
            self.found.failed, self.failed_before = self.disk.mend(), 0
            now = self.disk.counted()
            self.found.operations = {kind: count - self.counted[kind] for kind, count in now.items()}
            self.disk.mark("broken")

    def decide(self, engine: Engine, request: Request) -> bool:
        """Decide once, say what left, and return whether it is on the record."""
        before = CHECKED_AT[0]
        decision = engine.decider.decide(request, LOCAL)
        if not decision.id:
            self.found.away += 1
            if self.unchecked is None and self.disk.failed() > self.failed_before:  # else it only took too long
                self.unchecked = before
            if decision.allowed:
                self.found.wrong.append("an allow without an entry")
            return False
        self.disk.mark(f"{'A' if decision.allowed else 'D'} {decision.id}")
        self.failed_before = self.disk.failed()
        if decision.allowed:
            self.found.allowed += 1
            if self.unchecked is not None and CHECKED_AT[0] <= self.unchecked and self.fault.kinds[0] in BREAKS_COMMITS:
                self.found.wrong.append("an allow after a failed commit without a look at the end of the log")
            self.unchecked = None
        else:
            self.found.denied += 1
        return True

    def change(self, engine: Engine) -> None:
        """Change a fact or engage a switch."""
        self.number += 1
        id = f"x-{self.number}"
        try:
            if self.number % 3:
                write = Write("persons", id, {"facts": {}}, 0)
                committed = engine.store.change(Change("x", {}, (write,), raises_epoch=False))
                self.disk.mark(f"C {committed.seqs[0]}")
                self.failed_before = self.disk.failed()
            else:
                engine.switches.engage(LOCAL, id, {"models": ["open-1"]}, "a trial")
                self.disk.mark(f"S {id}")
        except StoreUnavailable:
            self.found.refused += 1

    def work(self, engine: Engine) -> None:
        """Decide and change for a while."""
        for _ in range(ROUNDS_COUNT):
            self.decide(engine, ALLOWED)
            self.change(engine)
            self.decide(engine, DENIED)
            self.decide(engine, ALLOWED)

    def heal(self, engine: Engine) -> None:
        """Mend the disk and wait until decisions are recorded again."""
        self.mend()
        began = time.monotonic()
        while not self.decide(engine, ALLOWED):
            if time.monotonic() - began > 5:
                self.found.wrong.append("no decision is recorded though the disk is well")
                return
            time.sleep(0.01)
        self.found.healed_seconds = time.monotonic() - began
        self.change(engine)


BREAKS_COMMITS = ("write", "fsync")


def while_serving(site: Site, carried: bool) -> None:
    """Let the fault come while an engine works, whose log is carried over from then on or not."""
    engine = site.open()
    try:
        checkpoints.FRAMES_COUNT = PAGES
        site.decide(engine, ALLOWED)
        site.arm()
        if not carried:
            checkpoints.FRAMES_COUNT = sys.maxsize
        site.work(engine)
        site.heal(engine)
    finally:
        engine.close()


def while_starting(site: Site) -> None:
    """Let the fault come during a first start, then start again."""
    site.arm()
    try:
        site.open().close()
    except PolicyEngineError:
        site.found.refused += 1
    site.mend()
    engine = site.open()
    try:
        site.heal(engine)
    finally:
        engine.close()


def main(folder: Path, template: Path, sites: Path) -> None:
    """Work through the sites."""
    disk = Disk()
    count_checks()
    with sites.with_name(f"{sites.name}.found").open("w") as output:
        for number, site in enumerate(json.loads(sites.read_text())):
            found = try_site(disk, folder / str(number), template, number, site)
            output.write(json.dumps(asdict(found)) + "\n")


def try_site(disk: Disk, place: Path, template: Path, number: int, described: list[Any]) -> Found:
    """Work through one site."""
    start, kind, skip, times, error, part, carried = described
    place.mkdir()
    site = Site(disk, place, Fault((kind,), "", error, skip=skip, times=times, part=part))
    if not start:
        for name in ("engine.db", "engine.db.keys"):
            shutil.copy(template / name, place / name)
        synced(place)
    disk.mark(f"site {number}")
    try:
        if start:
            while_starting(site)
        else:
            while_serving(site, carried)
    except Exception as problem:  # noqa: BLE001  whatever it is, the test reports it with its site
        disk.mend()
        site.found.wrong.append(f"{type(problem).__name__}: {problem}")
    disk.mark("mended")
    return site.found


def synced(folder: Path) -> None:
    """Make the copies durable: what a test lays there is not what it tests."""
    for path in (*folder.iterdir(), folder, folder.parent):
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
