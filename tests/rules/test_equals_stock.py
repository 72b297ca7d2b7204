"""`CompiledEnforcer` equals stock pycasbin in result, named row and raising, on generated models of many shapes."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rules.models import PATTERN_SHAPES, SHAPES, SUBJECT, Shape, answer, compiled, policies, requests, stock


@pytest.mark.parametrize("name", SHAPES)
@given(data=st.data())
def test_it_answers_as_stock_does(name: str, data: st.DataObject) -> None:
    """Whatever rows, effect and values: the same answer, the same row, the same error; asked once and again."""
    shape = SHAPES[name]
    effect = data.draw(st.sampled_from(shape.effects))
    lines = data.draw(policies(shape))
    ours, theirs = compiled(shape, effect, lines), stock(shape, effect, lines)
    for request in data.draw(st.lists(requests(shape, lines), min_size=1, max_size=5)):
        expected = answer(theirs, request)
        assert answer(ours, request) == expected
        assert answer(ours, request) == expected
        assert plainly(ours, request) == plainly(theirs, request)


@pytest.mark.parametrize("name", PATTERN_SHAPES)
@given(data=st.data())
def test_pattern_roles_answer_as_a_fresh_stock_does(name: str, data: st.DataObject) -> None:
    """Roles by patterns give what stock gives when it is asked first; in stock, questions may change later answers."""
    shape = PATTERN_SHAPES[name]
    effect = data.draw(st.sampled_from(shape.effects))
    lines = data.draw(policies(shape, odd=False))
    ours = compiled(shape, effect, lines)
    for request in data.draw(st.lists(requests(shape, lines), min_size=1, max_size=4)):
        assert answer(ours, request) == answer(stock(shape, effect, lines), request)


def plainly(enforcer: Any, request: tuple[Any, ...]) -> Any:
    """Return what `enforce` and `batch_enforce` give, or the kind of error."""
    try:
        allowed = enforcer.enforce(*request)
        return allowed, enforcer.batch_enforce([request, request])
    except Exception as error:  # noqa: BLE001  whatever Casbin raises is what is compared
        return type(error)


@pytest.mark.parametrize("name", {**SHAPES, **PATTERN_SHAPES})
@settings(max_examples=min(settings.default.max_examples // 4, 1_000))
@given(data=st.data())
def test_an_updated_enforcer_is_one_built_anew(name: str, data: st.DataObject) -> None:
    """Whatever rows and links come and go, step after step: answers are those of an enforcer built from the rest."""
    shape = {**SHAPES, **PATTERN_SHAPES}[name]
    effect = data.draw(st.sampled_from(shape.effects))
    lines = data.draw(policies(shape))
    held = compiled(shape, effect, lines)
    for _ in range(data.draw(st.integers(1, 3))):
        more = data.draw(policies(shape, odd=False, most=3))
        places = data.draw(st.sets(st.integers(0, len(lines) - 1), max_size=3)) if lines else set()
        fewer = [lines[place] for place in sorted(places) if fits(lines[place], shape)]
        lines = list(lines)
        for line in fewer:
            lines.remove(line)  # of equal lines the first
        lines += more
        held = held.updated(add=more, remove=without_doubt(fewer))
        anew = compiled(shape, effect, lines)
        for request in data.draw(st.lists(requests(shape, lines), min_size=1, max_size=3)):
            assert answer(held, request) == answer(anew, request)
            assert plainly(held, request) == plainly(anew, request)
        assert held.rules_count == sum(line[0] == "p" for line in lines)


def test_a_link_that_goes_gives_rows_back_the_order_in_which_they_were_written() -> None:
    """Rows that a role link had sorted stand again as written once the link goes, as in stock."""
    shape = SHAPES["subject priority"]
    rows = [["p", "b", "a", "a"], ["p", "a", "a", "a", "allow"]]
    held = compiled(shape, SUBJECT, [*rows, ["g", "a", "b"]])
    assert answer(held, ("a", "a", "a")) == (True, ["a", "a", "a", "allow"])
    changed = held.updated(add=[["p", "c", "a", "a", "deny"]], remove=[["g", "a", "b"]])
    asked = answer(changed, ("a", "a", "a"))
    assert asked == answer(stock(shape, SUBJECT, [*rows, ["p", "c", "a", "a", "deny"]]), ("a", "a", "a"))
    assert asked == (RuntimeError, "invalid policy size")


def fits(line: list[str], shape: Shape) -> bool:
    """Say whether a line has the size that its definition asks for, so that it can be named for removal."""
    return line[0] != "p" or len(line) == len(shape.rows) + 1


def without_doubt(lines: list[list[str]]) -> list[list[str]]:
    """Return lines to remove; a `p` row needs no kind, and half of them have none."""
    return [line[1:] if line[0] == "p" and at % 2 else line for at, line in enumerate(lines)]


def test_many_stars_are_looked_up_in_two_halves() -> None:
    """Rows that name columns in many ways are looked up in two halves, and answer as stock, changed or not."""
    chance = Random(7)
    shape = SHAPES["stars in many columns"]

    def rows(count: int, values: str) -> list[list[str]]:
        effects = ("allow", "deny", "Deny")
        return [["p", *(chance.choice(values) for _ in range(6)), chance.choice(effects)] for _ in range(count)]

    def request() -> tuple[Any, ...]:
        return (*(chance.choice(["a", "b", "c", "zz", 1]) for _ in range(5)), chance.choice(["a", ["a", "b"], []]))

    halved = 0
    for at in range(40):
        effect, lines = shape.effects[at % len(shape.effects)], rows(chance.randrange(20, 60), "ab**")
        held, theirs = compiled(shape, effect, lines), stock(shape, effect, lines)
        for asked in [request() for _ in range(20)]:
            assert answer(held, asked) == answer(theirs, asked)
        lookup = held._rows.groups[0].selection._lookup
        halved += lookup is not None and lookup._second is not None
        more, gone = rows(5, "abc*"), chance.sample(lines, 8)
        for line in gone:
            lines.remove(line)
        held, theirs = held.updated(add=more, remove=gone), stock(shape, effect, lines + more)
        for asked in [request() for _ in range(20)]:
            assert answer(held, asked) == answer(theirs, asked)
    assert halved == 40


@pytest.mark.parametrize(
    "name", ["acl", "stars and roles", "rbac", "explicit priority", "subject priority", "eval", "keyMatch2"]
)
def test_an_enforcer_compiled_anew_for_its_empty_places_answers_the_same(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often rows went and came: the answers of one built from what is left, and no more empty places."""
    monkeypatch.setattr("policy_engine.rules.rows._GONE_COUNT", 2)
    shape = SHAPES[name]

    @settings(max_examples=10)
    @given(data=st.data())
    def changed(data: st.DataObject) -> None:
        effect = data.draw(st.sampled_from(shape.effects))
        lines = data.draw(policies(shape, odd=False))
        held = compiled(shape, effect, lines)
        for _ in range(5):
            rows = [line for line in lines if line[0] == "p"]
            fewer = [data.draw(st.sampled_from(rows))] if len(rows) > 1 else []
            more = data.draw(policies(shape, odd=False, most=1))
            lines = list(lines)
            for line in fewer:
                lines.remove(line)
            lines += more
            held = held.updated(add=more, remove=fewer)
            assert len(held._rows.gone) <= max(2, held.rules_count)
            anew = compiled(shape, effect, lines)
            for request in data.draw(st.lists(requests(shape, lines), min_size=1, max_size=2)):
                assert answer(held, request) == answer(anew, request)
                assert plainly(held, request) == plainly(anew, request)

    changed()
