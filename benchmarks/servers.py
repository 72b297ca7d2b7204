"""The two sides as processes: the engine from its own command, and the do-nothing server, with equal server settings.

Both run one uvicorn worker on uvloop and httptools without an access log. The engine's database lies in the run's
folder, on the disk of the repository, so that a durable commit costs what it costs there.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 60.0
KEY = re.compile(r"\bpe_[A-Za-z0-9_-]{43}\b")


class NotStarted(RuntimeError):
    """A server did not answer in time, or ended; its last words are in the message."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: where it answers, and the first key it printed (empty for the do-nothing side)."""

    url: str
    key: str
    database: Path | None = None


@contextmanager
def do_nothing(folder: Path) -> Iterator[Server]:
    """Run `benchmarks.echo` under uvicorn until the block ends."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "benchmarks.echo:app", "--port", str(port), "--loop", "uvloop"]
    command += ["--http", "httptools", "--log-level", "warning", "--no-access-log"]
    with _running(command, folder / "do-nothing.log", {}):
        url = f"http://127.0.0.1:{port}"
        _wait(url, folder / "do-nothing.log")
        yield Server(url, "none")


@contextmanager
def engine(folder: Path) -> Iterator[Server]:
    """Run `policy-engine serve` on a new database with the sample release and world until the block ends."""
    database = folder / "engine.db"
    with serving([program(), "serve"], folder / "engine.log", f"sqlite:///{database}", {}) as server:
        yield Server(server.url, server.key, database)


@contextmanager
def serving(words: list[str], log: Path, database: str, environment: dict[str, str]) -> Iterator[Server]:
    """Run a command that serves the sample from an empty database until the block ends."""
    port = free_port()
    command = [*words, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--database", database, "--policies", str(ROOT / "policies")]
    with _running(command, log, {"POLICY_ENGINE_KEY": "", **environment}):
        url = f"http://127.0.0.1:{port}"
        _wait(f"{url}/healthz", log)
        found = KEY.search(log.read_text(encoding="utf-8"))
        if found is None:
            raise NotStarted("the engine printed no key for the sample enforcement point")
        yield Server(url, found.group())


def program() -> str:
    """Return where the engine's own command is."""
    return str(Path(sys.executable).with_name("policy-engine"))


@contextmanager
def doing_nothing(words: list[str], port: int, folder: Path) -> Iterator[None]:
    """Run a module of ours that listens on a port until the block ends."""
    with listening([sys.executable, "-m", *words], port, folder / f"{words[0]}.log"):
        yield


@contextmanager
def listening(command: list[str], port: int, log: Path) -> Iterator[None]:
    """Run a command until the block ends; the block begins when it listens. Raises `NotStarted`."""
    with _running(command, log, {}):
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        else:
            raise NotStarted(f"nothing listens after {START_SECONDS:g} s: {log.read_text(encoding='utf-8')[-2_000:]}")
        yield


def ask(url: str, body: bytes, key: str) -> bytes:
    """Post one body and return the answer's body. Raises `URLError` for anything but a 2xx."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    with urlopen(Request(url, data=body, headers=headers), timeout=10) as answer:
        return bytes(answer.read())


def free_port() -> int:
    """Return a loopback port that nothing listens on at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def _running(command: list[str], log: Path, environment: dict[str, str]) -> Iterator[None]:
    """Run a command with both outputs in `log`; end it by SIGTERM and wait for it."""
    settings = {name: value for name, value in os.environ.items() if not name.startswith("POLICY_ENGINE_")}
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=settings | environment, stdout=out, stderr=out)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(url: str, log: Path) -> None:
    """Return when the URL answers at all. Raises `NotStarted` after `START_SECONDS`."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        try:
            with urlopen(url, timeout=2):
                return
        except (URLError, OSError):
            time.sleep(0.1)
    tail = log.read_text(encoding="utf-8")[-2_000:]
    raise NotStarted(f"no answer within {START_SECONDS:g} s; the log ends:\n{KEY.sub('pe_...', tail)}")
