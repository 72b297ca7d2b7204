"""Pictures as inline SVG: bars over time with marks, bars beside names, and a strip of what was in force. Pure.

Rules of the room: every picture has a title and a description, and its numbers stand in a table beside it; allow and
deny differ in pattern, not only in colour; colours are variables of the page, so that dark mode and print change them.
All text goes through `markup.escaped`. Left to others: numbers and words (`sections`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from policy_engine.services.report.markup import Markup, element, escaped, joined

WIDTH: Final = 760
_LEFT, _RIGHT, _TOP, _BASE = 52, 8, 34, 190
_NAME_WIDTH: Final = 250
_ROW: Final = 22
_LABEL_CHARACTERS: Final = 34


@dataclass(frozen=True, slots=True)
class Mark:
    """A line in a chart over time: where (0 to 1 of the width), its number, and what it stands for."""

    at: float
    number: int
    kind: str


def over_time(
    id: str,
    title: str,
    description: str,
    bars: Sequence[Mapping[str, int]],
    ticks: Sequence[tuple[float, str]],
    marks: Sequence[Mark],
) -> Markup:
    """Return stacked bars of `allow` and `deny`, with numbered marks."""
    most = max((sum(bar.values()) for bar in bars), default=0)
    top = _round_up(most)
    width = (WIDTH - _LEFT - _RIGHT) / max(1, len(bars))
    shapes = [*_grid(top)]
    for place, bar in enumerate(bars):
        shapes += _stack(_LEFT + place * width, width, bar, top)
    for share, text in ticks:
        shapes.append(_text(_x(share), _BASE + 16, text, "tick"))
    shapes += [shape for mark in marks for shape in _mark(mark)]
    return _picture(id, title, description, _BASE + 28, shapes)


def _stack(left: float, width: float, bar: Mapping[str, int], top: int) -> list[Markup]:
    shapes: list[Markup] = []
    base = float(_BASE)
    for outcome in ("allow", "deny"):
        count = bar.get(outcome, 0)
        if count:
            height = max(1.0, count / top * (_BASE - _TOP))
            base -= height
            shapes.append(_rectangle(left + width * 0.1, base, width * 0.8, height, outcome, f"{count:,} {outcome}"))
    return shapes


def _grid(top: int) -> list[Markup]:
    shapes: list[Markup] = []
    for share in (0.0, 0.5, 1.0):
        y = _BASE - share * (_BASE - _TOP)
        shapes.append(_line(_LEFT, y, WIDTH - _RIGHT, y, "grid"))
        if share == 0.0 or top * share == int(top * share):
            shapes.append(_text(_LEFT - 6, y + 4, f"{int(top * share):,}", "axis"))
    return shapes


def _mark(mark: Mark) -> list[Markup]:
    x = _x(mark.at)
    return [
        _line(x, _TOP - 12, x, _BASE, f"mark {mark.kind}"),
        element("circle", cx=_number(x), cy=str(_TOP - 20), r="8", class_=f"mark {mark.kind}"),
        _text(x, _TOP - 16, str(mark.number), "marked"),
    ]


def beside_names(id: str, title: str, description: str, rows: Sequence[tuple[str, Mapping[str, int]]]) -> Markup:
    """Return horizontal stacked bars, one a row, with its name on the left and its number on the right."""
    most = max((sum(bar.values()) for _, bar in rows), default=0)
    scale = (WIDTH - _NAME_WIDTH - 80) / max(1, most)
    shapes: list[Markup] = []
    for place, (name, bar) in enumerate(rows):
        y, left = place * _ROW + 6, float(_NAME_WIDTH)
        shapes.append(_text(_NAME_WIDTH - 8, y + 12, _short(name), "name"))
        for kind, count in bar.items():
            if count:
                width = max(1.0, count * scale)
                shapes.append(_rectangle(left, y, width, _ROW - 7, kind, f"{name}: {count:,} {kind}"))
                left += width
        shapes.append(_text(left + 6, y + 12, f"{sum(bar.values()):,}", "count"))
    return _picture(id, title, description, len(rows) * _ROW + 10, shapes)


def strip(id: str, title: str, description: str, parts: Sequence[tuple[float, float, str]]) -> Markup:
    """Return a strip of what was in force from one share of the time to another."""
    shapes: list[Markup] = []
    for place, (start, end, name) in enumerate(parts):
        x, width = _x(start), max(1.0, _x(end) - _x(start))
        shapes.append(_rectangle(x, 6, width, 26, f"era era{place % 2}", name))
        if width > 60:
            shapes.append(_text(x + width / 2, 24, _short(name, int(width / 7)), "era"))
    return _picture(id, title, description, 40, shapes)


def _x(share: float) -> float:
    return _LEFT + share * (WIDTH - _LEFT - _RIGHT)


def _round_up(most: int) -> int:
    """Return the end of the scale: the next of 1, 2, 5, 10, 20, 50, ..."""
    scale = 1
    while True:
        for step in (1, 2, 5):
            if most <= step * scale:
                return step * scale
        scale *= 10


def _short(text: str, most: int = _LABEL_CHARACTERS) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _number(value: float) -> str:
    return f"{value:.1f}"


def _rectangle(x: float, y: float, width: float, height: float, kind: str, says: str) -> Markup:
    size = {"x": _number(x), "y": _number(y), "width": _number(width), "height": _number(height)}
    return element("rect", element("title", says), class_=kind, **size)


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return element("line", class_=kind, x1=_number(x1), y1=_number(y1), x2=_number(x2), y2=_number(y2))


def _text(x: float, y: float, text: str, kind: str) -> Markup:
    return element("text", text, class_=kind, x=_number(x), y=_number(y))


def _picture(id: str, title: str, description: str, height: int, shapes: Sequence[Markup]) -> Markup:
    says = [element("title", title, id=f"{id}-title"), element("desc", description, id=f"{id}-desc")]
    inside = joined([*says, *shapes]).text
    picture = Markup(
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {WIDTH} {height}" '
        f'aria-labelledby="{escaped(id)}-title {escaped(id)}-desc">\n{inside}\n</svg>'
    )
    return element("figure", picture, element("figcaption", title))


HATCHING: Final = Markup(
    '<svg width="0" height="0" aria-hidden="true" class="defs"><defs><pattern id="hatch" width="6" height="6" '
    'patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="6" height="6" class="denyback"/>'
    '<line x1="0" y1="0" x2="0" y2="6" class="hatch"/></pattern></defs></svg>'
)
"""The pattern of what was denied; it stands once in a page, before the first picture."""
