"""Long campaigns by hand: `python -m tests.durability --seed 1 --losses 10000 --sites 2000`, figures on stdout.

Progress is shown on stderr where that is a terminal. Every recording, trial and site follows from the seed, except the
order in which threads of the engine run. Exit code 1 when anything was lost, damaged or wrong; each is named.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.progress import Live
from policy_engine.bootstrap import open_engine
from policy_engine.settings import Settings
from tests.durability.images import LOSSES, image, lay
from tests.durability.load import POLICIES
from tests.durability.power import Tally, losses, record, try_losses
from tests.durability.sites import count_operations, every_place, try_places

LOSSES_PER_RECORDING = 50


def fill(folder: Path) -> Path:
    """Lay a database with the sample release and world."""
    folder.mkdir()
    open_engine(Settings(database=f"sqlite:///{folder / 'engine.db'}", policies=POLICIES)).close()
    return folder


def lose(folder: Path, seed: int, count: int, live: Live) -> Tally:
    """Lose power so often, each recording on the image of a loss in the one before."""
    tally = Tally()
    place, said = fill(folder / "load"), []
    for number in range(-(-count // LOSSES_PER_RECORDING)):
        live(f"losses of power, {len(tally.bad)} bad", tally.trials.total(), count)
        recording = record(place, seed + number, said=said, pages=(0, 60, 20)[number % 3], faults=8 * (number % 2))
        left = min(LOSSES_PER_RECORDING, count - tally.trials.total())
        tally.add(try_losses(losses(recording, number, left), folder / "image"))
        ((_, way, disk, chance),) = losses(recording, 7, 1, [random.Random(seed + number).choice(LOSSES)])
        place = (folder / f"next-{number}").resolve()
        lay(image(disk, way, chance), place, chance)
        said = list(disk.said)[-2_000:]  # what is old was held against many images already
    return tally


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaigns that were asked for and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.durability", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="what everything follows from")
    parser.add_argument("--losses", type=int, default=1_000, help="losses of power (0: none)")
    parser.add_argument("--sites", type=int, default=200, help="places where the disk fails (0: none)")
    chosen = parser.parse_args(arguments)
    bad: list[str] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pe-durability-") as name, Live() as live:
        folder = Path(name).resolve()
        if chosen.losses:
            tally = lose(folder, chosen.seed, chosen.losses, live)
            sys.stdout.write(tally.line(f"seed {chosen.seed}") + "\n")
            bad += tally.bad
        if chosen.sites:
            live("places where the disk fails")
            chance = random.Random(chosen.seed)
            template = fill(folder / "template")
            places = every_place(count_operations(folder / "run", template), chance)
            outcomes = try_places(
                folder / "run", template, chance.sample(places, min(chosen.sites, len(places))), chance
            )
            sys.stdout.write(outcomes.line(f"seed {chosen.seed}") + "\n")
            bad += outcomes.wrong
    sys.stdout.write(f"{time.monotonic() - began:.0f} s\n")
    sys.stdout.writelines(f"{line}\n" for line in bad)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
