"""Two regions for tests: an engine that serves in a process of its own, on a PostgreSQL server of its own, each."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from policy_engine.services.cells.addresses import Cell
from tests.api.served import request
from tests.cli.test_serve import free_port
from tests.house import outputs
from tests.postgresql import Server

POLICIES = Path(__file__).parents[2] / "policies"
PROGRAM = Path(sys.executable).with_name("policy-engine")
SECONDS_MAX = 60.0
_KEY = re.compile(r"^  ([a-z ]+?) +(pe_[A-Za-z0-9_-]{43})$", re.MULTILINE)


@dataclass
class Region:
    """One cell: where it answers, the keys of its sample principals, and the process that serves it, while one does."""

    name: str
    server: Server
    database: str
    folder: Path
    valid_for_ms: int
    port: int = field(default_factory=free_port)
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def cell(self, key: str = "operator") -> Cell:
        """Return it as a cell that one of its principals asks."""
        return Cell(self.name, self.url, self.secrets[key])

    def begin(self, **settings: str) -> None:
        """Start serving; `await_ready` waits for it."""
        given = {
            "DATABASE": self.server.url(self.database, "pe_writer"),
            "OPERATOR_DATABASE": self.server.url(self.database, "pe_operator"),
            "POLICIES": str(POLICIES),
            "KEYS": str(self.folder / "engine.keys"),
            "SERVING_REGION": "US",
            "SAMPLE_WORLD": "yes",
            "VALID_FOR_MS": str(self.valid_for_ms),
            **settings,
        }
        own = {name: value for name, value in os.environ.items() if not name.startswith("POLICY_ENGINE_")}
        own |= {f"POLICY_ENGINE_{name}": value for name, value in given.items()}
        with (self.folder / "log").open("w") as out:
            self.process = subprocess.Popen(
                [PROGRAM, "serve", "--port", str(self.port)], env=own, stdout=out, stderr=out
            )

    def await_ready(self) -> None:
        """Wait until it answers; keep the keys of the start that filled the database."""
        until = time.monotonic() + SECONDS_MAX
        while not self._answers():
            assert self.process is not None and self.process.poll() is None, self._said()
            assert time.monotonic() < until, self._said()
            time.sleep(0.05)
        self.secrets |= dict(_KEY.findall(self._said()))

    def stop(self) -> None:
        """Keep it standing: connections are taken by the system, and nobody answers."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it run again."""
        self._signal(signal.SIGCONT)

    def end(self) -> None:
        """End the process; its port is refused then."""
        process, self.process = self.process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
        outputs.keep("logs", "\n".join(line for line in self._said().splitlines() if line.startswith("{")))

    def ask(self, method: str, path: str, key: str = "operator", body: Any = None) -> tuple[int, Any]:
        """Return the status and the body of an answer."""
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.secrets.get(key, key)}"}
        data = None if body is None else json.dumps(body).encode()
        try:
            with urlopen(Request(self.url + path, data, headers, method=method), timeout=10) as answer:
                return answer.status, json.load(answer)
        except HTTPError as error:
            with error:
                return error.code, json.load(error)

    def decide(self, model: str) -> Any:
        """Return the answer about alice and a model: its decision, and the first reason's code."""
        status, answer = self.ask(
            "POST", "/access/v1/evaluation", "enforcement point", request("alice", "acme", "US", model)
        )
        assert status == 200, answer
        return answer["decision"], [each["code"] for each in answer["context"]["reasons"]]

    def approve(self, proposal: str) -> None:
        """Approve what waits, as its second person."""
        _, shown = self.ask("GET", f"/v1/approvals/{proposal}", "approver")
        status, said = self.ask("POST", f"/v1/approvals/{proposal}/approve", "approver", {"hash": shown["hash"]})
        assert status == 200, said

    def _signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def _answers(self) -> bool:
        try:
            with urlopen(f"{self.url}/readyz", timeout=2):
                return True
        except OSError:
            return False

    def _said(self) -> str:
        return (self.folder / "log").read_text()


@contextmanager
def regions(places: Sequence[tuple[str, Server, int]], folder: Path) -> Iterator[list[Region]]:
    """Serve one region for each name, server and budget, until the block ends."""
    made = []
    for name, server, valid_for_ms in places:
        database = server.new_database()
        own = folder / name
        own.mkdir()
        made.append(Region(name, server, database, own, valid_for_ms))
    try:
        for region in made:
            region.begin()
        for region in made:
            region.await_ready()
        yield made
    finally:
        for region in made:
            region.end()
            region.server.drop_database(region.database)


def cells_file(folder: Path, found: Sequence[Region], key: str = "operator") -> Path:
    """Write a file of cells with a file for each key, and return it."""
    tables = []
    for region in found:
        secret = folder / f"{region.name}.key"
        secret.write_text(region.secrets.get(key, key) + "\n")
        secret.chmod(0o600)
        tables.append(f'[[cell]]\nname = "{region.name}"\nurl = "{region.url}"\nkey_file = "{secret.name}"\n')
    file = folder / "cells.toml"
    file.write_text("\n".join(tables))
    return file
