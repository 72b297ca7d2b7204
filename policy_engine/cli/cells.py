"""`policy-engine cells`: one switch or order to every region at once, and what each of them has in force.

The file of cells (`--cells`) names them; each is asked over HTTP with the key that its `key_file` holds. No database is
opened here, so POLICY_ENGINE_KEY plays no part.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from policy_engine.cli import exits, output
from policy_engine.cli.options import instant_of, text_of
from policy_engine.cli.orders import FileArgument, OrderArgument, ReasonOption, ReferenceOption, TextOption, read_order
from policy_engine.cli.output import FormOption
from policy_engine.cli.switches import SwitchArgument, parse_scope
from policy_engine.cli.withdrawing import Wait, WaitOption

if TYPE_CHECKING:
    from policy_engine.services.cells.comparing import Compared
    from policy_engine.services.cells.instructions import Instruction
    from policy_engine.services.cells.sending import Sent

app = typer.Typer(name="cells", help="Send one order to every region, and compare them.", no_args_is_help=True)

CellsOption = Annotated[
    Path, typer.Option("--cells", metavar="FILE", help="The file of cells: name, url and key_file of each.")
]

_COLUMNS: output.Columns = (
    ("cell", "cell"),
    ("reachable", "reachable"),
    ("release", lambda row: row["release"][:19]),
    ("epoch", "epoch"),
    ("switches", "switches_count"),
    ("orders", "orders_count"),
    ("lacks", lambda row: ", ".join(f"{each['kind']} {each['id']} r{each['revision']}" for each in row["lacks"])),
    ("problem", "problem"),
)


@app.command("engage")
def engage(
    id: SwitchArgument,
    cells: CellsOption,
    scope: Annotated[list[str], typer.Option("--scope", help="What it stops, as for `switch engage`.")],
    reason: Annotated[str, typer.Option(help="Why; shown to every reader of each register.")],
    until: Annotated[str | None, typer.Option(help="When it ends by itself, such as 2026-07-01T00:00:00Z.")] = None,
    reference: Annotated[str, typer.Option(help="Ticket, letter or call that it rests on.")] = "",
    wait: WaitOption = Wait.COMMITTED,
    form: FormOption = None,
) -> None:
    """Engage a kill switch in every cell. Run it again when a cell was cut off: what is there is not sent twice."""

    def instruct() -> Instruction:
        from policy_engine.services.cells import instructions

        ends = instant_of(until, "--until")
        return instructions.engage(id, parse_scope(scope), reason, reference=reference, until=ends)

    _send(cells, instruct, wait, form)


@app.command("receive")
def receive(
    file: FileArgument,
    cells: CellsOption,
    text: TextOption = None,
    reference: ReferenceOption = "",
    reason: ReasonOption = "",
    wait: WaitOption = Wait.COMMITTED,
    form: FormOption = None,
) -> None:
    """Enter an order in every cell. What loosens waits in each of them for a second person there."""

    def instruct() -> Instruction:
        from policy_engine.services.cells import instructions

        kind, document = read_order(file)
        wording = None if text is None else text_of(text, "--text")
        return instructions.receive(kind, document, text=wording, reference=reference, reason=reason)

    _send(cells, instruct, wait, form)


@app.command("amend")
def amend(
    id: OrderArgument,
    file: FileArgument,
    cells: CellsOption,
    text: TextOption = None,
    reference: ReferenceOption = "",
    reason: ReasonOption = "",
    wait: WaitOption = Wait.COMMITTED,
    form: FormOption = None,
) -> None:
    """Replace an order's members in every cell. What tightens takes effect; what loosens waits in each of them."""

    def instruct() -> Instruction:
        from policy_engine.services.cells import instructions

        kind, document = read_order(file)
        wording = None if text is None else text_of(text, "--text")
        return instructions.amend(id, kind, document, text=wording, reference=reference, reason=reason)

    _send(cells, instruct, wait, form)


@app.command("end")
def end(
    id: OrderArgument,
    cells: CellsOption,
    reason: Annotated[str, typer.Option(help="Why; kept with the order.")],
    wait: WaitOption = Wait.COMMITTED,
    form: FormOption = None,
) -> None:
    """End an order in every cell: a directive when a second person has approved in each, anything else now."""

    def instruct() -> Instruction:
        from policy_engine.services.cells import instructions

        return instructions.end(id, reason)

    _send(cells, instruct, wait, form)


@app.command("status")
def status(cells: CellsOption, form: FormOption = None) -> None:
    """Show each cell's release and epoch, and what another has in force and it lacks. Exits 7 unless all agree."""
    from policy_engine.services.cells.addresses import read_cells
    from policy_engine.services.cells.comparing import compare

    found = compare(read_cells(cells))
    output.emit_rows([output.plain(each) for each in found], form, _COLUMNS)
    odd = [each for each in found if not each.reachable or each.lacks]
    for each in odd:
        output.note(f"policy-engine: {each.cell}: {_oddness(each)}")
    if odd:
        raise typer.Exit(exits.Code.UNREACHABLE)


def _oddness(found: Compared) -> str:
    return found.problem if not found.reachable else f"lacks {len(found.lacks)} in force elsewhere"


def _send(file: Path, instruct: Callable[[], Instruction], wait: Wait, form: FormOption) -> None:
    """Send an instruction to the cells of a file, write what became of it, and exit as far as it has come."""
    from policy_engine.services.cells.addresses import read_cells
    from policy_engine.services.cells.sending import send
    from policy_engine.services.withdrawal import Stage

    sent = send(read_cells(file), instruct(), Stage(wait))
    output.emit_record(_shown(sent), form)
    missed, waiting = sent.missed(waiting=False), sent.missed(waiting=True)
    for each in missed:
        output.note(f"policy-engine: {each.cell} is not {wait.value}: {each.status}{_why(each.problem)}")
    for each in waiting:
        output.note(f"policy-engine: {each.cell} waits until another person has approved {each.proposal} there")
    if missed:
        raise typer.Exit(exits.Code.UNREACHABLE)
    if waiting:
        raise typer.Exit(exits.Code.APPROVAL_MISSING)


def _shown(sent: Sent) -> dict[str, Any]:
    """Return what is printed: members without a value are left out of each cell, and of the whole."""
    shown = {name: value for name, value in output.plain(sent).items() if value is not None and name != "cells"}
    cells = [
        {name: value for name, value in output.plain(each).items() if value not in (None, "")} for each in sent.cells
    ]
    return {**shown, "cells": cells}


def _why(problem: str) -> str:
    return f" ({problem})" if problem else ""
