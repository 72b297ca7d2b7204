"""A history of 200,000 entries on the sample world: decisions of the real evaluator among changes of every kind.

Each phase evaluates some hundreds of requests and records each many times, at an instant of its own, through the real
recorder and store, so that keys, tags, batches and the index are those of a service. The history remembers who each
entry was about. It is made once for all tests of a run, whichever process comes first, and nobody changes its past.
"""

from __future__ import annotations

import fcntl
import gc
import json
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pysqlite3
import pytest

from policy_engine.bootstrap import Engine, open_engine
from policy_engine.core.decision import Evaluation, Principal, Request
from policy_engine.core.facts import Location
from policy_engine.core.instants import SECOND, parse_instant
from policy_engine.services.evaluate import Evaluator
from policy_engine.services.factcache import FactCache
from policy_engine.services.releases import ReleaseLoader
from policy_engine.settings import Settings

POLICIES = Path(__file__).parents[2] / "policies"
START = parse_instant("2026-06-01T08:00:00Z")
DIRECTIVE_AT = parse_instant("2026-06-12T21:21:00Z")
ENTRIES_COUNT = 200_000
READ_AT_ONCE = 2_000
SEALED = ("location", "counted", "us_person", "evidence")

HOMES = {
    "alice": "acme", "mina": "acme", "dana": "acme", "bruno": "acme-de", "ines": "annexco", "chen": "lab",
    "greg": "lab", "eve": "acme", "frank": "acme", "sofia": "acme", "yusuf": "acme", "omar": "acme",
}  # fmt: skip
MODELS = ("fable-5", "fable-5", "fable-latest", "mythos-5", "fable-5-1", "opus-4-8", "open-1", "summit-4")
PLACES = (
    *(Location("US"),) * 6, Location("GB"), Location("CN"), Location("US", "US-CA"),
    Location("GB", None, True), Location("ZZ"), None,
)  # fmt: skip
ACTIONS = (*("infer",) * 6, "fine_tune", "download_weights", "list")


Facets = Mapping[str, frozenset[str]]
Sealed = tuple[str, int]
"""Who an entry was about, and the place of its facets among those of all requests."""


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now


@dataclass(frozen=True, slots=True)
class Known:
    """What the history knows of one entry: its public members, who it was about, and its sealed facets."""

    public: Mapping[str, Any]
    subject: str
    facets: Facets


@dataclass(frozen=True)
class LongHistory:
    """The database, the secrets of its sample keys by label, and what is known of every entry, oldest first."""

    database: Path
    keys: Mapping[str, str]
    entries: tuple[Known, ...]

    @cached_property
    def decisions(self) -> list[Known]:
        """What is known of every decision."""
        return [one for one in self.entries if one.public["kind"] == "decision"]


def long_history(folder: Path, count: int = ENTRIES_COUNT) -> LongHistory:
    """Return the history in a folder, making it if no other process has."""
    remembered = folder / "known.json"
    with (folder / "history.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not remembered.exists():
            with kept_for_good():
                made = _made(folder / "history.db", count)
            remembered.write_text(json.dumps(made, default=sorted))
    keys, facets, sealed = json.loads(remembered.read_text())
    database = folder / "history.db"
    with kept_for_good():
        return LongHistory(database, keys, tuple(_known(database, facets, sealed)))


def long_history_of_the_run(factory: pytest.TempPathFactory, count: int = ENTRIES_COUNT) -> LongHistory:
    """Return the history of so many entries: made once for all processes of a run, and read once by each module."""
    folder = factory.getbasetemp()
    if "gw" in folder.name:  # a worker's own folder, beside those of the others
        folder = folder.parent
    place = folder / f"history-{count}"
    place.mkdir(exist_ok=True)
    return long_history(place, count)


def _known(database: Path, facets: list[dict[str, list[str]]], sealed: dict[str, Sealed]) -> Iterator[Known]:
    """Yield what is known of every entry, its public members read by nothing of ours but the driver."""
    connection = pysqlite3.connect(str(database))
    sets = [{name: frozenset(values) for name, values in one.items()} for one in facets]
    last = max(map(int, sealed))
    rows = connection.execute("SELECT seq, public FROM entries WHERE seq <= ? ORDER BY seq", (last,))
    while chunk := rows.fetchmany(READ_AT_ONCE):
        parsed = json.loads(b"[%b]" % b",".join(public for _, public in chunk))  # faster than one by one
        for (seq, _), public in zip(chunk, parsed, strict=True):
            subject, place = sealed.get(str(seq), ("", 0))
            yield Known(public, subject, sets[place])
    connection.close()


@contextmanager
def kept_for_good() -> Iterator[None]:
    """Build what stays until the process ends without looking for garbage in it over and over, then or later."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _made(place: Path, count: int) -> tuple[dict[str, str], list[Facets], dict[int, Sealed]]:
    clock = Clock()
    engine = open_engine(
        Settings(database=f"sqlite:///{place}", policies=POLICIES), clock=clock, releases=ReleaseLoader()
    )
    try:
        maker = _Maker(engine, clock, count * 5 // 41)
        maker.play()
        return {key.label: key.secret for key in engine.sample_keys}, maker.facets, maker.sealed
    finally:
        engine.close()


class _Maker:
    """Plays the phases. A phase is `per_phase` decisions under one state of the world."""

    def __init__(self, engine: Engine, clock: Clock, per_phase: int) -> None:
        self.engine = engine
        self.clock = clock
        self.per_phase = per_phase
        self.random = random.Random(5)
        self.evaluator = Evaluator(FactCache(engine.store), serving_region="US")
        self.keys = {key.label: engine.keys.authenticate(key.secret, clock.now) for key in engine.sample_keys}
        self.facets: list[Facets] = [{}]
        self.sealed: dict[int, Sealed] = {}

    def play(self) -> None:
        """Play every phase and put all of it into the tree and the index."""
        engine, operator, auditor = self.engine, self.keys["operator"], self.keys["auditor"]
        for verb in (
            self._licence, self._drill, self._directive, self._facts, self._gap, self._override, self._end, self._quiet,
        ):  # fmt: skip
            verb(operator)
            self.decide(self.per_phase)
            seq = next(seq for seq in reversed(self.sealed) if self.sealed[seq][0] == "alice")
            self.sealed[engine.store.head().next_seq] = ("alice", 0)
            engine.evidence.read_body(auditor, seq)
            self.engine.sequencer.integrate()
        while engine.store.index_tags(4_096):
            pass
        while engine.store.index_columns(4_096).leaves:
            pass

    def _until(self, text: str) -> None:
        self.clock.now = max(self.clock.now + SECOND, parse_instant(text))

    def _approve(self, proposal: str | None) -> None:
        assert proposal is not None
        self.engine.approvals.approve(self.keys["approver"], proposal)

    def _licence(self, operator: Principal) -> None:
        self._until("2026-06-02T09:00:00Z")
        body = {
            "id": "deemed-export-2026-014",
            "from": "2026-06-01T00:00:00Z",
            "until": "2026-07-10T00:00:00Z",
            "person_id": "chen",
            "tenant_id": "lab",
            "models": ["fable-5", "mythos-5", "fable-5-1", "summit-4", "opus-4-8"],
            "actions": ["infer"],
            "nationalities": ["CN"],
            "destinations": ["US"],
            "lifts": ["nat", "seat", "directive"],
        }
        self._approve(self.engine.orders.receive(operator, "licence", body, reason="an employee").proposal)

    def _drill(self, operator: Principal) -> None:
        self._until("2026-06-05T10:00:00Z")
        self.engine.switches.engage(operator, "drill-1", {"models": ["mythos-5"]}, "a drill")
        self.decide(self.per_phase // 10)
        self.clock.now += 60 * SECOND
        self._approve(self.engine.switches.release(operator, "drill-1", "it is over").id)

    def _directive(self, operator: Principal) -> None:
        self._until("2026-06-12T20:00:00Z")
        self.decide(self.per_phase // 10)
        self._until("2026-06-12T21:21:00Z")
        body = {"id": "june-2026", "models": ["fable-5", "mythos-5"], "blocks": ["foreign_person"]}
        self.engine.orders.receive(operator, "directive", body, text="the letter", reference="file 7")

    def _facts(self, operator: Principal) -> None:
        self._until("2026-06-20T10:00:00Z")
        evidence = {"level": "declared", "verified_on": None, "expires_on": None}
        self.engine.facts.set_facts(
            operator, "persons", "mina", {"nationality_evidence": evidence}, provenance={"method": "self_declared"}
        )

    def _gap(self, operator: Principal) -> None:
        self._until("2026-07-01T10:00:00Z")
        for _ in range(7):
            self.engine.recorder.missed("log.unavailable")

    def _override(self, operator: Principal) -> None:
        self._until("2026-07-05T10:00:00Z")
        body = {"id": "stand-down-3", "by": "lab", "reason": "evaluation not finished"}
        self.engine.orders.receive(operator, "override", body, reason="the lab asked")

    def _end(self, operator: Principal) -> None:
        self._until("2026-07-15T10:00:00Z")
        self._approve(self.engine.orders.end(operator, "june-2026", "withdrawn by letter").proposal)

    def _quiet(self, operator: Principal) -> None:
        self._until("2026-07-25T10:00:00Z")

    # Decisions

    def _requests(self) -> list[Request]:
        pick = self.random.choice
        return [
            Request(
                who := pick(list(HOMES)),
                pick(ACTIONS),
                pick(MODELS),
                HOMES[who] if self.random.random() < 0.9 else pick(("acme", "lab", "shellco", None)),
                pick(PLACES),
                pick(("US",) * 9 + ("AE",)),
            )
            for _ in range(400)
        ]

    def decide(self, count: int) -> None:
        """Record so many decisions, in batches as a busy service makes them."""
        engine, gateway = self.engine, self.keys["enforcement point"]
        snapshot, state = engine.snapshots.refresh(), engine.store.state()
        made = [self.evaluator.evaluate(one, gateway, snapshot, self.clock.now) for one in self._requests()]
        first = len(self.facets)
        self.facets += [_facets(one) for one in made]
        while count > 0:
            self.clock.now += 10_000
            chosen = self.random.choices(range(len(made)), k=min(count, self.random.choice((1, 64, 256, 256))))
            drafts = [
                engine.recorder.decision(_at(made[place], self.clock.now), gateway, state.facts_revision)
                for place in chosen
            ]
            for place, written in zip(chosen, engine.recorder.write(drafts, state), strict=True):
                self.sealed[written.seq] = (made[place].request.subject_id, first + place)
            count -= len(chosen)


def _at(evaluation: Evaluation, at: int) -> Evaluation:
    """Return the same evaluation at a later instant, before anything changes: only the instant differs."""
    assert evaluation.until > at
    values = None if evaluation.values is None else (at, *evaluation.values[1:])
    return evaluation._replace(at=at, values=values)


def _facets(evaluation: Evaluation) -> Facets:
    found = evaluation.facets or {}
    return {
        name: frozenset((found[name],)) if isinstance(found[name], str) else frozenset(found[name])
        for name in SEALED
        if found.get(name) is not None
    }
