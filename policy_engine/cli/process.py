"""How a process of the command line begins and ends: streams that can be written, and signals that end the work.

Rules of the room:
- SIGTERM and SIGHUP end a command as Ctrl-C does, by way of every `finally`: what is not finished is taken away again,
  and the engine is closed. The exit is 128 and the signal's number.
- An answer that did not leave the process is never an exit 0, and is no fault of ours: one sentence says that it was
  lost, and that what the command did is done.
- A stream that the caller closed is the null device, so that no file of ours is opened in its place.
Left to others: exit codes of errors (`exits`), what `serve` does when it is told to end (`serve`).
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from io import BufferedWriter, FileIO, TextIOWrapper
from threading import current_thread, main_thread
from types import FrameType
from typing import Any, Final, NoReturn, TextIO

from policy_engine.cli import exits, output

AGAIN_SECONDS: Final = 0.02


class Watched(FileIO):
    """A file that remembers why it could not be written: buffers above it forget what they lost."""

    loss: OSError | None = None

    def write(self, data: Any) -> int:
        """Write bytes."""
        try:
            return super().write(data)
        except OSError as error:
            self.loss = error
            raise


def begin() -> None:
    """Open the streams that the caller closed, watch the answer, and end by SIGTERM and SIGHUP as by Ctrl-C."""
    # In the order of their numbers, for each takes the lowest that is free.
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: SIM115  it stays open as long as the process does
    sys.stdout = _watched(sys.stdout) if sys.stdout else open(os.devnull, "w")  # noqa: SIM115  likewise
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115  likewise
    sys.unraisablehook = _end_again
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)


def end_with_terminal(handler: Callable[[int, FrameType | None], object]) -> None:
    """Call a handler for SIGHUP, unless it is ignored: `nohup` says that this process outlives its terminal."""
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, handler)


def failed(error: Exception) -> int:
    """Report an error and return its exit code. That standard output cannot be written is said by `finished`."""
    if isinstance(error, OSError) and _loss() is not None:
        return exits.Code.INTERNAL
    return exits.report(error)


def finished(code: int) -> int:
    """Write out what is left of the answer and return the exit code, which is not 0 where the answer was lost."""
    loss = _loss()
    if loss is not None:
        _drop(sys.stdout)
        code = code or exits.Code.INTERNAL
    if loss is not None and loss.errno != errno.EPIPE:  # a reader that has seen enough, such as `head`, is told nothing
        output.note(
            f"policy-engine: standard output cannot be written ({loss.strerror or type(loss).__name__}): the answer is "
            "lost, and what the command did is done; write to another place"
        )
    try:
        sys.stderr.flush()
    except OSError:
        _drop(sys.stderr)
    return code


def _watched(stream: TextIO) -> TextIO:
    """Return a stream to the same place that remembers its loss. What its encoding has not is written as an escape."""
    terminal = stream.isatty()
    raw = Watched(stream.fileno(), "w", closefd=False)
    return TextIOWrapper(BufferedWriter(raw), stream.encoding, "backslashreplace", line_buffering=terminal)


def _loss() -> OSError | None:
    """Return why standard output could not be written, `None` where all of it was."""
    with suppress(OSError):
        sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw.loss if isinstance(raw, Watched) else None


def _drop(stream: TextIO) -> None:
    """Let go of what waits in a stream, or the interpreter tries once more at its end and ends in its own way."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


def _end_again(dropped: sys.UnraisableHookArgs) -> None:
    """End a moment later, where the end came in a callback of the collector, out of which Python lets nothing."""
    ended = dropped.exc_value
    if not isinstance(ended, KeyboardInterrupt | SystemExit) or current_thread() is not main_thread():
        sys.__unraisablehook__(dropped)
        return
    again = type(ended)(*ended.args)

    def end(number: int, frame: FrameType | None) -> NoReturn:
        raise again

    signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)
