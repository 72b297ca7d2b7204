"""`policy-engine audit report`: what happened in a period, as one HTML file with tables and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from policy_engine.cli import exits, output
from policy_engine.cli.audit import app
from policy_engine.cli.output import FormOption
from policy_engine.cli.session import opened


@app.command("report")
def report(
    period: Annotated[
        str, typer.Option("--period", help="2026, 2026-06, 2026-Q2, or FROM..TO; the end does not count.")
    ],
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="The HTML file to write.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    unverified: Annotated[
        bool, typer.Option("--no-verify", help="Leave out verifying the whole log; the report says so.")
    ] = False,
    ages: Annotated[
        bool, typer.Option("--ages", help="Count how old evidence was; opens every decision, needs audit:unseal.")
    ] = False,
    form: FormOption = None,
) -> None:
    """Write the audit report of a period. It needs no network and holds no personal fact.

    A person's key with audit:read gets counts by country group too, which is a logged read. Exits 6 when the log does
    not verify; the report is written all the same, and says where.
    """
    from policy_engine.services.report.period import parse_period

    chosen = parse_period(period)
    with opened() as session, output.progress("verifying the log") as progress:
        made = session.engine.reports.write(
            session.principal, chosen, to, force=force, verify=not unverified, ages=ages, progress=progress
        )
    shown = {
        "file": str(made.place),
        "sha256": made.sha256,
        "entries": made.entries,
        "decisions": made.decisions,
        "verified": made.verified,
        "counted_by_sealed": made.keyed,
        "gone": {section: gone.members() for section, gone in made.gone.items()},
    }
    output.emit_record(shown, form)
    if made.verified is False:
        raise typer.Exit(exits.Code.VERIFICATION_FAILED)
