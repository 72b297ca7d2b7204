"""Several logs in one order: what contradicts the order of the changes is found, and named by its place."""

from __future__ import annotations

from typing import Any

import pytest

from policy_engine.services.projection import Projection
from policy_engine.services.timeline import Timeline
from policy_engine.store.interfaces import State, StoredEntry

Line = tuple[str, int, int, dict[str, Any]]


def change(log: str, seq: int, at: int, epoch: int, *, facts: bool = False, release: str | None = None) -> Line:
    """Return a change of a switch, or of facts, with the epoch after it."""
    rows = [["persons" if facts else "switches", "commitment"]]
    return log, seq, at, {"kind": "changed", "epoch": epoch, "release": release, "rows": rows}


def decision(log: str, seq: int, at: int, epoch: int, release: str | None = None) -> Line:
    """Return an entry that changes nothing."""
    return log, seq, at, {"epoch": epoch, "release": release}


HONEST = [
    decision("a", 0, 5, 0),
    change("a", 1, 10, 1),
    decision("a", 2, 10, 1),
    decision("a", 3, 19, 1),
    change("b", 0, 15, 1, facts=True),
    change("b", 1, 20, 2),
    decision("b", 2, 20, 2),
    decision("c", 0, 21, 2),
]


def replayed(lines: list[Line]) -> tuple[Projection, list[tuple[str, str]]]:
    """Follow lines log by log, and return what the changes lead to and what was found."""
    timeline, projection = Timeline(), Projection()
    for log, seq, at, public in sorted(lines, key=lambda line: line[:2]):
        timeline.follow(StoredEntry(log, seq, b"", b"", None, None, None), {**public, "at": at})
    found: list[tuple[str, str]] = []
    timeline.replay(projection, lambda place, message: found.append((place, message)))
    return projection, found


def test_honest_logs_have_one_order() -> None:
    """Changes of two logs are applied by their instants, and entries of three agree with them."""
    projection, found = replayed(HONEST)
    assert found == []
    assert projection.state == State(2, None, 1)


@pytest.mark.parametrize(
    ("line", "place", "words"),
    [
        (decision("a", 4, 20, 1), "entry 4 of log a", "an epoch that had passed"),
        (decision("a", 4, 99, 1), "entry 4 of log a", "an epoch that had passed"),
        (decision("d", 0, 9, 1), "entry 0 of log d", "earlier than the change"),
        (decision("d", 0, 25, 3), "entry 0 of log d", "another epoch or release"),
        (decision("d", 0, 25, 2, "sha256:other"), "entry 0 of log d", "another epoch or release"),
        (change("d", 0, 20, 3), "entry 0 of log d", "same instant"),
        (change("d", 0, 25, 4), "entry 0 of log d", "more than one"),
        (change("d", 0, 25, 2), "entry 0 of log d", "had to raise the epoch"),
        (change("d", 0, 25, 3, release="sha256:other"), "entry 0 of log d", "without a change that activates"),
    ],
)
def test_what_contradicts_the_order_is_found(line: Line, place: str, words: str) -> None:
    """One entry that cannot have been written by an honest store is found at its place, whichever log it is in."""
    _, found = replayed([*HONEST, line])
    assert any(where == place and words in message for where, message in found), found


@pytest.mark.parametrize("gone", [1, 5])
def test_a_change_that_is_missing_is_found(gone: int) -> None:
    """Without one of the changes the rest does not follow."""
    _, found = replayed([line for number, line in enumerate(HONEST) if number != gone])
    assert found
