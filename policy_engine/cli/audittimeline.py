"""`policy-engine audit timeline`: each change of a period, and what was decided under it until the next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from policy_engine.cli import exits, output
from policy_engine.cli.audit import app
from policy_engine.cli.options import instant_of
from policy_engine.cli.output import FormOption
from policy_engine.cli.session import opened

if TYPE_CHECKING:
    from policy_engine.services.incident import Stretch
    from policy_engine.services.questions import Found

_COLUMNS: output.Columns = (
    ("at", "started_at"),
    ("entry", "entry"),
    ("epoch", "epoch"),
    ("change", "kind"),
    ("of", lambda row: str(row["of"] or "-")[:32]),
    ("by", "by"),
    ("allows", "allows_count"),
    ("denies", "denies_count"),
    ("denied by", lambda row: ", ".join(f"{name}: {count}" for name, count in sorted(row["denied_by"].items()))),
    ("late", "late_count"),
)


@app.command("timeline")
def timeline(
    since: Annotated[str | None, typer.Option("--since", help="The first instant that counts.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="The first instant that does not.")] = None,
    form: FormOption = None,
) -> None:
    """Each change, and what was decided under it until the next, from the public log alone.

    Exits 6 when an allow of an older epoch is dated after a change: then the change did not take hold.
    """
    from policy_engine.services.exports.source import read_asked, reading_entries
    from policy_engine.services.incident import course

    with opened() as session, output.progress("reading the log") as report:
        span = instant_of(since, "--since"), instant_of(until, "--until")
        asked = read_asked("", session.engine.store.now(), *span).question
        found = session.engine.evidence.scan(session.principal, asked)
        with reading_entries():
            stretches = course(_named(found, report))
    rows = [_row(stretch) for stretch in stretches]
    output.emit({"stretches": rows}, form, lambda: output.rows_table(rows, _COLUMNS))
    late = sum(stretch.late_count for stretch in stretches)
    output.note(f"{len(rows)} epochs; {late} allows of an older epoch are dated after a change.")
    if late:
        raise typer.Exit(exits.Code.VERIFICATION_FAILED)


def _named(found: Iterable[Found], report: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for count, entry in enumerate(found, start=1):
        report(count, None)
        yield entry.name, entry.public


def _row(stretch: Stretch) -> dict[str, Any]:
    """Return a stretch as it is shown: instants spelled, and what the change was of and by whom."""
    row: dict[str, Any] = output.plain(stretch)
    said = row.pop("said")
    names = ("order", "switch", "activates", "proposal")
    row["of"] = next((said[name] for name in names if name in said), None)
    row["by"] = said.get("by")
    return row | {name: value for name, value in said.items() if name not in row}
