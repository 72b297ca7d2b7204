"""`policy-engine approvals`: what waits for a second person, and that person's word."""

from __future__ import annotations

from typing import Annotated

import typer

from policy_engine.cli import output
from policy_engine.cli.options import ProposalStatus
from policy_engine.cli.output import FormOption
from policy_engine.cli.session import opened
from policy_engine.cli.withdrawing import Wait, WaitOption, require_reached, taken_hold

app = typer.Typer(name="approvals", help="See and decide what waits for a second person.", no_args_is_help=True)

_COLUMNS: output.Columns = (
    ("proposal", "id"),
    ("what", "kind"),
    ("status", "status"),
    ("proposed by", "proposed_by"),
    ("proposed", "proposed_at"),
    ("expires", "expires_at"),
    ("decided by", "decided_by"),
)

ProposalArgument = Annotated[str, typer.Argument(metavar="PROPOSAL", help="The id of the proposal.")]


@app.command("list")
def list_proposals(
    status: Annotated[
        ProposalStatus | None, typer.Option(help="Only waiting, approved, refused, failed, expired or used.")
    ] = None,
    form: FormOption = None,
) -> None:
    """List proposals, newest last."""
    with opened() as session:
        found = session.engine.approvals.list(session.principal, status=status)
    rows = [output.plain(proposal) for proposal in found]
    output.emit_rows(rows, form, _COLUMNS)


@app.command("show")
def show(id: ProposalArgument, form: FormOption = None) -> None:
    """Show a proposal: what it would change, and the content hash that is approved."""
    with opened() as session:
        proposal = session.engine.approvals.show(session.principal, id)
    output.emit_record(output.plain(proposal), form)


@app.command("approve")
def approve(
    id: ProposalArgument,
    hash: Annotated[
        str | None, typer.Option("--hash", help="The content hash you read; another content is not approved.")
    ] = None,
    wait: WaitOption = Wait.COMMITTED,
    form: FormOption = None,
) -> None:
    """Approve a proposal of another person, and apply it."""
    with opened() as session:
        followed = session.engine.withdrawals.follow()
        ruled = session.engine.approvals.approve(session.principal, id, hash=hash)
        held = taken_hold(followed, ruled.committed, wait)
    done = {"proposal": id, "status": ruled.proposal.status, **output.entry(ruled.committed), **held}
    output.emit_record(done, form)
    require_reached(held, wait)


@app.command("refuse")
def refuse(
    id: ProposalArgument,
    reason: Annotated[str, typer.Option(help="Why; kept with the proposal.")],
    form: FormOption = None,
) -> None:
    """Refuse a proposal; nothing of it is applied."""
    with opened() as session:
        ruled = session.engine.approvals.refuse(session.principal, id, reason)
    output.emit_record({"proposal": id, "status": ruled.proposal.status, **output.entry(ruled.committed)}, form)
