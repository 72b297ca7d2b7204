"""Whoever subscribes hears of each newer epoch once, and of nothing else."""

from __future__ import annotations

from pathlib import Path

from policy_engine.services.releases import ReleaseLoader
from policy_engine.services.snapshot import Snapshots
from tests.services.governed import House, open_house


def test_a_subscriber_hears_of_newer_epochs_only(tmp_path: Path) -> None:
    """A refresh that finds the same epoch, or a fact moved, tells nobody; a switch tells everybody, in order."""
    house = open_house(tmp_path, release=False)
    try:
        snapshots = Snapshots(house.store, ReleaseLoader())
        heard: list[int] = []
        end = snapshots.subscribe(lambda snapshot: heard.append(snapshot.state.epoch))
        first = snapshots.refresh().state.epoch
        snapshots.refresh()
        assert heard == [first]
        _engage(house, "one")
        assert snapshots.epoch == first
        snapshots.refresh()
        assert heard == [first, first + 1]
        assert snapshots.epoch == first + 1
        end()
        _engage(house, "two")
        snapshots.refresh()
        assert heard == [first, first + 1]
    finally:
        house.close()


def _engage(house: House, id: str) -> None:
    house.switches.engage(house["olga"], id, {"models": "all"}, "a drill")
