"""What a probe found: outcomes of checks, the evidence for each, and the report of a run.

Left to others: what is a hole (`reading`, the checks), how a report is shown (`cli.probeshown`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

SCHEMA: Final = "policy-engine-probe/1"
"""The name of the report's form. Members may be added under it; none is taken away or means something else."""

EVIDENCE_COUNT: Final = 8
"""Requests that a result shows of those that speak for its outcome; `requests` counts all."""


class Outcome(StrEnum):
    """What became of a check."""

    PASSED = "passed"
    HOLE = "hole"
    UNCLEAR = "unclear"  # it was asked, and the answers do not say whether a model was reached
    UNPROBED = "unprobed"  # it was wanted, and could not be carried out
    SKIPPED = "skipped"  # it was not wanted, or needs an option that was not given


@dataclass(frozen=True, slots=True)
class Evidence:
    """One request and what answered it. `said` is the model that the answer names; it is the gateway's own text."""

    sent: str
    method: str
    path: str
    status: int | None
    said: str
    found: str


@dataclass(frozen=True, slots=True)
class Result:
    """One check: its name, what became of it in a sentence, and for a hole the fix."""

    check: str
    group: str
    outcome: Outcome
    finding: str
    fix: str = ""
    requests: int = 0
    measured_milliseconds: int | None = None
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """One run. `complete` says that every wanted check was carried out and says something."""

    schema: str
    target: str
    run: str
    dialect: str
    started_at: str
    seconds: float
    requests: int
    sent_bytes: int
    problem: str
    results: tuple[Result, ...]

    @property
    def holes(self) -> tuple[Result, ...]:
        """Return the checks that found a hole."""
        return self.of(Outcome.HOLE)

    @property
    def complete(self) -> bool:
        """Say whether each wanted check was carried out, with a clear outcome, on a gateway that stayed up."""
        return not (self.problem or self.of(Outcome.UNCLEAR) or self.of(Outcome.UNPROBED))

    @property
    def ordered(self) -> tuple[Result, ...]:
        """Return the results with the holes first, then what is in doubt, each in the order of asking."""
        doubts = (Outcome.HOLE, Outcome.UNCLEAR, Outcome.UNPROBED)
        rest = tuple(result for result in self.results if result.outcome not in doubts)
        return (*(result for outcome in doubts for result in self.of(outcome)), *rest)

    def of(self, outcome: Outcome) -> tuple[Result, ...]:
        """Return the results with an outcome."""
        return tuple(result for result in self.results if result.outcome is outcome)
