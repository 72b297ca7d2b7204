"""Text that no spreadsheet takes for a formula, and back. Pure.

The one rule, in CSV and XLSX alike: a text that is empty, or begins with one of `DANGEROUS` or with an apostrophe, gets
one apostrophe in front; every other text stays as it is. So taking one leading apostrophe off gives the text back,
always, and an empty cell is no empty text but none. Numbers are written as numbers and never touched.
Left to others: quoting and separators (`textfiles`, `sheets`).
"""

from __future__ import annotations

from typing import Final

MARK: Final = "'"

DANGEROUS: Final = frozenset("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
"""First characters that make some spreadsheet program evaluate a cell or hide what comes behind them; the last four are
the full-width forms of the first four."""


def neutral(text: str) -> str:
    """Return the text as a cell that is shown and never evaluated."""
    return MARK + text if not text or text[0] in DANGEROUS or text[0] == MARK else text


def restored(cell: str) -> str:
    """Return the text that `neutral` made a cell of."""
    return cell.removeprefix(MARK)
