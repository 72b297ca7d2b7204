"""Whether the service says truly what it can do, and what it answers while its log is away."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from policy_engine.api.condition import gauges, read_condition, tier_label
from policy_engine.errors import LogForked
from policy_engine.services.witness import WitnessState
from policy_engine.store.interfaces import State
from tests.api.served import ALICE, EVE, Served, serving


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Served]:
    """Offer a service whose database one test may take away."""
    with serving(tmp_path, serving_region="US") as running:
        yield running


@contextmanager
def database_gone(folder: Path) -> Iterator[None]:
    """Move the database away under the service, and back."""
    (folder / "engine.db").rename(folder / "away.db")
    try:
        yield
    finally:
        (folder / "away.db").rename(folder / "engine.db")


def metrics(served: Served) -> dict[str, float]:
    """Return the samples of `/metrics` by name and labels."""
    lines = [line for line in served.get("/metrics").text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_a_ready_service_says_release_epoch_and_sample(own: Served) -> None:
    """Readiness names what decides, and that the database is a sample."""
    state = own.engine.store.state()
    answer = own.get("/readyz")
    assert answer.json() == {"status": "ready", "release": state.release, "epoch": state.epoch, "sample": True}
    assert answer.headers["cache-control"] == "no-store"
    assert own.get("/healthz").json() == {"status": "ok"}


def test_an_overdue_suspension_is_a_warning_and_a_gauge(own: Served) -> None:
    """The service stays ready, warns without naming the order, counts it, and is quiet once it is confirmed."""
    letter = {"id": "letter", "models": ["fable-5"], "blocks": ["foreign_person"]}
    past, later = "2026-01-01T00:00:00Z", "2199-01-01T00:00:00Z"
    received = {"kind": "directive", "document": {**letter, "reconfirm_by": past}}
    assert own.post("/v1/orders", received, key="operator").status_code == 201
    ready = own.get("/readyz")
    assert ready.status_code == 200 and [each["where"] for each in ready.json()["warnings"]] == ["suspension.overdue"]
    assert "letter" not in ready.text and metrics(own)["policy_engine_suspensions_overdue"] == 1
    confirmed = own.post("/v1/orders/letter/amend", {"document": {**letter, "reconfirm_by": later}}, key="operator")
    assert (confirmed.status_code, confirmed.json()["status"]) == (200, "committed")
    assert "warnings" not in own.get("/readyz").json() and metrics(own)["policy_engine_suspensions_overdue"] == 0


def test_the_metadata_are_served_where_the_standard_looks(tmp_path: Path) -> None:
    """The identifier's path stands behind the well-known one; the answer may be cached."""
    with serving(tmp_path, public_url="https://pdp.example/tenant1") as served:
        assert served.get("/.well-known/authzen-configuration").status_code == 404
        answer = served.get("/.well-known/authzen-configuration/tenant1", headers={"X-Request-ID": "d-1"})
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "public, max-age=3600"
        assert answer.headers["x-request-id"] == "d-1"
        assert answer.json() == {
            "policy_decision_point": "https://pdp.example/tenant1",
            "access_evaluation_endpoint": "https://pdp.example/tenant1/access/v1/evaluation",
            "access_evaluations_endpoint": "https://pdp.example/tenant1/access/v1/evaluations",
            "search_subject_endpoint": "https://pdp.example/tenant1/access/v1/search/subject",
            "search_resource_endpoint": "https://pdp.example/tenant1/access/v1/search/resource",
            "search_action_endpoint": "https://pdp.example/tenant1/access/v1/search/action",
        }


def test_without_its_database_the_service_denies_says_so_and_recovers(own: Served, tmp_path: Path) -> None:
    """No allow without an entry, no change, no readiness; a deny and its reason instead, and all of it back after."""
    assert own.decide(ALICE)["decision"] is True
    with database_gone(tmp_path):
        denied = own.decide(ALICE)
        assert denied["decision"] is False
        assert [reason["code"] for reason in denied["context"]["reasons"]] == ["log.unavailable"]
        batch = own.post("/access/v1/evaluations", {**ALICE, "evaluations": [{}, {}]}).json()
        assert [item["decision"] for item in batch["evaluations"]] == [False, False]
        ready = own.get("/readyz")
        assert (ready.status_code, ready.headers["content-type"]) == (503, "application/problem+json")
        assert [each["where"] for each in ready.json()["errors"]] == ["store.unreadable"]
        switch = {"id": "r-1", "scope": {"models": ["open-1"]}, "reason": "r"}
        refused = own.post("/v1/switches", switch, key="operator")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        found = metrics(own)
        assert (found["policy_engine_log_away"], found["policy_engine_ready"]) == (1, 0)
        assert own.get("/healthz").status_code == 200
    until = time.monotonic() + 10
    while own.get("/readyz").status_code != 200 and time.monotonic() < until:
        time.sleep(0.1)
    assert own.get("/readyz").status_code == 200
    assert own.decide(ALICE)["decision"] is True
    assert metrics(own)["policy_engine_log_away"] == 0


def test_metrics_count_what_was_answered_and_name_nobody(own: Served) -> None:
    """Outcomes, rules and refusals are counted; no person, tenant, place or id is in the text."""
    own.decide(ALICE)
    own.decide(EVE)
    own.post("/access/v1/evaluation", b"{")
    found = metrics(own)
    assert found['policy_engine_decisions_total{outcome="allow",tier="4"}'] == 1
    assert found['policy_engine_decisions_total{outcome="deny",tier="4"}'] == 1
    assert found['policy_engine_denies_by_rule_total{rule="P8"}'] == 1
    assert found['policy_engine_refused_total{status="400"}'] == 1
    assert found["policy_engine_decision_seconds_count"] == 2
    assert found["policy_engine_epoch"] == own.engine.store.state().epoch
    assert not re.search(r"\b(alice|eve|acme|gateway|fable-5)\b", own.get("/metrics").text)


@dataclass
class Standing:
    """As much of an engine as its condition is read from."""

    release: str | None
    gap: bool
    witnesses: Any = None
    peers: Any = None
    sequencer: Any = None
    confirmed: bool = True

    @property
    def decider(self) -> Any:
        """Return a decider of a replica that is cut off, or is not."""
        return SimpleNamespace(presence=SimpleNamespace(confirmed=lambda: self.confirmed, older=False))

    @property
    def store(self) -> Any:
        """Return a store with nothing but its state."""
        return SimpleNamespace(state=lambda: State(3, self.release, 1))

    @property
    def recovery(self) -> Any:
        """Return a recovery that suspects nothing."""
        return SimpleNamespace(suspicion=None)

    @property
    def foresight(self) -> Any:
        """Return suspensions of which none is overdue."""
        return SimpleNamespace(suspensions=SimpleNamespace(overdue=tuple))

    @property
    def recorder(self) -> Any:
        """Return a recorder with or without denies to report."""
        return SimpleNamespace(queued=2, away=self.gap)

    @property
    def snapshots(self) -> Any:
        """Return snapshots without a release."""
        return SimpleNamespace(epoch=3, current=lambda: SimpleNamespace(release=None))


def contradicting() -> Any:
    """Return two witnesses, of which one speaks against the tree."""
    states = [WitnessState("one"), WitnessState("two", problem="it was rolled back")]
    return SimpleNamespace(fork=LogForked("it was rolled back"), states=lambda: states)


def test_the_word_of_a_witness_is_in_the_metrics() -> None:
    """A fork is an alarm of its own, and witnesses that fail are counted."""
    standing: Any = Standing("sha256:1", True, contradicting())
    found = gauges(read_condition(standing))
    assert (found["policy_engine_log_forked"], found["policy_engine_witnesses_failing"]) == (1, 1)
    standing = Standing("sha256:1", False)
    found = gauges(read_condition(standing))
    assert (found["policy_engine_log_forked"], found["policy_engine_witnesses_failing"]) == (0, 0)


@pytest.mark.parametrize(
    ("standing", "codes"),
    [
        (Standing("sha256:1", False), []),
        (Standing("sha256:1", True), ["log.unavailable"]),
        (Standing(None, False), ["release.missing"]),
        (Standing(None, True), ["log.unavailable", "release.missing"]),
        (Standing("sha256:1", True, contradicting()), ["log.forked"]),
        (Standing("sha256:1", False, sequencer=SimpleNamespace(trouble="it is smaller")), ["tree.refused"]),
        (Standing("sha256:1", False, sequencer=SimpleNamespace(trouble=None)), []),
        (Standing("sha256:1", True, confirmed=False), ["replica.cut-off"]),
    ],
)
def test_each_reason_against_being_ready_has_its_code(standing: Any, codes: list[str]) -> None:
    """A log that is away and a missing release are named, each by itself and together."""
    found = read_condition(standing)
    assert [code for code, _ in found.reasons] == codes
    assert gauges(found)["policy_engine_ready"] == (not codes)
    assert gauges(found)["policy_engine_queue_entries"] == 2


def test_without_a_release_every_tier_is_unknown() -> None:
    """What no catalogue names has the one label for it."""
    standing: Any = Standing(None, False)
    assert tier_label(standing, "fable-5") == "unknown"
