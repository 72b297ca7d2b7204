"""`CompiledEnforcer` answers what `casbin.Enforcer` answers, or says by name what it does not support."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import casbin
import pytest
from casbin.persist.adapters import StringAdapter
from hypothesis import assume, given
from hypothesis import strategies as st

from policy_engine.errors import InputRefused, LoadRefused
from policy_engine.rules import CompiledEnforcer, stock_enforcer
from policy_engine.rules.stock import read_model

EFFECTS = (
    "some(where (p.eft == allow))",
    "!some(where (p.eft == deny))",
    "some(where (p.eft == allow)) && !some(where (p.eft == deny))",
    "priority(p.eft) || deny",
)
MATCHERS = (
    "r.sub == p.sub && r.obj == p.obj && r.act == p.act",
    'p.act == r.act && (r.sub == p.sub || p.sub == "*") && r.obj == p.obj',
    "g(r.sub, p.sub, r.obj) && r.obj == p.obj && r.act == p.act",
    "g(r.sub, p.sub, p.obj) && has(r.act, p.act)",
    "has(r.sub, p.sub) && has(r.act, p.act)",
    "r.sub == p.sub",
)
NAMES = st.sampled_from(("a", "b", "c", "data"))
ODD = st.sampled_from((1, None, True, frozenset("ab"), ["a"], {"a": 1}, "*", "", "zzz"))


def conf(matcher: str, effect: str = EFFECTS[0], p: str = "sub, obj, act, eft", g: str = "_, _, _") -> str:
    """Return a model with one matcher and effect."""
    roles = f"[role_definition]\ng = {g}\n" if g else ""
    return (
        f"[request_definition]\nr = sub, obj, act\n[policy_definition]\np = {p}\n{roles}"
        f"[policy_effect]\ne = {effect}\n[matchers]\nm = {matcher}\n"
    )


def pair(text: str, lines: str) -> tuple[CompiledEnforcer, Any]:
    """Return the compiled and the stock enforcer on the same model and lines."""
    compiled = CompiledEnforcer(read_model(text, "model"), StringAdapter(lines))
    return compiled, stock_enforcer(read_model(text, "model"), StringAdapter(lines))


def answer(enforcer: Any, request: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return an enforcer's answer and row, or the kind of error and its text."""
    try:
        allowed, row = enforcer.enforce_ex(*request)
    except Exception as error:  # noqa: BLE001  whatever Casbin raises is what is compared
        return type(error), str(error)
    return allowed, list(row)


@st.composite
def policies(draw: st.DrawFn) -> str:
    """Draw some policy lines, misspelt effects included, with role links up to the depth that Casbin follows."""
    words = st.sampled_from(("a", "b", "c", "data", "*"))
    effects = st.sampled_from(("allow", "deny", "Deny"))
    lines = draw(st.lists(st.tuples(words, words, words, effects), max_size=8))
    links = draw(st.lists(st.tuples(NAMES, NAMES, NAMES), max_size=6))
    rows = [f"p, {', '.join(line)}" for line in lines] + [f"g, {', '.join(link)}" for link in links]
    return "\n".join(rows)


@given(
    policies(),
    st.sampled_from(MATCHERS),
    st.sampled_from(EFFECTS),
    st.lists(st.tuples(NAMES | ODD, NAMES | ODD, NAMES | ODD), min_size=1, max_size=6),
)
def test_it_answers_as_stock_does(lines: str, matcher: str, effect: str, requests: list[tuple[Any, ...]]) -> None:
    """For any lines, matcher, effect and request values, odd ones included: the same answer, row and error."""
    assume(lines)
    compiled, stock = pair(conf(matcher, effect), lines)
    for request in requests:
        assert answer(compiled, request) == answer(stock, request)


def test_role_links_are_followed_as_deep_as_casbin_does() -> None:
    """A role nine steps away is held and one ten steps away is not, as in stock Casbin."""
    chain = "\n".join(f"g, n{at}, n{at + 1}" for at in range(12))
    lines = chain + "\n" + "\n".join(f"p, n{at}, data, read, allow" for at in range(13))
    compiled, stock = pair(conf("g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act", g="_, _"), lines)
    rows = [row[0] for row in compiled.explain("n0", "data", "read")]
    assert rows == [f"n{at}" for at in range(10)]
    for at in range(13):
        request = (f"n{12 - at}", "data", "read")
        assert answer(compiled, request) == answer(stock, request)


def test_it_takes_files_as_casbin_does(tmp_path: Path) -> None:
    """Paths of a model and a policy file are taken like models and adapters."""
    (tmp_path / "model.conf").write_text(conf(MATCHERS[0]))
    (tmp_path / "policy.csv").write_text("p, a, data, read, allow\np, b, data, read, deny\n")
    paths = str(tmp_path / "model.conf"), str(tmp_path / "policy.csv")
    compiled, stock = CompiledEnforcer(*paths), casbin.Enforcer(*paths)
    requests = [("a", "data", "read"), ("b", "data", "read"), ("c", "data", "read")]
    assert compiled.batch_enforce(requests) == stock.batch_enforce(requests) == [True, False, False]
    assert compiled.enforce("a", "data", "read") is True


def test_explain_gives_every_matching_row() -> None:
    """Where stock Casbin names one row, explain names all, in order of the policy."""
    compiled, _ = pair(conf(MATCHERS[1]), "p, a, data, read, allow\np, *, data, read, deny\np, b, data, read, deny")
    assert [row[0] for row in compiled.explain("a", "data", "read")] == ["a", "*"]
    assert compiled.enforce_ex("a", "data", "read")[1] == ["a", "data", "read", "allow"]
    with pytest.raises(InputRefused):
        compiled.explain(["a"], "data", "read")


@pytest.mark.parametrize("request_values", [(), ("a",), ("a", "b", "c", "d")])
def test_a_request_of_another_size_raises_what_casbin_raises(request_values: tuple[Any, ...]) -> None:
    """Too few and too many values raise Casbin's own error; there is nothing to explain about them."""
    compiled, stock = pair(conf(MATCHERS[0]), "p, a, data, read, allow")
    assert answer(compiled, request_values) == answer(stock, request_values)
    assert answer(compiled, request_values)[0] is RuntimeError
    with pytest.raises(LoadRefused, match="another size"):
        compiled.explain(*request_values)


def test_rows_of_another_size_are_left_to_casbin() -> None:
    """A policy with a row of the wrong arity behaves as in stock Casbin: it raises when the scan reaches it."""
    compiled, stock = pair(conf(MATCHERS[0]), "p, a, data, read, allow\np, a, data, read")
    for request in (("a", "data", "read"), ("b", "data", "read")):
        assert answer(compiled, request) == answer(stock, request)
    assert answer(compiled, ("b", "data", "read"))[0] is RuntimeError


def test_an_empty_policy_is_left_to_casbin() -> None:
    """Without rows Casbin evaluates the matcher on empty texts; so does the compiled enforcer."""
    for effect in EFFECTS:
        compiled, stock = pair(conf(MATCHERS[0], effect), "g, a, b, c")
        for request in (("", "", ""), ("a", "b", "c")):
            assert answer(compiled, request) == answer(stock, request)


def test_a_policy_without_effects_allows_what_matches() -> None:
    """Where the policy has no effect column, each matching row allows, as in Casbin."""
    compiled, stock = pair(conf(MATCHERS[0], p="sub, obj, act"), "p, a, data, read")
    for request in (("a", "data", "read"), ("b", "data", "read")):
        assert answer(compiled, request) == answer(stock, request)


def test_priorities_are_those_of_casbin() -> None:
    """With a priority column the rows are tried in Casbin's order of priority."""
    text = conf("r.sub == p.sub && r.obj == p.obj && r.act == p.act", EFFECTS[3], "priority, sub, obj, act, eft")
    compiled, stock = pair(text, "p, 10, a, data, read, allow\np, 2, a, data, read, deny\np, 1, b, data, read, allow")
    for request in (("a", "data", "read"), ("b", "data", "read"), ("c", "data", "read")):
        assert answer(compiled, request) == answer(stock, request)
    assert not compiled.enforce("a", "data", "read")


NOT_COMPILED = {
    "a pattern": ("keyMatch(r.obj, p.obj)", "unbounded pattern"),
    "eval": ("eval(p.sub)", "unbounded pattern"),
    "an attribute": ("r.sub.age == p.sub", "is not supported"),
    "a constant": ('r.sub == "root"', "is not supported"),
    "two request values": ("r.sub == r.obj", "is not supported"),
    "an order": ("r.sub > p.sub", "is not supported"),
    "a disjunction": ("r.sub == p.sub || r.obj == p.obj", "is not supported"),
    "another star": ('p.obj == "*" || r.sub == p.sub', "is not supported"),
    "a star on the request": ('r.sub == "*" || r.sub == p.sub', "is not supported"),
    "three alternatives": ('p.sub == "*" || r.sub == p.sub || r.obj == p.sub', "is not supported"),
    "a chain": ("r.sub == p.sub == p.obj", "is not supported"),
    "a truth": ("true", "is not supported"),
    "an unpublished function": ("sqrt(r.sub, p.sub)", "`sqrt` is not published"),
    "roles the wrong way round": ("g(p.sub, r.sub, r.obj)", "is not supported"),
    "roles with too few places": ("g(r.sub, p.sub)", "is not supported"),
    "bad tiers": ("within(r.sub, p.sub)", "tiers are written"),
}


@pytest.mark.parametrize("case", NOT_COMPILED)
def test_what_is_not_compiled_is_refused_by_name(case: str) -> None:
    """A matcher of another kind is refused when the enforcer is built, by the text of the term."""
    matcher, words = NOT_COMPILED[case]
    with pytest.raises(LoadRefused, match=words):
        CompiledEnforcer(read_model(conf(matcher), "model"), StringAdapter("p, a, data, read, allow"))


@pytest.mark.parametrize(
    "name", ["add_policy", "remove_policy", "load_policy", "enable_enforce", "add_function", "set_model"]
)
def test_management_calls_are_refused_by_name(name: str) -> None:
    """A call that would change the enforcer is refused by its name, and `hasattr` says that it is not there."""
    compiled, _ = pair(conf(MATCHERS[0]), "p, a, data, read, allow")
    with pytest.raises(LoadRefused, match=f"`{name}` is a management call"):
        getattr(compiled, name)
    assert not hasattr(compiled, name)
    with pytest.raises(AttributeError, match=f"no_{name}"):
        getattr(compiled, f"no_{name}")


def test_contexts_are_refused_by_name() -> None:
    """A request that names another definition is refused, and so is a model that has one."""
    compiled, stock = pair(conf(MATCHERS[0]), "p, a, data, read, allow")
    with pytest.raises(LoadRefused, match="contexts are not supported"):
        compiled.enforce(stock.new_enforce_context("2"), "a", "data", "read")
    text = conf(MATCHERS[0]).replace("[policy_definition]", "r2 = sub\n[policy_definition]")
    with pytest.raises(LoadRefused, match="`r2` is not supported"):
        CompiledEnforcer(read_model(text, "model"), StringAdapter("p, a, data, read, allow"))


def test_an_effect_that_casbin_does_not_have_raises_as_in_casbin() -> None:
    """A custom effect is refused by Casbin itself when the enforcer is built."""
    with pytest.raises(RuntimeError, match="unsupported effect"):
        CompiledEnforcer(read_model(conf(MATCHERS[0], "most(where (p.eft == allow))"), "model"))
