"""A tree that is not the one that was signed stops every allow: what is written on top of it may be lost."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from pysqlite3 import dbapi2

from policy_engine.api.condition import read_condition
from policy_engine.bootstrap import copy_template, open_engine
from policy_engine.core.decision import Decision, Request
from policy_engine.core.facts import Location
from policy_engine.services.permissions import LOCAL
from policy_engine.settings import Settings
from tests.laws.sample import POLICIES

WAIT_SECONDS = 30.0


def test_nothing_is_allowed_on_a_tree_that_was_changed(tmp_path: Path, sample_database: Any, compiled: Any) -> None:
    """A hash of the tree is changed under a running engine: within moments it denies, and `/readyz` says why."""
    place = tmp_path / "engine.db"
    copy_template(sample_database.place, place)
    engine = open_engine(Settings(database=f"sqlite:///{place}", policies=POLICIES), releases=compiled, embedded=True)
    try:

        def ask() -> Decision:
            request = Request("alice", "infer", "fable-5", "acme", Location("US"), "US")
            return engine.decider.decide(request, LOCAL)

        def wait_for(allowed: bool) -> Decision:
            until = time.monotonic() + WAIT_SECONDS
            while (decision := ask()).allowed is not allowed:
                assert time.monotonic() < until, "it never came to be"
                time.sleep(0.05)
            return decision

        wait_for(allowed=True)
        assert engine.sequencer is not None
        engine.sequencer.integrate()
        connection = dbapi2.connect(str(place), isolation_level=None)
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("UPDATE tree_tiles SET data = zeroblob(length(data))")
        connection.close()
        assert [reason.code for reason in wait_for(allowed=False).reasons] == ["log.forked"]
        assert "tree.refused" in [code for code, _ in read_condition(engine).reasons]
        assert not ask().allowed
    finally:
        engine.close()
