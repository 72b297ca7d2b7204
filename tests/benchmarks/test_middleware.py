"""The measurements of the doors measure something: small runs give their lines, and what is not served stops them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import cut, middleware
from tests.conftest import POLICIES


def test_a_small_run_gives_three_judged_lines_and_what_a_thread_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CPU, a chunk and the latency are each judged against their bound; what a bare thread costs is shown beside."""
    for name, value in {"ROUNDS_QUICK": 2, "REQUESTS_QUICK": 2, "CHUNKS": 200}.items():
        monkeypatch.setattr(middleware, name, value)
    lines = middleware.measure(tmp_path, POLICIES, quick=True, say=lambda text: None)
    assert [line.bound for line in lines] == [60.0, 0.1, 150.0, None]
    assert all(line.at_most for line in lines) and lines[-1].figure > 0
    assert lines[0].detail["door_us"] > lines[0].detail["bare_us"] > 0


def test_what_is_not_served_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A door that refuses the sample request stops the benchmark instead of giving a figure."""
    monkeypatch.setattr(middleware, "BODY", middleware.BODY.replace(b"fable-5", b"mythos-5"))
    with pytest.raises(middleware.NotServed):
        middleware.measure(tmp_path, POLICIES, quick=True, say=lambda text: None)


def test_a_small_cut_gives_its_line_and_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten streams over real connections end with their error, and the histogram is drawn, the same each time."""
    monkeypatch.setattr(cut, "STREAMS_QUICK", 10)
    about: dict[str, Any] = {"processor": "a processor", "cores": 2}
    (line,) = cut.measure(tmp_path, POLICIES, tmp_path, about, quick=True, say=lambda text: None)
    assert line.detail["streams"] == 10
    assert 0 < line.detail["first_s"] <= line.figure < 5
    assert (tmp_path / cut.PICTURE).read_text().startswith("<?xml")
