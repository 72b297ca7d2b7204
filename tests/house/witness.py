"""Law 6 over the whole suite: every decision entry that a test recorded is put to stock Casbin when its process ends.

Rules:
- What counts is the entry: a decision is taken down when its draft was stored, with the flat tuple and the outcome that
  the entry holds. Entries that never reached the rules hold no tuple and are left out.
- Two entries that differ only in their instant, with no boundary of the release between, are one question.
- The referee is an unmodified `casbin.Enforcer` on the exported release with the published functions, nothing else.
"""

from __future__ import annotations

import functools
import hashlib
import json
import tempfile
from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Question = tuple[str, tuple[Any, ...]]


@dataclass(slots=True)
class Witness:
    """What one process recorded: releases by hash, and outcomes by release and flat tuple."""

    releases: dict[str, Any] = field(default_factory=dict)
    rules: dict[str, Any] = field(default_factory=dict)
    answers: dict[Question, tuple[tuple[Any, ...], str]] = field(default_factory=dict)
    entries: int = 0
    odd: list[str] = field(default_factory=list)

    def saw(self, evaluation: Any) -> None:
        """Take down one recorded evaluation."""
        self.entries += 1
        release = self.releases.get(evaluation.release)
        if evaluation.values is None or release is None:
            return
        rules = rules_of(release)
        self.rules.setdefault(rules, release)
        question = (rules, same_question(release, evaluation.values))
        _, known = self.answers.setdefault(question, (evaluation.values, str(evaluation.outcome)))
        if known != evaluation.outcome:
            self.odd.append(f"two entries with one tuple came out {known} and {evaluation.outcome}")

    def disagreements(self) -> list[str]:
        """Ask stock Casbin every question and return where it says otherwise."""
        found = list(self.odd)
        enforcers: dict[str, Any] = {}
        with tempfile.TemporaryDirectory() as folder:
            for (rules, _), (values, outcome) in self.answers.items():
                if rules not in enforcers:
                    enforcers[rules] = stock(self.rules[rules], Path(folder))
                read = as_read(self.rules[rules], values)
                if ("allow" if enforcers[rules].enforce(*read) else "deny") != outcome:
                    found.append(f"recorded {outcome}, stock Casbin says otherwise: {values}")
        return found


@functools.cache
def _rules_of(files: frozenset[tuple[str, bytes]]) -> str:
    return hashlib.sha256(repr(sorted(files)).encode()).hexdigest()


def rules_of(release: Any) -> str:
    """Return a name for what stock Casbin is given: releases that differ in the catalogue only share it."""
    return _rules_of(frozenset((path, content) for path, content in release.files.items() if path != "models.toml"))


def same_question(release: Any, values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the tuple with its instant replaced by the interval between boundaries that it lies in, and hashable."""
    from policy_engine.core.plain import PlainRelease
    from policy_engine.ledger.decisions import flat_text

    if isinstance(release, PlainRelease):
        return (flat_text(values),)  # it may hold objects; it knows no instant
    names = [token.name for token in release.tokens]
    plain = []
    for name, value in zip(names, values, strict=True):
        instant = name == "now" and isinstance(value, int)
        plain.append(bisect_right(release.boundaries, value) if instant else value)
    return tuple(frozenset(value) if isinstance(value, (list, set)) else value for value in plain)


def as_read(release: Any, values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a flat tuple as its rules read it; under a plain folder by way of the text that its entry holds."""
    from policy_engine.core.plain import PlainRelease
    from policy_engine.core.views import views
    from policy_engine.ledger.decisions import flat_text, flat_values

    if not isinstance(release, PlainRelease):
        return values
    return views(release.tokens, flat_values(json.loads(flat_text(values))))


def stock(release: Any, folder: Path) -> Any:
    """Return an unmodified enforcer on the exported release with the published functions."""
    import casbin

    from policy_engine.rules.export import export
    from policy_engine.rules.functions import add_functions
    from policy_engine.rules.stock import silence

    silence()
    for name, content in export(release).items():
        (folder / name).write_bytes(content)
    enforcer = casbin.Enforcer(str(folder / "model.conf"), str(folder / "policy.csv"))
    add_functions(enforcer)
    return enforcer


def attend(witness: Witness) -> None:
    """Let the witness see, from now on, every release that is loaded and every decision entry that is stored."""
    from policy_engine.core.plain import PlainRelease
    from policy_engine.core.release import Release
    from policy_engine.services.drafts import DecisionDraft

    stored = DecisionDraft.stored
    for kind in (Release, PlainRelease):
        _see_made(witness, kind)

    @functools.wraps(stored)
    def storing(self: Any) -> None:
        stored(self)
        witness.saw(self._evaluation)

    DecisionDraft.stored = storing  # type: ignore[method-assign]  # seen once the entry is durable


def _see_made(witness: Witness, kind: Any) -> None:
    made = kind.__init__

    @functools.wraps(made)
    def making(self: Any, *arguments: Any, **named: Any) -> None:
        made(self, *arguments, **named)
        witness.releases[self.hash] = self

    kind.__init__ = making  # seen whoever loads it
