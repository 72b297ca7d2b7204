"""Every place where a disk can fail: which operations there are, one run with a fault at each, and what is then true.

Rules of the room:
- A site is an occurrence of an operation in the run of `faulted`, an error, and whether it fails once or until mended.
- After each site the power also goes when the disk is mended and work went on, and after every second one when the
  work under the fault is done: what was acknowledged between a failed fsync and the loss must be there.
- EINTR is only ever answered a few times: whoever retries on it would retry for ever.
"""

from __future__ import annotations

import errno
import json
import random
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.durability.images import LOSSES, Disk, image, lay
from tests.durability.journal import Step, read_journal
from tests.durability.layer import run_on
from tests.durability.power import look

NEVER = 10**9
BATCH_COUNT = 60
"""Sites of one process, so that a journal stays small."""
TRIES_COUNT = 3
"""How often a place that its run did not come to is tried."""

ERRORS: Mapping[str, tuple[int, ...]] = {
    "fsync": (errno.EIO, errno.ENOSPC, errno.EINTR),
    "write": (errno.EIO, errno.ENOSPC, errno.EINTR),
    "truncate": (errno.EIO, errno.ENOSPC),
    "open": (errno.EIO, errno.ENOSPC, errno.EMFILE),
    "unlink": (errno.EIO,),
    "link": (errno.EIO, errno.ENOSPC),
    "read": (errno.EIO,),
}


@dataclass(frozen=True, slots=True)
class Place:
    """One site, as `faulted` reads it. Without `carried` the log is not carried over from the fault on."""

    starting: bool
    kind: str
    skip: int
    times: int
    error: int
    part: bool
    carried: bool = True

    def described(self) -> list[Any]:
        """Return it as the program's list."""
        return [self.starting, self.kind, self.skip, self.times, self.error, self.part, self.carried]

    def __str__(self) -> str:
        when = "a first start" if self.starting else "serving"
        often = "until mended" if self.times < 0 else f"{self.times} times"
        return f"{self.kind} {self.skip} of {when} fails with {errno.errorcode[self.error]}, {often}"


@dataclass
class Outcomes:
    """What the sites showed together."""

    sites: int = 0
    reached: int = 0
    failed: int = 0
    allowed: int = 0
    away: int = 0
    refused: int = 0
    losses: int = 0
    healed_seconds_max: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def line(self, name: str) -> str:
        """Return the figures as one line."""
        return (
            f"{name}: {self.sites} sites ({dict(self.kinds)}), {self.reached} reached, {self.failed} calls failed; "
            f"{self.away} decisions and {self.refused} changes or starts refused, {self.allowed} allows with an entry, "
            f"{self.losses} losses of power on top, recorded again after at most {self.healed_seconds_max:.2f} s, "
            f"{len(self.wrong)} wrong"
        )


def every_place(operations: Mapping[bool, Mapping[str, int]], chance: random.Random) -> list[Place]:
    """Return every occurrence of every operation with every error; how often it fails is chosen."""
    return [
        Place(starting, kind, skip, chance.choice((1, 1, 3) if error == errno.EINTR else (1, 4, -1)), error, part)
        for starting, counted in operations.items()
        for kind, errors in ERRORS.items()
        for skip in range(counted[kind])
        for error in errors
        for part in ((chance.random() < 0.5) if kind == "write" else False,)
    ]


def count_operations(folder: Path, template: Path) -> dict[bool, dict[str, int]]:
    """Return how many operations of each kind an undisturbed run makes, serving and starting."""
    places = [Place(starting, "write", NEVER, 1, errno.EIO, False) for starting in (False, True)]
    serving, starting = _run(folder, template, places, None)
    return {False: serving["operations"], True: starting["operations"]}


def try_places(folder: Path, template: Path, places: Sequence[Place], chance: random.Random) -> Outcomes:
    """Try each place and lose power at each; return what they showed.

    How many operations there are depends on the order of threads, above all near the end of a run. A place that its
    run did not come to is tried again at the last operation of its kind that this run made.
    """
    outcomes = Outcomes(sites=len(places), kinds=Counter(place.kind for place in places))
    left = places
    for _ in range(TRIES_COUNT):
        left = _try(folder, template, left, chance, outcomes)
    return outcomes


def _try(
    folder: Path, template: Path, places: Sequence[Place], chance: random.Random, outcomes: Outcomes
) -> list[Place]:
    """Try each place, and return those that were not reached, where the same run would have reached them."""
    missed: list[Place] = []
    for first in range(0, len(places), BATCH_COUNT):
        batch = places[first : first + BATCH_COUNT]
        journal = folder.with_name("journal")
        for place, found in zip(batch, _run(folder, template, batch, journal), strict=True):
            _count(outcomes, place, found)
            if not found["failed"]:
                missed.append(replace(place, skip=max(0, min(place.skip, found["operations"][place.kind] - 1))))
        for number, moment, wrong in _losses(read_journal(journal), folder.with_name("image"), batch, chance):
            outcomes.losses += 1
            outcomes.wrong += [f"{batch[number]}, power lost when {moment}: {text}" for text in wrong[:2]]
        journal.unlink()
    return missed


def _run(folder: Path, template: Path, places: Sequence[Place], journal: Path | None) -> list[dict[str, Any]]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    sites = folder.with_name("sites")
    sites.write_text(json.dumps([place.described() for place in places]))
    run_on(folder, "tests.durability.faulted", str(folder), str(template), str(sites), journal=journal)
    return [json.loads(line) for line in sites.with_name("sites.found").read_text().splitlines()]


def _count(outcomes: Outcomes, place: Place, found: Mapping[str, Any]) -> None:
    outcomes.reached += found["failed"] > 0
    outcomes.failed += found["failed"]
    outcomes.allowed += found["allowed"]
    outcomes.away += found["away"]
    outcomes.refused += found["refused"]
    outcomes.healed_seconds_max = max(outcomes.healed_seconds_max, found["healed_seconds"])
    outcomes.wrong += [f"{place}: {text}" for text in found["wrong"]]


def _losses(
    steps: Sequence[Step], folder: Path, places: Sequence[Place], chance: random.Random
) -> Iterator[tuple[int, str, list[str]]]:
    """Lose power when each site's work was done and when its disk was mended; yield what is wrong then."""
    disk = Disk()
    number, heard = -1, 0
    for step in steps:
        disk.follow([step])
        if step.kind != "M":
            continue
        word, _, rest = step.data.decode().partition(" ")
        if word == "site":
            number, heard = int(rest), len(disk.said)
        if word == "mended" or (word == "broken" and number % 2 and not places[number].starting):
            shutil.rmtree(folder, ignore_errors=True)
            lay(image(disk, chance.choice(LOSSES), chance, f"{number}/"), folder, chance)
            missing, wrong = look(folder, disk.said[heard:])
            yield number, word, [*missing, *wrong]
