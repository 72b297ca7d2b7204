"""The engine embedded on a shared PostgreSQL: the same evidence, the same fence, the same silence when it is cut off.

Two programs embed it, an operator changes orders through a process of their own, and a relay stands between one of the
programs and the server.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from policy_engine import PolicyEngine
from policy_engine.bootstrap import open_engine
from policy_engine.errors import StartRefused
from policy_engine.services.withdrawal import Stage
from policy_engine.settings import Settings
from policy_engine.store.migrate import install
from tests.conftest import POLICIES
from tests.laws.sample import decisions
from tests.postgresql import Server, running
from tests.withdrawal.relay import relay

ALICE: dict[str, Any] = {"subject": "alice", "action": "infer", "tenant": "acme", "location": "US"}


@dataclass
class Shared:
    """A database that several programs share, its key file, and the secrets of the sample's principals."""

    server: Server
    name: str
    keys: Path
    secrets: dict[str, str]

    def settings(self) -> dict[str, Any]:
        """Return what a program is given beside folder and database."""
        return {"keys": self.keys, "serving_region": "US", "sample_world": "yes"}

    def url(self, folder: Path | None = None) -> str:
        """Return the writer's URL, through another folder of the server's socket where one is named."""
        url = self.server.url(self.name, "pe_writer")
        return url if folder is None else url.replace(_quoted(self.server.parts["host"]), _quoted(str(folder)))

    def open(self, folder: Path | None = None) -> PolicyEngine:
        """Open the engine as a program embeds it."""
        return PolicyEngine.open(POLICIES, database=self.url(folder), **self.settings())

    def operator(self) -> Any:
        """Open the engine as the one who changes orders, in a process that does not decide."""
        own = self.settings() | {"operator_database": self.server.url(self.name, "pe_operator")}
        return open_engine(Settings(policies=POLICIES, database=self.url(), **own))


def _quoted(path: str) -> str:
    return path.replace("/", "%2F")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """Offer a database that an operator filled with the sample world."""
    server = running()
    name = server.new_database("template1")
    install(server.url(name))
    made = Shared(server, name, tmp_path_factory.mktemp("keys") / "engine.keys", {})
    operator = made.operator()
    made.secrets = {key.label: key.secret for key in operator.sample_keys}
    operator.close()
    yield made
    server.drop_database(name)


def engine_of(opened: PolicyEngine) -> Any:
    """Return the engine behind an embedded one."""
    return opened._asked.engine  # type: ignore[attr-defined]  # of an embedded engine


def codes(decision: Any) -> list[str]:
    """Return the reason codes of a decision."""
    return [reason.code for reason in decision.reasons]


def soon(happened: Callable[[], object], seconds: float) -> bool:
    """Return whether something happened within the time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if happened():
            return True
        time.sleep(0.01)
    return False


def test_two_programs_write_the_same_evidence_into_one_database(shared: Shared) -> None:
    """Each has a log of its own; everybody finds every decision, and the whole verifies."""
    with shared.open() as one, shared.open() as two:
        allowed = one.decide(model="open-1", **ALICE)
        denied = asyncio.run(two.decide_async(model="mythos-5", **ALICE))
        assert allowed
        assert not denied
        assert allowed.receipt is not None
        recorded = {each.public["id"]: each for each in decisions(engine_of(one))}
        near, far = recorded[allowed.id], recorded[denied.id]
        assert near.log_id != far.log_id
        assert [each.body["subject"] for each in (near, far)] == ["alice", "alice"]
        assert [each.public["outcome"] for each in (near, far)] == ["allow", "deny"]
        assert near.public["by"] == far.public["by"]
        assert engine_of(two).evidence.verify().ok


def test_a_switch_engaged_elsewhere_fences_and_ends(shared: Shared) -> None:
    """After its commit no program allows; what was held ends within a second; and `drained` waited for them."""
    operator = shared.operator()
    try:
        with shared.open() as one, shared.open() as two:
            holds = [engine.hold(engine.decide(model="fable-5", **ALICE)) for engine in (one, two)]
            principal = operator.keys.authenticate(shared.secrets["operator"])
            engaged = operator.switches.engage(principal, "stop", {"models": ["fable-5"]}, "a test")
            began = time.monotonic()
            for engine in (one, two):
                assert codes(engine.decide(model="fable-5", **ALICE)) == ["switch.engaged"]
            assert soon(lambda: all(hold.ended is not None for hold in holds), 1.0 - (time.monotonic() - began))
            followed = operator.withdrawals.follow().committed(engaged.committed)
            assert followed.wait(Stage.DRAINED, 10).has_reached(Stage.DRAINED)
            living = [replica for replica in operator.withdrawals.replicas() if replica.ended is None]
            assert len(living) == 2
    finally:
        operator.close()


def test_a_program_that_is_cut_off_denies_and_comes_back(shared: Shared, tmp_path: Path) -> None:
    """Nothing passes between it and the server: it denies within its time, and allows again when it is let through."""
    with relay(tmp_path, f"{shared.server.parts['host']}/.s.PGSQL.5432") as between, shared.open(tmp_path) as engine:
        hold = engine.hold(engine.decide(model="open-1", **ALICE))
        between.cut()
        began = time.monotonic()
        assert set(codes(engine.decide(model="open-1", **ALICE))) <= {"log.unavailable", "replica.cut-off"}
        assert soon(lambda: hold.ended is not None, 5.0)
        assert time.monotonic() - began < 15
        between.mend()
        assert soon(lambda: engine.decide(model="open-1", **ALICE), 20.0)


WORKER = """
import sys
from policy_engine import PolicyEngine
url, keys, policies = sys.argv[1:]
with PolicyEngine.open(policies, database=url, keys=keys, serving_region="US", sample_world="yes") as engine:
    asked = dict(subject="alice", model="open-1", action="infer", tenant="acme", location="US")
    print(*[engine.decide(**asked).id for _ in range(20)])
"""


def test_workers_each_embed_their_own(shared: Shared) -> None:
    """Processes beside each other, as a server's workers are: a log each, no decision lost, and one tree that holds."""
    command = [sys.executable, "-c", WORKER, shared.url(), str(shared.keys), str(POLICIES)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker, shared.open() as engine:
        ids = [engine.decide(model="open-1", **ALICE).id for _ in range(20)]
        theirs = worker.communicate(timeout=60)[0].split()
        assert (worker.returncode, len(theirs), len({*ids, *theirs})) == (0, 20, 40)
        recorded = {each.public["id"]: each.log_id for each in decisions(engine_of(engine))}
        assert {recorded[id] for id in ids}.isdisjoint({recorded[id] for id in theirs})
        assert engine_of(engine).evidence.verify().ok


def test_a_sample_world_does_not_get_into_production_by_embedding(shared: Shared) -> None:
    """On PostgreSQL it has to be said, for a program as for a service."""
    with pytest.raises(StartRefused, match="sample world"):
        PolicyEngine.open(POLICIES, database=shared.url(), keys=shared.keys, serving_region="US")
