"""Exit codes: one table, one sentence, no traceback, and never 0 for a failure."""

from __future__ import annotations

from typing import Any

import pytest

from policy_engine import errors
from policy_engine.cli import exits
from policy_engine.cli.exits import Code
from policy_engine.core.decision import Decision, DecisionDenied, Reason
from policy_engine.errors import PolicyEngineError

DENIED = DecisionDenied(Decision(False, "", (Reason("x"),), (), (), "", 0, 0, "No."))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InputRefused("x"), Code.USAGE),
        (errors.TooLarge("x"), Code.USAGE),
        (errors.NotAuthenticated("x"), Code.USAGE),
        (errors.NotPermitted("x"), Code.USAGE),
        (errors.NotFound("x"), Code.USAGE),
        (errors.Conflict("x"), Code.USAGE),
        (errors.Gone("x"), Code.USAGE),
        (errors.Overtaken("x"), Code.USAGE),
        (DENIED, Code.DENY),
        (errors.LoadRefused("x"), Code.REFUSED),
        (errors.StartRefused("x"), Code.REFUSED),
        (errors.VerificationFailed("x"), Code.VERIFICATION_FAILED),
        (errors.StoreUnavailable("x"), Code.UNREACHABLE),
        (errors.IssuerUnavailable("x"), Code.UNREACHABLE),
        (errors.ApprovalNeeded("x", proposal="p"), Code.APPROVAL_MISSING),
        (PermissionError(13, "Permission denied", "engine.db"), Code.USAGE),
        (ConnectionRefusedError(111, "Connection refused"), Code.INTERNAL),
        (ValueError("x"), Code.INTERNAL),
        (PolicyEngineError("x"), Code.INTERNAL),
    ],
)
def test_each_error_has_its_exit_code(error: Exception, code: Code) -> None:
    """The table of the design: each kind of failure has a code of its own."""
    assert exits.code_of(error) is code


def leaves(kind: type[PolicyEngineError]) -> list[type[PolicyEngineError]]:
    """Return every class of error below a class."""
    return [leaf for child in kind.__subclasses__() for leaf in (child, *leaves(child))]


def test_every_error_class_of_the_engine_is_mapped() -> None:
    """A new class of error needs a line in the table; without one it would be called internal."""
    for kind in leaves(PolicyEngineError):
        if kind.__module__ == errors.__name__:
            assert exits.code_of(kind.__new__(kind)) is not Code.INTERNAL, kind


def test_no_failure_exits_with_zero() -> None:
    """A script that asks only "0?" stays closed."""
    assert all(code is not Code.OK for _, code in exits._CODES)


def test_our_errors_are_told_by_their_sentence(capsys: Any) -> None:
    """What, where and how to mend it, on one line of standard error; nothing on standard output."""
    code = exits.report(errors.LoadRefused("unknown effect; write allow or deny", where="packs/a.toml:3"))
    told = capsys.readouterr()
    assert (code, told.out) == (Code.REFUSED, "")
    assert told.err == "policy-engine: packs/a.toml:3: unknown effect; write allow or deny\n"


def test_a_name_in_a_sentence_is_shown_and_not_obeyed(capsys: Any) -> None:
    """A file or id that an enemy named moves no cursor, rings no bell and colours nothing."""
    exits.report(errors.VerificationFailed("\x1b[2Jnot a register", ("row \x07a",)))
    assert capsys.readouterr().err == "policy-engine: \ufffd[2Jnot a register\n  row \ufffda\n"


def test_a_failed_verification_names_each_place(capsys: Any) -> None:
    """Findings follow the sentence, one a line."""
    exits.report(errors.VerificationFailed("the log does not verify", ("entry 3", "entry 9")))
    assert capsys.readouterr().err.splitlines()[1:] == ["  entry 3", "  entry 9"]


def test_a_fault_of_ours_shows_class_and_place_and_no_value(capsys: Any, planted_facts: Any) -> None:
    """The text of an unexpected exception may hold anything and is not shown."""
    try:
        raise KeyError(planted_facts.person)
    except KeyError as error:
        code = exits.report(error)
    told = capsys.readouterr().err
    assert code is Code.INTERNAL and "KeyError at test_exits.py:" in told
    assert planted_facts.person not in told and told.count("\n") == 1


def test_a_file_that_the_system_keeps_from_us_is_named(capsys: Any) -> None:
    """A name that is too long, or a folder that may not be entered, is not a fault of ours to report."""
    code = exits.report(OSError(36, "File name too long", "a/b"))
    told = capsys.readouterr().err
    assert code is Code.USAGE and told.startswith("policy-engine: a/b: cannot be used (File name too long); check")


def test_an_exception_without_a_place_is_told_too() -> None:
    """An exception that was never raised has no frame to name."""
    assert "at unknown" in exits.sentence_of(ValueError())
