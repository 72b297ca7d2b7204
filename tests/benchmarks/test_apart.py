"""A measurement in a process of its own gives what it found, says what it said, and raises what it raised."""

from __future__ import annotations

import os
import signal

import pytest

from benchmarks.apart import ProcessDied, Say, apart
from benchmarks.enforcers import NotMeasured


def _found(number: int, say: Say) -> tuple[int, int]:
    say("half", 1, 2)
    if number < 0:
        raise NotMeasured("a number below zero")
    if number == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid(), number + 1


def test_a_function_is_run_in_another_process() -> None:
    """Its result comes from there, and so does what it says on the way."""
    heard: list[tuple[str, float, float]] = []
    process, number = apart(lambda *said: heard.append(said), _found, 41)
    assert (process != os.getpid(), number, heard) == (True, 42, [("half", 1, 2)])


def test_an_error_comes_back_and_so_does_a_death() -> None:
    """What it raises is raised here; one that is killed is an error, never a result."""
    with pytest.raises(NotMeasured, match="below zero"):
        apart(lambda *said: None, _found, -1)
    with pytest.raises(ProcessDied, match="-9"):
        apart(lambda *said: None, _found, 0)
