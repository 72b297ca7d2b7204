"""Exit codes of the command line, and the only place that maps errors to them.

Rules of the room: an error is one clear sentence on standard error and never a traceback; a fault of ours says its
class and place, no value. A file that the system keeps from us is no fault of ours: the sentence names it. Whatever
fails, the exit is not 0, so that a script which asks only "0?" stays closed.
Left to others: the sentences (`errors`), HTTP status codes (`api.problems`).
"""

from __future__ import annotations

import os
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Final

from policy_engine.cli import output
from policy_engine.core.decision import DecisionDenied
from policy_engine.errors import (
    ApprovalNeeded,
    Busy,
    Conflict,
    InputRefused,
    IssuerUnavailable,
    LoadRefused,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    PolicyEngineError,
    StartRefused,
    StoreUnavailable,
    VerificationFailed,
)


class Code(IntEnum):
    """What a script may rely on."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    DENY = 3
    REFUSED = 4
    CASE_FAILED = 5
    VERIFICATION_FAILED = 6
    UNREACHABLE = 7
    APPROVAL_MISSING = 8
    BYPASS_FOUND = 9


_CODES: Final[tuple[tuple[type[Exception], Code], ...]] = (
    # Leaves before their bases: the first line that fits is taken.
    (ApprovalNeeded, Code.APPROVAL_MISSING),
    (DecisionDenied, Code.DENY),
    (VerificationFailed, Code.VERIFICATION_FAILED),
    (StoreUnavailable, Code.UNREACHABLE),
    (IssuerUnavailable, Code.UNREACHABLE),
    (Busy, Code.UNREACHABLE),
    (LoadRefused, Code.REFUSED),
    (StartRefused, Code.REFUSED),
    (InputRefused, Code.USAGE),
    (NotAuthenticated, Code.USAGE),
    (NotPermitted, Code.USAGE),
    (NotFound, Code.USAGE),
    (Conflict, Code.USAGE),
)


def code_of(error: BaseException) -> Code:
    """Return the exit code of an error; what has no line in the table is a fault of ours."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return Code.INTERNAL if _file(error) is None else Code.USAGE


def sentence_of(error: BaseException) -> str:
    """Return the one sentence that a person reads. A fault of ours is named by class and place alone."""
    file = _file(error)
    if file is not None and isinstance(error, OSError):
        return f"{file}: cannot be used ({error.strerror}); check its name, its rights and those of its folder"
    if code_of(error) is not Code.INTERNAL or isinstance(error, PolicyEngineError):
        return str(error)
    place = _place(error.__traceback__)
    return f"internal error ({type(error).__name__} at {place}); nothing was allowed by it. Please report it."


def report(error: BaseException) -> Code:
    """Write the sentence, and the findings of a failed verification, to standard error; return the exit code."""
    output.note(f"policy-engine: {sentence_of(error)}")
    if isinstance(error, VerificationFailed):
        for finding in error.findings:
            output.note(f"  {finding}")
    return code_of(error)


def _file(error: BaseException) -> str | None:
    """Return the file that the system would not let us look at, `None` where an error is about no file."""
    name = error.filename if isinstance(error, OSError) else None
    return os.fsdecode(name) if isinstance(name, str | bytes | os.PathLike) else None


def _place(trace: TracebackType | None) -> str:
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "unknown" if trace is None else f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
