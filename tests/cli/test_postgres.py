"""The commands and the service on PostgreSQL: filled once, changed by an operator's login only, served by workers."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from policy_engine.cli.exits import Code
from policy_engine.store.migrate import install
from tests.cli.test_serve import free_port
from tests.house import outputs
from tests.postgresql import Server, running

POLICIES = Path(__file__).parents[2] / "policies"
PROGRAM = Path(sys.executable).with_name("policy-engine")
PERSON = ("--subject", "alice", "--model", "fable-5", "--action", "infer", "--tenant", "acme", "--location", "US")
SECONDS_MAX = 60.0
CHANGING = (
    "/v1/subjects", "/v1/tenants", "/v1/releases", "/v1/releases/x/activate", "/v1/switches", "/v1/switches/x/release",
    "/v1/orders", "/v1/orders/x/amend", "/v1/orders/x/end", "/v1/approvals/x/approve", "/v1/approvals/x/refuse",
)  # fmt: skip
READING = ("/v1/models", "/v1/subjects/expiring", "/v1/releases", "/v1/switches", "/v1/orders", "/v1/approvals")


@dataclass
class Installed:
    """An installed database, and the environment of whoever may change it."""

    server: Server
    name: str
    keys: Path
    secrets: dict[str, str] = field(default_factory=dict)

    def environment(self, **settings: str | None) -> dict[str, str]:
        """Return the environment of a command; `None` takes a variable away."""
        given = {
            "DATABASE": self.server.url(self.name, "pe_writer"),
            "OPERATOR_DATABASE": self.server.url(self.name, "pe_operator"),
            "POLICIES": str(POLICIES),
            "KEYS": str(self.keys),
            "SERVING_REGION": "US",
            "SAMPLE_WORLD": "yes",
            **settings,
        }
        own = {name: value for name, value in os.environ.items() if not name.startswith("POLICY_ENGINE_")}
        return own | {f"POLICY_ENGINE_{name}": value for name, value in given.items() if value is not None}

    def run(self, *words: str, **settings: str | None) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [PROGRAM, *words], env=self.environment(**settings), capture_output=True, text=True, check=False
        )


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Installed]:
    """An installed database, as an administrator leaves it."""
    server = running()
    name = server.new_database("template1")
    install(server.url(name))
    yield Installed(server, name, tmp_path / "engine.keys")
    server.drop_database(name)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """A database that the first command filled with the sample world."""
    server = running()
    name = server.new_database("template1")
    install(server.url(name))
    made = Installed(server, name, tmp_path_factory.mktemp("keys") / "engine.keys")
    first = made.run("check", *PERSON)
    assert first.returncode == Code.OK, first.stderr
    assert json.loads(first.stdout)["decision"] is True
    made.secrets.update(re.findall(r"^([a-z ]+): (pe_[A-Za-z0-9_-]{43})$", first.stderr, re.MULTILINE))
    yield made
    server.drop_database(name)


def test_an_empty_database_is_filled_by_an_operator_only(empty: Installed) -> None:
    """Without the operator's login, the key file's name or the word for a sample world a start is refused, exit 4."""
    for setting, words in (
        ("OPERATOR_DATABASE", "POLICY_ENGINE_OPERATOR_DATABASE"),
        ("KEYS", "POLICY_ENGINE_KEYS"),
        ("SAMPLE_WORLD", "POLICY_ENGINE_SAMPLE_WORLD=yes"),
    ):
        refused = empty.run("check", *PERSON, **{setting: None})
        assert refused.returncode == Code.REFUSED, refused.stderr
        assert words in refused.stderr
        assert not empty.keys.exists()


@pytest.mark.campaign
def test_commands_read_change_and_verify(filled: Installed) -> None:
    """A switch is engaged through the operator's login and seen at once; without it nothing is changed; it verifies."""
    words = ("switch", "engage", "off", "--scope", "model=summit-4", "--reason", "drill")
    refused = filled.run(*words, OPERATOR_DATABASE=None)
    assert refused.returncode != 0
    assert "POLICY_ENGINE_OPERATOR_DATABASE" in refused.stderr
    engaged = filled.run(*words)
    assert engaged.returncode == 0, engaged.stderr
    person = [word if word != "fable-5" else "summit-4" for word in PERSON]
    denied = filled.run("check", *person, OPERATOR_DATABASE=None)
    assert denied.returncode == Code.DENY
    assert json.loads(denied.stdout)["context"]["reasons"][0]["code"] == "switch.engaged"
    for words in (("audit", "verify"), ("doctor",), ("switch", "list"), ("models", "list"), ("policy", "list")):
        done = filled.run(*words)
        assert done.returncode == 0, (words, done.stderr)
    logs = json.loads(filled.run("audit", "verify").stdout)["heads"]
    assert len(logs) >= 3
    told = filled.run("audit", "query")
    assert told.returncode == 0, told.stderr
    assert "may still come" in told.stderr


@pytest.mark.campaign
def test_only_a_machine_with_a_sequencers_login_signs(filled: Installed, tmp_path: Path) -> None:
    """Without the file of the key, or with another role's login, it does not start; with both the tree is signed."""
    key = str(tmp_path / "log.key")
    login = filled.server.url(filled.name, "pe_sequencer")
    for settings in (
        {"SEQUENCER_DATABASE": login},
        {"SEQUENCER_DATABASE": filled.server.url(filled.name, "pe_writer"), "LOG_KEY": key},
    ):
        refused = filled.run("check", *PERSON, **settings)
        assert refused.returncode == Code.REFUSED, refused.stderr
        assert "POLICY_ENGINE_" in refused.stderr
    signing = {"SEQUENCER_DATABASE": login, "LOG_KEY": key}
    assert filled.run("check", *PERSON, **signing).returncode == Code.OK
    assert Path(key).stat().st_mode & 0o777 == 0o600
    shown = filled.run("doctor")
    checks = {check["name"]: check["found"] for check in json.loads(shown.stdout)["checks"]}
    assert " 0 batches pending" in checks["tree"]
    assert checks["log key"].startswith("policy-engine.local/")
    assert filled.run("audit", "verify").returncode == 0
    another = filled.run("check", *PERSON, **{**signing, "LOG_KEY": str(tmp_path / "other.key")})
    assert another.returncode == Code.REFUSED
    assert "put it back" in another.stderr


def test_the_demo_does_not_play_on_it(filled: Installed) -> None:
    """The demo sets the clock, which a database in use does not let it; it says so and makes no file."""
    refused = filled.run("demo")
    assert refused.returncode == Code.REFUSED
    assert "SQLite" in refused.stderr


def call(port: int, method: str, path: str, key: str | None = None, body: Any = None) -> tuple[int, Any]:
    """Return the status and the body of an answer."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    data = None if body is None else json.dumps(body).encode()
    request = Request(f"http://127.0.0.1:{port}{path}", data, headers, method=method)
    try:
        with urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.parametrize("operator", [True, pytest.param(False, marks=pytest.mark.campaign)])
def test_workers_share_a_port_and_change_only_with_the_login(filled: Installed, tmp_path: Path, operator: bool) -> None:
    """Three workers answer on one port and decide; routes that change exist only with the operator's login."""
    port, log = free_port(), tmp_path / "log"
    settings = {} if operator else {"OPERATOR_DATABASE": None}
    point, key = filled.secrets["enforcement point"], filled.secrets["operator"]
    with log.open("w") as out:
        command = [PROGRAM, "serve", "--workers", "3", "--port", str(port)]
        process = subprocess.Popen(command, env=filled.environment(**settings), stdout=out, stderr=out)
    try:
        until = time.monotonic() + SECONDS_MAX
        while not up(port):
            assert process.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.1)
        assert "made-up" not in log.read_text()
        asked = {
            "subject": {"type": "person", "id": "alice"},
            "action": {"name": "infer"},
            "resource": {"type": "model", "id": "fable-5"},
            "context": {"tenant": "acme", "location": "US"},
        }
        for _ in range(10):
            status, answer = call(port, "POST", "/access/v1/evaluation", point, asked)
            assert (status, answer["decision"]) == (200, True)
        for path in CHANGING:
            status, _ = call(port, "POST", path, key, {})
            if operator:
                assert status != 405 and ("/x/" in path or status != 404), path
            else:
                assert status == 404, path
        for path in READING:
            assert call(port, "GET", path, key)[0] in (200, 403), path
        status, described = call(port, "GET", "/openapi.json")
        assert ("post" in described["paths"]["/v1/switches"]) is operator
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=30)
        outputs.keep("logs", "\n".join(line for line in log.read_text().splitlines() if line.startswith("{")))
    assert code == 0
    assert filled.run("audit", "verify").returncode == 0


def up(port: int) -> bool:
    """Say whether somebody answers that it is ready."""
    try:
        return call(port, "GET", "/readyz")[0] == 200
    except OSError:
        return False
