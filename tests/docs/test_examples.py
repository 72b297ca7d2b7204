"""The README's and the guides' examples, executed: its own command starts the server, its blocks are pasted into it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tests.docs import pages
from tests.house import outputs

README = pages.ROOT / "README.md"
BIN = Path(sys.executable).parent
SECONDS_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Served:
    """The server that the README's first command starts, on another port and database."""

    port: int
    key: str
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """Return what a reader's second terminal holds."""
        own = {"KEY": self.key, "POLICY_ENGINE_DATABASE": f"sqlite:///{self.folder / 'engine.db'}"}
        return {**os.environ, **own, "PATH": f"{BIN}:{os.environ['PATH']}"}


def free_port() -> int:
    """Return a loopback port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Run the README's `make run` on a free port and a new database until the module's tests are done."""
    folder, port = tmp_path_factory.mktemp("readme"), free_port()
    first = pages.commands(pages.blocks(README, "sh")[0])
    assert first == ["make run"]
    # The environment is there already (these tests run in it): -o keeps make from looking at it again.
    command = ["make", "-s", "-o", ".venv/.ready", "run", f"PORT={port}"]
    command.append(f"DATABASE=sqlite:///{folder / 'engine.db'}")
    said, logged = folder / "stdout.txt", folder / "stderr.txt"
    settings = {name: value for name, value in os.environ.items() if not name.startswith("POLICY_ENGINE_")}
    with said.open("w") as out, logged.open("w") as errors:
        server = subprocess.Popen(
            command, cwd=pages.ROOT, env=settings, stdout=out, stderr=errors, start_new_session=True
        )
    try:
        wait_until_ready(port, server, logged)
        printed = said.read_text() + logged.read_text()
        keys = re.findall(r"\bpe_[A-Za-z0-9_-]{43}\b", printed)
        assert keys, "the server printed no keys"
        yield Served(port, keys[0], folder)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=20)
        lines = [line for line in logged.read_text().splitlines() if line.startswith("{")]
        outputs.keep("logs", "\n".join(lines))


def wait_until_ready(port: int, server: subprocess.Popen[bytes], logged: Path) -> None:
    """Return when `/readyz` answers 200; fail with the server's last words when it does not."""
    until = time.monotonic() + SECONDS_MAX
    while time.monotonic() < until and server.poll() is None:
        try:
            with urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (URLError, OSError):
            time.sleep(0.1)
    pytest.fail(f"`make run` did not get ready:\n{logged.read_text()[-2000:]}")


def asked_and_shown() -> list[tuple[pages.Block, pages.Block]]:
    """Return each `curl` block of the README with the answer that is shown under it."""
    found = pages.blocks(README, "sh", "json")
    return [(one, two) for one, two in pairwise(found) if "curl" in one.text]


@pytest.mark.parametrize("place", range(len(asked_and_shown())))
def test_each_request_of_the_readme_gets_the_answer_shown(served: Served, place: int) -> None:
    """A reader who pastes a request of the README gets the answer under it, member by member."""
    question, answer = asked_and_shown()[place]
    command = question.text.replace(":8181", f":{served.port}")
    done = subprocess.run(["bash", "-c", command], env=served.environment, capture_output=True, text=True, check=True)
    assert pages.differences(json.loads(answer.text), json.loads(done.stdout)) == []


def test_the_readme_shows_a_deny_before_an_allow() -> None:
    """The first screen shows one denied and one allowed decision, in this order."""
    assert [json.loads(answer.text)["decision"] for _, answer in asked_and_shown()] == [False, True]


def test_the_embedded_example_runs(tmp_path: Path) -> None:
    """The README's Python block, run as a program beside a copy of the policies folder, allows alice."""
    (block,) = pages.blocks(README, "python")
    shutil.copytree(pages.ROOT / "policies", tmp_path / "policies")
    (tmp_path / "example.py").write_text(block.text)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("POLICY_ENGINE_")}
    done = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "allowed\n"), done.stderr


def test_the_audit_example_verifies_the_running_database(served: Served, tmp_path: Path) -> None:
    """The README's third door verifies the database that the server has open, then a bundle of it; both end with 0."""
    (tmp_path / ".venv").symlink_to(pages.ROOT / ".venv")
    commands = [
        command
        for block in pages.blocks(README, "sh")
        for command in pages.commands(block)
        if "policy-engine" in command
    ]
    assert len(commands) == 3
    for command in commands:
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=served.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert "VERIFIED" in done.stdout + done.stderr
