"""The compiled index against a slow, obvious evaluation of the same conditions, and what it does at its edges."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.core.index import Between, Equal, Index, Linked, NoneOf, OneOf, Role, Term, positions
from policy_engine.core.instants import ENDLESS
from policy_engine.errors import InputRefused

WORDS = st.sampled_from("abcde")
SETS = st.frozensets(WORDS, max_size=3)
LINKS = {"d1": {"g": frozenset("ab"), "h": frozenset("c")}, "d2": {"g": frozenset("d")}}
DOMAINS = st.frozensets(st.sampled_from(("d1", "d2", "d3")), max_size=2)
LARGE = 6_000
"""So many rules, each for a value of its own, are kept as positions and not as bits."""


def obvious_member(value: Any, group: str, domains: Any) -> bool:
    """Say whether a code is in a group in one of the domains, as the words say it."""
    return any(value == group or value in LINKS.get(domain, {}).get(group, ()) for domain in domains)


@st.composite
def rulebooks(draw: st.DrawFn) -> tuple[list[dict[str, Any]], tuple[Any, ...]]:
    """Draw some rules with a condition for each kind of term, and one request."""
    rules = draw(
        st.lists(
            st.fixed_dictionaries(
                {
                    "one_of": st.none() | SETS,
                    "equal": st.none() | WORDS,
                    "none_of": SETS,
                    "linked": st.none() | st.sampled_from(("g", "h", "a")),
                    "outside": st.none() | st.sampled_from(("g", "h")),
                    "between": st.tuples(st.integers(-3, 3), st.integers(4, 9)),
                    "role": st.sampled_from(("g", "h", "a")),
                }
            ),
            max_size=12,
        )
    )
    request = (
        draw(WORDS | SETS),
        draw(WORDS | st.integers(0, 3) | st.none()),
        draw(SETS),
        draw(WORDS | SETS),
        draw(WORDS),
        draw(DOMAINS),
        draw(st.integers(-5, 10)),
        draw(st.sampled_from(("d1", "d2", "d3"))),
    )
    return rules, request


def compiled(rules: Sequence[dict[str, Any]], expected: Sequence[frozenset[str]] = ()) -> Index:
    """Return the index of such rules, every kind of term in it."""
    terms: list[Term] = [
        OneOf(0, [rule["one_of"] for rule in rules]),
        Equal(1, [None if rule["equal"] is None else frozenset((rule["equal"],)) for rule in rules]),
        NoneOf(2, [rule["none_of"] for rule in rules]),
        Linked(3, 5, [rule["linked"] for rule in rules], LINKS, expected=expected),
        Linked(4, 5, [rule["outside"] for rule in rules], LINKS, outside=True),
        Between(6, [rule["between"] for rule in rules]),
        Role(4, [rule["role"] for rule in rules], members_of, 7),
    ]
    return Index(terms, len(rules))


def members_of(role: str) -> list[tuple[str, str]]:
    """Return the names that have a role, with the domain."""
    return [(name, domain) for domain, groups in LINKS.items() for name in groups.get(role, ())]


def obviously(rule: dict[str, Any], request: tuple[Any, ...]) -> bool:
    """Say whether one rule's conditions hold, one after the other."""
    one, equal, none, linked, outside, domains, now, domain = request
    several = (one,) if isinstance(one, str) else one
    codes = (linked,) if isinstance(linked, str) else linked
    return (
        (rule["one_of"] is None or any(value in rule["one_of"] for value in several))
        and (rule["equal"] is None or equal == rule["equal"])
        and not (none & rule["none_of"])
        and (rule["linked"] is None or any(obvious_member(code, rule["linked"], domains) for code in codes))
        and (rule["outside"] is None or not obvious_member(outside, rule["outside"], domains))
        and rule["between"][0] <= now < rule["between"][1]
        and obvious_member(outside, rule["role"], (domain,))
    )


@given(rulebooks())
def test_matching_is_what_a_slow_reading_of_each_rule_finds(
    drawn: tuple[list[dict[str, Any]], tuple[Any, ...]],
) -> None:
    """For any rules and request, the index gives exactly the rules that hold when read one by one."""
    rules, request = drawn
    expected = [at for at, rule in enumerate(rules) if obviously(rule, request)]
    assert list(positions(compiled(rules).matching(request))) == expected
    assert list(positions(compiled(rules, [request[5]]).matching(request))) == expected


@given(rulebooks())
def test_the_order_of_terms_changes_nothing(drawn: tuple[list[dict[str, Any]], tuple[Any, ...]]) -> None:
    """Whatever term is asked first, the same rules match."""
    rules, request = drawn
    index = compiled(rules)
    assert Index(reversed(index.terms), len(rules)).matching(request) == index.matching(request)
    assert index.readable(request)


@given(st.sets(st.integers(0, 2_000), max_size=40))
def test_positions_are_the_set_bits(places: set[int]) -> None:
    """The positions of a bitset are its set bits in order, for narrow and for wide sets."""
    assert positions(sum(1 << place for place in places)) == tuple(sorted(places))


UNREADABLE = {
    "a number where a text or set belongs": (OneOf(0, [frozenset("a")]), (3,)),
    "a mapping where a text or set belongs": (OneOf(0, [frozenset("a")]), ({"a": 1},)),
    "a text outside the vocabulary": (OneOf(0, [frozenset("a")], frozenset("ab")), ("c",)),
    "a set where the vocabulary wants a text": (OneOf(0, [frozenset("a")], frozenset("ab")), (frozenset("a"),)),
    "a set where a scalar belongs": (Equal(0, [frozenset("a")]), (frozenset("a"),)),
    "a text where a set belongs": (NoneOf(0, [frozenset("a")]), ("a",)),
    "a number where a code belongs": (Linked(0, 1, ["g"], LINKS), (1, frozenset(("d1",)))),
    "a set where one code belongs": (Linked(0, 1, ["g"], LINKS, outside=True), (frozenset("a"), frozenset(("d1",)))),
    "a text where domains belong": (Linked(0, 1, ["g"], LINKS), ("a", "d1")),
    "a mapping where domains belong": (Linked(0, 1, ["g"], LINKS), ("a", {"d1": 1})),
    "no name": (Role(0, ["g"], members_of, 1), (None, "d1")),
    "no domain": (Role(0, ["g"], members_of, 1), ("a", None)),
    "a text where an instant belongs": (Between(0, [(0, 5)]), ("1",)),
    "a truth where an instant belongs": (Between(0, [(0, 5)]), (True,)),
    "an instant before all time": (Between(0, [(0, 5)]), (-ENDLESS - 1,)),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_value_that_cannot_be_read_raises(case: str) -> None:
    """A value of a kind that a term does not read raises, so that the caller denies; it never just fails to match."""
    term, values = UNREADABLE[case]
    index = Index([term], 1)
    assert not index.readable(values)
    with pytest.raises(InputRefused, match="cannot read"):
        index.matching(values)


def test_a_value_in_the_vocabulary_that_no_rule_names_matches_nothing() -> None:
    """A word that the vocabulary holds and no rule names is read, and matches only rules without condition."""
    term = OneOf(0, [frozenset("a"), None], frozenset("ab"))
    assert term.readable(("b",))
    assert positions(term.select(("b",))) == (1,)


def test_lists_of_domains_are_read() -> None:
    """Domains that arrive as a list, as in a replayed entry, are read like a set."""
    term = Linked(0, 1, ["g"], LINKS, expected=[frozenset(("d1",))])
    assert positions(term.select(("a", ["d1"]))) == (0,)
    assert positions(term.select(("d", ["d1"]))) == ()


def test_each_kind_of_term_reads_texts_and_sets() -> None:
    """A text, a set of several texts and an empty set are read alike, whatever way the index takes to the answer."""
    one_of = OneOf(0, [frozenset("a"), frozenset("bc"), None])
    words = OneOf(1, [frozenset("a"), None, None], frozenset("ab"))
    linked = Linked(2, 3, ["g", "h", None], LINKS)
    index = Index([one_of, words, linked], 3)
    both = frozenset(("d1", "d2"))
    assert positions(index.matching((frozenset("ab"), "a", frozenset("ac"), both))) == (0, 1, 2)
    assert positions(index.matching((["b"], "b", frozenset("ac"), both))) == (1, 2)
    assert positions(index.matching(("a", "a", "d", both))) == (0, 2)
    assert positions(index.matching((frozenset(), "b", frozenset(), both))) == (2,)
    assert positions(index.matching(("z", "b", "z", both))) == (2,)
    ready = Linked(2, 3, ["g", "h", None], LINKS, expected=[both])
    assert positions(ready.select(("a", "a", frozenset("d"), both))) == (0, 2)
    assert [positions(term.select(("a", "a", "a", both))) for term in (one_of, words)] == [(0, 2), (0, 1, 2)]


def test_roles_without_domains_and_with_their_own() -> None:
    """A role needs no domain, or has the one that its rule names; a name always has the role of its own name."""
    plain = Role(0, ["g", "h"], lambda role: [("a", "")] if role == "g" else [])
    assert positions(plain.select(("a",))) == (0,)
    assert positions(plain.select(("h",))) == (1,)
    owned = Role(0, ["g", "g"], members_of, ["d1", "d2"])
    assert positions(owned.select(("d",))) == (1,)
    assert positions(owned.select(("g",))) == (0, 1)


def many(count: int) -> Index:
    """Return an index of many rules, each of them for one subject and any of three actions, one for everybody."""
    subjects: list[Any] = [frozenset((f"s{at}",)) for at in range(count - 1)] + [None]
    actions: list[Any] = [frozenset((f"a{at % 3}",)) for at in range(count)]
    return Index([Equal(0, subjects), OneOf(1, actions)], count)


def test_few_rules_of_many_are_found() -> None:
    """Among many rules, those of a subject, of a set of actions, and those without condition are found exactly."""
    index = many(LARGE)
    last = LARGE - 1
    assert positions(index.matching(("s7", "a1"))) == (7,)
    assert positions(index.matching(("s7", frozenset(("a1", f"a{last % 3}", "a9"))))) == (7, last)
    assert positions(index.matching(("nobody", f"a{last % 3}"))) == (last,)
    few = OneOf(0, [frozenset((f"s{at}",)) for at in range(LARGE)])
    assert positions(few.select((frozenset(("s5", "s9", "s")),))) == (5, 9)


def test_memory_grows_with_what_rules_name_not_with_its_square() -> None:
    """A value that few rules of many name is kept as positions: far below one bit for each value and rule."""
    postings = many(LARGE).terms[0]._postings
    kept = sum(sys.getsizeof(few) for few in postings.few.values()) + sum(map(sys.getsizeof, postings.dense.values()))
    assert kept < LARGE * LARGE / 8 / 4


def test_no_rules_match_nothing() -> None:
    """An index without rules is read like any other and matches nothing."""
    assert compiled([]).matching(("a", "a", frozenset(), "a", "a", frozenset(), 0, "d1")) == 0
    assert positions(0) == ()
