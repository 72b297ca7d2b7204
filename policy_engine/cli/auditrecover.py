"""`policy-engine audit recover`: propose to believe a database that is older than one that was served here.

Left to others: when a database is suspected, and what a recovery does (`services.recovery`), the second person
(`approvals`).
"""

from __future__ import annotations

from typing import Annotated

import typer

from policy_engine.cli import exits, output
from policy_engine.cli.audit import app
from policy_engine.cli.output import FormOption
from policy_engine.cli.session import opened


@app.command("recover")
def recover(
    reason: Annotated[str, typer.Option(help="Why this database is the one that counts; kept with the proposal.")],
    beyond: Annotated[
        int | None, typer.Option(help="The epoch that was lost; by default the one that this machine remembers.")
    ] = None,
    form: FormOption = None,
) -> None:
    """Propose to go on with a database that was restored from an older copy. Another person must approve.

    Until then everything is denied. Enter again first what was lost: switches, directives, revoked keys.
    """
    with opened() as session:
        proposal = session.engine.recovery.propose(session.principal, reason, beyond=beyond)
    record = {
        "status": "waiting", "proposal": proposal.id, "hash": proposal.hash, "beyond": proposal.payload["beyond"],
    }  # fmt: skip
    output.emit_record(record, form)
    output.note(f"Everything stays denied until another person has approved {proposal.id}.")
    raise typer.Exit(exits.Code.APPROVAL_MISSING)
