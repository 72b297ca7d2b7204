"""The suite finds every hole of a gateway that has some, and nothing but those; in a good gateway it finds none."""

from __future__ import annotations

from collections.abc import Callable
from itertools import zip_longest

import pytest

from policy_engine.probe import Outcome, Report, Target, run
from policy_engine.probe.catalogue import CHECKS, LAST, NAMES
from tests.probe.conftest import Served
from tests.probe.gateway import FORBIDDEN, HOLES

SLOW = frozenset(check.name for check in LAST)


def told(report: Report, *outcomes: Outcome) -> dict[str, str]:
    """Return the checks with one of some outcomes, and what they say."""
    return {result.check: result.finding for result in report.results if result.outcome in outcomes}


def mixed() -> list[tuple[str, ...]]:
    """Return every hole once, in sets of one from each group; the plain one, on which others rest, by itself."""
    groups: dict[str, list[str]] = {}
    for check in CHECKS:
        groups.setdefault(check.group, []).append(check.name)
    return [("plain",), *(tuple(filter(None, each)) for each in zip_longest(*groups.values()))]


def check_found(served: Served, target: Target, holes: frozenset[str]) -> None:
    """Probe a gateway with these holes: each is found by its own check, with its evidence and its fix, and no other."""
    served.gateway.holes = holes
    report = run(target)
    assert set(told(report, Outcome.HOLE)) == holes, told(report, Outcome.HOLE, Outcome.UNCLEAR)
    assert told(report, Outcome.UNCLEAR) == {}
    assert all(found.fix and found.finding for found in report.holes)


def test_there_is_a_hole_for_every_check() -> None:
    """Each check of the suite has a gateway that it must find, so no check can be one that never fails."""
    assert frozenset(NAMES) == HOLES == frozenset(hole for holes in mixed() for hole in holes) | SLOW


def test_the_good_gateway_has_no_hole(served: Served, aimed: Callable[..., Target]) -> None:
    """Every check passes (those of a switch are put to the real thing), and the forbidden model was never reached."""
    report = run(aimed(skip=SLOW))
    assert set(told(report, Outcome.PASSED)) == set(NAMES) - SLOW and report.complete
    assert FORBIDDEN not in {model for _, _, model in served.upstream.reached}


@pytest.mark.parametrize("holes", mixed(), ids="+".join)
def test_each_hole_is_found_by_its_own_check_and_no_other(
    served: Served, aimed: Callable[..., Target], holes: tuple[str, ...]
) -> None:
    """With one hole of each group, exactly these are reported, by every check of the suite."""
    check_found(served, aimed(skip=SLOW), frozenset(holes))


@pytest.mark.parametrize("hole", sorted(SLOW))
def test_a_withdrawal_that_does_not_take_hold_is_found(served: Served, aimed: Callable[..., Target], hole: str) -> None:
    """A gateway that fails open, one that keeps verdicts, and one that lets streams run are told from each other."""
    check_found(served, aimed(only=SLOW), frozenset({hole}))


@pytest.mark.nightly
@pytest.mark.parametrize("hole", sorted(HOLES))
def test_one_hole_alone_is_found_by_its_own_check_and_no_other(
    served: Served, aimed: Callable[..., Target], hole: str
) -> None:
    """One hole in the gateway, one in the report of the whole suite."""
    check_found(served, aimed(skip=SLOW - {hole}), frozenset({hole}))
