"""The bundle that the verifier is timed on is honest, of the size that is promised, and timed only if it holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import verify_rate


def test_a_small_run_gives_three_lines(tmp_path: Path) -> None:
    """Public parts in a folder are judged; the .zip and the ciphertexts are shown; entries are 600 to 900 bytes."""
    lines = verify_rate.measure(tmp_path, 600, 1, lambda text: None)
    assert [line.bound for line in lines] == [verify_rate.RATE, None, None]
    assert all(600 <= line.detail["bytes_each"] <= 900 and line.figure > 0 for line in lines)


def test_a_bundle_that_does_not_hold_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run on something that the verifier refuses stops the benchmark instead of giving a figure."""
    honest = verify_rate._decision

    def twice(*arguments: object) -> bytes:
        return honest(*arguments).replace(b'"seq":7,', b'"seq":8,')  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(verify_rate, "_decision", twice)
    with pytest.raises(verify_rate.NotVerified):
        verify_rate.measure(tmp_path, 100, 1, lambda text: None)
