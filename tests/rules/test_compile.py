"""Matchers of published functions over plain Casbin lines, compiled, against stock Casbin; what is not compiled."""

from __future__ import annotations

from typing import Any

import pytest
from casbin.persist.adapters import StringAdapter
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.core.instants import parse_instant
from policy_engine.errors import LoadRefused
from policy_engine.rules import CompiledEnforcer, stock_enforcer
from policy_engine.rules.adapter import ReleaseAdapter
from policy_engine.rules.compile import compile_index
from policy_engine.rules.groups import compile_group, group_lines
from policy_engine.rules.stock import read_model
from tests.rules.sample import parts

TEXT = """[request_definition]
r = now, tier, who, lacks, keys, home, domains
[policy_definition]
p = eft, valid, tiers, who_in, requires, lift, home_outside
[role_definition]
g = _, _, _
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = during(r.now, p.valid) && (within(r.tier, p.tiers) && grouped(r.who, p.who_in, r.domains)) && \\
    known(r.lacks, p.requires) && unlifted(r.keys, p.lift) && outside(r.home, p.home_outside, r.domains)
"""
LINKS = "g, AE, A, d1\ng, A, B, d1\ng, CN, A, d2\ng, CN, B, d3"
START = parse_instant("2026-03-01")
ODD = st.sampled_from((None, 3, "", "zz", True, {"a": 1}, [["x"]]))
CODES = st.sampled_from(("AE", "CN", "A", "B"))


def some_set(words: str) -> st.SearchStrategy[Any]:
    """Draw a set or list of a few words, or now and then something else."""
    texts = st.lists(st.sampled_from(words.split()), max_size=2, unique=True)
    return texts.map(frozenset) | texts | ODD


REQUESTS = st.tuples(
    st.sampled_from((START - 1, START, START + 1)) | ODD,
    st.sampled_from(("1", "4", "unclassified")) | ODD,
    CODES | some_set("AE CN B"),
    some_set("owners place"),
    some_set("seat nat -"),
    CODES | ODD,
    some_set("d1 d2 d9"),
)
ROWS = st.lists(
    st.tuples(
        st.sampled_from(("allow", "deny")),
        st.sampled_from(("*", "2026-03-01/", "/2026-03-01")),
        st.sampled_from(("*", "3+", "1-2")),
        st.sampled_from(("*", "A", "B")),
        st.sampled_from(("*", "owners", "owners|place")),
        st.sampled_from(("-", "seat", "nat")),
        st.sampled_from(("*", "A")),
    ),
    min_size=1,
    max_size=5,
)


def answer(enforcer: Any, request: tuple[Any, ...]) -> Any:
    """Return an enforcer's answer and row, or the kind of error."""
    try:
        allowed, row = enforcer.enforce_ex(*request)
    except Exception as error:  # noqa: BLE001  whatever Casbin raises is what is compared
        return type(error)
    return allowed, list(row)


@given(ROWS, st.lists(REQUESTS, min_size=1, max_size=6))
def test_published_functions_compile_to_what_stock_casbin_answers(rows: list[Any], requests: list[Any]) -> None:
    """For any rows and any request, odd values included, compiled and stock give the same answer, row or error."""
    lines = "\n".join([f"p, {', '.join(row)}" for row in rows]) + "\n" + LINKS
    compiled = CompiledEnforcer(read_model(TEXT, "model"), StringAdapter(lines))
    stock = stock_enforcer(read_model(TEXT, "model"), StringAdapter(lines))
    for request in requests:
        assert answer(compiled, request) == answer(stock, request)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("p, allow, *, 3-, *, *, -, *", "policy line 1: tiers are written"),
        ("p, allow, 2026-03-01, *, *, *, -, *", "policy line 1: an interval is written"),
        ("p, allow, 2026-03-02/2026-03-01, *, *, *, -, *", "policy line 1: the interval ends before it starts"),
    ],
)
def test_a_line_that_a_function_cannot_read_is_refused(line: str, words: str) -> None:
    """A policy cell that a published function would raise on is refused at load, by its line."""
    with pytest.raises(LoadRefused, match=words):
        compile_index(stock_enforcer(read_model(TEXT, "model"), StringAdapter(line)).get_model(), "model")


def test_a_line_of_another_arity_is_not_compiled() -> None:
    """A line with too few values is refused by its number."""
    model = read_model(TEXT, "model.conf")
    model["p"]["p"].policy.append(["allow", "*"])
    with pytest.raises(LoadRefused, match="policy line 1 has 2 values where `p` defines 7"):
        compile_index(model, "model.conf")


def test_roles_need_two_or_three_places() -> None:
    """A role definition of another size is refused by its name."""
    text = TEXT.replace("g = _, _, _", "g = _, _, _, _")
    with pytest.raises(LoadRefused, match="`g` must have two or three places"):
        compile_index(read_model(text, "model.conf"), "model.conf")


def test_a_release_is_never_written_through_its_adapter() -> None:
    """Every call of a Casbin adapter that would change a policy is refused."""
    adapter = ReleaseAdapter((), (), None)
    writes = [
        lambda: adapter.save_policy(None),
        lambda: adapter.add_policy("p", "p", []),
        lambda: adapter.remove_policy("p", "p", []),
        lambda: adapter.remove_filtered_policy("p", "p", 0),
    ]
    for write in writes:
        with pytest.raises(LoadRefused, match="immutable"):
            write()


def test_an_expression_of_codes_alone_is_a_group() -> None:
    """A group of codes without a table's group holds in every edition of the first table."""
    group = compile_group("US + CA", parts().tables, "here")
    assert set(group.editions) == {frozenset(("US", "CA"))}
    lines = group_lines({group.text: group}, parts().tables)
    assert ("CA", "US + CA", "ear@2026-02-03") in lines
    assert len(lines) == 2 * len(parts().tables.groups["ear"].starts)


def test_expressions_are_read_left_to_right() -> None:
    """Adding after taking away brings a code back."""
    tables = parts().tables
    assert "CN" not in compile_group("D:5 - CN", tables, "here").editions[-1]
    assert "CN" in compile_group("D:5 - CN + CN", tables, "here").editions[-1]
    assert "UA-43" not in compile_group("embargoed - UA-43", tables, "here").editions[-1]
