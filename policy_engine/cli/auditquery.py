"""`policy-engine audit query|show`: find entries of the log by a question, count them, and look at one.

Asking by what is sealed, and looking into a sealed part, needs a person's key and is on the record before anything is
shown. The language is that of `docs/questions.md`. Left to others: what is found (`services.evidence`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from policy_engine.cli import output
from policy_engine.cli.audit import app
from policy_engine.cli.options import instant_of, once_each
from policy_engine.cli.output import FormOption
from policy_engine.cli.session import opened
from policy_engine.errors import InputRefused

if TYPE_CHECKING:
    from policy_engine.services.questions import Question

_COLUMNS: output.Columns = (
    ("entry", "entry"),
    ("at", "at"),
    ("kind", "kind"),
    ("outcome", "outcome"),
    ("model", "model"),
    ("action", "action"),
    ("tenant", "tenant"),
    ("rules", lambda row: [f"{rule} {code}" for rule, code, *_ in row["reasons"]] if _decided(row) else None),
    ("by", "by"),
    ("epoch", "epoch"),
)


@app.command("query")
def query(
    question: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[QUESTION]...", help="What is asked, such as 'deny tier>=4 since 7d'; see docs/questions.md."
        ),
    ] = None,
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
    after: Annotated[str | None, typer.Option(metavar="ENTRY", help="Continue behind this entry.")] = None,
    oldest_first: Annotated[bool, typer.Option("--oldest-first", help="In the order of the log.")] = False,
    count: Annotated[bool, typer.Option("--count", help="Say how many there are, and show none.")] = False,
    form: FormOption = None,
) -> None:
    """Find entries of the log, the newest first. The question and every filter given must match."""
    from policy_engine.services.evidence import Filters
    from policy_engine.services.questiontext import parse_question

    with opened() as session:
        evidence = session.engine.evidence
        filters = Filters(
            question=parse_question(" ".join(question or ()), session.engine.store.now()),
            kind=kind,
            outcome=outcome,
            model=model,
            action=action,
            rule=rule,
            tenant=tenant,
            since=instant_of(since, "--since"),
            until=instant_of(until, "--until"),
            sealed=_sealed(sealed or ()),
            limit=limit,
            after=after,
            newest_first=not oldest_first,
        )
        if count:
            output.emit_record(output.plain(evidence.count(session.principal, filters.asked())), form)
            _note_lost(evidence.lost(filters.asked()))
            _note_not_derived(filters.asked())
            return
        page = evidence.query(session.principal, filters)
        lost, older = evidence.lost(filters.asked()), evidence.older()
        one_log = session.engine.store.one_log
    found = output.plain(page)
    output.emit(found, form, lambda: output.rows_table([_row(row, one_log) for row in found["entries"]], _COLUMNS))
    if page.after is not None:
        output.note(f"There is more: continue with --after {page.after}.")
    elif older is None and not page.complete:
        output.note("Entries of the time asked about may still come; ask again in a moment.")
    _note_lost(lost)
    _note_not_derived(filters.asked())


@app.command("show")
def show(
    entry: Annotated[str, typer.Argument(metavar="ENTRY", help="Its number (LOG:NUMBER of several logs), or its id.")],
    unseal: Annotated[
        bool, typer.Option("--unseal", help="Also its sealed part; needs audit:unseal, and is on the record.")
    ] = False,
    form: FormOption = None,
) -> None:
    """Show one entry: what is public of it, and with --unseal who asked, from where, and every input."""
    with opened() as session:
        evidence = session.engine.evidence
        found = dict(evidence.show(session.principal, entry))
        if unseal:
            found["body"] = evidence.read_body(session.principal, entry)
        gone = evidence.gone(session.principal, entry)
    output.emit_record(output.plain(found), form)
    for mark in gone:
        output.note(f"Sealed: {mark}.")


def _note_lost(lost: bool) -> None:
    if lost:
        output.note("Entries whose sealed part was erased or pruned are not found by what was sealed in them.")


def _note_not_derived(question: Question) -> None:
    from policy_engine.services.questions import NOT_DERIVED, asks_derived

    if asks_derived(question):
        output.note(NOT_DERIVED)


def _decided(row: Mapping[str, Any]) -> bool:
    return bool(row["kind"] == "decision")


def _row(row: dict[str, Any], one_log: bool) -> dict[str, Any]:
    """Return a row with the name by which its entry is called."""
    return {**row, "entry": row["seq"] if one_log else f"{row['log']}:{row['seq']}"}


def _sealed(texts: Iterable[str]) -> dict[str, str]:
    """Return the facets that the options name. Raises `InputRefused` for one that is named twice."""
    return once_each(map(_named, texts), "--sealed", "an entry is looked for by one value of each")


def _named(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InputRefused("must be NAME=VALUE, such as subject=ID", where="--sealed")
    return name, value
