"""`policy-engine audit replay`: recorded decisions decided again, with the state of their own time or another fact.

All of it reads what is sealed: it needs a person's key with `audit:unseal`, and is recorded before anything is shown.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from policy_engine.cli import exits, output
from policy_engine.cli.audit import app
from policy_engine.cli.options import instant_of, once_each
from policy_engine.cli.output import FormOption
from policy_engine.cli.session import Session, opened
from policy_engine.errors import InputRefused

if TYPE_CHECKING:
    from policy_engine.services.asof import Changed
    from policy_engine.services.questions import Question
    from policy_engine.services.replay import Replayed
    from policy_engine.services.supposed import Correction

_DIFFERENCES: output.Columns = (
    ("entry", "entry"),
    ("status", "status"),
    ("at", "instant"),
    ("outcome", "outcome"),
    ("model", "model"),
    ("what differs", lambda row: [item["member"] for item in row["differences"]] or row["note"]),
)
OTHERWISE: output.Columns = (
    ("entry", "entry"),
    ("at", "instant"),
    ("subject", "subject"),
    ("model", "model"),
    ("action", "action"),
    ("was", "was"),
    ("would be", "would_be"),
    ("reasons", "reasons"),
)
_FACTS: output.Columns = (
    ("register", "register"),
    ("fact", "fact"),
    ("value", "value"),
    ("age (days)", "age_days"),
    ("method", "method"),
    ("source", "source"),
    ("entry", "entry"),
)
_RULES: output.Columns = (
    ("rule", "id"),
    ("effect", "effect"),
    ("decided", "decided"),
    ("lifted", "lifted"),
    ("code", "code"),
    ("authority", "authority"),
)
_TABLES: output.Columns = (("edition", "edition"), ("in force from", "in_force_from"), ("age (days)", "age_days"))
_GOES_WITH: Final = {
    "--without": "--all",
    "--until": "--all",
    "--since": "--all or --with-fact",
    "--subject": "--with-fact",
    "--explain": "one entry",
}


@app.command("replay")
def replay(
    what: Annotated[
        str,
        typer.Argument(
            metavar="[ENTRY]", help="The entry (17, or LOG:17) or the decision's id; with --all a question, or nothing."
        ),
    ] = "",
    all: Annotated[
        bool, typer.Option("--all", help="Every decision, or every one that the question asks for.")
    ] = False,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Everything one decision rested on: facts with source and age, rules, law."),
    ] = False,
    with_fact: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Which decisions about --subject this fact would have changed; VALUE is JSON or text. Repeatable.",
        ),
    ] = None,
    subject: Annotated[
        str, typer.Option(metavar="ID", help="With --with-fact: the person, or tenants/ID for a tenant.")
    ] = "",
    without: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="With --all: which decisions come out otherwise if nobody knows this fact. Repeatable."
        ),
    ] = None,
    since: Annotated[str | None, typer.Option(help="With --all or --with-fact: from this instant on.")] = None,
    until: Annotated[str | None, typer.Option(help="With --all: before this instant.")] = None,
    form: FormOption = None,
) -> None:
    """Decide again what was decided, with the state of its own time. Exits 6 where anything comes out otherwise."""
    if sum((bool(what) and not all, all, bool(with_fact))) != 1:
        raise InputRefused("name one entry, or give --all, or --with-fact", where="audit replay")
    for option, given, goes in (
        ("--without", without, all),
        ("--until", until, all),
        ("--since", since, all or with_fact),
        ("--subject", subject, with_fact),
        ("--explain", explain, what and not all),
    ):
        if given and not goes:
            raise InputRefused(f"goes with {_GOES_WITH[option]}; nothing else heeds it", where=option)
    start, end = instant_of(since, "--since"), instant_of(until, "--until")
    with opened() as session:
        if with_fact:
            _show_corrected(session, correction_of(subject, with_fact, start), form)
        elif without:
            _show_forgotten(session, without, _question(session, what, start, end), what, form)
        elif all:
            _show_all(session, _question(session, what, start, end), what, form)
        elif explain:
            _show_explained(session, what, form)
        else:
            with output.progress("reading the log") as report:
                found = session.engine.replay.one(session.principal, what, report)
            output.emit_record(_shown(found), form)
            _end(Counter((found.status,)))


def correction_of(subject: str, pairs: list[str], since: int | None) -> Correction:
    """Return the correction that the options name. Raises `InputRefused` without a subject, or for no facts."""
    from policy_engine.core.instants import ENDLESS
    from policy_engine.services.supposed import Correction

    if not subject:
        raise InputRefused("goes with --with-fact; name the person, or tenants/ID", where="--subject")
    register, slash, id = subject.partition("/")
    if not slash:
        register, id = "persons", subject
    facts = once_each(map(_fact, pairs), "--with-fact", "a decision is made again with one value of each")
    return Correction(register, id, facts, -ENDLESS if since is None else since)


def _fact(pair: str) -> tuple[str, Any]:
    name, equals, value = pair.partition("=")
    if not equals:
        raise InputRefused("must be NAME=VALUE, such as us_status=none", where="--with-fact")
    return name, _value(value)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _question(session: Session, text: str, since: int | None, until: int | None) -> Question:
    """Return the question as it was asked, within the times of the options."""
    from policy_engine.services.exports.source import read_asked

    return read_asked(text, session.engine.store.now(), since, until).question


def _show_all(session: Session, question: Question, text: str, form: FormOption) -> None:
    counts: Counter[str] = Counter()
    odd: list[dict[str, Any]] = []
    with output.progress("replaying") as report:
        for found in session.engine.replay.all(session.principal, question, report, text):
            counts[found.status] += 1
            if found.status != "same":
                odd.append(_shown(found))
    summary = {name: counts[name] for name in ("same", "different", "erased", "pruned", "unreadable")}
    data = {"decisions": counts.total(), **summary, "found": odd}
    output.emit(data, form, lambda: stacked(({**summary}, None), (odd, _DIFFERENCES)))
    _end(counts)


def _shown(found: Replayed) -> dict[str, Any]:
    """Return what became of an entry, with the members by which a person recognises it."""
    from policy_engine.services.rejudge import summary_of

    return {
        "entry": found.entry,
        "status": found.status,
        "note": found.note,
        **({} if found.public is None else summary_of(found.public)),
        "differences": [output.plain(difference) for difference in found.differences],
    }


def _end(counts: Counter[str]) -> None:
    """Exit 6 where something came out otherwise or could not be read."""
    bad = counts["different"] + counts["unreadable"]
    if bad:
        output.note(f"policy-engine: {bad} of {counts.total()} replayed entries do not come out as they are recorded")
        raise typer.Exit(exits.Code.VERIFICATION_FAILED)


def _show_corrected(session: Session, correction: Correction, form: FormOption) -> None:
    from policy_engine.services.asof import AsOf

    with output.progress("deciding again") as report:
        found = AsOf(session.engine.replay).corrected(session.principal, correction, report)
    _emit_otherwise(found, form)


def _show_forgotten(session: Session, names: list[str], question: Question, text: str, form: FormOption) -> None:
    from policy_engine.services.asof import AsOf

    with output.progress("deciding again") as report:
        found = AsOf(session.engine.replay).forgotten(session.principal, frozenset(names), question, text, report)
    _emit_otherwise(found, form)


def _emit_otherwise(found: Changed, form: FormOption) -> None:
    rows = [output.plain(item) for item in found.otherwise]
    data = {"decisions": found.considered_count, "otherwise": rows, "closed": found.closed}
    output.emit(data, form, lambda: output.rows_table(rows, OTHERWISE))
    output.note(f"{len(rows)} of {found.considered_count} decisions would have been answered otherwise.")


def _show_explained(session: Session, name: str, form: FormOption) -> None:
    from policy_engine.services.asof import AsOf

    found = dict(AsOf(session.engine.replay).explained(session.principal, name))
    shown = output.plain(found)
    lists = ("facts", "rules", "tables", "reasons")
    rest = {member: value for member, value in shown.items() if member not in lists}
    output.emit(
        shown,
        form,
        lambda: stacked((rest, None), (shown["rules"], _RULES), (shown["facts"], _FACTS), (shown["tables"], _TABLES)),
    )
    _end(Counter((found["replayed"],)))


def stacked(*parts: tuple[Any, output.Columns | None]) -> Any:
    """Return several tables one below another; a part without columns is one object."""
    from rich.console import Group

    return Group(
        *(output.record_table(rows) if columns is None else output.rows_table(rows, columns) for rows, columns in parts)
    )
