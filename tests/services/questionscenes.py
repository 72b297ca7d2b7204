"""Scenes for tests of questions: databases with one log or two, decisions that the test remembers, and an oracle.

The oracle knows what it wrote: who asked, from where, under which facets. It never looks at tags, labels or indexes.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from policy_engine.core.decision import Outcome, Reason, Request
from policy_engine.core.instants import DAY, SECOND
from policy_engine.services.evidence import Evidence, Filters
from policy_engine.services.logkey import LogKey, seeded
from policy_engine.services.questiontext import parse_question
from policy_engine.services.record import Recorder, Written
from policy_engine.services.sequencer import Sequencer
from policy_engine.store.interfaces import Change, Write
from policy_engine.store.pgtree import PostgresSequencing
from tests.rules.sample import release
from tests.services.evidencesamples import AUDITOR, PEP, evaluation, key_document
from tests.store.samples import PATIENT, VAULT, Clock, Database

COUNTRIES = ("IR", "CN", "GB", "AE", "KH", "US")
SUBJECTS = ("user-1", "user-2", "user-3", "user-4")
MODELS = ("fable-5", "mythos-5", "opus-4-8", None)
TENANTS = ("acme", "lab", "acme-de")
ACTIONS = ("infer", "download_weights", "list")
REASONS = {
    "P7": Reason("nationality.restricted", "P7"),
    "P12": Reason("weights.restricted", "P12"),
    "P1": Reason("switch.engaged", "P1", orders=("sw-1",)),
}


@dataclass(frozen=True, slots=True)
class Truth:
    """What the test knows of one entry: its public members as they were read back, and what is sealed of it."""

    public: Mapping[str, Any]
    subject: str
    tenant: str | None = None
    facets: Mapping[str, frozenset[str]] = field(default_factory=dict)


Oracle = Callable[[Truth], bool]


class Scene:
    """One database with its writers, the evidence of the first, a sequencer, and the truth about every entry."""

    def __init__(self, database: Database, seed: int = 0) -> None:
        self.database = database
        self.clock = Clock()
        self.random = random.Random(seed)
        self.said = [self._say() for _ in range(40)]
        self.stores = [database.open(self.clock) for _ in range(1 if database.one_log else 2)]
        self.recorders = [Recorder(store, VAULT, PATIENT) for store in self.stores]
        self.evidence = Evidence(self.stores[0], self.recorders[0], VAULT, load=lambda hash: release())
        if database.one_log:
            tree: Any = self.stores[0]
        else:
            tree = PostgresSequencing(database.server.url(database.name, "pe_sequencer"), clock=self.clock)
        self.tree = tree
        self.sequencer = Sequencer(tree, LogKey(seeded(b"k" * 32)).signer)
        self.truths: dict[tuple[str, int], Truth] = {}
        self.looks: list[str] = []
        keys = Write("keys", AUDITOR.key_id or "", key_document(AUDITOR, "h"), 0)
        rows = (Write("releases", "sha256:aa", {"hash": "sha256:aa"}, 0), keys)
        self.stores[0].change(Change("genesis", {"by": "local"}, rows, True, activate="sha256:aa"))

    def close(self) -> None:
        """Close recorders; the database closes its stores."""
        for recorder in self.recorders:
            recorder.close()
        if isinstance(self.tree, PostgresSequencing):
            self.tree.close()

    # What happens

    def decide(self, count: int, writer: int = 0) -> None:
        """Write some decisions of one writer, at random."""
        store, recorder = self.stores[writer % len(self.stores)], self.recorders[writer % len(self.stores)]
        state = store.state()
        made = [self._evaluation(state, store.now()) for _ in range(count)]
        drafts = [recorder.decision(one, PEP, state.facts_revision) for one in made]
        for one, result in zip(made, recorder.write(drafts, state), strict=True):
            assert isinstance(result, Written)
            sealed_tenant = one.request.tenant if one.tenant_sealed else None
            facets = {
                name: frozenset((value,)) if isinstance(value, str) else frozenset(value)
                for name, value in (one.facets or {}).items()
            }
            entry = store.entry(result.log_id, result.seq)
            assert entry is not None
            truth = Truth(json.loads(entry.public), one.request.subject_id, sealed_tenant, facets)
            self.truths[result.log_id, result.seq] = truth

    def _evaluation(self, state: Any, at: int) -> Any:
        pick = self.random
        said = pick.choice(self.said) if pick.random() < 0.9 else self._say()
        facets = None
        if pick.random() < 0.9:
            facets = {
                "location": frozenset(pick.sample(COUNTRIES, pick.randint(0, 2))),
                "counted": frozenset(pick.sample(COUNTRIES, pick.randint(0, 2))),
                "us_person": pick.choice(("yes", "no")),
                "evidence": pick.choice(("valid", "expired", "declared")),
            }
        subject = pick.choice(SUBJECTS)
        request = Request(subject, said["action"], "m", said["tenant"])
        rest = {name: value for name, value in said.items() if name not in ("action", "tenant")}
        return evaluation(state, at, subject, request=request, facets=facets, **rest)

    def _say(self) -> dict[str, Any]:
        """Return what a decision says in clear, at random."""
        pick = self.random
        allowed, model = pick.random() < 0.4, pick.choice(MODELS)
        denies = tuple(REASONS[name] for name in pick.sample(sorted(REASONS), pick.randint(1, 2)))
        return {
            "action": pick.choice(ACTIONS),
            "tenant": pick.choice(TENANTS),
            "outcome": Outcome.ALLOW if allowed else Outcome.DENY,
            "reasons": (Reason("allowed", "allow"),) if allowed else denies,
            "model": model,
            "tier": None if model is None else pick.choice((1, 3, 4, 5)),
            "matched": tuple(pick.sample(("row-1", "row-2", "row-3"), pick.randint(0, 2))),
            "missing": ("location",) if pick.random() < 0.2 else (),
            "lifted": ("seat",) if pick.random() < 0.2 else (),
            "licences": ("l-1",) if pick.random() < 0.2 else (),
            "tenant_sealed": pick.random() < 0.2,
        }

    def switch(self) -> None:
        """Engage another switch: the epoch grows."""
        id = f"sw-{self.stores[0].state().epoch}"
        rows = (Write("switches", id, {}, 0),)
        self.stores[0].change(Change("switch.engaged", {"by": "key-anna", "switch": id}, rows, True))

    def wait(self, days: int) -> None:
        """Let time pass."""
        self.clock.now += days * DAY + SECOND

    def happen(self, step: tuple[str, int]) -> None:
        """Do one step of a history."""
        verb, number = step
        if verb == "decide":
            self.decide(1 + number % 5, number)
        elif verb == "integrate":
            self.sequencer.integrate()
        elif verb == "index":
            self.stores[number % len(self.stores)].index_columns(1 + number)
        elif verb == "tags":
            self.stores[number % len(self.stores)].index_tags(1 + number)
        elif verb == "switch":
            self.switch()
        else:
            self.wait(number % 30)

    # What is asked, and what is so

    def look(self, text: str, **more: Any) -> Any:
        """Ask for a page and remember for whom a look was recorded."""
        question = parse_question(text, self.clock.now)
        if question.sealed:
            found = [term.values[0] for term in question.sealed if term.facet == "subject"]
            self.looks.append(found[0] if found else "")
        return self.evidence.query(AUDITOR, Filters(question=question, **more))

    def expected(self, oracles: list[Oracle]) -> list[tuple[str, int]]:
        """Return what a question must find now, oldest first, by trying every entry there is."""
        entries = self.everything()
        reads = iter(self.looks)
        found = []
        for place, public in entries:
            looked_for = next(reads) if public["kind"] == "read" else ""
            truth = self.truths.get(place) or Truth(public, looked_for)
            if all(oracle(truth) for oracle in oracles):
                found.append(place)
        return found

    def everything(self) -> list[tuple[tuple[str, int], Mapping[str, Any]]]:
        """Return every entry that counts as complete, in the order in which it does."""
        with self.stores[0].view() as view:
            public = {(entry.log_id, entry.seq): json.loads(entry.public) for entry in view.scan_entries()}
            if self.database.one_log:
                return sorted(public.items())
            first = {(batch.log_id, batch.batch): (batch.first, batch.n) for batch in view.scan_batches()}
            order = []
            for leaf in view.scan_leaves():
                if leaf.batch is not None:
                    start, n = first[leaf.log_id, leaf.batch]
                    order += [(leaf.log_id, seq) for seq in range(start, start + n)]
            return [(place, public[place]) for place in order]


def opened(kind: type[Database], folder: Path, seed: int = 0) -> Scene:
    """Return a scene on a new database."""
    return Scene(kind(folder), seed)
