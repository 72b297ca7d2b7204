"""Every law's test fails under its control, and the machinery that says so can tell a control that does nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.house import controls
from tests.house.controls import Control, Trials

CONTROLS = controls.read_controls()
LAWS = range(1, 12)

tried = pytest.mark.campaign
"""What forks a warm session in a copy of the product: minutes for all controls together."""


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trials]:
    """One copy of the product and one warm session in it for all controls that this process tries."""
    opened = Trials(tmp_path_factory.mktemp("trials"), (control.test for control in CONTROLS))
    yield opened
    opened.close()


@tried
@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.name)
def test_the_test_of_a_law_fails_under_its_control(control: Control, trials: Trials) -> None:
    """With one line of the product patched, the very test that guards the law fails."""
    run = trials.tried(control)
    assert run.failed, f"{control.name} (exit {run.code}):\n{run.output[-3_000:]}"


@pytest.mark.nightly  # the suite itself runs these tests on the unpatched product; here they run in the copy as well
@pytest.mark.parametrize("warm", [True, False])
def test_the_tests_of_the_laws_pass_without_a_patch(warm: bool, trials: Trials) -> None:
    """In an unpatched copy all of them pass, in a fork and afresh, so that it is the patch that a failure speaks of."""
    tests = sorted({control.test for control in CONTROLS})
    run = trials.asked(tests, trials.root, "", "") if warm else controls.run(trials.root, *tests)
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


@tried
def test_a_control_that_changes_nothing_is_found_out(trials: Trials) -> None:
    """Under a patch that leaves the product as it was, the test passes and the control is no control."""
    run = trials.tried(IDLE)
    assert run.passed
    assert not run.failed


@tried
def test_a_control_that_breaks_the_import_is_no_failure_of_the_test(trials: Trials) -> None:
    """A patch that does not even parse proves nothing about the test."""
    run = trials.tried(replace(CONTROLS[0], replacement="this is no Python"))
    assert not run.failed
    assert not run.passed


LOUD = replace(CONTROLS[0], replacement='    raise LookupError("the patched line ran")')


@tried
def test_the_patched_line_is_what_a_fork_runs(trials: Trials) -> None:
    """A patch that raises is seen raising, in the patched line of the copy; the next fork knows nothing of it."""
    run = trials.tried(LOUD)
    assert run.failed
    assert "in place: 1 functions of authorizer.py" in run.output
    assert "LookupError: the patched line ran" in run.output
    assert trials.tried(IDLE).passed


@tried
def test_a_patch_that_no_fork_can_run_is_tried_afresh(trials: Trials) -> None:
    """A constant was read when the product was imported: such a patch gets a process of its own, and fails the test."""
    (stale,) = [control for control in CONTROLS if control.line.startswith("    stale |= {country for region")]
    control = replace(stale, line="_COUNTRY_OF = {", replacement="_COUNTRY_OF = {} and {")
    run = trials.tried(control)
    assert run.failed
    assert "in place" not in run.output


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
