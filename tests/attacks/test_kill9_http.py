"""kill -9 of the served engine under load: no answer that said allow is lost, none is there twice, and it is back soon.

The clients and their count live in this process, the engine in another that is killed. At least fifty requests are in
flight whenever it dies. Every receipt that a client kept is honoured afterwards, and every checkpoint that an auditor
saw is one of the tree that the next start goes on with.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from policy_engine.core.instants import SECOND
from policy_engine.services.evidence import verify
from policy_engine.services.keyfile import open_vault
from policy_engine.store.sqlite import SqliteStore
from tests.durability.honoured import broken_receipts, other_trees

ROOT = Path(__file__).parents[2]
KILLS_COUNT = 20
NIGHTLY_KILLS_COUNT = 300
CONNECTIONS_COUNT = 60
IN_FLIGHT_LEAST = 50
READY_SECONDS = 2.0
RECEIPT_EACH = 50
"""Of so many allows a client keeps one receipt: checking one takes longer than deciding."""

BODY = json.dumps(
    {
        "subject": {"type": "person", "id": "alice"},
        "action": {"name": "infer"},
        "resource": {"type": "model", "id": "fable-5"},
        "context": {"tenant": "acme", "location": "US"},
    }
).encode()


class Service:
    """`policy-engine serve` on one database, started as often as it is killed."""

    def __init__(self, folder: Path) -> None:
        self.database = folder / "engine.db"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.key = self.auditor = ""
        self.log = folder / "serve.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start it and return the seconds until it is ready, without those that it waited for a processor."""
        program = Path(sys.executable).with_name("policy-engine")
        environment = {**os.environ, "POLICY_ENGINE_DATABASE": f"sqlite:///{self.database}"}
        began = time.monotonic()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(program), "serve", "--port", str(self.port)],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=subprocess.DEVNULL,
            )
        waited = 0.0
        while not self._ready():
            waited = waited_seconds(self.process.pid)
            assert self.process.poll() is None, "the service did not start"
            assert time.monotonic() - began < 30, "the service is not ready after half a minute"
            time.sleep(0.01)
        if not self.key:
            found = re.search(r"enforcement point\s+(pe_\S+)", self.log.read_text())
            assert found is not None
            self.key = found.group(1)
            self.auditor = re.search(r"auditor\s+(pe_\S+)", self.log.read_text()).group(1)  # type: ignore[union-attr]  # made with the other
        return time.monotonic() - began - waited

    def kill(self) -> None:
        """Kill it as nothing can catch."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def checkpoint(self) -> bytes | None:
        """Return the newest checkpoint as an auditor sees it, `None` before there is one."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/v1/log/checkpoint", headers={"Authorization": f"Bearer {self.auditor}"}
        )
        with suppress(urllib.error.HTTPError), urllib.request.urlopen(request, timeout=10) as answer:
            return bytes(answer.read())
        return None

    def _ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                return b" 200 " in connection.recv(64)
        except OSError:
            return False


def waited_seconds(pid: int) -> float:
    """Return how long a process could have run and had no processor: the machine is shared with other tests."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


class Load:
    """Clients that ask over and over, and what they were told."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.allowed: list[str] = []
        self.receipts: list[dict[str, Any]] = []
        self.in_flight = 0

    async def until_killed(self, seconds: float) -> int:
        """Ask from many connections, kill the service after so long, and return how many requests were in flight."""
        clients = [asyncio.create_task(self._ask()) for _ in range(CONNECTIONS_COUNT)]
        await asyncio.sleep(seconds)
        in_flight = self.in_flight
        await asyncio.to_thread(self.service.kill)
        await asyncio.gather(*clients)
        return in_flight

    async def _ask(self) -> None:
        head = f"POST /access/v1/evaluation HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.service.key}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
        request = head.encode() + BODY
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.service.port)
        except OSError:
            return
        try:
            while True:
                writer.write(request)
                self.in_flight += 1
                answer = await reader.readuntil(b"\r\n\r\n")
                length = int(re.search(rb"content-length: (\d+)", answer.lower()).group(1))  # type: ignore[union-attr]  # uvicorn sends it
                decision = json.loads(await reader.readexactly(length))
                self.in_flight -= 1
                if decision["decision"]:
                    self.allowed.append(decision["context"]["id"])
                    if len(self.allowed) % RECEIPT_EACH == 0:
                        self.receipts.append(decision["context"]["receipt"])
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


@dataclass
class Killed:
    """What a campaign of kills showed."""

    load: Load
    ready: list[float] = field(default_factory=list)
    in_flight: list[int] = field(default_factory=list)
    checkpoints: list[bytes] = field(default_factory=list)

    def line(self) -> str:
        """Return the figures as one line."""
        return (
            f"kill -9 of the service: {len(self.in_flight)} kills, {len(self.load.allowed)} allows acknowledged, "
            f"{len(self.load.receipts)} receipts and {len(self.checkpoints)} checkpoints kept; ready again after "
            f"{median(self.ready):.2f} s (median), at most {max(self.ready):.2f} s"
        )


def kill_often(folder: Path, count: int, seed: int) -> tuple[Service, Killed]:
    """Kill the service so often under load, with a look at its checkpoint before each, and return what was told."""
    service = Service(folder)
    killed = Killed(Load(service))
    service.start()
    chance = random.Random(seed)
    for _ in range(count):
        killed.load.in_flight = 0
        killed.in_flight.append(asyncio.run(killed.load.until_killed(chance.uniform(0.15, 0.45))))
        killed.ready.append(service.start())
        checkpoint = service.checkpoint()
        killed.checkpoints += [] if checkpoint is None else [checkpoint]
    service.kill()
    return service, killed


def check(service: Service, killed: Killed) -> None:
    """Compare what clients and auditor were told with what the log holds."""
    vault = open_vault(Path(f"{service.database}.keys"), database_is_empty=False, now=SECOND)
    store = SqliteStore(service.database, vault)
    try:
        public = [(seq, json.loads(public)) for _, seq, public in store.entries(limit=100_000_000)]
        with store.view() as view:
            assert verify(view, vault, lambda *_: None).ok
            assert broken_receipts(view, killed.load.receipts) == []
            assert other_trees(view, killed.checkpoints) == []
    finally:
        store.close()
    entries = Counter(entry["id"] for _, entry in public if entry["kind"] == "decision")
    assert [seq for seq, _ in public] == list(range(len(public)))
    assert min(killed.in_flight) >= IN_FLIGHT_LEAST
    assert [id for id in killed.load.allowed if entries[id] != 1] == []
    assert len(set(killed.load.allowed)) == len(killed.load.allowed)
    # The other half of the suite slows the disk as well: the usual start counts, and none may hang.
    assert median(killed.ready) <= READY_SECONDS, sorted(killed.ready)
    assert max(killed.ready) <= 5 * READY_SECONDS, sorted(killed.ready)


@pytest.mark.campaign
def test_no_acknowledged_decision_is_lost_when_the_service_is_killed(tmp_path: Path) -> None:
    """Twenty kills under load: every allow and receipt given out has its one entry, and each start is ready soon."""
    service, killed = kill_often(tmp_path, KILLS_COUNT, 1)
    check(service, killed)
    assert len(killed.load.allowed) >= 1_000
    assert len(killed.load.receipts) >= 20
    assert len(set(killed.checkpoints)) >= 3


@pytest.mark.nightly
def test_three_hundred_kills(tmp_path: Path, tell: Callable[[str], None]) -> None:
    """The same three hundred times, on one log, with figures."""
    service, killed = kill_often(tmp_path, NIGHTLY_KILLS_COUNT, 300)
    tell(killed.line())
    check(service, killed)
