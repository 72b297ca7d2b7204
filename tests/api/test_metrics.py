"""What is counted of decisions, and that nothing else can be read from it."""

from __future__ import annotations

from policy_engine.api.metrics import Metrics
from policy_engine.core.decision import Decision, Reason


def decision(allowed: bool, *rules: str | None) -> Decision:
    reasons = tuple(Reason("code", rule) for rule in rules)
    return Decision(allowed, "id-of-a-decision", reasons, (), (), "sha256:1", 1, 0)


def lines(metrics: Metrics) -> dict[str, float]:
    """Return each sample of the text by its name and labels."""
    rows = [line.rsplit(" ", 1) for line in metrics.text().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in rows}


def test_decisions_are_counted_by_outcome_tier_and_rule() -> None:
    """A deny counts once for each rule among its reasons, an allow for none."""
    metrics = Metrics(tier_of=lambda model: model[-1])
    metrics.decided(
        ["m-4", "m-4", "m-5"], [decision(True, "P7"), decision(False, "P7", "P7", "P3"), decision(False, None)], 0.001
    )
    found = lines(metrics)
    assert found['policy_engine_decisions_total{outcome="allow",tier="4"}'] == 1
    assert found['policy_engine_decisions_total{outcome="deny",tier="4"}'] == 1
    assert found['policy_engine_decisions_total{outcome="deny",tier="5"}'] == 1
    assert found['policy_engine_denies_by_rule_total{rule="P7"}'] == 1
    assert found['policy_engine_denies_by_rule_total{rule="P3"}'] == 1
    assert found['policy_engine_denies_by_rule_total{rule="none"}'] == 1


def test_times_fall_into_cumulative_buckets() -> None:
    """A time on a bound belongs to its bucket; the last bucket holds everything."""
    metrics = Metrics()
    for seconds in (0.0001, 0.00011, 5.0):
        metrics.decided(["m"], [decision(True)], seconds)
    found = lines(metrics)
    assert found['policy_engine_decision_seconds_bucket{le="0.0001"}'] == 1
    assert found['policy_engine_decision_seconds_bucket{le="0.00025"}'] == 2
    assert found['policy_engine_decision_seconds_bucket{le="2.5"}'] == 2
    assert found['policy_engine_decision_seconds_bucket{le="+Inf"}'] == 3
    assert found["policy_engine_decision_seconds_count"] == 3
    assert abs(found["policy_engine_decision_seconds_sum"] - 5.00021) < 1e-9


def test_refusals_are_counted_by_status() -> None:
    """What ended without a decision is counted apart."""
    metrics = Metrics()
    metrics.refused(400)
    metrics.refused(400)
    metrics.refused(401)
    found = lines(metrics)
    assert found['policy_engine_refused_total{status="400"}'] == 2
    assert found['policy_engine_refused_total{status="401"}'] == 1


def test_states_are_read_when_asked_for() -> None:
    """A gauge shows the state of the moment, with its words."""
    state = {"policy_engine_epoch": 1.0}
    metrics = Metrics(lambda: state, {"policy_engine_epoch": "Epoch."})
    assert lines(metrics)["policy_engine_epoch"] == 1
    state["policy_engine_epoch"] = 2.0
    assert lines(metrics)["policy_engine_epoch"] == 2
    assert "# HELP policy_engine_epoch Epoch." in metrics.text().decode()


def test_labels_are_bounded() -> None:
    """A policy with thousands of labels does not make thousands of series."""
    metrics = Metrics()
    for number in range(600):
        metrics.decided(["m"], [decision(False, f"R{number}")], 0.1)
    found = [name for name in lines(metrics) if name.startswith("policy_engine_denies_by_rule")]
    assert len(found) == 501 and 'policy_engine_denies_by_rule_total{rule="other"}' in found
    assert lines(metrics)['policy_engine_denies_by_rule_total{rule="other"}'] == 100


def test_no_id_of_a_decision_is_in_the_text() -> None:
    """Ids have no end, and so no place in metrics."""
    metrics = Metrics()
    metrics.decided(["m"], [decision(False, "P7")], 0.1)
    assert b"id-of-a-decision" not in metrics.text()
