"""What the command line writes: data on standard output, everything else on standard error.

Rules of the room: a table on a terminal, JSON when piped or with `-o json`; JSON is one document with stable names,
instants as RFC 3339 text. Text that came from outside is shown without its control characters, and never read as
markup. Long work shows its progress on standard error, and nothing at all when that is no terminal.
Left to others: which members there are (one module per verb group).
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any

import typer

from policy_engine.core.instants import ENDLESS, format_instant

if TYPE_CHECKING:
    from policy_engine.store.interfaces import Committed


class Form(StrEnum):
    """How data is written."""

    TABLE = "table"
    JSON = "json"


class ProbeForm(StrEnum):
    """The forms of a probe's report, which build servers read as well."""

    TABLE = "table"
    JSON = "json"
    JUNIT = "junit"


FormOption = Annotated[
    Form | None,
    typer.Option("--output", "-o", help="table or json; by default a table on a terminal, JSON when piped."),
]
"""The option `-o` of every command that writes data."""

_FRACTION = re.compile(r"(?<=\d\d:\d\d:\d\d)\.\d{6}(?=Z)")
_INSTANTS = frozenset(("at", "until", "start", "instant"))

Columns = Sequence[tuple[str, str | Callable[[Mapping[str, Any]], Any]]]
"""Heading and member (or a function of the row) of each column."""


def emit(data: Any, form: Form | None, table: Callable[[], Any]) -> None:
    """Write data in the form asked for. `table` makes what Rich prints; it is not called for JSON."""
    if form is None:
        form = Form.TABLE if sys.stdout.isatty() else Form.JSON
    if form is Form.JSON:
        escaped = not _takes_any_text()
        sys.stdout.write(json.dumps(plain(data), indent=2, ensure_ascii=escaped) + "\n")
    else:
        console().print(table())
    sys.stdout.flush()


def _takes_any_text() -> bool:
    """Return whether standard output is UTF-8; elsewhere JSON is written in ASCII, so that it stays JSON."""
    return (sys.stdout.encoding or "utf-8").lower().replace("-", "") == "utf8"


def data(line: str) -> None:
    """Write one line of data to standard output at once."""
    sys.stdout.write(printable(line) + "\n")
    sys.stdout.flush()


def emit_rows(rows: Sequence[Mapping[str, Any]], form: Form | None, columns: Columns) -> None:
    """Write a list: a JSON array, or a table with the given columns."""
    emit(list(rows), form, lambda: rows_table(rows, columns))


def emit_record(record: Mapping[str, Any], form: Form | None) -> None:
    """Write one object: JSON, or a table of its members, nested ones as indented JSON."""
    emit(record, form, lambda: record_table(record))


def rows_table(rows: Sequence[Mapping[str, Any]], columns: Columns, *, title: str | None = None) -> Any:
    """Return a Rich table of rows."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for heading, _ in columns:
        table.add_column(heading, overflow="fold")
    for row in rows:
        cells = [row.get(member) if isinstance(member, str) else member(row) for _, member in columns]
        table.add_row(*(cell(value) for value in cells))
    return table


def record_table(record: Mapping[str, Any]) -> Any:
    """Return a Rich table with one line per member."""
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in record.items():
        table.add_row(name, cell(value, indent=1))
    return table


def cell(value: Any, *, indent: int | None = None) -> Any:
    """Return a value as Rich text: never markup, never control characters; instants to the second."""
    from rich.text import Text

    if isinstance(value, Text):
        return value
    data = plain(value)
    if data in (None, "", [], {}):
        return Text("-", style="dim")
    if isinstance(data, bool):
        return Text("yes" if data else "no")
    if isinstance(data, list) and all(isinstance(item, str | int) for item in data):
        return Text(printable(", ".join(str(item) for item in data)))
    if isinstance(data, dict | list):
        return Text(printable(json.dumps(data, indent=indent, ensure_ascii=False)))
    return Text(printable(_FRACTION.sub("", str(data))))


def printable(text: str) -> str:
    """Return a text in which no character moves the cursor, rings or colours; line breaks stay."""
    return "".join(character if character.isprintable() or character == "\n" else "\ufffd" for character in text)


def plain(value: Any) -> Any:
    """Return a value as JSON data: dataclasses and mappings as objects, sets sorted, everything else as it is shown.

    A member that holds an instant (`at`, `until`, `…_at`) becomes RFC 3339 text, and `null` where it has no end.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return str(value) if isinstance(value, StrEnum) else value
    if is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(_instant(str(name), item)) for name, item in value.items()}
    if isinstance(value, set | frozenset):
        return [plain(item) for item in sorted(value, key=str)]
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(float(value)) if isinstance(value, Fraction) else str(value)


def _instant(name: str, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int) or not (name in _INSTANTS or name.endswith("_at")):
        return value
    return None if abs(value) >= ENDLESS else format_instant(value)


def entry(committed: Committed) -> dict[str, Any]:
    """Return where a change stands in the log."""
    return {"log": committed.log_id, "seq": committed.seqs[-1], "at": format_instant(committed.at)}


def note(text: str) -> None:
    """Write one line for the person at the terminal to standard error; that it cannot be written changes nothing."""
    with suppress(OSError):
        sys.stderr.write(printable(text) + "\n")


@contextmanager
def progress(task: str) -> Iterator[Callable[[int, int | None], None]]:
    """Offer `report(done, total)` that moves a bar on standard error; silent when that is no terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        line = bar.add_task(task, total=None)
        yield lambda done, total: bar.update(line, completed=done, total=total)


def console() -> Any:
    """Return a Rich console on standard output, at least 120 columns wide when piped, so that no table is folded."""
    from rich.console import Console

    return Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else 120)
