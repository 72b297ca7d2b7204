"""The bypass suite: asks a live gateway for what it must refuse, in every way that is known to get past one.

Rules of the room:
- A hole is claimed with evidence alone: what was sent, the status, and which model said that it answered. What is
  neither an answer of a model nor a refusal is called unclear, and what was not asked is never called passed.
- It costs next to nothing: answers of one token, a bound on requests, on their rate and on bytes. Each request says in
  two headers that it is the probe's.
- Credentials come in as values and never go out: not into reports, errors, addresses or logs.
- It imports the standard library and the foundation; it needs no server, and nothing of the engine.
Left to others: options, tables, files and exit codes (`cli.probe`), what each check means (`docs/probe.md`).
"""

from policy_engine.probe.outcomes import Evidence, Outcome, Report, Result
from policy_engine.probe.suite import run
from policy_engine.probe.target import PRIVILEGED, Credentials, Models, Switching, Target

__all__ = [
    "PRIVILEGED",
    "Credentials",
    "Evidence",
    "Models",
    "Outcome",
    "Report",
    "Result",
    "Switching",
    "Target",
    "run",
]
