"""Trials of lost power: a recorded load, a moment in it, a way to lose what was on its way, what the store then says.

Rules of the room:
- A trial is its recording's seed and its own number; both are in every figure and every failure.
- The store that opens the image is the product's, in this process, without any layer: only the image is made.
- A recording may itself begin on the image of an earlier loss, so that what follows a recovery is lost as well.
Left to others: the disk (`disk.c`, `images`), the load (`load`), how many trials (tests, `__main__`).
"""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

from policy_engine.errors import PolicyEngineError
from policy_engine.ledger.encoding import parse_public
from policy_engine.services.keyfile import open_vault
from policy_engine.services.verify import verify
from policy_engine.store.interfaces import Change, Write
from policy_engine.store.sqlite import SqliteStore
from tests.durability.honoured import broken_receipts, other_trees
from tests.durability.images import LOSSES, Disk, Loss, image, lay
from tests.durability.journal import Step, read_journal
from tests.durability.layer import ROOT, run_on

DECISIONS_COUNT = 300
ACKNOWLEDGED = (b"A ", b"D ", b"C ", b"S ")


@dataclass(frozen=True, slots=True)
class Recording:
    """A load as its disk saw it: what was there at the start, and every step."""

    seed: int
    before: Disk
    steps: Sequence[Step]


@dataclass
class Tally:
    """What trials found. A trial is bad in at most one of the ways, the first that holds."""

    trials: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    damaged: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0
    dropped: int = 0
    bad: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Take over what another tally counted."""
        self.trials += other.trials
        self.lost += other.lost
        self.damaged += other.damaged
        self.acknowledged += other.acknowledged
        self.dropped += other.dropped
        self.bad += other.bad

    def line(self, name: str) -> str:
        """Return the figures as one line."""
        ways = ", ".join(f"{way} {self.lost[way]}/{count}" for way, count in sorted(self.trials.items()))
        return (
            f"{name}: {self.trials.total()} losses of power, {self.lost.total()} lost something acknowledged ({ways}), "
            f"{self.damaged.total()} left a log that does not verify; {self.acknowledged} acknowledgements checked, "
            f"{self.dropped} writes were on their way"
        )


def record(
    folder: Path,
    seed: int,
    *,
    said: Sequence[str] = (),
    count: int = DECISIONS_COUNT,
    pages: int = 0,
    faults: int = 0,
    product: Path = ROOT,
) -> Recording:
    """Run the load on what `folder` holds and return its recording; `said` was acknowledged before."""
    journal = folder.with_name(folder.name + "-journal")
    before = Disk.of(folder, said)
    numbers = (str(number) for number in (seed, count, pages, faults))
    run_on(folder, "tests.durability.load", str(folder), *numbers, journal=journal, product=product)
    recording = Recording(seed, before, read_journal(journal))
    journal.unlink()
    return recording


def moments(steps: Sequence[Step], chance: random.Random, count: int, *, told_only: bool = False) -> list[int]:
    """Return moments in which to lose power, in order.

    A third are any, a third right behind an acknowledgement (with `told_only` all), a third right before an fsync,
    when most is on its way.
    """
    told = [number for number, step in enumerate(steps, start=1) if step.kind == "M" and step.data[:2] in ACKNOWLEDGED]
    full = [number for number, step in enumerate(steps) if step.kind in "SD"]
    everywhere = range(len(steps) + 1)
    kinds = [told] if told_only else [everywhere, told, full]
    return sorted(chance.choice(kinds[n % len(kinds)] or everywhere) for n in range(count))


def losses(
    recording: Recording, seed: int, count: int, ways: Sequence[Loss] = LOSSES, *, told_only: bool = False
) -> Iterator[tuple[str, Loss, Disk, random.Random]]:
    """Yield trials: the name, the way, the disk at the moment, and the trial's own chance."""
    chance = random.Random(f"{recording.seed}/{seed}")
    disk = deepcopy(recording.before)
    for number, moment in enumerate(moments(recording.steps, chance, count, told_only=told_only)):
        disk.follow(recording.steps[disk.steps_count : moment])
        way = ways[number % len(ways)]
        name = f"recording {recording.seed}, trial {seed}/{number}, step {moment}, {way.name}"
        yield name, way, disk, random.Random(f"{recording.seed}/{seed}/{number}")


def try_losses(trials: Iterable[tuple[str, Loss, Disk, random.Random]], folder: Path) -> Tally:
    """Lose power in each trial and look what the store makes of the image."""
    tally = Tally()
    for name, way, disk, chance in trials:
        shutil.rmtree(folder, ignore_errors=True)
        lay(image(disk, way, chance), folder, chance)
        tally.trials[way.name] += 1
        tally.acknowledged += len(disk.said)
        tally.dropped += disk.waiting_count
        missing, wrong = look(folder, disk.said)
        if missing:
            tally.lost[way.name] += 1
        elif wrong:
            tally.damaged[way.name] += 1
        if missing or wrong:
            tally.bad.append(f"{name}: {[*missing, *wrong][:3]}")
    return tally


def look(folder: Path, said: Sequence[str]) -> tuple[list[str], list[str]]:
    """Open an image as the engine would; return what was acknowledged and is missing, and whatever else is wrong."""
    try:
        vault = open_vault(folder / "engine.db.keys", database_is_empty=False, now=0)
        store = SqliteStore(folder / "engine.db", vault)
    except PolicyEngineError as error:
        return (["everything"], [str(error)]) if said else ([], [str(error)])
    try:
        entries = [(seq, parse_public(public)) for _, seq, public in store.entries(limit=1_000_000)]
        missing = absent(entries, said, lambda id: store.row("switches", id) is not None)
        wrong = [] if [seq for seq, _ in entries] == list(range(len(entries))) else ["sequence numbers"]
        if len({entry["id"] for _, entry in entries}) != len(entries):
            wrong.append("an entry is there twice")
        with store.view() as view:
            missing += broken_receipts(view, [json.loads(line[2:]) for line in said if line[:2] == "R "])
            missing += other_trees(view, [line[2:].encode() for line in said if line[:2] == "T "])
            wrong += [str(finding) for finding in verify(view, vault).findings]
        if not missing and not wrong:
            store.change(Change("x", {}, (Write("persons", "afterwards", {"facts": {}}, 0),), raises_epoch=False))
    except PolicyEngineError as error:
        return [], [str(error)]
    finally:
        store.close()
    return missing, wrong


def absent(
    entries: Sequence[tuple[int, dict[str, object]]], said: Sequence[str], switch_there: Callable[[str], bool]
) -> list[str]:
    """Return the acknowledgements that the log does not bear out: an allow needs the entry of an allow."""
    outcomes = {str(entry["id"]): entry.get("outcome") for _, entry in entries}
    kinds = {str(seq): entry["kind"] for seq, entry in entries}
    bears_out: dict[str, Callable[[str], bool]] = {
        "A": lambda id: outcomes.get(id) == "allow",
        "D": lambda id: outcomes.get(id) == "deny",
        "C": lambda seq: kinds.get(seq) == "x",
        "S": switch_there,
    }
    told = [line.partition(" ") for line in said]
    return [f"{kind} {what}" for kind, _, what in told if kind in bears_out and not bears_out[kind](what)]
