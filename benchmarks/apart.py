"""A process of its own for a measurement, so that none lies in memory which another one left in pieces.

In a process that has built and dropped large policies before, what is built next is strewn over its memory, and every
look-up waits for it: a service that just started has no such past.
"""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, TypeVar

_SPAWN = get_context("spawn")
Say = Callable[[str, float, float], None]
Result = TypeVar("Result")


class ProcessDied(RuntimeError):
    """A measuring process ended without a result: killed, or out of memory."""


def apart(say: Say, function: Callable[..., Result], *arguments: Any) -> Result:
    """Return `function(*arguments, say)` as a new process finds it; what it says is said here, what it raises raised.

    The function is one of a module, and arguments, result and errors can be pickled. Raises `ProcessDied`.
    """
    heard, told = _SPAWN.Pipe(duplex=False)
    process = _SPAWN.Process(target=_work, args=(told, function, arguments), daemon=True)
    process.start()
    told.close()
    try:
        while True:
            what, value = heard.recv()
            if what != "said":
                break
            say(*value)
    except EOFError:
        process.join()
        raise ProcessDied(f"the process that measured ended with {process.exitcode} and no result") from None
    finally:
        heard.close()
    process.join()
    if what == "raised":
        raise value
    found: Result = value
    return found


def _work(told: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        found = "found", function(*arguments, lambda *said: told.send(("said", said)))
    except Exception as error:  # noqa: BLE001  whoever asked decides what to make of it
        found = "raised", error
    told.send(found)
