"""The disk fails at one operation: no allow leaves without its entry, and the engine works again when the disk does.

Each site is tried on a database of its own. Behind a commit that failed the store looks at the end of its log before
it allows anything. The errors are made under the engine's own SQLite by `disk.c`.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.durability.images import LOSSES, Disk, image, lay
from tests.durability.journal import read_journal
from tests.durability.layer import run_on
from tests.durability.power import look
from tests.durability.remembering import CHANGES_COUNT
from tests.durability.sites import Outcomes, Place, count_operations, every_place, try_places

Filled = Callable[[str], Path]

READY_SECONDS = 2.0
SAMPLE = {False: 38, True: 12}


def check(outcomes: Outcomes) -> None:
    """Compare what the sites showed with what is promised."""
    assert outcomes.wrong == []
    assert outcomes.healed_seconds_max < READY_SECONDS
    assert outcomes.reached > 0.9 * outcomes.sites
    assert outcomes.away + outcomes.refused > 0


def test_errors_at_sampled_operations(filled: Filled, tmp_path: Path) -> None:
    """At 50 sites: no allow without an entry, nothing acknowledged lost, recorded again within two seconds."""
    chance = random.Random(5)
    template = filled("template")
    places = every_place(count_operations(tmp_path.resolve() / "run", template), chance)
    for starting, count in SAMPLE.items():
        kept = [place for place in places if place.starting is starting]
        syncs = [place for place in kept if place.kind == "fsync"]
        sample = [*chance.sample(syncs, count // 4), *chance.sample(kept, count - count // 4)]
        check(try_places(tmp_path.resolve() / "run", template, sample, chance))


def test_what_only_memory_held_is_written_again(filled: Filled, tmp_path: Path) -> None:
    """After a commit whose fsync failed, and the next ones too, a loss of power takes nothing acknowledged later.

    One thread makes every fsync of the log, so the same ones fail each time.

    Control: policy_engine/store/sessions.py
        settle(path, open_file)
    """
    for times in (2, 3, 4):
        folder, journal = filled(f"remembering-{times}"), tmp_path / "journal"
        disk = Disk.of(folder)
        run_on(folder, "tests.durability.remembering", str(folder), str(times), journal=journal)
        disk.follow(read_journal(journal))
        assert len(disk.said) == CHANGES_COUNT
        chance = random.Random(times)
        for loss in LOSSES:
            lost = tmp_path / f"{loss.name}-{times}"
            lay(image(disk, loss, chance), lost, chance)
            assert look(lost, disk.said) == ([], []), lost.name


def test_an_engine_whose_log_is_not_carried_over_loses_nothing_either(filled: Filled, tmp_path: Path) -> None:
    """The same with a whole engine, whose threads decide which of its first commits meet the disk that fails."""
    places = [Place(False, "fsync", skip, 3, errno.EIO, False, carried=False) for skip in range(1, 13)]
    assert try_places(tmp_path.resolve() / "run", filled("template"), places, random.Random(8)).wrong == []


def test_a_checkpoint_that_a_reader_split(filled: Filled, tmp_path: Path) -> None:
    """One failed fsync between the two halves of a checkpoint: a loss of power afterwards leaves the database whole.

    Control: policy_engine/store/checkpoints.py
            _forget_progress(database)
    """
    folder, journal = filled("split"), tmp_path / "journal"
    disk = Disk.of(folder)
    run_on(folder, "tests.durability.splitting", str(folder), journal=journal)
    disk.follow(read_journal(journal))
    chance = random.Random(1)
    lay(image(disk, LOSSES[0], chance), tmp_path / "image", chance)
    assert look(tmp_path / "image", disk.said) == ([], [])


@pytest.mark.nightly
@pytest.mark.parametrize("part", range(4))
def test_errors_at_every_operation(filled: Filled, tmp_path: Path, tell: Callable[[str], None], part: int) -> None:
    """The same at every operation with every error, a quarter each."""
    template = filled("template")
    places = every_place(count_operations(tmp_path.resolve() / "run", template), random.Random(6))
    outcomes = try_places(tmp_path.resolve() / "run", template, places[part::4], random.Random(part))
    tell(outcomes.line(f"errors at every operation, part {part} of 4, seed 6"))
    check(outcomes)
