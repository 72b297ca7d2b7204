"""Engines on a copy of the sample database, random changes and requests, and a replay from the log alone."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from policy_engine.bootstrap import Engine, copy_template, open_engine
from policy_engine.core.decision import Evaluation, Principal
from policy_engine.ledger.encoding import parse_public
from policy_engine.services.past import Past, in_order
from policy_engine.services.rejudge import Recorded, Rejudge
from policy_engine.services.releases import ReleaseLoader
from policy_engine.services.unseal import Unsealer
from policy_engine.settings import Settings

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


def decisions(engine: Engine) -> list[Recorded]:
    """Return every decision entry of the log, opened with the vault."""
    vault = engine.evidence._vault
    found = []
    with engine.store.view() as view:
        unsealer = Unsealer(vault, view.data_key)
        for entry in view.scan_entries():
            public = parse_public(entry.public)
            if public["kind"] == "decision":
                found.append(Recorded(entry.log_id, entry.seq, entry.public, public, unsealer.body(entry, public)))
    return found


def replay(engine: Engine, recorded: Recorded) -> Evaluation:
    """Evaluate a recorded decision again from what the log says: entry, registers then, release by its hash."""
    past = Past(Unsealer(engine.evidence._vault, engine.store.data_key), engine.store.blob)
    with engine.store.view() as view:
        for entry in in_order(view):
            if entry.seq == recorded.seq:
                break
            past.apply(entry)
    return Rejudge(past, engine.releases)(recorded)
