"""With the real limits, on two PostgreSQL servers: a region that hears nothing of the other denies, and recovers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from policy_engine.limits import LIMITS
from tests.api.streams import soon
from tests.cells.regions import Region, cells_file, regions
from tests.postgresql import expendable, running

UNCONFIRMED = (False, ["cell.unconfirmed"])


@pytest.fixture
def both(tmp_path: Path) -> Iterator[tuple[Region, Region]]:
    """Two regions on two servers, of which the first asks the second what is in force there."""
    with regions((("east", running(), 500), ("west", expendable(), 500)), tmp_path) as (east, west):
        east.end()
        east.begin(CELLS=str(cells_file(tmp_path, [west], "auditor")))
        east.await_ready()
        yield east, west


@pytest.mark.nightly
@pytest.mark.parametrize("how", ["stop", "end"])
def test_a_region_that_hears_nothing_denies_within_the_bound(both: tuple[Region, Region], how: str) -> None:
    """From the tier on it denies, not too early and not too late; below it goes on; it recovers with the other."""
    east, west = both
    soon(lambda: east.decide("fable-5")[0], 10.0)
    began = time.monotonic()
    getattr(west, how)()
    soon(lambda: east.decide("fable-5") == UNCONFIRMED, 30.0)
    took = time.monotonic() - began
    assert LIMITS.cell_unconfirmed_seconds - 2 * LIMITS.cell_ask_seconds < took
    assert took < LIMITS.cell_unconfirmed_seconds + LIMITS.cell_ask_seconds
    assert east.decide("opus-4-8")[0]
    if how == "end":
        west.begin()
        west.await_ready()
    else:
        west.go_on()
    soon(lambda: east.decide("fable-5")[0], 20.0)
    body = {"id": "missed", "scope": {"models": ["opus-4-8"]}, "reason": "w"}
    assert west.ask("POST", "/v1/switches", body=body)[0] == 201
    soon(lambda: east.decide("opus-4-8") == (False, ["cell.behind"]), 10.0)
    assert east.decide("fable-5")[0]
