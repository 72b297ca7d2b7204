"""What orders in force cost a decision: the sample questions with 10,000 directives and licences and 1,000 switches.

Both sides are the same evaluator in this process, asked in turn: one with few orders, one with many, under which each
question comes out the same. The orders name two hundred models, the sample's among them, the sample's persons and
tenants among others, and every kind of block, exemption and scope. The few are one directive of each kind on each of
the sample's models and one switch. No switch covers a question: one that does ends a decision early.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING

from benchmarks import over_http
from benchmarks.report import Line
from benchmarks.side_by_side import AnswersDiffer

if TYPE_CHECKING:
    from policy_engine.core.orders import Directive, Licence
    from policy_engine.core.switches import KillSwitch

DIRECTIVES_COUNT = LICENCES_COUNT = 5_000
SWITCHES_COUNT = 1_000
BOUND_RATIO = 2.0
BOTH = ["foreign_person", "destination_outside_us"]
MODELS = ("fable-5", "mythos-5", "fable-5-1", "summit-4", "opus-4-8", "open-1", *(f"model-{n}" for n in range(194)))
SAMPLE_MODELS = 6
PERSONS = ("alice", "mina", "dana", "bruno", "ines", "chen", "greg", "eve", *(f"person-{n}" for n in range(992)))
TENANTS = ("acme", "acme-de", "annexco", "lab", "ministry-uk", "shellco", *(f"tenant-{n}" for n in range(494)))


def measure(folder: Path, policies: Path, turns: int, say: Callable[[str], None]) -> list[Line]:
    """Time the sample questions under few and many orders, in turn, and judge the ratio of the medians."""
    from policy_engine.api.authzen import read_evaluation
    from policy_engine.bootstrap import open_engine
    from policy_engine.core.orders import OrderBook
    from policy_engine.core.switches import Switchboard
    from policy_engine.services.evaluate import Evaluator
    from policy_engine.services.factcache import FactCache
    from policy_engine.services.permissions import LOCAL
    from policy_engine.settings import Settings

    say("in process, with ten thousand orders in force")
    chance = random.Random(20_260_612)
    engine = open_engine(Settings(policies=policies, database=f"sqlite:///{folder / 'orders.db'}"))
    try:
        evaluator = Evaluator(FactCache(engine.store), serving_region="US", remembers=False)
        directives, switches = list(_directives(chance)), list(_switches(chance))
        current = engine.snapshots.current()
        few = replace(current, orders=OrderBook(_one_of_each(directives)), switches=Switchboard(switches[:1]))
        many = replace(current, orders=OrderBook(directives, _licences(chance)), switches=Switchboard(switches))
        requests = [read_evaluation(over_http.evaluation(*row[:4])) for row in over_http.ASKED]
        now = engine.store.now()
        for request in requests:
            if len({evaluator.evaluate(request, LOCAL, snapshot, now).outcome for snapshot in (few, many)}) != 1:
                raise AnswersDiffer("a question comes out differently under many orders; it costs something else then")
        times: dict[str, list[float]] = {"few": [], "many": []}
        for turn in range(turns):
            request = requests[turn % len(requests)]
            for name, snapshot in (("few", few), ("many", many)):
                now = engine.store.now()
                began = perf_counter_ns()
                evaluator.evaluate(request, LOCAL, snapshot, now)
                if turn >= turns // 10:
                    times[name].append((perf_counter_ns() - began) / 1_000)
    finally:
        engine.close()
    medians = {name: statistics.median(found) for name, found in times.items()}
    detail = {"directives": DIRECTIVES_COUNT, "licences": LICENCES_COUNT, "switches": SWITCHES_COUNT, "turns": turns}
    name = f"in process, {DIRECTIVES_COUNT + LICENCES_COUNT:,} orders and {SWITCHES_COUNT:,} switches in force"
    ratio = medians["many"] / medians["few"]
    return [Line(name, "us", medians["many"], medians["few"], ratio, BOUND_RATIO, at_most=True, detail=detail)]


def _one_of_each(directives: list[Directive]) -> list[Directive]:
    """Return one directive of each kind of blocks on each of the sample's models."""
    found: dict[tuple[str, frozenset[str]], Directive] = {}
    for directive in directives:
        for model in MODELS[:SAMPLE_MODELS] if not directive.exempts else ():
            if directive.models is not None and model in directive.models:
                found.setdefault((model, directive.blocks), directive)
    return list(dict.fromkeys(found.values()))


def _directives(chance: random.Random) -> Iterator[Directive]:
    from policy_engine.core.orderparse import parse_directive

    for number in range(DIRECTIVES_COUNT):
        models = chance.sample(MODELS, chance.randint(1, 3))
        who = chance.choice(("annex_a_entities_and_their_employees", "lab_foreign_national_employees"))
        exempt = {"id": "e", "models": models[:1], "who": who, "annex_a": chance.sample(TENANTS, 20)}
        body = {
            "id": f"d-{number:05}",
            "models": models,
            "blocks": chance.choice((["foreign_person"], ["destination_outside_us"], BOTH)),
            "exempts": [exempt] if number % 2 else [],
            "from": "2026-01-01",
        }
        yield parse_directive(body, strict=False)


def _licences(chance: random.Random) -> Iterator[Licence]:
    from policy_engine.core.orderparse import parse_licence

    for number in range(LICENCES_COUNT):
        yield parse_licence(
            {
                "id": f"l-{number:05}",
                "person_id": chance.choice((None, *chance.sample(PERSONS, 2))),
                "tenant_id": chance.choice(TENANTS),
                "models": chance.sample(MODELS, chance.randint(1, 5)),
                "actions": ["infer"],
                "lifts": chance.sample(("seat", "dest", "nat", "directive"), 2),
                "nationalities": chance.sample(("IR", "CN", "IN", "DE", "GB"), 2),
                "destinations": chance.sample(("US", "GB", "DE", "US-CA"), 2),
                "from": "2026-01-01",
                "until": "2030-01-01",
            },
            strict=False,
        )


def _switches(chance: random.Random) -> Iterator[KillSwitch]:
    from policy_engine.core.switches import read_kill_switch

    for number in range(SWITCHES_COUNT):
        scope: dict[str, list[object]] = {
            "models": list(chance.sample(MODELS, 2)),
            "tenants": [f"other-{chance.randrange(300)}"],
        }
        if number % 3:
            scope["actions"] = ["infer"]
        if number % 5 == 0:
            scope["tiers"] = [4, 5]
        yield read_kill_switch(f"k-{number:04}", {"scope": scope})
