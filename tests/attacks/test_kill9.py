"""kill -9 under load: what was acknowledged is in the log, nothing is there twice, and the next start is ready.

The acknowledgements are counted here, in another process than the one that dies. (This shows that no acknowledgement
runs ahead of its commit; that a commit survives a loss of power is the business of `synchronous=FULL`.)
"""

from __future__ import annotations

import random
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from policy_engine.ledger.encoding import parse_public
from policy_engine.store.sqlite import SqliteStore
from tests.attacks.killed import IN_FLIGHT
from tests.services.evidencesamples import VAULT, open_desk

ROOT = Path(__file__).parents[2]
KILLS_COUNT = 22
READY_SECONDS = 2.0


@dataclass
class Told:
    """What the killed programs said before they died."""

    decisions: dict[int, str] = field(default_factory=dict)
    changes: set[int] = field(default_factory=set)
    in_flight: list[int] = field(default_factory=list)
    ready: list[float] = field(default_factory=list)
    twice: list[int] = field(default_factory=list)

    def hear(self, lines: list[bytes]) -> None:
        """Take down the lines of one program."""
        waiting: set[str] = set()
        most = 0
        for line in lines:
            kind, *words = line.decode().split()
            if kind == "S":
                waiting.add(words[0])
                most = max(most, len(waiting))
                continue
            if kind == "M":
                waiting.discard(words[0])
                continue
            seq = int(words[0])
            if seq in self.decisions or seq in self.changes:
                self.twice.append(seq)
            if kind == "A":
                self.decisions[seq] = words[1]
                waiting.discard(words[1])
            else:
                self.changes.add(seq)
        self.in_flight.append(most)


def start(path: Path) -> subprocess.Popen[bytes]:
    """Start a program that waits for its line."""
    command = [sys.executable, "-m", "tests.attacks.killed", str(path)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)


def run_and_kill(process: subprocess.Popen[bytes], seconds: float, told: Told) -> None:
    """Let a program work for a while after its first acknowledgement, kill it, and hear what it had said."""
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the program has pipes")
    if process.stdout.read(2) != b"R\n":
        raise RuntimeError("the program did not start")
    process.stdin.write(b"go\n")
    began = time.monotonic()
    data = b""
    killed_at = began + 30.0
    while time.monotonic() < killed_at:
        if select.select([process.stdout], [], [], max(0.0, killed_at - time.monotonic()))[0]:
            data += process.stdout.read(65_536)
            if killed_at > began + 29 and b"\nA " in data:
                told.ready.append(time.monotonic() - began)
                killed_at = time.monotonic() + seconds
    process.send_signal(signal.SIGKILL)
    while more := process.stdout.read(65_536):  # what it had said before it died is still in the pipe
        data += more
    process.wait()
    process.stdin.close()
    process.stdout.close()
    told.hear([line for line in data.split(b"\n")[:-1] if line])


def test_no_acknowledged_entry_is_lost(tmp_path: Path) -> None:
    """After 22 kills with over 50 decisions in flight: 0 lost, 0 duplicate, the log verifies, ready in two seconds."""
    path = tmp_path / "log.db"
    open_desk(path).close()
    chosen = random.Random(9)
    told = Told()
    upcoming = start(path)
    for kill in range(KILLS_COUNT):
        process, upcoming = upcoming, start(path)
        run_and_kill(process, chosen.uniform(0.01, 0.15), told)
        if kill == KILLS_COUNT - 1:
            upcoming.kill()
            upcoming.communicate()
    assert told.twice == []
    assert len(told.ready) == KILLS_COUNT
    assert max(told.ready) <= READY_SECONDS
    assert min(told.in_flight) >= 50
    assert max(told.in_flight) <= IN_FLIGHT
    store = SqliteStore(path, VAULT)
    log = {seq: parse_public(public) for _, seq, public in store.entries(limit=1_000_000)}
    store.close()
    assert sorted(log) == list(range(len(log)))
    assert {seq: log[seq]["id"] for seq in told.decisions if seq in log} == told.decisions
    assert {seq for seq in told.changes if log.get(seq, {}).get("kind") == "x"} == told.changes
    assert len({entry["id"] for entry in log.values()}) == len(log)
    desk = open_desk(path, new=False)
    assert desk.evidence.verify().findings == ()
    desk.close()
    assert len(told.decisions) > 20 * KILLS_COUNT
