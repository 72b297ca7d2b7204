"""Exports as XLSX workbooks, written row by row in constant memory.

Rules of the room: every text is a string cell, made neutral as in CSV; no formula, link or number is made of a text.
A sheet holds what a sheet can (`limits.sheet_rows_count`, its header among them), then the next begins. A text longer
than a cell can hold is cut, says so where it ends, and is counted: the sheet of proof names the number.
Control characters stand as `_x0007_`, which is how workbooks write them.
Left to others: which entries (`source`), whole files (`files`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from policy_engine.limits import LIMITS, Limits
from policy_engine.services.exports.columns import COLUMNS, Kind, cell_of, row_of
from policy_engine.services.exports.neutral import neutral
from policy_engine.services.exports.source import Entry

_OPTIONS = {
    "constant_memory": True,
    "strings_to_formulas": False,
    "strings_to_urls": False,
    "strings_to_numbers": False,
    "use_zip64": True,
}


@dataclass(slots=True)
class Book:
    """What was written: sheets, and cells that were cut."""

    sheets: int = 0
    cut_cells: int = 0


def write_xlsx(part: Path, pages: Iterable[Sequence[Entry]], limits: Limits = LIMITS) -> Book:
    """Write a workbook and return what is in it."""
    import xlsxwriter  # type: ignore[import-untyped]  # the library ships no types

    book = Book()
    with tempfile.TemporaryDirectory(prefix=f"{part.name}.", dir=part.parent) as scratch:
        workbook = xlsxwriter.Workbook(str(part), {**_OPTIONS, "tmpdir": scratch})
        try:
            _fill(workbook, pages, book, limits)
        except BaseException:
            _abandon(workbook)
            raise
        workbook.close()
    return book


def _fill(workbook: Any, pages: Iterable[Sequence[Entry]], book: Book, limits: Limits) -> None:
    heading = workbook.add_format({"bold": True})
    sheet: Any = None
    line = limits.sheet_rows_count
    for page in pages:
        for _, _, public in page:
            if line >= limits.sheet_rows_count:
                sheet, line = _begin_sheet(workbook, heading, book), 1
            _write_row(sheet, line, orjson.loads(public), book, limits)
            line += 1
    if sheet is None:
        _begin_sheet(workbook, heading, book)


def _abandon(workbook: Any) -> None:
    """Close the files of rows that the library keeps open; closing the workbook would write all of it out first."""
    for sheet in workbook.worksheets():
        rows = getattr(sheet, "row_data_fh", None)
        if rows is not None:
            rows.close()


def _begin_sheet(workbook: Any, heading: Any, book: Book) -> Any:
    book.sheets += 1
    sheet = workbook.add_worksheet(f"entries {book.sheets}")
    sheet.freeze_panes(1, 0)
    for place, column in enumerate(COLUMNS):
        sheet.write_string(0, place, column.name, heading)
    return sheet


def _write_row(sheet: Any, line: int, public: dict[str, Any], book: Book, limits: Limits) -> None:
    for place, (column, value) in enumerate(zip(COLUMNS, row_of(public), strict=True)):
        cell = cell_of(column, value)
        if cell is None:
            continue
        if isinstance(cell, str) or column.kind is not Kind.NUMBER:
            sheet.write_string(line, place, _fitted(neutral(str(cell)), book, limits))
        else:
            sheet.write_number(line, place, cell)


def _fitted(text: str, book: Book, limits: Limits) -> str:
    """Return the text as long as a cell can be; one that is longer ends with how much is missing."""
    units = len(text.encode("utf-16-le")) // 2
    if units <= limits.sheet_cell_characters:
        return text
    book.cut_cells += 1
    note = f"\u2026 [{units} characters, cut]"
    return (
        text.encode("utf-16-le")[: 2 * (limits.sheet_cell_characters - len(note))].decode("utf-16-le", "ignore") + note
    )
