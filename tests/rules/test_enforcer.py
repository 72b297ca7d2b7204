"""`CompiledEnforcer` answers what `casbin.Enforcer` answers, or says by name what it does not support."""

from __future__ import annotations

import math
import sys
from concurrent.futures import ThreadPoolExecutor
from logging import getLogger
from pathlib import Path
from threading import Barrier
from typing import Any

import casbin
import pytest
from casbin.persist.adapters import StringAdapter
from casbin.util.builtin_operators import key_match

from policy_engine.errors import InputRefused, LoadRefused, TooLarge
from policy_engine.limits import Limits
from policy_engine.rules import CompiledEnforcer, Declared, stock_enforcer
from policy_engine.rules.plain import load_plain
from policy_engine.rules.stock import read_model
from tests.rules.models import answer

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
    assert compiled.explain(["a"], "data", "read") == [["*", "data", "read", "deny"]]


@pytest.mark.parametrize("request_values", [(), ("a",), ("a", "b", "c", "d")])
def test_a_request_of_another_size_raises_what_casbin_raises(request_values: tuple[Any, ...]) -> None:
    """Too few and too many values raise Casbin's own error, explained or not."""
    compiled, stock = pair(conf(MATCHERS[0]), "p, a, data, read, allow")
    assert answer(compiled, request_values) == answer(stock, request_values)
    assert answer(compiled, request_values)[0] is RuntimeError
    with pytest.raises(RuntimeError, match="invalid request size"):
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
    "an unknown function": ("sqrt(r.sub, p.sub)", "`sqrt` is not known"),
    "a name that is not defined": ("true", "reads `true`, which is not defined"),
    "a token that is not defined": ("r.user == p.sub", "reads `r.user`, which is not defined"),
    "no expression": ("r.sub == ", "is no expression"),
    "several expressions": ("r.sub == p.sub; r.obj == p.obj", "more than one expression"),
    "a comprehension": ("[x for x in r.sub] == p.sub", "may not hold"),
    "a lambda": ("(lambda: r.sub)() == p.sub", "may not hold"),
    "the clock": ("timeMatch(p.sub, p.obj)", "`timeMatch` reads the clock"),
    "chance": ("rand() > 0.5", "`rand` is not known"),
    "a long text": (f"r.sub == '{'x' * 100_001}'", "more than 100000 characters"),
    "eval of the request": ("eval(r.sub)", "`eval` takes one policy column"),
    "eval of an expression": ("eval(p.sub + p.obj)", "`eval` takes one policy column"),
    "a pattern of the request": ("regexMatch(p.obj, r.obj)", "would take its pattern from the request"),
    "a path pattern of the request": ("keyMatch2(p.obj, r.obj)", "would take its pattern from the request"),
}


@pytest.mark.parametrize("case", NOT_COMPILED)
def test_what_is_not_compiled_is_refused_by_name(case: str) -> None:
    """A matcher that cannot be judged reliably is refused when the enforcer is built, by the name of the trouble."""
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


def test_conditional_roles_are_refused_by_name() -> None:
    """A role definition with conditions is refused by its name."""
    with pytest.raises(LoadRefused, match=r"conditional roles \(`g`\) are not supported"):
        CompiledEnforcer(read_model(conf("g(r.sub, p.sub)", g="_, _, (_, _)"), "model"))


def test_a_function_without_declared_purity_is_refused_by_name() -> None:
    """A bare function is refused; declared, it is taken; a matching function needs its role definition."""
    text = conf("near(r.sub, p.sub)", g="")

    def near(value: Any, written: str) -> bool:
        return str(value) == written

    with pytest.raises(LoadRefused, match="the purity of `near` is not declared"):
        CompiledEnforcer(read_model(text, "model"), functions={"near": near})  # type: ignore[dict-item]  # the mistake
    held = CompiledEnforcer(
        read_model(text, "model"), StringAdapter("p, 1, x, y, allow"), functions={"near": Declared(near, pure=True)}
    )
    assert [held.enforce(1, "", ""), held.enforce(2, "", "")] == [True, False]
    with pytest.raises(LoadRefused, match="no role definition `g9`"):
        CompiledEnforcer(
            read_model(text, "model"), functions={"near": Declared(near, pure=True)}, matching={"g9": near}
        )


def test_an_impure_function_is_asked_each_time_and_a_pure_one_once() -> None:
    """What a pure function said of a value is remembered from its second coming on; what an impure one said is not."""
    for pure, asked in ((True, 2), (False, 3)):
        calls: list[Any] = []

        def noted(value: Any, written: str, calls: list[Any] = calls) -> bool:
            calls.append(value)
            return bool(value == written)

        held = CompiledEnforcer(
            read_model(conf("noted(r.sub, p.sub)", g=""), "model"),
            StringAdapter("p, a, x, y, allow"),
            functions={"noted": Declared(noted, pure=pure)},
        )
        assert [held.enforce("a", "", "") for _ in range(3)] == [True] * 3
        assert len(calls) == asked


def test_objects_are_read_anew_at_each_call() -> None:
    """An object that changes between calls is answered by what it holds now, remembered or not."""
    text = conf("r.sub.age + 1 > 18 && r.obj == p.obj", g="")
    compiled, stock = pair(text, "p, a, data, read, allow")
    person = {"age": 18}
    for age in (18, 17, 18, 17.5, "x"):
        person["age"] = age
        assert answer(compiled, (person, "data", "")) == answer(stock, (person, "data", ""))


def test_no_made_up_names_stay_behind() -> None:
    """Names that no line holds leave nothing in the graphs of roles, where stock keeps each of them for good."""
    compiled, stock = pair(conf("g(r.sub, p.sub, r.obj)"), "p, admin, data, read, allow\ng, alice, admin, data")
    before = compiled.memory_bytes
    for at in range(200):
        compiled.enforce(f"stranger {at}", f"place {at}", ["odd"])
        compiled.enforce(f"stranger {at}", "data", "x")
    assert compiled.enforce("alice", "data", "x")
    first = compiled.memory_bytes
    assert first - before < 1_000
    stock.enforce("stranger", "data", "x")
    assert "stranger" in stock.get_role_manager().rm_map["data"].all_roles


def with_patterns(text: str, lines: str, **matching: Any) -> tuple[CompiledEnforcer, Any]:
    """Return the compiled and the stock enforcer with `key_match` for names (`matching`), domains, or both."""
    stock = casbin.Enforcer(read_model(text, "model"), StringAdapter(lines))
    if "matching" in matching:
        stock.add_named_matching_func("g", matching["matching"]["g"])
    if "domain_matching" in matching:
        stock.add_named_domain_matching_func("g", matching["domain_matching"]["g"])
    stock.build_role_links()
    return CompiledEnforcer(read_model(text, "model"), StringAdapter(lines), **matching), stock


@pytest.mark.parametrize(
    ("matcher", "row"),
    [
        ("g(r.sub, p.sub) && r.obj == p.obj", "role:admin"),
        ('g(r.sub, "role:admin") && r.obj == p.obj', "x"),
        ("!g(r.sub, p.sub) || r.obj != p.obj", "role:admin"),
        ("r.obj == p.obj && g(r.sub, r.act)", "x"),
    ],
)
def test_whoever_has_a_role_that_is_a_pattern_has_each_role_that_fits_it(matcher: str, row: str) -> None:
    """`g, alice, role:*` gives alice `role:admin`, which only a row, the matcher or the request names, as in stock."""
    for rows in (1, 40):  # few are tested one by one, many are selected
        lines = (
            "\n".join(f"p, {row}, data{at}, read, allow" for at in range(rows)) + "\ng, alice, role:*\ng, bob, role:x"
        )
        for name in ("alice", "bob", "role:admin", "nobody"):
            ours, stock = with_patterns(conf(matcher, g="_, _"), lines, matching={"g": key_match})
            assert answer(ours, (name, "data0", "role:admin")) == answer(stock, (name, "data0", "role:admin"))
    assert with_patterns(conf(matcher, g="_, _"), lines, matching={"g": key_match})[0].enforce(
        "alice", "data0", "role:b"
    )


def test_roles_that_a_request_makes_up_leave_nothing_long_behind() -> None:
    """Long names of roles that only requests give are compared with the patterns each time, and kept nowhere."""
    text = conf("g(r.sub, r.obj) && r.act == p.act", g="_, _")
    ours, _ = with_patterns(text, "p, x, y, read, allow\ng, alice, role:*", matching={"g": key_match})
    for at in range(200):
        getLogger(f"casbin.role.somebody.{at}")  # a graph of Casbin knows its logger, and that all others: not ours
    before = ours.memory_bytes
    for at in range(200):
        assert ours.enforce("alice", f"role:{at:010000}", "read")
    assert ours.memory_bytes - before < 20_000


def test_a_domain_of_a_row_may_fit_a_pattern_that_no_line_names_it_by() -> None:
    """`g, alice, admin, *` gives alice the role in the domain of any row, however many rows there are."""
    for rows in (1, 40):
        lines = "\n".join(f"p, admin, d{at}, read, allow" for at in range(rows)) + "\ng, alice, admin, *"
        for name in ("alice", "bob", "admin"):
            text = conf("g(r.sub, p.sub, p.obj) && r.act == p.act")
            ours, stock = with_patterns(text, lines, domain_matching={"g": key_match})
            assert answer(ours, (name, "d0", "read")) == answer(stock, (name, "d0", "read"))


def test_nan_is_nobodys_role_not_even_its_own() -> None:
    """A request that gives NaN (of a table with gaps, say) as subject and as role is denied, as in stock."""
    for matcher in ("g(r.sub, r.obj)", "g(r.sub, r.obj) && r.act == p.act", "g(r.sub, r.sub)"):
        compiled, stock = pair(conf(matcher, g="_, _"), "p, a, data, read, allow\ng, a, b")
        for value in (math.nan, "a", 1):
            request = (value, value, "read")
            assert answer(compiled, request) == answer(stock, request)
        assert not compiled.enforce(math.nan, math.nan, "read")


def test_what_the_evaluator_found_is_remembered_within_bytes() -> None:
    """However many values come, the store of remembered evaluations stays within its bytes."""
    limits = Limits(remembered_bytes=50_000)
    held = CompiledEnforcer(
        read_model(conf("r.sub + p.sub == 'ab'", g=""), "model"), StringAdapter("p, b, x, y, allow"), limits=limits
    )
    sizes = []
    for at in range(2_000):
        assert held.enforce(f"a{at}" if at else "a", "", "") is (at == 0)
        if at % 100 == 99:
            sizes.append(held.memory_bytes)
    assert max(sizes) - min(sizes) < 2 * limits.remembered_bytes


def test_limits_refuse_by_name(tmp_path: Path) -> None:
    """A policy beyond the limits is refused with the limit's name, a long file before it is read."""
    (tmp_path / "model.conf").write_text(conf(MATCHERS[0]))
    (tmp_path / "policy.csv").write_text("p, a, data, read, allow\n" * 3)
    paths = str(tmp_path / "model.conf"), str(tmp_path / "policy.csv")
    with pytest.raises(TooLarge, match="rules_count"):
        CompiledEnforcer(*paths, limits=Limits(rules_count=2))
    with pytest.raises(TooLarge, match=r"policy_bytes"):
        CompiledEnforcer(*paths, limits=Limits(policy_bytes=10))


def test_a_context_is_refused_where_the_matcher_does_not_read_the_first_value() -> None:
    """A context in place of a value is refused by each call, and is never left unread beside values that match."""
    compiled, stock = pair(conf("r.obj == p.obj && r.act == p.act", g=""), "p, a, data, read, allow")
    asked = (casbin.core_enforcer.EnforceContext("r", "p", "e", "m"), "data", "read")
    with pytest.raises(RuntimeError, match="invalid request size"):
        stock.enforce(*asked)
    for ask in (
        compiled.enforce,
        compiled.enforce_ex,
        compiled.explain,
        lambda *values: compiled.batch_enforce([values]),
    ):
        with pytest.raises(LoadRefused, match="contexts are not supported"):
            ask(*asked)


def test_rows_that_come_and_go_leave_no_memory_behind() -> None:
    """Thousands of changes of ten rows take the memory of some hundred rows."""
    held, _ = pair(conf("r.sub == p.sub && keyMatch2(r.obj, p.obj)", g=""), "p, a, /0/:id, read, allow")
    sizes = []
    for at in range(1, 4_001):
        added, gone = (["p", "a", f"/{number}/:id", "read", "allow"] for number in (at, at - 1))
        held = held.updated(add=[added], remove=[gone])
        if at % 400 == 0:
            sizes.append(held.memory_bytes)
    assert held.rules_count == 1 and max(sizes) < 800_000
    assert held.enforce("a", "/4000/x", "read") and not held.enforce("a", "/3999/x", "read")


def test_what_is_remembered_keeps_no_enforcer_before() -> None:
    """Change after change, each asked about: what was answered before is remembered without the rows of the day."""
    lines = "\n".join(f"p, a, /{at}/:id, read, allow" for at in range(2_000))
    held, _ = pair(conf("r.sub >= p.sub && keyMatch2(r.obj, p.obj)", g=""), lines)
    before = held.memory_bytes
    row = ["p", "b", "/x/:id", "read", "allow"]
    for _ in range(20):
        held = held.updated(add=[row])
        assert held.enforce("b", "/x/1", "read")
        held = held.updated(remove=[row])
        assert not held.enforce("b", "/x/1", "read")
    assert held.memory_bytes < 1.2 * before


def test_changes_at_the_same_time_lose_no_row() -> None:
    """Several threads change one enforcer at once, by patterns of lengths new to it: each result has its own rows."""
    threads_count, rows_count = 4, 150
    lost: list[str] = []
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(5):
            held, _ = pair(conf("keyMatch(r.obj, p.obj)", EFFECTS[2]), "p, a, /*, read, allow")
            together = Barrier(threads_count)

            def change(number: int, held: CompiledEnforcer = held, together: Barrier = together) -> list[str]:
                paths = [f"/{'x' * (number + at * threads_count)}/" for at in range(1, rows_count + 1)]
                together.wait()
                changed = held.updated(add=[["p", "a", f"{path}*", "read", "deny"] for path in paths])
                return [path for path in paths if changed.enforce("a", path, "read")]

            with ThreadPoolExecutor(threads_count) as pool:
                lost += [path for paths in pool.map(change, range(threads_count)) for path in paths]
    finally:
        sys.setswitchinterval(interval)
    assert lost == []


def test_a_change_counts_rules_and_no_links_against_the_limit() -> None:
    """At the limit of rules a link may still come, and one that goes makes no room for a rule."""
    model, limits = read_model(conf("g(r.sub, p.sub) && r.act == p.act", g="_, _"), "model"), Limits(rules_count=1)
    rows = StringAdapter("p, admin, d, read, allow\ng, alice, admin")
    held = CompiledEnforcer(model, rows, limits=limits)
    assert held.updated(add=[["g", "bob", "admin"]]).enforce("bob", "d", "read")
    row = ["p", "bob", "d", "read", "allow"]
    with pytest.raises(TooLarge, match="rules_count"):
        held.updated(add=[row], remove=[["g", "alice", "admin"]])
    assert held.updated(add=[row], remove=[["p", "admin", "d", "read", "allow"]]).rules_count == 1


def test_an_updated_enforcer_leaves_the_old_one_as_it_was() -> None:
    """Rows and links come and go in a new enforcer; the old one answers as before; mistakes change nothing."""
    compiled, _ = pair(conf("g(r.sub, p.sub, r.obj) && r.act == p.act"), "p, admin, d, read, allow\ng, alice, admin, d")
    more = compiled.updated(add=[["p", "bob", "d", "read", "allow"], ["g", "carl", "admin", "d"]])
    less = more.updated(remove=[["admin", "d", "read", "allow"]])
    asked = [("alice", "d", "read"), ("bob", "d", "read"), ("carl", "d", "read")]
    assert compiled.batch_enforce(asked) == [True, False, False]
    assert more.batch_enforce(asked) == [True, True, True]
    assert less.batch_enforce(asked) == [False, True, False]
    assert [held.rules_count for held in (compiled, more, less)] == [1, 2, 1]
    with pytest.raises(InputRefused, match="not in the policy"):
        compiled.updated(remove=[["nobody", "d", "read", "allow"]])
    with pytest.raises(InputRefused, match="`g` line to remove is not in the policy"):
        compiled.updated(remove=[["g", "nobody", "admin", "d"]])
    with pytest.raises(InputRefused, match="fits no definition"):
        compiled.updated(add=[["p", "too", "short"]])


def test_an_enforcer_whose_rows_are_all_removed_is_one_without_rows() -> None:
    """When the last row goes, the matcher itself is asked, as in stock without a policy."""
    compiled, _ = pair(conf(MATCHERS[0], EFFECTS[1]), "p, a, data, read, deny")
    _, stock = pair(conf(MATCHERS[0], EFFECTS[1]), "g, x, y, z")
    held = compiled.updated(remove=[["a", "data", "read", "deny"]])
    for request in (("", "", ""), ("a", "data", "read")):
        assert answer(held, request) == answer(stock, request)
        assert held.enforce(*request) is stock.enforce(*request)


def test_a_pattern_without_end_is_refused_by_file_and_line(tmp_path: Path) -> None:
    """A pattern that nothing can bound is refused where it stands, whatever shapes and order the rows have."""
    text = conf("eval(p.sub) && regexMatch(r.obj, p.obj)", EFFECTS[3], p="sub, obj, act, priority, eft", g="")
    (tmp_path / "model.conf").write_text(text)
    lines = [
        "p, r.sub == 'a', x, y, 9, allow",
        "# a note",
        "p, True, x, y, 5, allow",
        "p, True, (a+)+\\1$, y, 1, allow",
    ]
    (tmp_path / "policy.csv").write_text("\n".join(lines))
    with pytest.raises(LoadRefused, match=r"policy\.csv:4: this regular expression may take unbounded time"):
        CompiledEnforcer(str(tmp_path / "model.conf"), str(tmp_path / "policy.csv"))
    with pytest.raises(LoadRefused, match=r"^policy\.csv:4: this regular expression may take unbounded time"):
        load_plain({name: (tmp_path / name).read_bytes() for name in ("model.conf", "policy.csv")})


def test_nobody_can_change_an_enforcer_by_a_row_that_went_in_or_came_out() -> None:
    """Rows that an adapter keeps, that a model holds and that answers name are others' to change; nothing follows."""
    row = ["a", "data", "read", "allow"]

    class Keeping(StringAdapter):  # type: ignore[misc]  # casbin has no types
        def load_policy(self, model: Any) -> None:
            model["p"]["p"].policy.append(row)

    text = conf("r.sub == p.sub && r.obj == p.obj && r.act == p.act", g="")
    model = read_model(text, "model")
    model["p"]["p"].policy.append(row)
    for compiled in (CompiledEnforcer(read_model(text, "model"), Keeping("")), CompiledEnforcer(model)):
        row[:] = ["b", "data", "read", "deny"]
        model["m"]["m"].value = "True"
        named = compiled.enforce_ex("a", "data", "read")[1]
        named[0] = compiled.explain("a", "data", "read")[0][1] = "mine"  # type: ignore[index]  # a list, as in stock
        assert compiled.enforce_ex("a", "data", "read") == (True, ["a", "data", "read", "allow"])
        assert compiled.updated().explain("a", "data", "read") == [["a", "data", "read", "allow"]]
        assert not compiled.enforce("b", "data", ["read"])
        row[:] = ["a", "data", "read", "allow"]
