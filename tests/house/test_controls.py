"""Every law's test fails under its control, and the machinery that says so can tell a control that does nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.house import controls
from tests.house.controls import Control

CONTROLS = controls.read_controls()
LAWS = range(1, 12)


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.name)
def test_the_test_of_a_law_fails_under_its_control(control: Control, tmp_path: Path) -> None:
    """With one line of the product patched, the very test that guards the law fails."""
    run = controls.tried(tmp_path, control)
    assert run.failed, f"{control.name} (exit {run.code}):\n{run.output[-3_000:]}"


@pytest.mark.nightly  # the suite itself runs these tests on the unpatched product; here they run in the copy as well
def test_the_tests_of_the_laws_pass_without_a_patch(tmp_path: Path) -> None:
    """In an unpatched copy all of them pass, so that it is the patch that a failure speaks of."""
    run = controls.run(controls.copy_product(tmp_path), *sorted({control.test for control in CONTROLS}))
    assert run.passed, f"exit {run.code}:\n{run.output[-3_000:]}"


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.name)
def test_a_control_is_written_where_its_test_is(control: Control) -> None:
    """The test's docstring names the file and the line, so that whoever changes one sees the other."""
    said = controls.squeezed(controls.docstring_of(control))
    assert f"Control: {control.file}" in said
    assert controls.squeezed(control.line) in said
    assert control.law in LAWS
    assert control.line != control.replacement


def test_no_control_is_registered_twice() -> None:
    """One test may have several controls, but no two that are the same."""
    assert len(set(CONTROLS)) == len(CONTROLS)


IDLE = replace(CONTROLS[0], replacement=f"{CONTROLS[0].line}  # the same")


def test_a_control_that_changes_nothing_is_found_out(tmp_path: Path) -> None:
    """Under a patch that leaves the product as it was, the test passes and the control is no control."""
    run = controls.tried(tmp_path, IDLE)
    assert run.passed
    assert not run.failed


def test_a_control_that_breaks_the_import_is_no_failure_of_the_test(tmp_path: Path) -> None:
    """A patch that does not even parse proves nothing about the test."""
    run = controls.tried(tmp_path, replace(CONTROLS[0], replacement="this is no Python"))
    assert not run.failed
    assert not run.passed


@pytest.mark.parametrize("line", ["from __future__ import annotation", ""])
def test_a_line_that_is_not_there_exactly_once_is_refused(line: str, tmp_path: Path) -> None:
    """A line that moved away or occurs again is not patched at a guess."""
    control = replace(CONTROLS[0], line=line)
    target = tmp_path / control.file
    target.parent.mkdir(parents=True)
    text = (controls.ROOT / control.file).read_text(encoding="utf-8")
    target.write_text(text, encoding="utf-8")
    with pytest.raises(LookupError, match="must be there once"):
        controls.patch(tmp_path, control)
    assert target.read_text(encoding="utf-8") == text


def test_a_control_of_a_test_that_is_not_there_is_refused() -> None:
    """A test that was renamed takes its control along, or the registry says so."""
    with pytest.raises(LookupError, match="no such test"):
        controls.docstring_of(replace(CONTROLS[0], test="tests/core/test_laws.py::test_gone"))
