"""The suite finds every hole of a gateway that has some, and nothing but those; in a good gateway it finds none."""

from __future__ import annotations

from collections.abc import Callable
from itertools import zip_longest

import pytest

from policy_engine.probe import Credentials, Outcome, Report, Target, run
from policy_engine.probe.catalogue import CHECKS, LAST, NAMES
from tests.probe.conftest import Served, everything
from tests.probe.gateway import ALLOWED, FORBIDDEN, HOLES, check_of

SLOW = frozenset(check.name for check in LAST)


def told(report: Report, *outcomes: Outcome) -> dict[str, str]:
    """Return the checks with one of some outcomes, and what they say."""
    return {result.check: result.finding for result in report.results if result.outcome in outcomes}


def mixed() -> list[tuple[str, ...]]:
    """Return every hole once, in sets of one from each group, none on which another of the set rests; the plain one,
    on which most rest, by itself."""
    groups: dict[str, list[str]] = {}
    for check in CHECKS:
        holes = sorted(hole for hole in HOLES if check_of(hole) == check.name)
        groups.setdefault(check.group, []).extend(holes)
    return [("plain",), *(tuple(filter(None, each)) for each in zip_longest(*groups.values()))]


def check_found(served: Served, target: Target, holes: frozenset[str]) -> None:
    """Probe a gateway with these holes: each is found by its own check, with its evidence and its fix, and no other."""
    served.gateway.holes = holes
    report = run(target)
    assert set(told(report, Outcome.HOLE)) == {check_of(hole) for hole in holes}, told(
        report, Outcome.HOLE, Outcome.UNCLEAR
    )
    assert told(report, Outcome.UNCLEAR) == {}
    assert all(found.fix and found.finding for found in report.holes)


def test_there_is_a_hole_for_every_check() -> None:
    """Each check of the suite has a gateway that it must find, so no check can be one that never fails."""
    assert frozenset(NAMES) == {check_of(hole) for hole in HOLES} and frozenset(NAMES) <= HOLES
    assert frozenset(hole for holes in mixed() for hole in holes) | SLOW == HOLES


def test_the_good_gateway_has_no_hole(served: Served, aimed: Callable[..., Target]) -> None:
    """Every check passes (those of a switch are put to the real thing), and the forbidden model was never reached."""
    report = run(aimed(skip=SLOW))
    assert set(told(report, Outcome.PASSED)) == set(NAMES) - SLOW and report.complete
    assert FORBIDDEN not in {model for _, _, model in served.upstream.reached}


@pytest.mark.parametrize("styles", [(), ("health", "edge", "live", "site")], ids="+".join)
def test_a_good_gateway_of_another_style_has_no_hole(
    served: Served, aimed: Callable[..., Target], styles: tuple[str, ...]
) -> None:
    """A health check that takes any method, an edge that answers preflights, WebSockets that are cut when a message
    names another model, a page where others have a list, and an upstream that says dates are no faults."""
    served.gateway.styles = frozenset(styles)
    served.upstream.called = {ALLOWED: f"{ALLOWED}-2026-06-12"}
    report = run(aimed(skip=SLOW))
    assert told(report, Outcome.HOLE, Outcome.UNCLEAR, Outcome.UNPROBED) == {} and report.complete
    assert FORBIDDEN not in {model for _, _, model in served.upstream.reached}


def test_an_empty_key_in_the_gateways_own_header_is_a_hole(served: Served, aimed: Callable[..., Target]) -> None:
    """Where the credential has a header of its own, what is none is tried there; a good gateway refuses it."""
    given = Credentials(everything(served)["credentials"].own, header="x-api-key")
    target = aimed(credentials=given, only=frozenset({"no-credentials"}))
    assert told(run(target), Outcome.PASSED).keys() == {"plain", "no-credentials"}
    served.gateway.holes = frozenset({"no-credentials/empty-key"})
    report = run(target)
    assert told(report, Outcome.HOLE).keys() == {"no-credentials"}
    sent = [shown.sent for shown in report.holes[0].evidence]
    assert sent == ["an empty x-api-key", "x-api-key: null", "x-api-key: undefined"]


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
    check_found(served, aimed(skip=SLOW - {check_of(hole)}), frozenset({hole}))
