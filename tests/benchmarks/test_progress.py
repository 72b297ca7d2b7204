"""What a long run says of itself: a live line on a terminal, nothing where stderr is piped."""

from __future__ import annotations

import pytest

from benchmarks.progress import Live


def test_nothing_is_said_where_stderr_is_piped(capsys: pytest.CaptureFixture[str]) -> None:
    """Under a pipe neither stream receives a byte, however often the run reports."""
    with Live() as say:
        say("acl, 1,000 rules", 1, 35)
        say("policy test")
    heard = capsys.readouterr()
    assert (heard.out, heard.err) == ("", "")


def test_a_terminal_sees_the_work_at_hand(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the line names the work at hand, on stderr alone, so that the report stays clean."""
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    with Live() as say:
        say("acl, 1,000 rules", 1, 35)
    heard = capsys.readouterr()
    assert heard.out == ""
    assert "acl, 1,000 rules" in heard.err
