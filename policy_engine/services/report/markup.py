"""HTML from plain text: elements, tables and lists in which no text can become markup. Pure.

Rules of the room: whatever is a `str` is escaped; only `Markup`, which this room and `charts` make, goes in as it is.
Characters that move, reorder or hide text (controls, direction marks) are shown as a replacement mark.
Tables have a caption and headings that say of what they are. Left to others: which tables there are.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Final


class Markup:
    """Text that is HTML already. Made by this room only."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


Part = str | int | Markup

WORD_CHARACTERS: Final = 28
"""A longer word may be broken in a table."""


def escaped(part: Part) -> str:
    """Return a part as HTML text, safe in elements and in quoted attributes."""
    if isinstance(part, Markup):
        return part.text
    text = f"{part:,}" if isinstance(part, int) else part
    return html.escape("".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text), quote=True)


def element(name: str, *parts: Part, **attributes: str) -> Markup:
    """Return an element. An attribute's last `_` is dropped and its other `_` become `-`: `class_`, `aria_label`."""
    given = "".join(f' {name.rstrip("_").replace("_", "-")}="{escaped(value)}"' for name, value in attributes.items())
    return Markup(f"<{name}{given}>{''.join(escaped(part) for part in parts)}</{name}>")


def joined(parts: Iterable[Markup]) -> Markup:
    """Return parts one after another, each on a line."""
    return Markup("\n".join(part.text for part in parts))


def table(
    caption: str,
    headings: Sequence[str],
    rows: Iterable[Sequence[Part]],
    *,
    numbers_from: int = 1,
    empty: str = "None.",
) -> Markup:
    """Return a table with a heading for each column and row, or a sentence when there are no rows.

    Columns from `numbers_from` on are aligned as numbers.
    """
    lines = [_row(row, numbers_from) for row in rows]
    if not lines:
        return element("p", element("strong", f"{caption}: "), empty, class_="empty")
    head = element("tr", joined(_head(text, place >= numbers_from) for place, text in enumerate(headings)))
    whole = (element("caption", caption), element("thead", head), element("tbody", joined(lines)))
    return element(
        "div", element("table", joined(whole)), class_="scroll", tabindex="0", role="group", aria_label=caption
    )


def _head(text: str, number: bool) -> Markup:
    return element("th", text, scope="col", class_="number" if number else "text")


def _row(cells: Sequence[Part], numbers_from: int) -> Markup:
    first, *rest = cells
    shown = [
        element("td", cell, class_="number" if place >= numbers_from else _width(cell))
        for place, cell in enumerate(rest, 1)
    ]
    return element("tr", joined([element("th", first, scope="row", class_=_width(first)), *shown]))


def _width(cell: Part) -> str:
    """Return how a text is broken: a short word never, a hash anywhere, everything else between words."""
    longest = max(map(len, cell.split()), default=0) if isinstance(cell, str) else 0
    if longest > WORD_CHARACTERS:
        return "long"
    return "short" if isinstance(cell, str) and 0 < len(cell) == longest else "text"


def facts(pairs: Iterable[tuple[str, Part]]) -> Markup:
    """Return a list of names with what they are."""
    return element("dl", joined(Markup(element("dt", name).text + element("dd", value).text) for name, value in pairs))


def section(id: str, heading: str, *parts: Markup) -> Markup:
    """Return a section with its heading, which a table of contents can lead to."""
    return element("section", joined([element("h2", heading, id=id), *parts]), aria_labelledby=id)


def paragraph(*parts: Part, kind: str = "") -> Markup:
    """Return a paragraph."""
    return element("p", *parts, class_=kind) if kind else element("p", *parts)
