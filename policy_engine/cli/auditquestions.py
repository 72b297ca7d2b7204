"""`policy-engine audit licence|directive|evidence|releases|rows`: questions that need the registers of a time.

All but `rows` act as a key and are recorded before anything is shown; `rows` opens nothing but the database, as
`audit verify` does.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from policy_engine.cli import exits, output
from policy_engine.cli.audit import app
from policy_engine.cli.auditreplay import OTHERWISE, stacked
from policy_engine.cli.database import vault_of, view_of
from policy_engine.cli.options import instant_of
from policy_engine.cli.output import FormOption
from policy_engine.cli.session import opened, read_settings

_USES: output.Columns = (
    ("entry", "entry"),
    ("at", "instant"),
    ("subject", "subject"),
    ("model", "model"),
    ("action", "action"),
    ("outcome", "outcome"),
    ("outside", "outside"),
)
_STANDINGS: output.Columns = (
    ("under it", "standing"),
    ("subject", "subject"),
    ("tenant", "tenant"),
    ("decisions", "count"),
    ("evidence", "evidence"),
    ("method", "method"),
    ("age (days)", "age_days"),
)
_OWNED: output.Columns = (
    ("tenant", "tenant"),
    ("restricted", "restricted"),
    ("unknown", "unknown"),
    ("allows", "allows_count"),
    ("denies", "denies_count"),
)
_CONTROLS: output.Columns = (
    ("control", "control"),
    ("kind", "kind"),
    ("model", "model"),
    ("denied by it", "denies_count"),
    ("denied otherwise", "other_denies_count"),
    ("allows", "allows_count"),
    ("missed", "missed"),
)
_KINDS: output.Columns = (
    ("level", "level"),
    ("method", "method"),
    ("assurance", "assurance"),
    ("age", "age"),
    ("outcome", "outcome"),
    ("decisions", "count"),
)
_RELEASES: output.Columns = (
    ("at", "at"),
    ("change", "change"),
    ("release", lambda row: str(row["release"])[:19]),
    ("author", "author"),
    ("approver", "approver"),
    ("note", "note"),
    ("until", "until"),
    ("allows", "allows_count"),
    ("denies", "denies_count"),
)
_FINDINGS: output.Columns = (("place", "place"), ("what", "message"))


@app.command("licence")
def licence(
    id: Annotated[str, typer.Argument(metavar="LICENCE", help="The id of the licence.")], form: FormOption = None
) -> None:
    """Every use of a licence: by whom, how often, and whether within its scope and dates. Exits 6 on a use outside."""
    from policy_engine.services.asof import AsOf

    with opened() as session, output.progress("reading the log") as report:
        found = AsOf(session.engine.replay).licence(session.principal, id, report)
    uses = [output.plain(use) for use in found.uses]
    outside = [use.entry for use in found.uses if use.outside]
    data = {
        "licence": id,
        "document": found.licence,
        "ends_at": found.ends_at,
        "count": len(uses),
        "by": [{"subject": subject, "count": count} for subject, count in found.by.most_common()],
        "outside": outside,
        "after_end": found.after_end,
        "uses": uses,
        "gone": found.gone,
        "closed": found.closed,
    }
    output.emit(data, form, lambda: output.rows_table(uses, _USES))
    if found.gone is not None:
        output.note(f"The licence is gone, {found.gone}: `closed` names its uses, and nothing tells what it covered.")
    output.note(f"{len(uses)} uses by {len(found.by)} subjects; {len(outside)} outside the licence.")
    if outside or found.after_end:
        raise typer.Exit(exits.Code.VERIFICATION_FAILED)


@app.command("directive")
def directive(
    id: Annotated[str, typer.Argument(metavar="DIRECTIVE", help="The id of the directive.")],
    since: Annotated[
        str | None,
        typer.Option(help="When it arrived; else the start that it names, or its receipt."),
    ] = None,
    form: FormOption = None,
) -> None:
    """When a directive was received and enforced, who got through in between, and who kept or lost access under it."""
    from policy_engine.services.asof import AsOf

    with opened() as session, output.progress("deciding again") as report:
        asof = AsOf(session.engine.replay)
        found = asof.let_through(session.principal, id, instant_of(since, "--since"), report)
        stood = asof.standings(session.principal, id, report)
    standings = [output.plain(one) for one in stood.standings]
    rows = [output.plain(item) for item in found.through]
    data: dict[str, Any] = {"directive": id, "since_at": found.since, **_receipt(found.receipt)}
    data |= {"allows_between": found.considered_count, "through": rows, "standings": standings}
    # An allow between receipt and enforcement is looked at for both, and is one decision all the same.
    data["closed"] = list({one["entry"]: one for one in (*found.closed, *stood.closed)}.values())
    output.emit(data, form, lambda: stacked((rows, OTHERWISE), (standings, _STANDINGS)))
    output.note(f"{len(rows)} of {found.considered_count} allows in between would have been denied.")
    if data["amended"]:
        named = ", ".join(data["amended"])
        output.note(f"It was amended later (entry {named}); counted is who got through it as it was received.")


def _receipt(receipt: Any) -> dict[str, Any]:
    """Return what the log says of a directive's receipt and enforcement."""
    return {
        "received": {"entry": receipt.entry, "at": receipt.received_at, "by": receipt.received_by},
        "starts_at": receipt.starts_at,
        "amended": receipt.amended,
        "enforced": {"entry": receipt.enforced_entry, "at": receipt.enforced_at},
        "writers": [output.plain(writer) for writer in receipt.writers.values()],
    }


@app.command("evidence")
def evidence(
    question: Annotated[
        str,
        typer.Argument(metavar="[QUESTION]", help='Of which decisions, such as "allow tier>=4 since 30d"; else all.'),
    ] = "",
    form: FormOption = None,
) -> None:
    """On which evidence, and how old, decisions rested; and which on stale, self-declared or later changed facts."""
    from policy_engine.services.asof import AsOf
    from policy_engine.services.questiontext import parse_question

    with opened() as session, output.progress("reading the log") as report:
        asked = parse_question(question, session.engine.store.now())
        found = AsOf(session.engine.replay).evidence(session.principal, asked, question, report)
    names = ("level", "method", "assurance", "age", "outcome")
    kinds = [{**dict(zip(names, kind, strict=True)), "count": count} for kind, count in sorted(found.kinds.items())]
    doubtful = [output.plain(item) for item in found.doubtful]
    data = {"decisions": found.considered_count, "kinds": kinds, "doubtful": doubtful, "closed": found.closed}
    output.emit(data, form, lambda: output.rows_table(kinds, _KINDS))
    output.note(f"{len(doubtful)} decisions rested on evidence that was stale, self-declared or changed later.")


@app.command("releases")
def releases(form: FormOption = None) -> None:
    """The history of the policy: each release, by whom, approved by whom, in force when, and what it decided."""
    from policy_engine.services.asof import AsOf

    with opened() as session, output.progress("reading the log") as report:
        found = AsOf(session.engine.replay).releases(session.principal, report)
    output.emit_rows([output.plain(change) for change in found], form, _RELEASES)


@app.command("owners")
def owners(
    at: Annotated[str | None, typer.Option(help="As of this instant; else now.")] = None, form: FormOption = None
) -> None:
    """Tenants whose seat, parent, owners or list match is restricted or cannot be told, with their decisions."""
    from policy_engine.services.asof import AsOf

    with opened() as session, output.progress("reading the log") as report:
        found = AsOf(session.engine.replay).owners(session.principal, instant_of(at, "--at"), report)
    output.emit_rows([output.plain(one) for one in found.owned], form, _OWNED)
    if found.closed_count:
        output.note(f"{found.closed_count} decisions without a public tenant were erased or pruned; no row has them.")


@app.command("family")
def family(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The id or alias of the model.")],
    form: FormOption = None,
) -> None:
    """Which models derive from a model, and whether every control that names it reached them. Exits 6 where not."""
    from policy_engine.services.asof import AsOf

    with opened() as session, output.progress("reading the log") as report:
        found = AsOf(session.engine.replay).family(session.principal, model, report)
    controls = [{**output.plain(one), "missed": one.missed} for one in found.controls.values()]
    members = [{"model": id, "aliases": sorted(names)} for id, names in sorted(found.members.items())]
    output.emit(
        {"model": model, "family": members, "controls": controls},
        form,
        lambda: stacked((members, (("model", "model"), ("aliases", "aliases"))), (controls, _CONTROLS)),
    )
    if any(one["missed"] for one in controls):
        raise typer.Exit(exits.Code.VERIFICATION_FAILED)


@app.command("rows")
def rows(form: FormOption = None) -> None:
    """Register rows that no entry made, and entries whose row is not there. Exits 6 when there are any."""
    from policy_engine.services.registercheck import RowsCheck

    settings = read_settings()
    vault = vault_of(settings)
    with view_of(settings) as (view, _):
        found = RowsCheck(view, vault)
    findings = [output.plain(finding) for finding in found.findings]
    output.emit(
        {"ok": not findings, **found.counts, "findings": findings},
        form,
        lambda: output.rows_table(findings, _FINDINGS),
    )
    if vault is None:
        output.note("Without the key file, a register row that was taken out is not missed.")
    if findings:
        raise typer.Exit(exits.Code.VERIFICATION_FAILED)
