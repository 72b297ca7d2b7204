"""The published matcher functions, one by one, and their parsers at the edges."""

from __future__ import annotations

from typing import Any

import pytest

from policy_engine.core.instants import ENDLESS, parse_instant
from policy_engine.rules.functions import (
    PUBLISHED,
    add_functions,
    during,
    has,
    known,
    parse_interval,
    parse_names,
    parse_tiers,
    unlifted,
    within,
)


class Roles:
    """A role manager with one link a domain."""

    def has_link(self, name: str, role: str, domain: str) -> bool:
        """Say whether the name has the role in the domain."""
        return (name, role, domain) in {("AE", "A:5", "ear@2"), ("AE", "D:4", "ear@1")}


class Enforcer:
    """What `add_functions` needs of an enforcer."""

    def __init__(self) -> None:
        self.functions: dict[str, Any] = {}

    def add_function(self, name: str, function: Any) -> None:
        """Keep a function."""
        self.functions[name] = function

    def get_role_manager(self) -> Roles:
        """Return the roles of `g`."""
        return Roles()


@pytest.fixture
def functions() -> dict[str, Any]:
    """Offer the functions as they are put on an enforcer."""
    enforcer = Enforcer()
    add_functions(enforcer)
    return enforcer.functions


def test_every_function_is_published_with_what_it_reads(functions: dict[str, Any]) -> None:
    """What is added to an enforcer is what is published, each pure, with its arguments and inversion."""
    assert functions.keys() == PUBLISHED.keys()
    assert all(found.pure and found.arguments and found.inversion for found in PUBLISHED.values())


@pytest.mark.parametrize(
    ("value", "wanted", "expected"),
    [
        ("a", "a", True),
        ("abc", "b", False),
        (frozenset("ab"), "b", True),
        (["a", "b"], "c", False),
        (("a",), "a", True),
        (set(), "a", False),
        (None, "*", True),
    ],
)
def test_has(value: Any, wanted: str, expected: bool) -> None:
    """A text has itself and no part of itself; a set has its elements; a star has no condition."""
    assert has(value, wanted) is expected


@pytest.mark.parametrize("value", [None, 3, {"a": 1}])
def test_has_reads_texts_and_sets(value: Any) -> None:
    """Any other value raises, so that the request is denied."""
    with pytest.raises(TypeError):
        has(value, "a")


@pytest.mark.parametrize(
    ("text", "tiers"),
    [("3+", "345"), ("1-2", "12"), ("5", "5"), ("5+", "5"), ("1+", "12345"), ("2-2", "2")],
)
def test_tiers(text: str, tiers: str) -> None:
    """A range of tiers holds its ends."""
    assert parse_tiers(text) == set(tiers)


@pytest.mark.parametrize(
    "text", ["", "0", "6", "3-", "-3", "+", "2-1", "3 +", "1-6", "unclassified", "03", "3++", "1-2-3"]
)
def test_other_tiers_raise(text: str) -> None:
    """A text that names no tiers raises."""
    with pytest.raises(ValueError, match="tiers are written"):
        parse_tiers(text)


def test_within() -> None:
    """A tier is in a range that holds it; an unclassified model is in none; other words raise."""
    assert within("4", "3+")
    assert not within("2", "3+")
    assert not within("unclassified", "1+")
    assert within("nothing", "*")
    with pytest.raises(ValueError, match="1 to 5"):
        within("6", "3+")


def test_known() -> None:
    """Nothing that is required may be unknown."""
    assert known(frozenset(("owners",)), "location|residence")
    assert not known(frozenset(("residence",)), "location|residence")
    assert known("anything", "*")
    assert parse_names("a|b") == {"a", "b"}
    with pytest.raises(TypeError):
        known("residence", "location|residence")


def test_during() -> None:
    """An interval holds its start and not its end; an open side has no end."""
    start, end = parse_instant("2026-03-01"), parse_instant("2026-04-01")
    text = "2026-03-01/2026-04-01T00:00:00Z"
    assert [during(now, text) for now in (start - 1, start, end - 1, end)] == [False, True, True, False]
    assert during(end, "2026-03-01/")
    assert during(-ENDLESS, "/2026-04-01")
    assert during("whenever", "*")
    with pytest.raises(TypeError):
        during("2026-03-15", text)


@pytest.mark.parametrize(
    "text", ["", "/", "2026-03-01", "2026-13-01/", "2026-03-01T00:00:00/", "2026-03-02/2026-03-01"]
)
def test_other_intervals_raise(text: str) -> None:
    """A text that is no interval, has no zone, or ends before it starts raises."""
    with pytest.raises(ValueError):
        parse_interval(text)


def test_unlifted() -> None:
    """A row stands unless its lift key is named; a row without a key always stands."""
    assert unlifted(frozenset(("nat",)), "seat")
    assert not unlifted(frozenset(("seat",)), "seat")
    assert unlifted(frozenset(("-",)), "-")


def test_grouped_and_outside(functions: dict[str, Any]) -> None:
    """A code is in a group in the editions that link it, alone or in a set; outside is the opposite for one code."""
    grouped, outside = functions["grouped"], functions["outside"]
    assert grouped("AE", "A:5", frozenset(("ear@2", "embargo@1")))
    assert not grouped("AE", "A:5", ["ear@1"])
    assert grouped(frozenset(("DE", "AE")), "D:4", ["ear@1"])
    assert not grouped(frozenset(), "D:4", ["ear@1"])
    assert grouped(None, "*", None)
    assert outside("AE", "A:5", ["ear@1"])
    assert not outside("AE", "A:5", ["ear@2"])
    assert outside(None, "*", None)
    with pytest.raises(TypeError):
        outside(frozenset(("AE",)), "A:5", ["ear@1"])
    with pytest.raises(TypeError):
        grouped(3, "A:5", ["ear@1"])
