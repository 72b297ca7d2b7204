"""The parts of the report: periods, text that cannot become markup, pictures, colours, numbers that are withheld."""

from __future__ import annotations

import re
from collections import Counter
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.core.instants import DAY, SECOND, format_instant, parse_instant
from policy_engine.errors import InputRefused, TooLarge
from policy_engine.limits import LIMITS
from policy_engine.services.report.charts import Mark, beside_names, over_time, strip
from policy_engine.services.report.gone import Gone
from policy_engine.services.report.keyed import shown_row
from policy_engine.services.report.markup import Markup, element, escaped, facts, paragraph, section, table
from policy_engine.services.report.period import Period, parse_period
from policy_engine.services.report.sections import ages
from policy_engine.services.report.style import COLOURS, STYLE
from tests.services.exports.office import MARKUP
from tests.services.report.readhtml import read

hostile = st.text(max_size=30) | st.sampled_from((*MARKUP, "&", "\u202etxt", "a\x00b", "'\"", "javascript:alert(1)"))


@pytest.mark.parametrize(
    ("text", "since", "until"),
    [
        ("2026", "2026-01-01", "2027-01-01"),
        ("2026-06", "2026-06-01", "2026-07-01"),
        ("2026-12", "2026-12-01", "2027-01-01"),
        ("2024-02", "2024-02-01", "2024-03-01"),
        ("2026-Q1", "2026-01-01", "2026-04-01"),
        ("2026-q4", "2026-10-01", "2027-01-01"),
        ("2026-06-01..2026-06-15", "2026-06-01", "2026-06-15"),
        ("2026-06-12T21:21:00Z .. 2026-06-13", "2026-06-12T21:21:00Z", "2026-06-13"),
    ],
)
def test_a_period_is_read(text: str, since: str, until: str) -> None:
    """Years, quarters, months and spans mean what they say, in UTC, the end left out."""
    period = parse_period(text)
    assert (period.since, period.until) == (parse_instant(since), parse_instant(until))


@pytest.mark.parametrize(
    "text",
    ["", "june", "2026-13", "2026-00", "2026-Q5", "26-06", "2026-06-01", "..", "2026-06-01..", "..2026", "9999", "0000",
     "2026-06-02..2026-06-01", "2026-06-01..2026-06-01", "2026-06-31..2026-07-01", "2026-06..2026-07"],
)  # fmt: skip
def test_what_is_no_period_is_refused(text: str) -> None:
    """One sentence says how to write one."""
    with pytest.raises(InputRefused, match="--period"):
        parse_period(text)


def test_a_period_has_a_longest() -> None:
    """At the limit a period is taken, one microsecond past it, not."""
    start, limits_days = parse_instant("2020-01-01"), LIMITS.report_days
    whole = f"2020-01-01..{format_instant(start + limits_days * DAY)}"
    assert parse_period(whole).bars_count <= 62
    with pytest.raises(TooLarge):
        parse_period(f"2020-01-01..{format_instant(start + limits_days * DAY + 1)}")


@given(st.integers(0, 2**50), st.integers(1, 3_660 * DAY), st.data())
def test_every_instant_of_a_period_has_a_bar(since: int, length: int, data: st.DataObject) -> None:
    """Bars cover the period without gap, there are never too many, and order is kept."""
    period = Period("p", since, since + length)
    at = data.draw(st.integers(since, since + length - 1))
    assert 0 <= period.bar_of(at) < period.bars_count <= 62
    assert period.bar_of(since) == 0 and period.bar_of(since + length - 1) == period.bars_count - 1
    assert period.bar_of(at) <= period.bar_of(since + length - 1) and period.step % SECOND == 0


@given(hostile, hostile)
def test_no_text_becomes_markup(one: str, other: str) -> None:
    """Whatever a text holds, it is read back as that text, in its element or attribute, and nothing else appears."""
    page = read(table(one, (one, other), [(one, other)]).text + facts([(one, other)]).text + paragraph(other).text)
    assert page.problems == []
    shown = {escaped(text).encode() for text in (one, other)}
    read_back = [text for tag, text in page.texts if tag in ("th", "td", "dt", "dd", "caption", "p")]
    assert all(escaped(text).encode() in shown for text in read_back if text.strip())
    picture = beside_names("x", one, other, [(one, {"deny": 2})]).text + over_time("y", one, other, [], [], []).text
    assert read(picture).problems == []


@pytest.mark.parametrize("text", ["a\x07b", "a\u202eb", "a\u2066b", "a\x1bb", "a\u200bb"])
def test_what_moves_or_hides_text_is_shown(text: str) -> None:
    """Control characters and direction marks are replaced: a name cannot dress up as another."""
    assert escaped(text) == "a\ufffdb"


def test_markup_is_made_by_the_room_alone() -> None:
    """Only a `Markup` goes in as it is; numbers get their separators."""
    assert element("p", Markup("<b>x</b>"), "<b>", 1234).text == "<p><b>x</b>&lt;b&gt;1,234</p>"
    assert section("id", "Head", paragraph("x")).text.startswith('<section aria-labelledby="id"><h2 id="id">Head</h2>')


def test_tables_say_of_what_they_are() -> None:
    """Each has a caption, a heading for each column and row, and a sentence where there is nothing."""
    text = table("Caption", ("a", "b"), [("x", 1)]).text
    assert "<caption>Caption</caption>" in text
    assert re.findall(r'<th scope="(\w+)"', text) == ["col", "col", "row"]
    assert table("Caption", ("a", "b"), []).text == '<p class="empty"><strong>Caption: </strong>None.</p>'


def pictures() -> list[str]:
    """Return one of each picture."""
    bars = [{"allow": 3, "deny": 1}, {"allow": 0, "deny": 0}, {"allow": 0, "deny": 7}]
    return [
        over_time("t", "Over time", "Three bars.", bars, [(0.0, "06-01")], [Mark(0.5, 1, "tightens")]).text,
        beside_names("n", "Names", "Two rows.", [("long " * 20, {"deny": 5}), ("b", {"allow": 1, "deny": 2})]).text,
        strip("s", "In force", "Two.", [(0.0, 0.5, "a"), (0.5, 1.0, "b")]).text,
        over_time("e", "Empty", "No bars.", [], [], []).text,
    ]


@pytest.mark.parametrize("picture", pictures())
def test_a_picture_is_well_formed_and_says_what_it_is(picture: str) -> None:
    """It is XML, has the role of an image, and a title and a description that it is labelled by."""
    root = ElementTree.fromstring(picture)
    svg = root.find("{http://www.w3.org/2000/svg}svg")
    assert svg is not None and svg.get("role") == "img"
    ids = {child.get("id"): child.text for child in svg if child.get("id")}
    assert list(ids) == (svg.get("aria-labelledby") or "").split() and all(ids.values())
    assert root.find("figcaption") is not None


def test_bars_are_as_high_as_their_numbers() -> None:
    """A bar three times as large is three times as high, a stack stands on its base, and nothing leaves the frame."""
    bars = [{"allow": 10, "deny": 0}, {"allow": 30, "deny": 20}]
    text = over_time("t", "T", "D", bars, [], []).text
    found = [
        (kind, *(float(value) for value in numbers))
        for kind, *numbers in re.findall(
            r'<rect class="(\w+)" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"', text
        )
    ]
    (_, _, y0, _, h0), (_, _, y1, _, h1), (_, _, y2, _, h2) = found
    assert [kind for kind, *_ in found] == ["allow", "allow", "deny"]
    assert h1 == pytest.approx(3 * h0, abs=0.2) and h2 == pytest.approx(2 * h0, abs=0.2)
    assert y0 + h0 == pytest.approx(y1 + h1) and y2 + h2 == pytest.approx(y1, abs=0.2) and y2 >= 34


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour, as WCAG defines it."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, 1 to 21."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", list(COLOURS))
def test_contrasts_are_enough_in_light_and_dark(scheme: str) -> None:
    """Text has 7 to 1 on its background, and what is drawn has 3 to 1."""
    colour = COLOURS[scheme]
    on_paper = ("ink", "faint", "good", "bad")
    texts = [*((name, "paper") for name in on_paper), *((name, "panel") for name in ("ink", "good", "bad"))]
    texts += [("ink", "era0"), ("ink", "era1")]
    drawn = [("allow", "paper"), ("deny", "paper"), ("deny", "denyback"), ("mark", "paper"), ("bar", "paper")]
    assert [pair for pair in texts if contrast(colour[pair[0]], colour[pair[1]]) < 7] == []
    assert [pair for pair in drawn if contrast(colour[pair[0]], colour[pair[1]]) < 3] == []
    assert COLOURS["light"].keys() == COLOURS["dark"].keys()


def test_the_style_asks_for_nothing_from_outside() -> None:
    """No font, no picture, no other sheet: the only address leads to the page's own hatching."""
    assert re.findall(r"url\(([^)]*)\)", STYLE) == ["#hatch"]
    assert "@import" not in STYLE and "@font-face" not in STYLE
    assert set(re.findall(r"var\(--(\w+)\)", STYLE)) <= COLOURS["light"].keys()


@given(st.lists(st.integers(0, 60), min_size=1, max_size=6), st.integers(2, 20))
def test_small_numbers_are_withheld(numbers: list[int], least: int) -> None:
    """No number between 0 and the limit is shown, nor a total from which one could be had."""
    columns = [str(place) for place in range(len(numbers))]
    cells = Counter({("row", column): number for column, number in zip(columns, numbers, strict=True)})
    row = shown_row("row", columns, cells, least)
    if sum(numbers) < least:
        assert row is None
        return
    assert row is not None
    texts, total = row
    for number, text in zip(numbers, texts, strict=True):
        assert text == (f"under {least}" if 0 < number < least else str(number))
    assert total == ("withheld" if any(0 < number < least for number in numbers) else str(sum(numbers)))


@pytest.mark.parametrize(
    ("counts", "shown"),
    [
        ((40, 20, 3, 0), ("40", "withheld", "under 10", "0")),
        ((40, 20, 6, 4), ("40", "20", "under 10", "under 10")),
        ((40, 20, 10, 0), ("40", "20", "10", "0")),
        ((3, 0, 0, 0), ("under 10", "0", "0", "0")),
    ],
)
def test_no_class_of_age_can_be_had_from_the_rest(counts: tuple[int, ...], shown: tuple[str, ...]) -> None:
    """Classes add up to the decisions: a small one is not what is left when all others are known."""
    text = ages([(f"class-{place}", count) for place, count in enumerate(counts)], Gone(), 10).text
    assert tuple(re.findall(r'<td class="number">([^<]*)</td>', text)) == shown
