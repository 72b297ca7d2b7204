"""`policy-engine audit`: read the log, and verify it.

`verify` changes nothing and opens nothing but the file (`database`): it works beside a running service, on a log too
damaged to serve from, and, with a smaller promise that it states, without the key file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from policy_engine.cli import exits, output
from policy_engine.cli.database import older_copy, vault_of, view_of
from policy_engine.cli.output import FormOption
from policy_engine.cli.session import read_settings
from policy_engine.errors import StoreDamaged

if TYPE_CHECKING:
    from policy_engine.services.verify import Report

app = typer.Typer(name="audit", help="Read and verify the log.", no_args_is_help=True)


@app.command("verify")
def verify(form: FormOption = None) -> None:
    """Recompute the whole log and compare the registers with it. Exits 6 and names each place that does not agree."""
    from policy_engine.services.verify import NOTE, Finding, Report
    from policy_engine.services.verify import verify as verified

    settings = read_settings()
    vault, older = vault_of(settings), None
    try:
        with view_of(settings) as (view, _), output.progress("verifying the log") as report:
            found = verified(view, vault, report)
            older = older_copy(settings, view)
    except StoreDamaged as damaged:
        found = Report((Finding("database", damaged.message),), {}, NOTE)
    output.emit_record(report_of(found), form)
    output.note(found.note)
    if older is not None:
        output.note(f"policy-engine: {older}")
    if not found.ok:
        output.note(
            f"policy-engine: the log or the registers do not agree in {len(found.findings) + found.more} places"
        )
        raise typer.Exit(exits.Code.VERIFICATION_FAILED)


def report_of(found: Report) -> dict[str, Any]:
    """Return a report as data: whether all agrees, what was counted, where the log ends, and each finding."""
    return {
        "ok": found.ok,
        **found.counts,
        "heads": [
            {"log": head.log_id, "entries": head.next_seq, "last_header": head.head_hash} for head in found.heads
        ],
        "gone": dict(found.gone),
        "findings": [str(finding) for finding in found.findings],
        "more_findings": found.more,
        "note": found.note,
    }
