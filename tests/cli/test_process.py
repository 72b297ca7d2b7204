"""A process of the command line: its streams may be full or closed, and a signal leaves no half of a file behind."""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path
from typing import Any

import pytest

from policy_engine.cli import process
from policy_engine.cli.exits import Code
from tests.cli.conftest import Shell

PROGRAM = "from policy_engine.cli.app import main; main()"


def ran(words: str, redirected: str, env: dict[str, str]) -> tuple[int, str]:
    """Run a command in a process of its own, redirected by a shell; return its exit code and standard error."""
    line = f'{sys.executable} -c "{PROGRAM}" {words} {redirected}'
    done = subprocess.run(["bash", "-c", line], env=env, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


def environment(shell: Shell, **more: str) -> dict[str, str]:
    """Return the variables of a process."""
    found = {**os.environ, **shell.environment(None), **more}
    return {name: value for name, value in found.items() if value is not None}


@pytest.mark.parametrize("words", ["pep list", "pep snippet envoy", "--help", "policy lint", "policy show"])
def test_an_answer_that_is_lost_is_said_and_never_an_exit_0(shell: Shell, words: str) -> None:
    """On a full disk, for short answers and for long ones: one sentence that says so, and exit 1."""
    code, told = ran(words, ">/dev/full", environment(shell))
    assert (code, told.count("\n")) == (Code.INTERNAL, 1), told
    assert "No space left on device" in told and "internal" not in told


def test_a_reader_that_has_seen_enough_is_told_nothing(shell: Shell) -> None:
    """`| true` ends a command without a word, and not with 0."""
    code, told = ran("policy show", "| true; exit ${PIPESTATUS[0]}", environment(shell))
    assert (code, told) == (Code.INTERNAL, "")


@pytest.mark.parametrize("redirected", [">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_a_stream_that_the_caller_closed_changes_no_exit_code(shell: Shell, redirected: str) -> None:
    """Whoever asks for the exit code alone gets it: of an allow, and of what cannot be understood."""
    env = environment(shell)
    asked = "check --subject alice --model fable-5 --action infer --tenant acme --location US"
    assert ran(asked, redirected, env)[0] == Code.OK
    assert ran("models show none", redirected, env)[0] == Code.USAGE


def test_json_stays_json_where_the_output_is_not_utf_8(shell: Shell) -> None:
    """Other encodings have no character for much of it, so it is escaped; a table shows what it can."""
    assert shell("switch", "engage", "off", "--scope", "model=fable-5", "--reason", "日本").code == Code.OK
    env = environment(shell, PYTHONIOENCODING="latin-1")
    done = subprocess.run([sys.executable, "-c", PROGRAM, "switch", "list"], env=env, capture_output=True)
    assert json.loads(done.stdout)[0]["reason"] == "日本"
    assert ran("switch list -o table", ">/dev/null", env) == (Code.OK, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing_half_written(shell: Shell, tmp_path: Path, number: int) -> None:
    """What an export has begun is taken away again, without a traceback; the exit is 128 and the signal's number."""
    place = tmp_path / "out"
    place.mkdir()
    program = (
        "import time, policy_engine.services.exports.service as service\n"
        "service.Exports._write = lambda *_, **__: time.sleep(60)\n" + PROGRAM
    )
    words = ["audit", "export", "--to", str(place / "all.jsonl")]
    running = subprocess.Popen(
        [sys.executable, "-c", program, *words], env=environment(shell), stderr=subprocess.PIPE, text=True
    )
    until = time.monotonic() + 60
    while not list(place.iterdir()) and time.monotonic() < until:
        time.sleep(0.02)
    running.send_signal(number)
    _, told = running.communicate(timeout=60)
    assert (running.returncode, list(place.iterdir())) == (128 + number, []), told
    assert "Traceback" not in told


def test_an_end_that_the_collector_swallowed_comes_again(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Out of a callback of the collector nothing is raised, so a Ctrl-C that came there would be lost."""

    class Thing:
        """Something that is collected."""

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGALRM)
    monkeypatch.setattr(sys, "unraisablehook", process._end_again)
    thing = Thing()
    watched = weakref.ref(thing, interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            del thing
            gc.collect()
            time.sleep(5)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert watched() is None and not re.search("Traceback|Exception ignored", capsys.readouterr().err)
