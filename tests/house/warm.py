"""A warm test session for controls: it has imported the product and collected the tests, and forks for each control.

`python -m tests.house.warm CHANNEL TEST...`, run inside a copy of the product, answers requests on a socket, one line
of JSON each: which file, its patched text, which test, and where the output goes. It answers with the exit code.
Its first line says that it is ready: until then it reads the copy, and nobody may patch it.

Rules:
- A fork changes the functions in memory into what the patched text compiles to, wherever they are held, and then runs
  the test in the session that was collected; the file itself is patched as well, for processes that the test starts.
- A fork proves that it did: the change lies in functions alone, and afterwards no function of the old text is left.
  What cannot be changed so (a class, a constant, text that does not parse) is answered with `COLD`: start afresh.
- What the product computed when it was imported stays as it was. A control that only such a thing would show makes
  `test_controls.py` red, never green.
"""

from __future__ import annotations

import atexit
import gc
import inspect
import json
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest

COLD = 71
"""Exit code of a fork that cannot prove that it runs the patched text."""


class NotInPlace(Exception):
    """The patch reaches beyond functions that can be changed while the product is loaded."""


Pair = tuple[CodeType, CodeType]


def held(code: CodeType) -> bool:
    """Return whether a code object is run by a function, and not once when its module or class is made."""
    comprehension = code.co_name.startswith("<") and code.co_name != "<lambda>"
    return bool(code.co_flags & inspect.CO_OPTIMIZED) and not comprehension


def changed(old: CodeType, new: CodeType) -> Iterator[Pair]:
    """Yield the outermost functions that differ. Raises `NotInPlace` when what is run once differs."""
    if skeleton(old) != skeleton(new):
        raise NotInPlace(f"{old.co_name} itself differs")
    for before, after in zip(nested(old), nested(new), strict=True):
        if not held(before):
            yield from changed(before, after)
        elif before != after:
            yield before, after


def nested(code: CodeType) -> list[CodeType]:
    """Return the code objects directly within another."""
    return [constant for constant in code.co_consts if isinstance(constant, CodeType)]


def skeleton(code: CodeType) -> tuple[Any, ...]:
    """Return everything of a code object but its line numbers and what is nested in it."""
    constants = tuple(("code", one.co_name) if isinstance(one, CodeType) else repr(one) for one in code.co_consts)
    return code.co_code, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars, constants


def within(old: CodeType, new: CodeType) -> Iterator[tuple[CodeType, CodeType | None]]:
    """Yield a function's code and all that is nested in it, each with what takes its place, if anything does."""
    yield old, new
    for before, after in zip_longest(nested(old), nested(new)):
        if before is not None and after is not None:
            yield from within(before, after)
        elif before is not None:
            yield before, None


def functions() -> list[FunctionType]:
    """Return every function that this process holds, those included that `conftest` set aside after collecting."""
    gc.unfreeze()
    return [found for found in gc.get_objects() if isinstance(found, FunctionType)]


def change_in_place(path: Path, old: str, new: str) -> int:
    """Make every live function of a file what the new text says, and return how many were changed.

    Raises `NotInPlace` when that is impossible, or when a function of the old text would be left.
    """
    try:
        outermost = list(changed(compile(old, str(path), "exec"), compile(new, str(path), "exec")))
    except SyntaxError as error:
        raise NotInPlace(str(error)) from None
    live = [function for function in functions() if function.__code__.co_filename == str(path)]
    count = 0
    for before, after in outermost:
        if all(function.__code__ != before for function in live):
            raise NotInPlace(f"nothing holds {before.co_name}")
        for was, becomes in within(before, after):
            for function in [function for function in live if function.__code__ == was]:
                if becomes is None:
                    raise NotInPlace(f"{was.co_name} has no successor")
                try:
                    function.__code__ = becomes
                except ValueError as error:
                    raise NotInPlace(str(error)) from None
                count += 1
    stale = {was for before, after in outermost for was, becomes in within(before, after) if was != becomes}
    if any(function.__code__ in stale for function in functions() if function.__code__.co_filename == str(path)):
        raise NotInPlace("a function of the old text is left")
    return count


def loaded(path: Path) -> bool:
    """Return whether a file is a module of this process."""
    return any(getattr(module, "__file__", None) == str(path) for module in list(sys.modules.values()))


class Warm:
    """The plugin that stands in for pytest's loop over the tests: it forks, and a fork goes on with one test."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Answer requests until the channel is closed; in a fork, let pytest's own loop run the test asked for."""
        if session.testsfailed:  # a test module that cannot be imported: pytest says so and every request goes cold
            return None
        self.channel.sendall(b'{"ready": true}\n')  # only now may the copy be patched: everything of it is read
        with self.channel.makefile("r", encoding="utf-8") as requests:
            for line in requests:
                asked = json.loads(line)
                sys.stdout.flush()
                sys.stderr.flush()
                child = os.fork()
                if child == 0:
                    self.become(session, asked)
                    return None
                code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                self.channel.sendall(json.dumps({"code": code}).encode() + b"\n")
        return True

    def become(self, session: pytest.Session, asked: dict[str, Any]) -> None:
        """Turn a fork into the run of one test on the patched product."""
        self.channel.close()
        out = os.open(asked["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.environ["TEST_OUTPUTS_FOLDER"] = tempfile.mkdtemp(prefix="policy-engine-outputs-")
        try:
            if asked["new"] != asked["old"]:
                self.patch(Path(asked["file"]), asked["old"], asked["new"])
        except NotInPlace as reason:
            os.write(2, f"not in place: {reason}\n".encode())
            os._exit(COLD)
        wanted = [item for item in session.items if item.nodeid.partition("[")[0] in asked["tests"]]
        session.items[:] = wanted
        session.testscollected = len(wanted)
        gc.freeze()  # what was there before the fork is looked through no more, and its memory stays shared

    @staticmethod
    def patch(path: Path, old: str, new: str) -> None:
        """Change what is loaded of a file; one that is not loaded yet is read patched from the disk."""
        if path.suffix != ".py":
            raise NotInPlace("it is no module, and may have been read already")
        if loaded(path):
            count = change_in_place(path, old, new)
            os.write(2, f"in place: {count} functions of {path.name}\n".encode())


def main() -> int:
    """Collect, then answer requests until the channel is closed."""
    from tests.house.controls import OPTIONS, SameExamples, require_copy

    require_copy()
    channel = socket.socket(fileno=int(sys.argv[1]))
    return int(pytest.main([*OPTIONS, "-s", *sys.argv[2:]], plugins=[SameExamples(), Warm(channel)]))


if __name__ == "__main__":
    code = main()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # nothing is left to do, and to take down all that was imported takes longer than most tests
