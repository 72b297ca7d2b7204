"""All cells side by side: who answers, under which release and epoch, and what one has in force and another lacks.

Rules of the room: everything is shown by id and revision and no more; a cell that cannot be asked lacks nothing and has
nothing, since nothing is known of it. What is over by this machine's clock is in force nowhere. The ids are the cells'
own words, for an operator who may read them there.
Left to others: what a cell has in force (`standing`), what follows for its decisions (`peers`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from policy_engine.limits import LIMITS, Limits
from policy_engine.services.cells.addresses import Cell
from policy_engine.services.cells.exchange import CellClient, CellSilent
from policy_engine.services.cells.standing import Standing, read_standing

ASKED_AT = "/v1/cells/orders"
"""The route by which a cell tells another what it has in force."""


@dataclass(frozen=True, slots=True, order=True)
class Thing:
    """A switch or an order as it is in force somewhere."""

    kind: str
    id: str
    revision: int


@dataclass(frozen=True, slots=True)
class Compared:
    """One cell among the others. `lacks` is in force elsewhere and not here, or here under another revision.

    What has not begun yet is in force; what has ended by itself is not.
    """

    cell: str
    reachable: bool
    problem: str = ""
    release: str = ""
    epoch: int | None = None
    switches_count: int | None = None
    orders_count: int | None = None
    lacks: tuple[Thing, ...] = ()


def compare(cells: Sequence[Cell], limits: Limits = LIMITS) -> tuple[Compared, ...]:
    """Ask every cell what it has in force and return them side by side. Raises nothing that a cell did."""
    with ThreadPoolExecutor(len(cells), thread_name_prefix="cell") as pool:
        found = tuple(pool.map(lambda cell: _asked(cell, limits), cells))
    everything = frozenset[Thing]().union(*(things for _, things in found))
    return tuple(
        replace(shown, lacks=tuple(sorted(everything - things))) if shown.reachable else shown
        for shown, things in found
    )


def _asked(cell: Cell, limits: Limits) -> tuple[Compared, frozenset[Thing]]:
    client = CellClient(cell, limits)
    try:
        standing = ask(client, None, limits)
    except CellSilent as silent:
        return Compared(cell.name, False, silent.message), frozenset()
    finally:
        client.close()
    now = time.time_ns() // 1_000
    switches = [each for each in standing.switches.values() if now < each.reach.until]
    orders = [each for each in standing.orders.values() if now < each.reach.until]
    shown = Compared(
        cell.name,
        True,
        release=standing.release,
        epoch=standing.epoch,
        switches_count=len(switches),
        orders_count=len(orders),
    )
    things = [Thing("switch", each.id, each.revision) for each in switches]
    return shown, frozenset((*things, *(Thing(each.kind, each.id, each.revision) for each in orders)))


def ask(client: CellClient, before: Standing | None, limits: Limits = LIMITS) -> Standing:
    """Return what a cell has in force now; what is known already is not sent again. Raises `CellSilent`."""
    answer = client.get(ASKED_AT if before is None else f"{ASKED_AT}?known={before.digest}")
    if answer.status != 200:
        raise CellSilent(f"it answers with status {answer.status}; its key may lack the scope, or it is no such engine")
    return read_standing(answer.document, before, limits)
