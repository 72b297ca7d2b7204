"""`policy-engine demo`: the directive of June 2026, from first letter to end, decided by the embedded engine."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policy_engine.cli import demoreport, output
from policy_engine.cli.demostory import Player, Scene, Story, StoryClock, read_story
from policy_engine.cli.session import read_settings
from policy_engine.core.instants import format_instant
from policy_engine.errors import StartRefused

if TYPE_CHECKING:
    from policy_engine.bootstrap import Engine
    from policy_engine.core.decision import Principal
    from policy_engine.settings import Settings
    from policy_engine.world import World

WORLD_FOLDER = "world"


def demo() -> None:
    """Play the directive of June 2026 with the sample world: real orders, real decisions, then the log is verified.

    It writes a new database: at POLICY_ENGINE_DATABASE when set, else a temporary one whose path it prints.
    """
    from policy_engine import logs
    from policy_engine.bootstrap import open_engine
    from policy_engine.world import load_world

    began = time.monotonic()
    logs.configure(level="error")
    settings = _settings()
    folder = settings.policies / WORLD_FOLDER
    story = read_story(folder)
    world = load_world(folder, story.loaded)
    clock = StoryClock(story.loaded)
    engine = open_engine(settings, clock=clock)
    console = output.console()
    try:
        console.print(f"[bold]{story.title}[/bold]")
        console.print(
            f"{len(story.places)} people, {len(world.tenants)} tenants, {len(story.models)} models. "
            "Every answer is a recorded decision; only the clock is set.\n"
        )
        player = _player(engine, clock, story, world, console)
        _show(console, _outcome(story, player.play(), world))
        _verify(console, engine)
    finally:
        engine.close()
    console.print(f"The database is {settings.database_path} ({time.monotonic() - began:.1f} s).", soft_wrap=True)


def _settings() -> Settings:
    """Return the settings with a new database. Raises `StartRefused` when the one named is there already."""
    if not os.environ.get("POLICY_ENGINE_DATABASE"):
        folder = Path(tempfile.mkdtemp(prefix="policy-engine-demo-"))
        return read_settings(database=f"sqlite:///{folder / 'demo.db'}", key="")
    settings = read_settings(key="")
    if settings.on_postgres:
        raise StartRefused("the demo sets the clock; name a new SQLite file", where="POLICY_ENGINE_DATABASE")
    if settings.database_path.exists():
        problem = "names a database that exists; the demo sets the clock, so it needs a new one"
        raise StartRefused(problem, where="POLICY_ENGINE_DATABASE")
    return settings


def _player(engine: Engine, clock: StoryClock, story: Story, world: World, console: Any) -> Player:
    secrets = {key.label: key.secret for key in engine.sample_keys}
    tenants = {person: document["facts"]["tenants"]["value"][0] for person, document in world.persons.items()}

    def principal(label: str) -> Principal:
        return engine.keys.authenticate(secrets[label], clock.now)

    return Player(
        engine=engine,
        clock=clock,
        story=story,
        tenants=tenants,
        gateway=principal("enforcement point"),
        operator=principal("operator"),
        approver=principal("approver"),
        tell=lambda at, sentence: console.print(f"{format_instant(at)[:16]}Z  {sentence}", soft_wrap=True),
    )


def _outcome(story: Story, scenes: Sequence[Scene], world: World) -> demoreport.Outcome:
    def values(documents: Any) -> dict[str, dict[str, Any]]:
        return {
            id: {name: fact["value"] for name, fact in document["facts"].items()} for id, document in documents.items()
        }

    by_name = {scene.name: scene for scene in scenes}
    return demoreport.Outcome(story, by_name, values(world.persons), values(world.tenants))


def _show(console: Any, outcome: demoreport.Outcome) -> None:
    console.print()
    console.print(demoreport.counts_table(outcome))
    for table in demoreport.people_tables(outcome):
        console.print(table)
    for sentence in demoreport.rule_sentences(outcome):
        console.print(f"  {sentence}")
    console.print()
    console.print(demoreport.fates_table(outcome))
    console.print("What a global switch-off would have cost", style="bold")
    for sentence in demoreport.cost_sentences(outcome):
        console.print(f"  {sentence}")


def _verify(console: Any, engine: Engine) -> None:
    """Verify the whole log that the demo has written. Raises `VerificationFailed` when anything does not agree."""
    with output.progress("verifying the log") as report:
        found = engine.evidence.verify(report)
    found.raise_if_failed()
    counts = ", ".join(f"{count} {what}" for what, count in found.counts.items())
    console.print("\nThe log is verified", style="bold")
    console.print(f"  {counts}: everything agrees.")
    console.print(f"  {found.note}")
