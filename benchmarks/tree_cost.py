"""What tree and receipts cost: the same load on the service as it is, and on one without both (`benchmarks.bare`).

SQLite with one worker and PostgreSQL with four, over HTTP, single evaluations. The two sides take turns on databases of
their own. Judged is the median of the rounds' ratios: at least 0.75, for both may cost a quarter together. After the
load the side with a tree must have everything in it within a few seconds, or nothing was measured.
PostgreSQL is the one that the tests start, or that `POLICY_ENGINE_TEST_POSTGRES` names.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import over_http, servers, wrk
from benchmarks.report import Line

BOUND = 0.75
CONNECTIONS = 64
WORKERS = 4
SETTLE_SECONDS = 10.0

Sides = tuple[servers.Server, servers.Server]
"""With tree and receipts, and without."""


def measure(folder: Path, plan: over_http.Plan, say: Callable[[str], None]) -> list[Line]:
    """Return one line a store. Needs wrk, and PostgreSQL for the second line."""
    wrk.required()
    bodies = over_http.write_bodies(folder / "singles.jsonl")
    lines = []
    with ExitStack() as running:
        say("durable decisions on SQLite, with tree and receipts and without")
        databases = [f"sqlite:///{folder / f'{name}.db'}" for name in ("whole", "bare")]
        sides = (
            running.enter_context(_serve(folder, "whole", databases[0], {}, 1)),
            running.enter_context(_serve(folder, "bare", databases[1], {}, 1)),
        )
        lines.append(_compared("SQLite, 1 worker", sides, bodies, plan))
        _check_tree(databases[0])
    with ExitStack() as running:
        say(f"durable decisions on PostgreSQL with {WORKERS} workers, with tree and receipts and without")
        whole, bare = running.enter_context(_postgres(folder)), running.enter_context(_postgres(folder))
        del bare[1]["POLICY_ENGINE_SEQUENCER_DATABASE"]
        sides = (
            running.enter_context(_serve(folder, "whole", *whole, WORKERS)),
            running.enter_context(_serve(folder, "bare", *bare, WORKERS)),
        )
        lines.append(_compared(f"PostgreSQL, {WORKERS} workers", sides, bodies, plan))
        _check_tree(whole[0])
    return lines


def _compared(name: str, sides: Sides, bodies: Path, plan: over_http.Plan) -> Line:
    for side in sides:
        _load(side, bodies, 1)
    pairs = [[_load(side, bodies, plan.seconds) for side in sides] for _ in range(plan.rounds)]
    whole, bare = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    ratios = [one.rate / other.rate for one, other in pairs]
    return Line(
        name=f"durable decisions with tree and receipts, {name}",
        unit="/s",
        ours=statistics.median(load.rate for load in whole),
        theirs=statistics.median(load.rate for load in bare),
        figure=statistics.median(ratios),
        bound=BOUND,
        detail={
            "rounds_judged": [round(ratio, 3) for ratio in ratios],
            "p50_us": statistics.median(load.p50_us for load in whole),
            "p99_us": statistics.median(load.p99_us for load in whole),
            "p50_us_without": statistics.median(load.p50_us for load in bare),
            "p99_us_without": statistics.median(load.p99_us for load in bare),
        },
    )


def _load(side: servers.Server, bodies: Path, seconds: float) -> wrk.Load:
    return wrk.post(side.url + over_http.SINGLE, bodies, side.key, connections=CONNECTIONS, seconds=seconds)


@contextmanager
def _serve(
    folder: Path, side: str, database: str, environment: dict[str, str], workers: int
) -> Iterator[servers.Server]:
    """Run one side; `bare` is the program without tree and receipts."""
    program = [str(Path(sys.executable).with_name("policy-engine"))]
    if side == "bare":
        program = [sys.executable, "-m", "benchmarks.bare"]
    words = [*program, "serve", "--workers", str(workers)]
    name = f"{side}-{workers}"
    with servers.serving(words, folder / f"{name}.log", database, environment) as server:
        yield server


@contextmanager
def _postgres(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Offer an installed database: its writer's URL, and the settings of a process that does everything."""
    from tests import postgresql

    server = postgresql.running()
    name = server.new_database()
    try:
        yield (
            server.url(name, "pe_writer"),
            {
                "POLICY_ENGINE_OPERATOR_DATABASE": server.url(name, "pe_operator"),
                "POLICY_ENGINE_SEQUENCER_DATABASE": server.url(name, "pe_sequencer"),
                "POLICY_ENGINE_LOG_KEY": str(folder / f"{name}.key"),
                "POLICY_ENGINE_KEYS": str(folder / f"{name}.keys"),
                "POLICY_ENGINE_SAMPLE_WORLD": "yes",
            },
        )
    finally:
        server.drop_database(name)


def _check_tree(database: str) -> None:
    """Raise `LoadFailed` unless everything is in the tree soon after the load."""
    from policy_engine.services.verifytree import glance
    from policy_engine.store.interfaces import LogView

    def pending(view: LogView) -> int:
        newest, count = glance(view)
        return count if newest is not None else -1

    until = time.monotonic() + SETTLE_SECONDS
    while (left := _looked_at(database, pending)) != 0:
        if time.monotonic() > until:
            raise wrk.LoadFailed(f"{left} batches are still not in the tree {SETTLE_SECONDS:g} s after the load")
        time.sleep(0.5)


def _looked_at(database: str, question: Callable[..., int]) -> int:
    if database.startswith("postgresql"):
        from policy_engine.store.pgreading import looked_at

        with looked_at(database) as (view, _):
            return question(view)
    from policy_engine.cli.database import view_of
    from policy_engine.settings import Settings

    with view_of(Settings(database=database)) as (view, _):
        return question(view)
