"""What the tests of replays share: a sample house, its usual questions, and a hand that edits the database."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pysqlite3

from policy_engine.bootstrap import Engine
from policy_engine.core.decision import Principal, Request
from policy_engine.core.facts import Location
from policy_engine.services.replay import Replayed

SampleHouse = tuple[Engine, dict[str, Principal]]
"""An engine on a copy of the sample database, and the sample principals by label."""
ALICE = Request("alice", "infer", "fable-5", "acme", Location("US"), "US")
EVE = Request("eve", "infer", "fable-5", "acme", Location("US"), "US")
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


def statuses(found: list[Replayed]) -> dict[str, str]:
    """Return what became of each entry, by its name."""
    return {one.entry: one.status for one in found}


@contextmanager
def in_memory() -> Iterator[Path]:
    """Offer a place for a database that is thrown away."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        yield Path(folder) / "engine.db"


def edited(engine: Engine, statement: str) -> None:
    """Change the database behind the engine's back, triggers and all."""
    with pysqlite3.connect(str(engine.settings.database_path)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f'DROP TRIGGER "{name}"')
        connection.execute(statement)
    connection.close()


def written(was: str, now: str) -> str:
    """Return the statement that edits the public part of entry 2."""
    return f"UPDATE entries SET public = CAST(replace(public, '{was}', '{now}') AS BLOB) WHERE seq = 2"
