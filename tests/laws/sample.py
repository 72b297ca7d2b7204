"""Engines on a copy of the sample database, random changes and requests, and a replay from the log alone."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policy_engine.bootstrap import Engine, copy_template, open_engine
from policy_engine.core.decision import Evaluation, Principal, PrincipalKind, Request
from policy_engine.core.facts import Location
from policy_engine.ledger.encoding import parse_public
from policy_engine.services.evaluate import Evaluator
from policy_engine.services.evidence import Registers
from policy_engine.services.factcache import FactCache
from policy_engine.services.releases import ReleaseLoader
from policy_engine.services.snapshot import Snapshots
from policy_engine.services.unseal import Unsealer
from policy_engine.settings import Settings
from policy_engine.store.interfaces import Row, State

POLICIES = Path(__file__).parents[2] / "policies"

ENGINE_REASONS = ("engine", "unknown-tenant", "unknown-model")


@contextmanager
def opened(sample: Any, releases: ReleaseLoader, **settings: Any) -> Iterator[tuple[Engine, dict[str, Principal]]]:
    """Offer an engine on a copy of the sample database, with the sample principals by id."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        place = Path(folder) / "engine.db"
        copy_template(sample.place, place)
        engine = open_engine(Settings(database=f"sqlite:///{place}", policies=POLICIES, **settings), releases=releases)
        try:
            keys = {label: engine.keys.authenticate(secret) for label, secret in sample.keys.items()}
            yield engine, keys
        finally:
            engine.close()


class Past:
    """The registers as they were, for reading: what a snapshot and a fact cache need of a store."""

    def __init__(self, registers: Registers, store: Any) -> None:
        self._registers = registers
        self._store = store

    def state(self) -> State:
        """Return the state then."""
        return self._registers.state

    def row(self, register: str, id: str) -> Row | None:
        """Return a row then."""
        return self._registers.rows.get(register, {}).get(id)

    def rows(self, register: str) -> list[Row]:
        """Return the rows then, in order of id."""
        return [row for _, row in sorted(self._registers.rows.get(register, {}).items())]

    def blob(self, hash: str) -> bytes | None:
        """Return content, which never changes under its hash."""
        return self._store.blob(hash)


@dataclass(frozen=True)
class Recorded:
    """A decision entry, opened."""

    seq: int
    public: Mapping[str, Any]
    body: Mapping[str, Any]


def decisions(engine: Engine) -> list[Recorded]:
    """Return every decision entry of the log, opened with the vault."""
    vault = engine.evidence._vault
    found = []
    with engine.store.view() as view:
        unsealer = Unsealer(vault, view.data_key)
        for entry in view.scan_entries():
            public = parse_public(entry.public)
            if public["kind"] == "decision":
                found.append(Recorded(entry.seq, public, unsealer.body(entry, public)))
    return found


def replay(engine: Engine, recorded: Recorded) -> Evaluation:
    """Evaluate a recorded decision again from what the log says: entry, registers then, release by its hash."""
    past = Past(engine.evidence.rebuild(recorded.seq - 1), engine.store)
    snapshots = Snapshots(past, engine.releases)
    evaluator = Evaluator(FactCache(past), serving_region=None)
    body, by = recorded.body, recorded.public["by"]
    key = None if by == "local" else past.row("keys", by)
    tenants = None if key is None or key.document["tenants"] is None else frozenset(key.document["tenants"])
    location = None if body["location"] is None else Location(**body["location"])
    request = Request(
        subject_id=body["subject"],
        subject_type=body["subject_type"],
        resource_type=body["resource_type"],
        action=body["action"],
        model=body["model"],
        tenant=body["tenant"],
        location=location,
        serving_region=body["serving_region"],
    )
    believed = Principal("replay", PrincipalKind.SERVICE, frozenset(("decide",)), tenants, frozenset(("*",)))
    return evaluator.evaluate(request, believed, snapshots.refresh(), recorded.public["instant"])
