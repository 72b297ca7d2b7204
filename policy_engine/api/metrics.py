"""What is counted, and its text for Prometheus. Nothing personal: outcomes, rule labels, tiers, seconds, states.

Rules of the room:
- Counting happens on the event loop alone, in plain numbers: no lock and no label object per decision.
- Label values come from the release (rule labels, tiers) or from this module, never from a request, and their number
  is bounded; what comes beyond the bound is counted as `other`.
- States of the engine (epoch, queue, log) are read when asked for, not when they change.
Left to others: the path and its headers (`discovery`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from policy_engine.core.decision import Decision

SECONDS_BUCKETS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_LABELS_MAX: Final = 500
OTHER: Final = "other"
NO_RULE: Final = "none"

UNKNOWN_TIER: Final = "unknown"

Gauges = Callable[[], Mapping[str, float]]
TierOf = Callable[[str], str]


class Metrics(Collector):
    """The counters of one service, in a registry of their own."""

    def __init__(
        self,
        gauges: Gauges = dict,
        gauge_words: Mapping[str, str] | None = None,
        tier_of: TierOf = lambda model: UNKNOWN_TIER,
    ) -> None:
        """`gauges` returns the states of the engine by metric name; `gauge_words` describe them.

        `tier_of` gives the label of a model's tier, one of few, for whatever name a request gave.
        """
        self._gauges = gauges
        self._tier_of = tier_of
        self._gauge_words = gauge_words or {}
        self._outcomes: Counter[tuple[bool, str]] = Counter()
        self._rules: Counter[str] = Counter()
        self._refusals: Counter[int] = Counter()
        self._searches: Counter[str] = Counter()
        self._searching_seconds = 0.0
        self._buckets = [0] * (len(SECONDS_BUCKETS) + 1)
        self._seconds = 0.0
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def decided(self, models: Sequence[str], decisions: Sequence[Decision], seconds: float) -> None:
        """Count the decisions of one exchange, each with the model asked for, and the exchange's time once."""
        for model, decision in zip(models, decisions, strict=True):
            allowed = decision.allowed is True
            self._outcomes[allowed, self._tier_of(model)] += 1
            if not allowed:
                for rule in {reason.rule or NO_RULE for reason in decision.reasons}:
                    self._rules[rule if rule in self._rules or len(self._rules) < _LABELS_MAX else OTHER] += 1
        self._buckets[bisect_left(SECONDS_BUCKETS, seconds)] += 1
        self._seconds += seconds

    def searched(self, sought: str, seconds: float) -> None:
        """Count a page of a search for one of three kinds of ids, and the exchange's time."""
        self._searches[sought] += 1
        self._searching_seconds += seconds

    def refused(self, status: int) -> None:
        """Count an exchange on a decision or search endpoint that ended without an answer of its own."""
        self._refusals[status] += 1

    def text(self) -> bytes:
        """Return the exposition text."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """Yield every family; called by the registry."""
        decisions = CounterMetricFamily(
            "policy_engine_decisions",
            "Decisions, by outcome and tier of the model.",
            labels=["outcome", "tier"],
        )
        for (allowed, tier), count in sorted(self._outcomes.items()):
            decisions.add_metric(["allow" if allowed else "deny", tier], count)
        yield decisions
        rules = CounterMetricFamily(
            "policy_engine_denies_by_rule", "Denies, once for each rule among the reasons.", labels=["rule"]
        )
        for rule, count in sorted(self._rules.items()):
            rules.add_metric([rule], count)
        yield rules
        refusals = CounterMetricFamily(
            "policy_engine_refused",
            "Exchanges of the decision and search endpoints without an answer of their own.",
            labels=["status"],
        )
        for status, count in sorted(self._refusals.items()):
            refusals.add_metric([str(status)], count)
        yield refusals
        searches = CounterMetricFamily(
            "policy_engine_searches", "Pages of searches, by what is sought.", labels=["sought"]
        )
        for sought, count in sorted(self._searches.items()):
            searches.add_metric([sought], count)
        yield searches
        yield CounterMetricFamily(
            "policy_engine_searching_seconds", "Time that pages took, together.", value=self._searching_seconds
        )
        yield self._histogram()
        for name, value in sorted(self._gauges().items()):
            yield GaugeMetricFamily(name, self._gauge_words.get(name, name), value=value)

    def _histogram(self) -> HistogramMetricFamily:
        total = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip((*SECONDS_BUCKETS, float("inf")), self._buckets, strict=True):
            total += count
            buckets.append(("+Inf" if bound == float("inf") else repr(bound), float(total)))
        family = HistogramMetricFamily("policy_engine_decision_seconds", "Time from headers read to answer ready.")
        family.add_metric([], buckets=buckets, sum_value=self._seconds)
        return family
