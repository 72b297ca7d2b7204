"""The case of June 2026 on PostgreSQL: four workers under load receive the letter, the easing and the end.

Every answer of the load is kept with its person and model, and held against the log: an allow that the directive
forbids is of an older epoch and was committed before the letter was, or it does not exist.
"""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from random import Random
from typing import Any

import pytest

from policy_engine.cli.exits import Code
from policy_engine.core.instants import format_instant
from policy_engine.store.migrate import install
from tests.cli.test_postgres import PROGRAM, SECONDS_MAX, Installed, call, up
from tests.cli.test_serve import free_port
from tests.house import outputs
from tests.postgresql import running

LETTER = "commerce-letter-2026-06-12"
MODELS = ("fable-5", "mythos-5", "opus-4-8")
CONTROLLED = ("fable-5", "mythos-5")
EASED = ("mythos-5", "greg")
KEPT = {"alice": ("acme", "US"), "mina": ("acme", "US"), "ruth": ("lab", "US")}
FOREIGN = {"dana": ("acme", "GB"), "sofia": ("acme", "US"), "bruno": ("acme-de", "DE"), "greg": ("lab", "US")}
CONNECTIONS = 8
STAGE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer of the load: who asked for what, and what was said under which epoch."""

    person: str
    model: str
    allowed: bool
    id: str
    epoch: int


@dataclass
class Load:
    """Connections that ask one question after the other until they are told to stop."""

    port: int
    key: str
    answers: list[Answered] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self, seed: int) -> None:
        """Ask on one connection."""
        people = {**KEPT, **FOREIGN}
        cases = list(product(people, MODELS))
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        random = Random(seed)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"}
        try:
            while not self.stop.is_set():
                person, model = random.choice(cases)
                tenant, place = people[person]
                asked = {
                    "subject": {"type": "person", "id": person},
                    "action": {"name": "infer"},
                    "resource": {"type": "model", "id": model},
                    "context": {"tenant": tenant, "location": place, "serving_region": "US"},
                }
                connection.request("POST", "/access/v1/evaluation", json.dumps(asked), headers)
                answer = json.loads(connection.getresponse().read())
                context = answer["context"]
                self.answers.append(
                    Answered(person, model, answer["decision"], context.get("id", ""), context.get("epoch", 0))
                )
        except Exception as error:  # noqa: BLE001  a thread's trouble is the test's to report
            self.trouble.append(repr(error))
        finally:
            connection.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Installed, int]]:
    """Serve the sample world by four workers on one PostgreSQL database."""
    folder = tmp_path_factory.mktemp("june")
    server = running()
    name = server.new_database("template1")
    install(server.url(name))
    made = Installed(server, name, folder / "engine.keys")
    signing = {"SEQUENCER_DATABASE": server.url(name, "pe_sequencer"), "LOG_KEY": str(folder / "log.key")}
    first = made.run("models", "list")
    made.secrets.update(re.findall(r"^([a-z ]+): (pe_[A-Za-z0-9_-]{43})$", first.stderr, re.MULTILINE))
    port, log = free_port(), folder / "log"
    with log.open("w") as out:
        command = [PROGRAM, "serve", "--workers", "4", "--port", str(port)]
        process = subprocess.Popen(command, env=made.environment(**signing), stdout=out, stderr=out)
    try:
        until = time.monotonic() + SECONDS_MAX
        while not up(port):
            assert process.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.1)
        yield made, port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
        outputs.keep("logs", "\n".join(line for line in log.read_text().splitlines() if line.startswith("{")))
        server.drop_database(name)


def changed(service: tuple[Installed, int], path: str, body: Mapping[str, Any]) -> None:
    """Make a change as the operator, and have the approver approve it where it waits for a second person."""
    made, port = service
    status, done = call(port, "POST", path, made.secrets["operator"], body)
    assert status in (200, 201, 202), done
    if done.get("proposal") is not None:
        path, key = f"/v1/approvals/{done['proposal']}", made.secrets["approver"]
        _, shown = call(port, "GET", path, key)
        status, done = call(port, "POST", f"{path}/approve", key, {"hash": shown["hash"]})
        assert status in (200, 201), done


def play(service: tuple[Installed, int]) -> list[Answered]:
    """Receive, ease and end the directive while everybody asks; return every answer."""
    made, port = service
    load = Load(port, made.secrets["enforcement point"])
    threads = [threading.Thread(target=load.run, args=(seed,)) for seed in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    now = format_instant(time.time_ns() // 1_000)
    letter = {
        "id": LETTER,
        "from": now,
        "models": list(CONTROLLED),
        "blocks": ["foreign_person", "destination_outside_us"],
    }
    easing = {"id": "easing", "from": now, "models": ["mythos-5"], "who": "lab_foreign_national_employees"}
    time.sleep(STAGE_SECONDS)
    changed(service, "/v1/orders", {"kind": "directive", "document": letter})
    time.sleep(STAGE_SECONDS)
    changed(service, f"/v1/orders/{LETTER}/amend", {"document": {**letter, "exempts": [easing]}})
    time.sleep(STAGE_SECONDS)
    changed(service, f"/v1/orders/{LETTER}/end", {"reason": "lifted"})
    time.sleep(STAGE_SECONDS)
    load.stop.set()
    for thread in threads:
        thread.join(timeout=30)
    assert load.trouble == []
    return load.answers


def test_the_letter_takes_hold_with_its_commit(service: tuple[Installed, int]) -> None:
    """No allow against the directive after `committed`; the easing and the end take hold as exactly."""
    made, _ = service
    answers = play(service)
    assert made.run("audit", "verify").returncode == Code.OK
    told = made.run("audit", "timeline")
    assert told.returncode == Code.OK, told.stderr
    stretches = {row["epoch"]: row for row in json.loads(told.stdout)["stretches"]}
    changes = {row["kind"]: row["epoch"] for row in stretches.values() if row["of"] == LETTER}
    assert list(changes) == ["order.received", "order.amended", "order.ended"]
    received, amended, ended = changes.values()
    assert all(row["late_count"] == 0 for row in stretches.values())

    usual = {(answer.person, answer.model): answer.allowed for answer in answers if answer.epoch < received}
    assert all(usual[person, "fable-5"] for person in FOREIGN) and usual["greg", "mythos-5"]
    for answer in answers:
        forbidden = answer.model in CONTROLLED and answer.person in FOREIGN
        eased = (answer.model, answer.person) == EASED and answer.epoch >= amended
        in_force = received <= answer.epoch < ended
        wanted = usual[answer.person, answer.model] and not (in_force and forbidden and not eased)
        assert answer.allowed is wanted, answer
    for epochs in (range(received), range(received, amended), range(amended, ended), range(ended, ended + 1)):
        assert sum(answer.epoch in epochs for answer in answers) > 50, epochs
