"""`policy-engine audit export`: the log as a file for somebody else, with a proof sheet beside it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from policy_engine.cli import exits, output
from policy_engine.cli.audit import app
from policy_engine.cli.options import instant_of
from policy_engine.cli.output import FormOption
from policy_engine.cli.session import Session, opened
from policy_engine.errors import InputRefused

if TYPE_CHECKING:
    from policy_engine.services.exports.proof import Sheet
    from policy_engine.services.exports.service import Target
    from policy_engine.services.exports.source import Asked


class ExportForm(StrEnum):
    """The forms of an exported file."""

    JSONL = "jsonl"
    CSV = "csv"
    XLSX = "xlsx"
    PARQUET = "parquet"
    OCSF = "ocsf"
    BUNDLE = "bundle"


@app.command("export")
def export(
    question: Annotated[
        str, typer.Argument(metavar="[QUESTION]", help='What to export, such as "deny tier>=4 since 7d"; else all.')
    ] = "",
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help="The file to write; a bundle may be a folder.")
    ] = None,
    form: Annotated[
        ExportForm | None, typer.Option("--format", help="jsonl, csv, xlsx, parquet, ocsf or bundle; by default jsonl.")
    ] = None,
    since: Annotated[str | None, typer.Option(help="From this instant on.")] = None,
    until: Annotated[str | None, typer.Option(help="Before this instant.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    unsealed: Annotated[
        bool, typer.Option("--unsealed", help="With sealed bodies: propose it, and make it when it is approved.")
    ] = False,
    approval: Annotated[
        str | None, typer.Option(metavar="PROPOSAL", help="With --unsealed: the approved proposal; used up by this.")
    ] = None,
    reason: Annotated[str, typer.Option(help="With --unsealed: why; who approves it reads this.")] = "",
    shown: FormOption = None,
) -> None:
    """Write entries to a file with a proof sheet beside it: public parts, or sealed ones when two persons agree.

    With --unsealed and without --approval it proposes and ends with 8; nothing is written then.
    """
    if approval is not None and not unsealed:
        raise InputRefused("goes with --unsealed", where="--approval")
    with opened() as session:
        exports = session.engine.exports
        asked = exports.ask(question, instant_of(since, "--since"), instant_of(until, "--until"))
        if unsealed and approval is None:
            _propose(session, asked, form, reason, shown)
            raise typer.Exit(exits.Code.APPROVAL_MISSING)
        if to is None:
            raise InputRefused("name the file to write", where="--to")
        sheet = _written(session, asked, form, _target(to, force), approval)
    output.emit_record({"file": str(to), "proof_sheet": f"{to}.proof.txt", **_summary(sheet)}, shown)


def _target(to: Path, force: bool) -> Target:
    from policy_engine.services.exports.service import Target

    return Target(to, force)


def _propose(session: Session, asked: Asked, form: ExportForm | None, reason: str, shown: FormOption) -> None:
    from policy_engine.services.exports.service import Form

    proposal = session.engine.exports.propose_unsealed(session.principal, asked, Form(form or ExportForm.JSONL), reason)
    output.emit_record({"proposal": proposal.id, "hash": proposal.hash, "expires_at": proposal.expires_at}, shown)
    output.note(
        f"When another person has approved {proposal.id}, make the export: "
        f"policy-engine audit export --unsealed --approval {proposal.id} --to FILE"
    )


def _written(session: Session, asked: Asked, form: ExportForm | None, target: Target, approval: str | None) -> Sheet:
    from policy_engine.services.exports.service import Form

    exports = session.engine.exports
    with output.progress("exporting") as report:
        if approval is None:
            return exports.export(
                session.principal, asked, Form(form or ExportForm.JSONL), target, lambda done: report(done, None)
            )
        chosen = None if form is None else Form(form)
        return exports.export_unsealed(
            session.principal, approval, asked, chosen, target, lambda done: report(done, None)
        )


def _summary(sheet: Sheet) -> dict[str, object]:
    """Return what a person wants to see at once; the rest is in the proof sheet."""
    return {
        "format": sheet.format,
        "entries": sheet.entries,
        "bytes": sheet.size_bytes,
        "sha256": sheet.sha256,
        "complete": sheet.complete,
        "final": sheet.final,
        "unsealed": sheet.unsealed,
        "tree_size": sheet.tree_size,
        "notes": list(sheet.notes),
    }
