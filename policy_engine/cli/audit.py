"""`policy-engine audit`: read the log, and verify it.

`verify` changes nothing and opens nothing but the file (`database`): it works beside a running service, on a log too
damaged to serve from, and, with a smaller promise that it states, without the key file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from policy_engine.cli import exits, output
from policy_engine.cli.database import vault_of, view_of
from policy_engine.cli.options import instant_of
from policy_engine.cli.output import FormOption
from policy_engine.cli.session import opened, read_settings
from policy_engine.errors import InputRefused

if TYPE_CHECKING:
    from policy_engine.services.verify import Report
    from policy_engine.store.interfaces import Head

app = typer.Typer(name="audit", help="Read and verify the log.", no_args_is_help=True)

_COLUMNS: output.Columns = (
    ("entry", "seq"),
    ("at", "at"),
    ("kind", "kind"),
    ("outcome", "outcome"),
    ("model", "model"),
    ("action", "action"),
    ("tenant", "tenant"),
    ("rules", lambda row: [f"{rule} {code}" for rule, code, *_ in row.get("reasons", ())]),
    ("by", "by"),
    ("epoch", "epoch"),
)


@app.command("query")
def query(
    kind: Annotated[str | None, typer.Option(help="Such as decision, switch.engaged, facts.set or read.")] = None,
    outcome: Annotated[str | None, typer.Option(help="allow or deny.")] = None,
    model: Annotated[str | None, typer.Option(help="The id of the model.")] = None,
    action: Annotated[str | None, typer.Option(help="The action.")] = None,
    rule: Annotated[str | None, typer.Option(help="A rule's label or id, such as P12.")] = None,
    tenant: Annotated[str | None, typer.Option(help="The tenant; that of an individual is sealed.")] = None,
    since: Annotated[str | None, typer.Option(help="From this instant on.")] = None,
    until: Annotated[str | None, typer.Option(help="Before this instant.")] = None,
    sealed: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="By what is sealed, such as subject=ID, location=US or evidence=expired; a read that is logged.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(help="At most so many entries.")] = 100,
    after: Annotated[int | None, typer.Option(help="Continue behind this entry.")] = None,
    oldest_first: Annotated[bool, typer.Option("--oldest-first", help="In the order of the log.")] = False,
    form: FormOption = None,
) -> None:
    """Find entries of the log, the newest first. Every filter given must match."""
    from policy_engine.services.evidence import Filters

    filters = Filters(
        kind=kind,
        outcome=outcome,
        model=model,
        action=action,
        rule=rule,
        tenant=tenant,
        since=instant_of(since, "--since"),
        until=instant_of(until, "--until"),
        sealed=dict(_named(text) for text in sealed or ()),
        limit=limit,
        after=after,
        newest_first=not oldest_first,
    )
    with opened() as session:
        page = session.engine.evidence.query(session.principal, filters)
    found = output.plain(page)
    output.emit(found, form, lambda: output.rows_table(found["entries"], _COLUMNS))
    if not page.complete:
        output.note(f"There is more: continue with --after {page.after}.")


@app.command("verify")
def verify(form: FormOption = None) -> None:
    """Recompute the whole log and compare the registers with it. Exits 6 and names each place that does not agree."""
    from policy_engine.services.verify import verify as verified

    settings = read_settings()
    vault = vault_of(settings)
    with view_of(settings) as (view, _), output.progress("verifying the log") as report:
        heads = view.heads()
        found = verified(view, vault, report)
    output.emit_record(report_of(found, heads), form)
    output.note(found.note)
    if not found.ok:
        output.note(
            f"policy-engine: the log or the registers do not agree in {len(found.findings) + found.more} places"
        )
        raise typer.Exit(exits.Code.VERIFICATION_FAILED)


def report_of(found: Report, heads: list[Head]) -> dict[str, Any]:
    """Return a report as data: whether all agrees, what was counted, where the log ends, and each finding."""
    return {
        "ok": found.ok,
        **found.counts,
        "heads": [{"log": head.log_id, "entries": head.next_seq, "last_header": head.head_hash} for head in heads],
        "gone": dict(found.gone),
        "findings": [str(finding) for finding in found.findings],
        "more_findings": found.more,
        "note": found.note,
    }


def _named(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InputRefused("must be NAME=VALUE, such as subject=ID", where="--sealed")
    return name, value


from policy_engine.cli import auditerasure, auditexport, auditreport  # noqa: E402, F401  they register themselves on `app`
