"""The protocol of withdrawal keeps its promises in every interleaving, and breaks one without any of its guards."""

from __future__ import annotations

import pytest

from tests.protocol.model import Broken, Design, Guard, explore

BREAKS = {
    Guard.LOCK: Broken.WRITTEN,
    Guard.COMPARE: Broken.WRITTEN,
    Guard.ENTRY_FIRST: Broken.NO_ENTRY,
    Guard.UNKNOWN_DENIES: Broken.NO_ENTRY,
    Guard.USE_CHECKS_BUDGET: Broken.USED,
    Guard.TIMER_FROM_SENDING: Broken.USED,
    Guard.SETTLE_FROM_COMMIT: Broken.USED,
    Guard.SETTLE_HAS_SLACK: Broken.USED,
    Guard.ACKNOWLEDGE_WHEN_CLEAR: Broken.ANSWERED,
    Guard.REMEMBER: Broken.ANSWERED,
}
"""What breaks first without each guard; no guard is left out."""


def test_the_design_keeps_every_promise() -> None:
    """No state that can be reached breaks a promise; and the walk met every kind of step, so it looked everywhere."""
    found = explore(Design())
    assert found.broken is None, found.trace
    assert found.states > 10_000
    assert found.met == {
        "engage is asked for",
        "engage holds the lock",
        "engage commits",
        "an older copy is put back",
        "a tick",
        "sends",
        "denies",
        "evaluates",
        "is refused by the fence",
        "enters the fence",
        "commits",
        "commits, and nobody hears of it",
        "fails to commit, and nobody hears of it",
        "reads back",
        "finds no entry",
        "answers",
        "uses the allow",
        "lets the allow go",
        "learns the epoch",
        "acknowledges",
    }


@pytest.mark.parametrize("guard", Guard, ids=lambda guard: guard.name.lower())
def test_without_a_guard_a_promise_breaks(guard: Guard) -> None:
    """Each mutant of the design breaks the promise that its guard is there for, and the trace shows how."""
    found = explore(Design(frozenset((guard,))), stop=lambda broken: broken is BREAKS[guard])
    assert found.broken is BREAKS[guard]
    assert found.trace


def test_a_trace_reads_as_a_story() -> None:
    """Without the slack, an allow on a slow clock is used after everything was said to be settled."""
    found = explore(Design(frozenset((Guard.SETTLE_HAS_SLACK,))))
    assert found.broken is Broken.USED
    story = list(found.trace)
    assert story.index("engage commits") < max(at for at, step in enumerate(story) if step == "a tick")
    assert story[-1].endswith("uses the allow")
