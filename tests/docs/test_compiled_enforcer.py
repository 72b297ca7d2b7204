"""The page on `CompiledEnforcer`, executed: its blocks, each row of its tables, each difference from stock Casbin."""

from __future__ import annotations

import doctest
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import casbin
import pytest
from casbin.core_enforcer import EnforceContext
from casbin.persist.adapters import StringAdapter
from casbin.util import builtin_operators as operators

from policy_engine.errors import InputRefused, LoadRefused, TooLarge
from policy_engine.limits import Limits
from policy_engine.rules import CompiledEnforcer, Declared
from tests.docs import pages

PAGE = pages.ROOT / "docs" / "compiled-enforcer.md"
CELLS = {"rule": "r.sub.age > 18", "path": "/a/*", "network": "10.0.0.0/8", "tiers": "3+", "valid": "2026-01-01/"}
ROW = "p, a, data, read, allow"
SUBJECT = "r.sub == p.sub"


def near(place: str, written: str) -> bool:
    """The page's function of a user's own."""
    return place.partition("-")[0] == written


MANAGEMENT = (
    "add_policy",
    "remove_policy",
    "get_policy",
    "load_policy",
    "load_filtered_policy",
    "save_policy",
    "add_role_for_user",
    "get_roles_for_user",
    "set_watcher",
    "set_model",
    "set_effector",
    "set_role_manager",
    "enable_enforce",
)
FUNCTIONS = {"near": Declared(near, pure=True), "lucky": Declared(near, pure=False)}


class Lines(StringAdapter):  # type: ignore[misc]  # casbin has no types
    """An adapter that gives rows as they are, commas and all."""

    def __init__(self, *rows: list[str]) -> None:
        super().__init__("")
        self._rows = rows

    def load_policy(self, model: Any) -> None:
        """Append the rows."""
        model["p"]["p"].policy.extend(list(row) for row in self._rows)


def conf(matcher: str, more: str = "", roles: str = "", p: str = "sub, obj, act, eft", r: str = "sub, obj, act") -> Any:
    """Return a model with this matcher."""
    model = casbin.Model()
    definitions = f"[role_definition]\n{roles}\n" if roles else ""
    model.load_model_from_text(
        f"[request_definition]\nr = {r}\n{more}\n[policy_definition]\np = {p}\n{definitions}"
        f"[policy_effect]\ne = some(where (p.eft == allow))\n[matchers]\nm = {matcher}\n"
    )
    return model


def pair(model: Any, lines: str = ROW) -> tuple[Any, CompiledEnforcer]:
    """Return stock Casbin and ours on the same model and lines."""
    return casbin.Enforcer(model, StringAdapter(lines)), CompiledEnforcer(model, StringAdapter(lines))


def said(ask: Callable[[], Any]) -> Any:
    """Return an answer, or the kind of the error."""
    try:
        return ask()
    except Exception as error:  # noqa: BLE001  whatever Casbin raises is what is compared
        return type(error).__name__


def tables(heading: str) -> list[list[list[str]]]:
    """Return the tables under a heading, each as its rows of cells, without their heads; `\\|` is a bar."""
    found: list[list[list[str]]] = []
    for line in pages.section(PAGE, heading).splitlines():
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells and set(cells) == {"---"}:
            found.append([])
        elif cells and found and not line.startswith(("| condition", "| line", "| call", "| function |")):
            found[-1].append(cells)
    return found


SUPPORTED = tables("What is supported")[0]
REFUSED_MODELS, REFUSED_CALLS, REFUSED_PATTERNS = tables("What is refused, by name")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Offer the page's model and policy as files of the working folder."""
    for language, name in (("ini", "model.conf"), ("csv", "policy.csv")):
        (block,) = pages.blocks(PAGE, language)
        (tmp_path / name).write_text(block.text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_blocks_run_and_give_what_they_show(folder: Path) -> None:
    """The page's Python blocks, one after the other in one session, give the answers that stand under them."""
    names: dict[str, Any] = {}
    runner = doctest.DocTestRunner()
    for block in pages.blocks(PAGE, "python"):
        if ">>>" in block.text:
            parsed = doctest.DocTestParser().get_doctest(block.text, names, f"line {block.line}", str(PAGE), block.line)
            runner.run(parsed, clear_globs=False)
            names = parsed.globs
        else:
            exec(compile(block.text, str(PAGE), "exec"), names)  # noqa: S102  the page's own program
    assert (runner.failures, runner.tries > 10) == (0, True)


def test_the_migration_is_five_lines() -> None:
    """The first program has at most five lines."""
    block = pages.blocks(PAGE, "python")[0]
    assert len([line for line in block.text.splitlines() if line]) <= 5


def becomes(matcher: str) -> str:
    """Return what the compiled enforcer makes of a condition, in the words of the page."""
    columns = list(dict.fromkeys(re.findall(r"\bp\.(\w+)", matcher))) or ["sub"]
    tokens = list(dict.fromkeys(["sub", *re.findall(r"\br\.(\w+)", matcher)]))
    roles = {found[0]: found[1].count(",") + 1 for found in re.findall(r"\b(g2?)\(([^()]*)\)", matcher)}
    if "grouped" in matcher:
        roles["g"] = 3
    definitions = "\n".join(f"{key} = {', '.join('_' * places)}" for key, places in roles.items())
    model = conf(matcher, roles=definitions, p=", ".join([*columns, "eft"]), r=", ".join(tokens))
    rows = [[*(CELLS.get(column, f"value {at}") for column in columns), "allow"] for at in range(12)]
    held = CompiledEnforcer(model, Lines(*rows), functions=FUNCTIONS)._rows
    assert len(held.lines) == 12
    if held.loose:
        return "each time"
    (group,) = held.groups
    if group.rest is not None:
        return "each time" if group.rest._readers is None else "remembered"
    return "inverted" if all(term.exact for term in group.terms) else "narrowed"


@pytest.mark.parametrize(("example", "word"), [row[1:] for row in SUPPORTED])
def test_each_condition_becomes_what_the_table_says(example: str, word: str) -> None:
    """Each example of the table is inverted, narrowed or left to the evaluator as the page says."""
    assert becomes(example.strip("`")) == word


def test_a_part_that_may_raise_hides_what_stands_behind_it() -> None:
    """Behind a function that may raise no key is found; in front of it, or behind a total one, there is."""
    total = {"near": Declared(near, pure=True, total=True)}
    equal, own = "r.obj == p.obj", "near(r.act, p.act)"
    keys = []
    for matcher, functions in (
        (f"{equal} && {own}", FUNCTIONS),
        (f"{own} && {equal}", FUNCTIONS),
        (f"{own} && {equal}", total),
    ):
        (group,) = CompiledEnforcer(conf(matcher), StringAdapter(ROW), functions=functions)._rows.groups
        keys.append(len(group.selection.keys))
    assert keys == [1, 0, 1]


def agrees(shown: str, message: str) -> bool:
    """Say whether a message is the one shown; after an ellipsis anything may follow."""
    start, more, _ = shown.partition("…")
    return message.startswith(start) if more else message == shown


def model_of(line: str) -> Any:
    """Return a model with one line of the page's table in it."""
    if line.startswith("m ="):
        return conf(line.removeprefix("m ="))
    if line.startswith("g ="):
        return conf(SUBJECT, roles=line)
    if line.startswith("r2"):
        return conf(SUBJECT, more=line)
    held = conf(SUBJECT)
    held.model.pop("m")
    return held


@pytest.mark.parametrize(("line", "shown"), REFUSED_MODELS)
def test_each_line_of_a_model_is_refused_in_these_words(line: str, shown: str) -> None:
    """A model with the line is refused with the sentence beside it."""
    with pytest.raises(LoadRefused) as refused:
        CompiledEnforcer(model_of(line.removeprefix("no ").strip("`")), StringAdapter(ROW))
    assert agrees(shown, refused.value.message)


@pytest.mark.parametrize(("call", "shown"), REFUSED_CALLS)
def test_each_call_is_refused_in_these_words(folder: Path, call: str, shown: str) -> None:
    """The call, made on the page's own model and policy, is refused with the sentence beside it."""
    files = "model.conf", "policy.csv"
    names = {"CompiledEnforcer": CompiledEnforcer, "EnforceContext": EnforceContext, "Limits": Limits, "near": near}
    names |= {"files": files, "enforcer": CompiledEnforcer(*files)}
    with pytest.raises((LoadRefused, InputRefused)) as refused:
        eval(call.strip("`"), names)  # noqa: S307  the page's own call
    assert agrees(shown, refused.value.message)


@pytest.mark.parametrize(("function", "pattern", "shown"), REFUSED_PATTERNS)
def test_each_pattern_is_refused_in_these_words(function: str, pattern: str, shown: str) -> None:
    """A policy that holds the pattern is refused with the sentence beside it."""
    row = ["a", pattern.strip("`"), "read", "allow"]
    with pytest.raises(LoadRefused) as refused:
        CompiledEnforcer(conf(f"{function.strip('`')}(r.obj, p.obj)"), Lines(row))
    assert agrees(shown, refused.value.message)


def test_an_effect_that_casbin_does_not_have_raises_as_in_casbin(folder: Path) -> None:
    """The page quotes Casbin's own words, and says that the refusal is of both kinds and has a line."""
    text = Path("model.conf").read_text(encoding="utf-8").replace("some(", "most(")
    Path("other.conf").write_text(text, encoding="utf-8")
    for enforcer in (casbin.Enforcer, CompiledEnforcer):
        with pytest.raises(RuntimeError, match=r"^(other\.conf:11: )?unsupported effect"):
            enforcer("other.conf", "policy.csv")
    with pytest.raises(LoadRefused, match=r"^other\.conf:11: unsupported effect: most\(where"):
        CompiledEnforcer("other.conf", "policy.csv")


def mistakes() -> None:
    """Stock answers where evaluation stops before the mistake."""
    model = conf('r.sub == "b" && sqrt(r.sub)')
    assert not casbin.Enforcer(model, StringAdapter(ROW)).enforce("a", "", "")
    refused(model)


def syntax() -> None:
    """Stock evaluates a comprehension and an f-string, and drops what stands behind a semicolon."""
    for matcher in ('[x for x in r.sub] == ["a"]', 'f"{r.sub}" == p.sub', f"{SUBJECT}; r.obj == p.obj"):
        model = conf(matcher)
        assert casbin.Enforcer(model, StringAdapter(ROW)).enforce("a", "other", "read")
        refused(model)


def clock() -> None:
    """Stock reads the clock."""
    times = 'timeMatch("2000-01-01 00:00:00", "2999-01-01 00:00:00")'
    model = conf(times)
    assert casbin.Enforcer(model, StringAdapter(ROW)).enforce("a", "", "")
    refused(model)
    model, row = conf("eval(p.sub)"), [times, "", "", "allow"]
    assert casbin.Enforcer(model, Lines(row)).enforce("a", "", "")
    assert CompiledEnforcer(model, Lines(row)).enforce("a", "", "")


def contexts() -> None:
    """Stock takes second definitions and conditional roles."""
    for model in (conf(SUBJECT, more="r2 = sub"), conf(SUBJECT, roles="g = _, _, (_, _)")):
        assert casbin.Enforcer(model, StringAdapter(ROW)).enforce("a", "", "")
        refused(model)


def request_patterns() -> None:
    """Stock takes a pattern from whoever asks."""
    for number in ("keyMatch2", "keyMatch3", "keyMatch4", "keyMatch5", "regexMatch", "globMatch"):
        model = conf(f"{number}(p.obj, r.obj)")
        assert casbin.Enforcer(model, StringAdapter(ROW)).enforce("a", "data", "read")
        refused(model)
    for number in ("keyGet2", "keyGet3"):
        refused(conf(f'{number}(p.obj, r.obj, "id") == p.sub'))


def bounded() -> None:
    """A pattern that runs away in `re` is answered, and for short texts as stock answers."""
    model, row = conf("regexMatch(r.obj, p.obj)"), ["a", "(a|aa)+$", "read", "allow"]
    stock, ours = casbin.Enforcer(model, Lines(row)), CompiledEnforcer(model, Lines(row))
    for text in ("aaaa", "aaab", ""):
        assert stock.enforce("a", text, "") == ours.enforce("a", text, "")
    assert not ours.enforce("a", "a" * 5_000 + "b", "")
    without_end = ["a", r"(.*)*\1", "read", "allow"]
    with pytest.raises(LoadRefused):
        CompiledEnforcer(model, Lines(without_end))
    late = CompiledEnforcer(conf('r.sub + p.sub == "x" || regexMatch(r.obj, p.obj)'), Lines(without_end))
    with pytest.raises(LoadRefused):
        late.enforce("a", "a", "")


def limited() -> None:
    """Stock reads however many rows there are."""
    model = conf(SUBJECT)
    assert casbin.Enforcer(model, StringAdapter(f"{ROW}\n{ROW}")).enforce("a", "", "")
    with pytest.raises(TooLarge):
        CompiledEnforcer(model, StringAdapter(f"{ROW}\n{ROW}"), limits=Limits(rules_count=1))


def more_functions() -> None:
    """Stock does not know them until they are added."""
    calls = ('keyGet(r.obj, "/x*") == ""', 'keyGet2(r.obj, "/:x", "x") == ""', 'keyGet3(r.obj, "/{x}", "x") == ""')
    calls += ("has(r.sub, p.sub)", 'within("3", "3+")', 'known((), "x")', 'during(5, "*")', 'unlifted((), "-")')
    for call in calls:
        stock, ours = pair(conf(call))
        assert said(lambda stock=stock: stock.enforce("a", "", "")) == "FunctionNotDefined"
        assert ours.enforce("a", "", "")
    stock, ours = pair(conf('grouped(r.sub, "*", ()) && outside(r.sub, "*", ())', roles="g = _, _, _"))
    assert said(lambda: stock.enforce("a", "", "")) == "FunctionNotDefined"
    assert ours.enforce("a", "", "")


def declared() -> None:
    """There is no `add_function`, and a bare function is refused."""
    _, ours = pair(conf(SUBJECT))
    assert not hasattr(ours, "add_function")
    for name in ("keyMatch", "has"):
        taken = CompiledEnforcer(
            conf(f"{name}(r.sub, p.sub)"), StringAdapter(ROW), functions={name: Declared(lambda *_: True, pure=True)}
        )
        assert taken.enforce("nobody's start", "", "")
    with pytest.raises(LoadRefused):
        CompiledEnforcer(conf("near(r.sub, p.sub)"), functions={"near": near})  # type: ignore[dict-item]  # the mistake


def frozen() -> None:
    """What stock has to change itself by is not there, and a model that changes later changes nothing."""
    model = conf(SUBJECT)
    model["p"]["p"].policy.append(["a", "data", "read", "allow"])
    stock, ours = casbin.Enforcer(model), CompiledEnforcer(model)
    for name in MANAGEMENT:
        assert hasattr(stock, name)
        assert not hasattr(ours, name)
    assert not isinstance(ours, casbin.Enforcer)
    assert said(lambda: CompiledEnforcer(model, None, True)) == "TypeError"  # type: ignore[misc]  # the mistake
    model["p"]["p"].policy.append(["b", "data", "read", "allow"])
    assert (stock.enforce("b", "", ""), ours.enforce("b", "", "")) == (True, False)


def changes() -> None:
    """The old one answers as before, and a row may stand twice."""
    stock, ours = pair(conf(SUBJECT))
    row = ["a", "data", "read", "allow"]
    assert not stock.add_policy(*row)
    assert (ours.updated(add=[row]).rules_count, ours.rules_count) == (2, 1)


def silent() -> None:
    """A stock enforcer of the same process says nothing either."""
    heard: list[logging.LogRecord] = []
    stock, ours = pair(conf(SUBJECT))
    logger = logging.getLogger("casbin.enforcer")
    listener = logging.Handler()
    listener.emit = heard.append  # type: ignore[method-assign]  # a listener that keeps what it hears
    level, off = logger.level, logger.disabled
    logger.addHandler(listener)
    logger.setLevel(logging.DEBUG)
    logger.disabled = False
    deaf = list(logger.filters)
    try:
        assert not ours.enforce("nobody", "", "")
        assert not stock.enforce("nobody", "", "")
        assert heard == []
        for found in deaf:
            logger.removeFilter(found)
        assert not stock.enforce("nobody", "", "")
        assert len(heard) == 1
    finally:
        for found in deaf:
            logger.addFilter(found)
        logger.removeHandler(listener)
        logger.setLevel(level)
        logger.disabled = off


class Counted:
    """An object that counts how often it is read."""

    def __init__(self) -> None:
        self.reads = self.calls = 0

    @property
    def age(self) -> int:
        """Another age each time."""
        self.reads += 1
        return self.reads

    def name(self) -> str:
        """A method."""
        self.calls += 1
        return "nobody"


def objects() -> None:
    """Stock reads once a row, and not at all where it does not come so far."""
    lines = "\n".join([ROW] * 5)
    reads = {}
    for which, enforcer in zip(("stock", "ours"), pair(conf("r.obj == p.obj && r.sub.age == 9"), lines), strict=True):
        for asked in ("data", "nothing"):
            person = Counted()
            enforcer.enforce(person, asked, "")
            reads[which, asked] = person.reads
    assert reads == {("stock", "data"): 5, ("stock", "nothing"): 0, ("ours", "data"): 1, ("ours", "nothing"): 1}
    stock, ours = pair(conf("r.sub.name() == p.sub"), lines)
    first, second = Counted(), Counted()
    assert (stock.enforce(first, "", ""), ours.enforce(second, "", "")) == (False, False)
    assert (first.calls, second.calls) == (5, 1)
    stock, ours = pair(conf("r.obj == p.obj && r.sub.age == 9"))
    for asked in ("data", "nothing"):
        assert said(lambda at=asked: stock.enforce("text", at, "")) == said(
            lambda at=asked: ours.enforce("text", at, "")
        )


def seldom() -> None:
    """A pure function is asked no more of values that come a third time, and at load for what the row says alone."""
    calls: list[Any] = []

    def noted(*given: Any) -> bool:
        calls.append(given)
        return True

    lines = "\n".join([ROW] * 3)
    for matcher, counts in (("noted(r.sub, p.sub) && r.act == p.act", [0, 3, 4, 4]), ("noted(p.sub)", [1] * 4)):
        calls.clear()
        ours = CompiledEnforcer(conf(matcher), StringAdapter(lines), functions={"noted": Declared(noted, pure=True)})
        seen = [len(calls)]
        for _ in range(3):
            ours.enforce("a", "data", "other")
            seen.append(len(calls))
        assert seen == counts


def strangers() -> None:
    """Stock keeps a name that was asked about; with patterns it changes what is answered afterwards."""
    roles, lines = "g = _, _", "p, reader, data, read, allow\ng, *, /a/:id\ng, /:x/1, reader"
    stock, _ = pair(conf("g(r.sub, p.sub)", roles=roles), lines)
    stock.enforce("stranger", "", "")
    assert "stranger" in stock.get_role_manager().all_roles
    model = conf("g(r.sub, p.sub)", roles=roles)
    ours = CompiledEnforcer(model, StringAdapter(lines), matching={"g": operators.key_match2})
    answers = []
    for before in ((), ("/a/1",)):
        stock = casbin.Enforcer(model, StringAdapter(lines))
        stock.add_named_matching_func("g", operators.key_match2)
        stock.build_role_links()
        for enforcer in (stock, ours):
            for name in before:
                enforcer.enforce(name, "", "")
            answers.append(enforcer.enforce("/b", "", ""))
    assert answers == [False, False, True, False]


def refused(model: Any) -> None:
    """Say that ours refuses the model."""
    with pytest.raises(LoadRefused):
        CompiledEnforcer(model, StringAdapter(ROW))


DIFFERENCES = {
    "Mistakes are found at load": mistakes,
    "Some syntax is refused": syntax,
    "The clock is refused": clock,
    "Contexts and conditional roles are refused": contexts,
    "A pattern cannot come from the request": request_patterns,
    "Patterns take bounded time": bounded,
    "A policy has limits": limited,
    "More functions are there": more_functions,
    "Functions are declared, not added": declared,
    "It is frozen": frozen,
    "A change makes another enforcer": changes,
    "Nothing is logged": silent,
    "Objects are read once a decision": objects,
    "Pure functions are asked seldom": seldom,
    "Names that were asked about leave nothing behind": strangers,
}


@pytest.mark.parametrize("lead", DIFFERENCES)
def test_each_difference_is_one(lead: str) -> None:
    """What the page says of stock and of ours happens in both."""
    DIFFERENCES[lead]()


def test_the_list_of_differences_is_the_one_tested() -> None:
    """The page lists exactly the differences that are tested, in this order."""
    found = re.findall(r"^\d+\. \*\*(.+?)\.\*\*", pages.section(PAGE, "Differences from stock"), re.M)
    assert found == list(DIFFERENCES)
