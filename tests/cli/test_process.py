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

from policy_engine import PolicyEngine
from policy_engine.cli import process
from policy_engine.cli.exits import Code
from policy_engine.errors import StartRefused
from tests.cli.conftest import POLICIES, Shell

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
        "import signal, time, policy_engine.services.exports.service as service\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # these tests may run where it is ignored
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

    before = {number: signal.getsignal(number) for number in (signal.SIGALRM, signal.SIGINT)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # these tests may run where it is ignored
    monkeypatch.setattr(sys, "unraisablehook", process._end_again)
    thing = Thing()
    watched = weakref.ref(thing, interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            del thing
            gc.collect()
            time.sleep(5)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert watched() is None and not re.search("Traceback|Exception ignored", capsys.readouterr().err)


LONG = "x" * 5_000


@pytest.mark.parametrize(
    ("words", "settings", "code"),
    [
        ("models list", {"database": f"sqlite:////tmp/{LONG}"}, Code.REFUSED),
        ("models list", {"keys": f"/tmp/{LONG}"}, Code.REFUSED),
        ("models list", {"epoch_file": f"/tmp/{LONG}"}, Code.REFUSED),
        ("audit verify", {"database": f"sqlite:////tmp/{LONG}"}, Code.UNREACHABLE),
        ("audit verify", {"keys": f"/tmp/{LONG}"}, Code.UNREACHABLE),
        ("doctor", {"database": f"sqlite:////tmp/{LONG}"}, Code.INTERNAL),
        ("doctor", {"keys": f"/tmp/{LONG}"}, Code.INTERNAL),
        ("demo", {"database": f"sqlite:////tmp/{LONG}"}, Code.USAGE),
        (f"audit export --to /tmp/{LONG}", {}, Code.USAGE),
        (f"audit export --format bundle --to /tmp/{LONG}", {}, Code.USAGE),
        (f"policy export --casbin /tmp/{LONG}", {}, Code.USAGE),
        (f"switch preview --scope model=fable-5 --html /tmp/{LONG}", {}, Code.USAGE),
    ],
)
def test_a_file_that_the_system_keeps_from_us_is_no_internal_error(
    shell: Shell, words: str, settings: dict[str, str], code: Code
) -> None:
    """A name that is too long stands for a folder that may not be entered, which a test's own user may always enter."""
    told = shell(*words.split(), **settings)
    assert told.code == code and "internal error" not in told.err
    assert "(File name too long)" in told.out + told.err and "take it away" not in told.err


def test_an_embedding_program_is_told_of_such_a_file_by_a_refusal() -> None:
    """`PolicyEngine.open` raises what its documentation names."""
    with pytest.raises(StartRefused, match="File name too long"):
        PolicyEngine.open(POLICIES, database=f"sqlite:////tmp/{LONG}")
