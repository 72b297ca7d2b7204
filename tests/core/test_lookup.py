"""The lookup finds the rows that a scan would find, in whatever ways rows name columns, and after any change."""

from __future__ import annotations

from typing import Any

from hypothesis import event, given
from hypothesis import strategies as st

from policy_engine.core.columns import FREE, Cells
from policy_engine.core.effects import ALLOW, ALLOW_OVERRIDE, Words
from policy_engine.core.keys import EqualKey, HeldKey
from policy_engine.core.lookup import Lookup
from policy_engine.core.postings import ascending

COLUMNS = 7
KEYS = [EqualKey(at) for at in range(COLUMNS - 1)] + [HeldKey(COLUMNS - 1)]


@st.composite
def tables(draw: st.DrawFn) -> list[Cells]:
    """Rows whose first columns are alike in some tables, so that many different seconds lie under one first."""
    wide = draw(st.integers(1, 4))
    kinds = [st.sampled_from("abcdefgh"[: draw(st.integers(1, 8))]) for _ in range(COLUMNS)]
    cells = [st.one_of(st.just(FREE), kind) if at < wide + 2 else kind for at, kind in enumerate(kinds)]
    return draw(st.lists(st.tuples(*draw(st.permutations(cells))), min_size=1, max_size=60))


def scanned(rows: dict[int, Cells], values: tuple[Any, ...]) -> list[int]:
    """Return the places of the rows that match, one after another."""

    def fits(cells: Cells) -> bool:
        return all(
            cell is FREE or (cell in value if isinstance(value, list) else cell == value)
            for cell, value in zip(cells, values, strict=True)
        )

    return [place for place, cells in rows.items() if fits(cells)]


def found(lookup: Lookup, values: tuple[Any, ...]) -> list[int]:
    """Return the places that the lookup finds."""
    places = lookup.find(values)
    return list(ascending(places)) if isinstance(places, int) else list(places)


def built(rows: list[Cells]) -> tuple[Lookup, Words]:
    """Return the lookup of rows."""
    words = Words(ALLOW_OVERRIDE, [ALLOW] * 200)
    return Lookup(KEYS, [[row[at] for row in rows] for at in range(COLUMNS)], words), words


@given(tables(), tables(), st.data())
def test_what_is_looked_up_is_what_a_scan_finds(rows: list[Cells], more: list[Cells], data: st.DataObject) -> None:
    """Before and after rows came and went, for values that rows name, nearly name, or do not name."""
    lookup, words = built(rows)
    held = dict(enumerate(rows))
    for turn in range(2):
        for _ in range(6):
            row = data.draw(st.sampled_from(list(held.values()) or rows))
            values: list[Any] = [data.draw(st.sampled_from("abz")) if cell is FREE else cell for cell in row]
            if data.draw(st.booleans()):
                values[data.draw(st.integers(0, COLUMNS - 1))] = data.draw(st.sampled_from("abcz"))
            if data.draw(st.booleans()):
                values[-1] = [values[-1], "b"]
            expected = scanned(held, tuple(values))
            event(f"rows found: {min(len(expected), 3)}")
            assert found(lookup, tuple(values)) == expected
        if turn == 0:
            gone = data.draw(st.sets(st.sampled_from(sorted(held))))
            come = dict(enumerate(more, len(rows)))
            changed = lookup.changed(come, {place: held[place] for place in gone}, words)
            assert found(lookup, tuple(values)) == expected, "the lookup itself is as it was"
            lookup = changed
            held = {place: cells for place, cells in (held | come).items() if place not in gone}


def test_few_seconds_under_one_first_are_compared_and_many_looked_up() -> None:
    """One, a few and many lie in different forms, each found; what grows changes its form."""
    ways = [tuple(FREE if number >> at & 1 else f"w{number}" for at in range(4)) for number in range(16)]
    rows: list[Cells] = [("filler", *way, "x", "t") for way in ways]
    rows += [("filler", *(f"v{number}" for _ in range(3)), "a", "x", "t") for number in range(8)]  # those come first
    seconds: list[Cells] = [("s", "s", "s", last, "x", "t") for last in (*"abcdefg", FREE)]
    rows += [("one", *seconds[0]), *[("four", *second) for second in seconds[:4]], *[("all", *row) for row in seconds]]
    lookup, words = built(rows)
    firsts = [node for ways_of in lookup._tables.values() for nodes in ways_of.values() for node in nodes.values()]
    assert {type(node) for node in firsts} == {tuple, list, dict}
    values = ("s", "s", "s", "a", "x", "t")
    assert found(lookup, ("one", *values)) == [24]
    assert found(lookup, ("four", *values)) == [25]
    assert found(lookup, ("all", *values)) == [29, 36]
    more = dict(enumerate([("one", *second) for second in seconds[1:]], len(rows)))
    grown = lookup.changed(more, {}, words)
    assert found(lookup, ("one", *values)) == [24], "the lookup itself is as it was"
    assert found(grown, ("one", *values)) == [24, 43]
    assert found(grown, ("one", "s", "s", "s", "g", "x", "t")) == [42, 43]
    assert found(grown.changed({}, {24: rows[24], **more}, words), ("one", *values)) == []
