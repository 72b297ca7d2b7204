"""The bundle that the verifier is timed on is honest, of the size that is promised, and timed only if it holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import verify_rate


def test_a_small_run_gives_one_judged_line_and_three_shown(tmp_path: Path) -> None:
    """Public parts in a folder are judged; what hashing alone takes, the .zip and the ciphertexts are shown."""
    lines = verify_rate.measure(tmp_path, 600, 1, lambda text: None)
    assert [line.bound for line in lines] == [verify_rate.RATE, None, None, None]
    verified, least, *packed = lines
    assert least.theirs == verified.ours and 0 < least.figure < 1, "no verifier is faster than reading and hashing"
    assert all(600 <= line.detail["bytes_each"] <= 900 and line.figure > 0 for line in (verified, *packed))


def test_a_bundle_that_does_not_hold_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run on something that the verifier refuses stops the benchmark instead of giving a figure."""
    honest = verify_rate._decision

    def twice(*arguments: object) -> bytes:
        return honest(*arguments).replace(b'"seq":7,', b'"seq":8,')  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(verify_rate, "_decision", twice)
    with pytest.raises(verify_rate.NotVerified):
        verify_rate.measure(tmp_path, 100, 1, lambda text: None)
