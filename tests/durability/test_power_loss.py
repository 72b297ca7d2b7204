"""The power goes while the engine works: whatever it had acknowledged is there afterwards, and the log verifies.

The engine runs with its own SQLite on a disk that drops, tears and reorders what was not synced (`disk.c`, `images`).
The control runs a copy of the product with `synchronous = NORMAL`, which must lose: else the disk would be too kind.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from policy_engine.bootstrap import open_engine
from policy_engine.services.permissions import LOCAL
from policy_engine.services.releases import ReleaseLoader
from policy_engine.settings import Settings
from tests.conftest import POLICIES
from tests.durability.images import LOSSES, image, lay
from tests.durability.load import ALLOWED
from tests.durability.power import Recording, Tally, losses, record, try_losses
from tests.house.controls import Control, copy_product, patch

Filled = Callable[[str], Path]
Tell = Callable[[str], None]

PAGES = (0, 60, 20)
TRIALS_COUNT = 50
DROP = LOSSES[0]
UNSYNCED = Control(
    3,
    "tests/durability/test_power_loss.py::test_the_control_loses",
    "policy_engine/store/sessions.py",
    '        "PRAGMA synchronous = FULL",',
    '        "PRAGMA synchronous = NORMAL",',
)
CONTROL_LOSES_LEAST = 0.95
RECORDINGS_COUNT = 5
"""Recordings of one nightly campaign, each on the image of a loss in the one before."""


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.campaign) for seed in (2, 3))])
def test_no_acknowledged_entry_is_lost(filled: Filled, tmp_path: Path, seed: int) -> None:
    """After 50 losses of power each: 0 acknowledged entries lost, 0 twice, 0 allows without one; the log verifies."""
    recording = record(filled("load"), seed, pages=PAGES[seed % 3])
    tally = try_losses(losses(recording, seed, TRIALS_COUNT), tmp_path / "image")
    assert tally.bad == []
    assert tally.acknowledged > 1_000
    assert tally.dropped > 100


@pytest.mark.parametrize("seed", [11, pytest.param(12, marks=pytest.mark.campaign)])
def test_nothing_is_lost_after_fsync_has_failed(filled: Filled, tmp_path: Path, seed: int) -> None:
    """After fsyncs that failed, once or several times, what is acknowledged later survives a loss of power as well."""
    recording = record(filled("load"), seed, pages=PAGES[seed % 3], faults=16)
    assert sum(step.kind == "s" for step in recording.steps) > 2
    assert try_losses(losses(recording, seed, 25), tmp_path / "image").bad == []


def normal(filled: Filled, tmp_path: Path, seed: int, count: int) -> Tally:
    """Lose power right behind acknowledgements under the control, where a commit is not synced."""
    product = copy_product(tmp_path / "product")
    patch(product, UNSYNCED)
    recording = record(filled("control"), seed, product=product)
    return try_losses(losses(recording, seed, count, (DROP,), told_only=True), tmp_path / "image")


def test_the_control_loses(filled: Filled, tmp_path: Path) -> None:
    """With `synchronous = NORMAL` at least 19 of 20 losses lose an acknowledged entry: the disk is no sham."""
    tally = normal(filled, tmp_path, 1, 30)
    assert tally.lost.total() >= CONTROL_LOSES_LEAST * tally.trials.total()


def cut_off_first_starts(folder: Path, seed: int, count: int, releases: ReleaseLoader) -> list[str]:
    """Lose power in so many moments of a first start and start again on each image; return what went wrong."""
    load, again = folder / f"first-{seed}", folder / "again"
    load.mkdir()
    wrong: list[str] = []
    for name, way, disk, chance in losses(record(load, seed, count=0), seed, count):
        shutil.rmtree(again, ignore_errors=True)
        lay(image(disk, way, chance), again, chance)
        engine = open_engine(
            Settings(database=f"sqlite:///{again / 'engine.db'}", policies=POLICIES), releases=releases
        )
        try:
            if not engine.decider.decide(ALLOWED, LOCAL).allowed or engine.evidence.verify().findings:
                wrong.append(name)
        finally:
            engine.close()
    return wrong


def test_a_first_start_can_be_cut_off_anywhere(tmp_path: Path, compiled: ReleaseLoader) -> None:
    """A first start that loses power leaves no half database or key file that the next one would not start on."""
    assert cut_off_first_starts(tmp_path.resolve(), 1, 18, compiled) == []


@pytest.mark.nightly
@pytest.mark.parametrize("seed", [100, 200, 300, 400])
def test_many_losses_one_upon_the_other(filled: Filled, tmp_path: Path, tell: Tell, seed: int) -> None:
    """250 losses each (1,000 in all), most on a database that has already been through one: nothing is lost."""
    tally = Tally()
    folder, said = filled("load"), []
    for number in range(RECORDINGS_COUNT):
        recording = record(folder, seed + number, said=said, pages=PAGES[number % 3], faults=8 * (number % 2))
        tally.add(try_losses(losses(recording, number, TRIALS_COUNT), tmp_path / "image"))
        folder, said = continued(recording, tmp_path / f"next-{number}")
    tell(tally.line(f"seed {seed}"))
    assert tally.bad == []


def continued(recording: Recording, folder: Path) -> tuple[Path, list[str]]:
    """Lose power once more and return the folder with the image, and everything acknowledged so far."""
    (_, way, disk, chance) = next(losses(recording, 7, 1, [random.Random(recording.seed).choice(LOSSES)]))
    lay(image(disk, way, chance), folder, chance)
    return folder.resolve(), list(disk.said)


@pytest.mark.nightly
def test_the_control_loses_many(filled: Filled, tmp_path: Path, tell: Tell) -> None:
    """Two hundred losses of power under `synchronous = NORMAL`, with the figure."""
    tally = normal(filled, tmp_path, 2, 200)
    tell(tally.line("control, synchronous=NORMAL, seed 2"))
    assert tally.lost.total() >= CONTROL_LOSES_LEAST * tally.trials.total()


@pytest.mark.nightly
def test_first_starts_cut_off_in_many_moments(tmp_path: Path, compiled: ReleaseLoader, tell: Tell) -> None:
    """Two hundred first starts that lose power: each is started again and serves."""
    wrong = cut_off_first_starts(tmp_path.resolve(), 2, 200, compiled)
    tell(f"first starts: 200 losses of power, {len(wrong)} that the next start did not recover from; seed 2")
    assert wrong == []


@pytest.mark.nightly
def test_the_campaign_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m tests.durability` tells its figures, and ends well when nothing was lost."""
    from tests.durability.__main__ import main

    assert main(["--seed", "5", "--losses", "60", "--sites", "10"]) == 0
    output = capsys.readouterr().out
    assert "seed 5: 60 losses of power, 0 lost something acknowledged" in output
    assert "seed 5: 10 sites" in output
