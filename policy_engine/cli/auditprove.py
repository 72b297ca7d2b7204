"""`policy-engine audit prove`: one entry with its proof, for whoever trusts neither the service nor its database."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from policy_engine.cli import output
from policy_engine.cli.audit import app
from policy_engine.cli.output import FormOption
from policy_engine.cli.session import Session, opened
from policy_engine.errors import NotFound

if TYPE_CHECKING:
    from policy_engine.services.prove import Proved

WAIT_SECONDS = 3.0
"""How long an entry that was just written is waited for to get into the tree, which takes a second at most."""

STEP_SECONDS = 0.1


@app.command("prove")
def prove(
    entry: Annotated[str, typer.Argument(metavar="ENTRY", help="The entry (17, or LOG:17) or the decision's id.")],
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help="Write the proof here, best as NAME.tlog-proof.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    form: FormOption = None,
) -> None:
    """Prove that an entry is in the signed log: the entry, its batch, its path, and the checkpoint, in one file.

    `policy-engine-verify FILE --key KEY` checks it offline.
    """
    with opened() as session:
        public = session.engine.evidence.show(session.principal, entry)
        proved = _proved(session, str(public["log"]), int(public["seq"]))
    if to is not None:
        _write(to, proved.file, force)
    output.emit_record(_record(proved, to), form)
    output.note("The key above is the log's own word; an auditor needs it from elsewhere.")


def _proved(session: Session, log_id: str, seq: int) -> Proved:
    """Return the proof, and wait a moment for an entry that is not in the tree yet."""
    from policy_engine.services.prove import prove as proved

    until = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            return proved(session.engine.store, log_id, seq)
        except NotFound:
            if time.monotonic() >= until:
                raise
            time.sleep(STEP_SECONDS)


def _write(to: Path, data: bytes, force: bool) -> None:
    from policy_engine.services.exports.files import whole_file

    with whole_file(to, force=force) as pending:
        pending.part.write_bytes(data)


def _record(proved: Proved, to: Path | None) -> dict[str, Any]:
    """Return what is shown, bytes as they were committed; the proof itself where no file was asked for."""
    from policy_engine.ledger.spelling import write_base64

    found = {
        "entry": proved.entry.decode(),
        "header": proved.header.decode(),
        "path": [write_base64(hash) for hash in proved.path],
        "leaf": proved.index,
        "size": proved.size,
        "key": proved.key,
        "checkpoint": proved.checkpoint.decode(),
    }
    return found | ({"proof": proved.file.decode()} if to is None else {"file": str(to)})
