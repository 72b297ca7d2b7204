"""`policy-engine audit erase` and `audit hold`: what goes for good, by two persons, and what must not go.

`audit erase` has three forms: a SUBJECT, `--before` an instant (the retention form), and `--scrub`, which writes an
SQLite file anew so that nothing that was erased is left in its unused pages.
Left to others: who may, and what a hold covers (`services`), the second person (`approvals`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from policy_engine.cli import exits, output
from policy_engine.cli.audit import app
from policy_engine.cli.database import view_of
from policy_engine.cli.options import instant_of
from policy_engine.cli.output import FormOption
from policy_engine.cli.session import opened, read_settings
from policy_engine.errors import InputRefused, StoreUnavailable


class HoldAct(StrEnum):
    """What is done with legal holds."""

    ADD = "add"
    RELEASE = "release"
    LIST = "list"


_COLUMNS: output.Columns = (
    ("hold", "id"),
    ("status", "status"),
    ("subject", "subject"),
    ("tenant", "tenant"),
    ("model", "model"),
    ("since", "since"),
    ("until", "until"),
    ("reason", "reason"),
    ("reference", "reference"),
    ("placed by", "placed_by"),
    ("placed", "placed_at"),
)


@app.command("erase")
def erase(
    subject: Annotated[str | None, typer.Argument(metavar="[SUBJECT]", help="The id of the subject to erase.")] = None,
    before: Annotated[
        str | None, typer.Option(help="Instead of a subject: sealed parts of entries before this instant.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, without naming the subject; kept with the proposal.")] = "",
    scrub: Annotated[
        bool,
        typer.Option("--scrub", help="Only write the SQLite file anew: no unused page then holds what is gone."),
    ] = False,
    form: FormOption = None,
) -> None:
    """Propose to erase a subject, or to prune sealed parts that are old enough. Another person must approve."""
    if [subject is not None, before is not None, scrub].count(True) != 1:
        raise InputRefused("give one of a SUBJECT, --before and --scrub", where="audit erase")
    if scrub:
        _scrub(form)
        return
    with opened() as session:
        engine, who = session.engine, session.principal
        found: dict[str, Any]
        if subject is not None:
            erasing = engine.disposal.erasures.propose(who, subject, reason)
            proposal = erasing.proposal
            found = {"entries": erasing.entries, "rows": dict(erasing.rows), "kept": dict(erasing.kept)}
        else:
            pruning = engine.disposal.retention.propose(who, instant_of(before, "--before") or 0, reason)
            proposal = pruning.proposal
            found = {"bodies": pruning.bodies, "held": pruning.held}
    output.emit_record({"status": "waiting", "proposal": proposal.id, "hash": proposal.hash, **found}, form)
    output.note(f"Nothing is gone until another person has approved {proposal.id}.")
    raise typer.Exit(exits.Code.APPROVAL_MISSING)


def _scrub(form: output.Form | None) -> None:
    """Write the file of the settings anew. Raises `InputRefused` for a server, `StoreUnavailable` while it is busy."""
    from policy_engine.limits import LIMITS
    from policy_engine.store.scrubbing import scrub

    settings = read_settings()
    if settings.on_postgres:
        raise InputRefused("is for an SQLite file; PostgreSQL has VACUUM FULL", where="--scrub")
    if not settings.database_path.is_file():
        raise InputRefused("there is no file at POLICY_ENGINE_DATABASE", where="--scrub")
    with view_of(settings):  # refuses what is no database of ours: it is not ours to write
        pass
    if not scrub(settings.database_path, bytes_max=None, busy_seconds=LIMITS.answer_seconds):
        raise StoreUnavailable("the file is in use or the disk is full; try again in a quiet hour", where="database")
    output.emit_record({"status": "scrubbed", "bytes": settings.database_path.stat().st_size}, form)


@app.command("hold")
def hold(
    act: Annotated[HoldAct, typer.Argument(metavar="ACT", help="add, release or list.")],
    id: Annotated[str | None, typer.Argument(metavar="[HOLD]", help="The id of the hold to add or release.")] = None,
    subject: Annotated[str | None, typer.Option(help="The subject it covers.")] = None,
    tenant: Annotated[str | None, typer.Option(help="The tenant it covers.")] = None,
    model: Annotated[str | None, typer.Option(help="The model it covers.")] = None,
    since: Annotated[str | None, typer.Option(help="It covers entries from this instant on.")] = None,
    until: Annotated[str | None, typer.Option(help="It covers entries before this instant.")] = None,
    reason: Annotated[str, typer.Option(help="Why; kept with the hold.")] = "",
    reference: Annotated[str, typer.Option(help="Where the request for it is filed.")] = "",
    form: FormOption = None,
) -> None:
    """Place a legal hold at once, propose to release one, or list them. What a hold covers is not erased or pruned."""
    if (act is HoldAct.LIST) == (id is not None):
        raise InputRefused("add and release name a HOLD, list names none", where="HOLD")
    if act is not HoldAct.ADD and (subject, tenant, model, since, until, reference) != (None,) * 5 + ("",):
        raise InputRefused("only `audit hold add` says what is covered", where="audit hold")
    from policy_engine.services.holdrules import Cover, shown

    with opened() as session:
        holds, who = session.engine.disposal.holds, session.principal
        if act is HoldAct.LIST or id is None:
            rows = [shown(each) for each in holds.list(who)]
            output.emit_rows(rows, form, _COLUMNS)
            return
        if act is HoldAct.ADD:
            ends = (instant_of(since, "--since"), instant_of(until, "--until"))
            cover = Cover(subject, tenant, model, *ends)
            committed = holds.place(who, id, cover, reason, reference=reference)
            output.emit_record({"hold": id, "status": "in_force", **output.entry(committed)}, form)
            for name in holds.unregistered(cover):
                _note_unregistered(name)
            return
        proposal = holds.release(who, id, reason)
    output.emit_record({"hold": id, "status": "waiting", "proposal": proposal.id, "hash": proposal.hash}, form)
    output.note(f"The hold stands until another person has approved {proposal.id}.")
    raise typer.Exit(exits.Code.APPROVAL_MISSING)


def _note_unregistered(name: str) -> None:
    """Say that a hold names something that may be misspelt, without repeating it: it may be a person's id."""
    where = "not in the active release's catalogue" if name == "model" else "in no register"
    output.note(f"The {name} of this hold is {where}: check the spelling, for a misspelt one keeps nothing.")
