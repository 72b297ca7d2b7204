"""What `switch preview` and `order preview` share: how it is asked, and a preview as table, JSON or HTML page.

Left to others: which change (`switches`, `orders`), what it would do (`services.preview`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from policy_engine.cli import output
from policy_engine.cli.output import FormOption
from policy_engine.cli.session import opened

if TYPE_CHECKING:
    from policy_engine.cli.session import Session
    from policy_engine.services.preview.answer import Preview
    from policy_engine.services.preview.service import Wanted

DaysOption = Annotated[int, typer.Option(help="Days of recorded decisions to decide again; 0 for none.")]
AtOnceOption = Annotated[
    bool, typer.Option("--at-once", help="Only what takes effect before a second person has approved.")
]
FromOption = Annotated[
    str | None, typer.Option("--location", help="Ask everybody from here (CC or CC-SUB) instead of where they reside.")
]
HtmlOption = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Also write one page with pictures.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace the HTML file if it exists.")]

LISTED_COUNT = 50
"""Lines of a list that a table shows; JSON has all of them."""

_SHARES: output.Columns = (
    ("by", "by"),
    ("value", "value"),
    ("lose", "loses"),
    ("gain", "gains"),
    ("persons who lose", "persons_losing"),
    ("persons who gain", "persons_gaining"),
)
_LINES: output.Columns = (
    ("effect", "effect"),
    ("person", "subject"),
    ("tenant", "tenant"),
    ("model", "model"),
    ("action", "action"),
    ("from", "region"),
    ("reasons", "reasons"),
    ("still served by", "fallbacks"),
)
_WORK: output.Columns = (
    ("undetermined", "subject"),
    ("tenant", "tenant"),
    ("facts to bring", "missing"),
    ("models", "models"),
    ("loses", "loses"),
)


def show_preview(
    ask: Callable[[Session, Wanted], Preview],
    *,
    days: int,
    at_once: bool,
    location: str | None,
    html: Path | None,
    force: bool,
    form: FormOption,
) -> None:
    """Ask for a preview, with a bar on standard error, and write it."""
    from policy_engine.core.factparse import parse_location
    from policy_engine.services.preview.changes import APPROVED, AT_ONCE
    from policy_engine.services.preview.service import Wanted

    place = parse_location(location, "--location")
    with opened() as session:
        with output.progress("previewing") as progress:
            wanted = Wanted(days, AT_ONCE if at_once else APPROVED, place, progress)
            found = ask(session, wanted)
        if html is not None:
            _write_page(session, found, html, force=force)
    record = output.plain(found)
    output.emit(record, form, lambda: _table(record))
    for text in found.notes:
        output.note(text)


def _write_page(session: Session, found: Preview, place: Path, *, force: bool) -> None:
    from policy_engine.services.exports.files import whole_file
    from policy_engine.services.preview.page import page_of

    store, by = session.engine.store, session.principal.key_id or "local"
    with whole_file(place, force=force) as pending:
        page = page_of(found, made_at=store.now(), made_by=by, sample=store.state().sample)
        pending.part.write_bytes(page)


def _table(found: Mapping[str, Any]) -> Any:
    """Return the tables of a preview: the whole at a glance, then who loses and gains, and the work list."""
    from rich.console import Group

    registers, recorded = found["registers"], found["recorded"]
    parts = [output.record_table(_glance(found)), output.rows_table(_shares(registers), _SHARES, title="registers")]
    if recorded is not None:
        parts.append(output.rows_table(_shares(recorded), _SHARES, title="recorded decisions"))
    for name, columns in (("lines", _LINES), ("undetermined", _WORK)):
        if registers[name]:
            shown, all_of_them = registers[name][:LISTED_COUNT], len(registers[name])
            title = (
                None if all_of_them <= LISTED_COUNT else f"the first {LISTED_COUNT} of {all_of_them}; -o json has all"
            )
            parts.append(output.rows_table(shown, columns, title=title))
    return Group(*parts)


def _glance(found: Mapping[str, Any]) -> dict[str, Any]:
    registers, recorded = found["registers"], found["recorded"]
    shown = {name: found[name] for name in ("what", "change", "stage", "at", "epoch", "complete")}
    shown |= {"asked": registers["asked_count"], "models": registers["models"]}
    shown |= _counts(registers["counts"])
    shown |= {"undetermined": registers["undetermined_count"], "facts to bring": registers["undetermined_by_fact"]}
    shown |= {"fallbacks": {one["model"]: one["serves"] for one in registers["fallbacks"]}}
    if recorded is not None:
        shown |= {f"recorded: {name}": count for name, count in _counts(recorded["counts"]).items()}
    return shown


def _counts(counts: Mapping[str, Any]) -> dict[str, Any]:
    return {name.replace("_", " "): count for name, count in counts.items() if name != "by"}


def _shares(part: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"by": name, **share} for name, shares in part["counts"]["by"].items() for share in shares]
