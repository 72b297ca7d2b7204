"""`--wait` and `?wait=`: a change says how far it has taken hold, in the command line and over HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from policy_engine.api import decisions
from policy_engine.api.exchange import answer
from tests.api.served import ALICE, Served, serving
from tests.cli.conftest import Shell, filled, shell

__all__ = ["filled", "shell"]

SWITCH = {"scope": {"models": ["open-1"]}, "reason": "a drill"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A running service."""
    with serving(tmp_path_factory.mktemp("served"), replica=True) as made:
        yield made


def test_an_answer_waits_for_the_stage_that_was_asked_for(service: Served) -> None:
    """Without `wait` it comes with the commit; `drained` and `settled` come later, with what each stage took."""
    found = {}
    for stage in ("committed", "drained", "settled"):
        answer = service.post(f"/v1/switches?wait={stage}", {"id": stage, **SWITCH}, key="operator")
        assert answer.status_code == 201, answer.text
        found[stage] = answer.json()["withdrawal"]
        assert found[stage]["committed_ms"] > 0
    assert found["drained"]["drained_ms"] > 0 and found["drained"]["waits_for"] == []
    assert found["settled"]["settled_ms"] == found["settled"]["settles_after_ms"] == 2_020.0
    assert found["settled"]["replicas"] == 1
    shown = service.get("/v1/switches/settled", key="auditor").json()["withdrawal"]
    assert (shown["epoch"], shown["stage"]) == (found["settled"]["epoch"], "settled")
    assert shown["slowest"] == found["settled"]["slowest"]


def test_an_answer_counts_until_it_was_handed_on(service: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """While an answer is sent its exchange still holds its epoch; afterwards nothing does.

    Control: policy_engine/api/app.py:
    `self._decisions = DecisionApp(engine.decider, keys, metrics, limits, answering=engine.decider.answering)`
    """
    presence, seen = service.engine.decider.presence, []

    async def watched(send: Any, *rest: Any) -> None:
        seen.append(sum(count for count, _ in presence._under_way.values()))
        await answer(send, *rest)

    monkeypatch.setattr(decisions, "answer", watched)
    service.decide(ALICE)
    service.post("/access/v1/evaluations", {**ALICE, "evaluations": [{}, {}]})
    assert seen == [1, 1]
    until = time.monotonic() + 5.0
    while presence._under_way:
        assert time.monotonic() < until


def test_an_unknown_stage_is_refused_before_anything_happens(service: Served) -> None:
    """A misspelt stage engages nothing."""
    assert service.post("/v1/switches?wait=done", {"id": "no", **SWITCH}, key="operator").status_code == 422
    assert service.get("/v1/switches/no", key="auditor").status_code == 404


def test_a_command_waits_and_says_what_it_waited_for(shell: Shell) -> None:
    """Nobody serves here, so a change drains at once and settles when the answers of this machine's setting have."""
    ran = shell("switch", "engage", "stop", "--scope", "model=open-1", "--reason", "a drill", "--wait", "settled")
    assert ran.code == 0
    withdrawal = json.loads(ran.out)["withdrawal"]
    assert (withdrawal["stage"], withdrawal["replicas"], withdrawal["settled_ms"]) == ("settled", 0, 2_020.0)
    shown = json.loads(shell("switch", "show", "stop").out)["withdrawal"]
    assert (shown["stage"], shown["epoch"], shown["waits_for"]) == ("settled", withdrawal["epoch"], [])
