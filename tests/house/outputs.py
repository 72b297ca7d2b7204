"""What the whole suite let out: log lines, metrics and error bodies, kept and searched for planted facts at the end.

Rules:
- `keep` appends one output to a file of its kind in the session's folder; every worker process shares the folder.
- The session ends red when a planted fact stands in any kept output, or a person of the sample world in a log line
  or metric. A person's id in an *answer* is no leak (the caller asked about it), so answers are not kept.
- Kept by themselves, at their source and so from every door of this process: each line that structlog writes, what
  casbin logs, each problem document, and each text of the metrics. What another process wrote, a test may `keep`.
"""

from __future__ import annotations

import functools
import logging
import os
import re
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

FOLDER_VARIABLE = "TEST_OUTPUTS_FOLDER"
SAMPLE_PERSONS = ("alice", "mina", "dana", "bruno", "ines", "chen", "greg", "eve")
SEARCHED = ("logs", "metrics", "errors")
KINDS = (*SEARCHED, "disagreements", "witnessed")
"""What is kept: outputs that are searched, and what the witness of law 6 says ."""


@dataclass(frozen=True, slots=True)
class PlantedFacts:
    """Facts that exist nowhere else, so that finding one outside means that it leaked."""

    person: str = "planted-person-5e0c1b"
    tenant: str = "planted-tenant-91d7aa"
    location: str = "planted-location-c3f2"
    nationality: str = "planted-nationality-77b0"
    reference: str = "planted-reference-0a4fd2"
    key: str = "pe_planted_key_2f6d"
    subject: str = "planted-subject-8d41c7"
    token: str = "cGxhbnRlZC10b2tlbi0zYjlm"


PLANTED = PlantedFacts()


def keep(kind: str, text: str) -> None:
    """Append one output to the session's folder. `kind` is one of `KINDS`; outside a session nothing is kept."""
    if kind not in KINDS:
        raise ValueError(f"kept outputs are {KINDS}, not {kind!r}")
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder and text:
        with (Path(folder) / f"{kind}-{os.getpid()}.txt").open("a", encoding="utf-8") as out:
            out.write(text if text.endswith("\n") else text + "\n")


def leaks(folder: Path) -> list[str]:
    """Return `file:line` of each kept line that holds a planted fact or, in logs and metrics, a sample person."""
    planted = re.compile("|".join(re.escape(value) for value in astuple(PLANTED)))
    persons = re.compile(r"(?<![\w-])(?:" + "|".join(SAMPLE_PERSONS) + r")(?![\w-])")
    found = []
    for path in sorted(path for path in folder.glob("*.txt") if path.name.startswith(SEARCHED)):
        impersonal = path.name.startswith(("logs", "metrics"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if planted.search(line) or (impersonal and persons.search(line)):
                found.append(f"{path.name}:{number}: {line[:300]}")
    return found


def counted(folder: Path) -> dict[str, int]:
    """Return how many lines of each kind were kept."""
    return {kind: len(kept(folder, kind)) for kind in SEARCHED}


def kept(folder: Path, kind: str) -> list[str]:
    """Return every kept line of one kind."""
    return [line for path in folder.glob(f"{kind}-*.txt") for line in path.read_text(encoding="utf-8").splitlines()]


def witnessed(folder: Path) -> tuple[int, int]:
    """Return how many decision entries all processes recorded, and how many different questions they were."""
    rows = [line.split() for line in kept(folder, "witnessed")]
    return sum(int(row[0]) for row in rows), sum(int(row[1]) for row in rows)


class LibraryLines(logging.Handler):
    """Keeps what a library logs: casbin writes the values of requests, so there must be nothing of its own."""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record's whole message."""
        keep("logs", record.getMessage())


def listen() -> None:
    """Keep, from now on, what this process logs, answers as a problem and offers as metrics."""
    import structlog

    from policy_engine.api.metrics import Metrics
    from policy_engine.api.problems import Problem

    for library in ("casbin", "policy_engine"):
        logging.getLogger(library).addHandler(LibraryLines())
    for name in ("msg", "log", "debug", "info", "warning", "error", "critical", "exception"):
        _tap(structlog.WriteLogger, name, "logs", lambda result, message: message)
    _tap(Problem, "body", "errors", lambda result: result.decode())
    _tap(Metrics, "text", "metrics", lambda result: result.decode())


def _tap(owner: type, name: str, kind: str, text_of: Callable[..., str]) -> None:
    """Let a method also keep the text of each call; `text_of` is given its result and its arguments."""
    method = getattr(owner, name)

    @functools.wraps(method)
    def tapped(self: Any, *arguments: Any) -> Any:
        result = method(self, *arguments)
        keep(kind, text_of(result, *arguments))
        return result

    setattr(owner, name, tapped)
