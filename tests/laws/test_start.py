"""Starting: which databases and folders an engine opens, and what a caller may not supply."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from pysqlite3 import dbapi2

from policy_engine.bootstrap import copy_template, open_engine
from policy_engine.core.decision import Principal, PrincipalKind, Request
from policy_engine.core.facts import Location
from policy_engine.errors import LoadRefused, StartRefused
from policy_engine.services.permissions import LOCAL
from policy_engine.services.releases import ReleaseLoader
from policy_engine.settings import Settings
from tests.laws.sample import POLICIES, opened

ALLOWED = Request("alice", "infer", "fable-5", "acme", Location("US"), "US")


def test_serving_a_folder_that_is_not_the_active_release_is_refused(tmp_path: Path, sample_database: Any) -> None:
    """The sentence names both hashes and the way out; nothing in the database changes."""
    place = tmp_path / "engine.db"
    copy_template(sample_database.place, place)
    folder = tmp_path / "policies"
    shutil.copytree(POLICIES, folder)
    models = folder / "models.toml"
    models.write_text(models.read_text() + "# another release\n")
    with pytest.raises(StartRefused, match="policy publish"):
        open_engine(Settings(database=f"sqlite:///{place}", policies=folder), serving=True)
    engine = open_engine(Settings(database=f"sqlite:///{place}", policies=POLICIES), serving=True)
    try:
        assert engine.decider.decide(ALLOWED, LOCAL).allowed
    finally:
        engine.close()


def test_a_corrupt_stored_release_allows_nothing(tmp_path: Path, sample_database: Any) -> None:
    """When stored content no longer hashes to its name, decisions deny and the log says why; none is a traceback."""
    place = tmp_path / "engine.db"
    copy_template(sample_database.place, place)
    connection = dbapi2.connect(str(place), isolation_level=None)
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    connection.execute("UPDATE blobs SET content = CAST(replace(CAST(content AS TEXT), 'deny', 'allow') AS BLOB)")
    connection.close()
    engine = open_engine(Settings(database=f"sqlite:///{place}", policies=POLICIES), releases=ReleaseLoader())
    try:
        assert not engine.decider.decide(ALLOWED, LOCAL).allowed
        with pytest.raises(LoadRefused):
            engine.snapshots.refresh()
        assert not engine.evidence.verify().ok
    finally:
        engine.close()


def test_a_folder_that_cannot_be_served_leaves_no_database_behind(tmp_path: Path) -> None:
    """Neither a database nor a key file is left by a first start that fails."""
    folder = tmp_path / "policies"
    folder.mkdir()
    with pytest.raises(LoadRefused):
        open_engine(Settings(database=f"sqlite:///{tmp_path / 'engine.db'}", policies=folder), serving=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["policies"]


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.test"])
def test_a_sample_world_is_not_served_to_a_network(host: str, tmp_path: Path, sample_database: Any) -> None:
    """On a host that is not loopback a sample world refuses to start unless it is said on purpose."""
    place = tmp_path / "engine.db"
    copy_template(sample_database.place, place)
    settings = Settings(database=f"sqlite:///{place}", policies=POLICIES, host=host)
    with pytest.raises(StartRefused, match="POLICY_ENGINE_SAMPLE_WORLD=yes"):
        open_engine(settings, serving=True)
    engine = open_engine(settings.model_copy(update={"sample_world": "yes"}), serving=True)
    engine.close()


def test_a_fact_that_the_caller_may_not_supply_is_unknown(sample_database: Any, compiled: Any) -> None:
    """Without `location` among its supplies a key's word on the place counts for nothing.

    What it does supply is believed.
    """
    with opened(sample_database, compiled) as (engine, _):
        mute = Principal("mute", PrincipalKind.SERVICE, frozenset(("decide",)), None, frozenset(("serving_region",)))
        decision = engine.decider.decide(ALLOWED, mute)
        assert not decision.allowed
        assert "location" in decision.missing
        serving = Principal("mute", PrincipalKind.SERVICE, frozenset(("decide",)), None, frozenset(("location",)))
        refused = engine.decider.decide(ALLOWED, serving)
        assert [reason.rule for reason in refused.reasons] == ["P6b"]
        assert engine.decider.decide(ALLOWED, LOCAL).allowed
