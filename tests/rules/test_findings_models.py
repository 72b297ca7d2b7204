"""What analysis finds in plain Casbin models, compared with stock Casbin asked every request with and without a row."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest

from policy_engine.core.instants import parse_instant
from policy_engine.limits import LIMITS, Limits
from policy_engine.rules.findings import analyse_model
from policy_engine.rules.stock import read_model, stock_enforcer

EFFECTS = {
    "allow-override": "some(where (p.eft == allow))",
    "deny-override": "!some(where (p.eft == deny))",
    "allow-and-deny": "some(where (p.eft == allow)) && !some(where (p.eft == deny))",
    "priority": "priority(p.eft) || deny",
}
ANY_SUBJECT = '(p.sub == "*" || r.sub == p.sub)'
SHAPES: dict[str, tuple[str, str, str, str]] = {
    "acl": ("sub, obj", "sub, obj, eft", "", f"{ANY_SUBJECT} && r.obj == p.obj"),
    "rbac": ("sub, obj", "sub, obj, eft", "g = _, _", 'g(r.sub, p.sub) && (p.obj == "*" || r.obj == p.obj)'),
    "rbac with the request's domain": ("sub, dom", "sub, dom, eft", "g = _, _, _", "g(r.sub, p.sub, r.dom)"),
    "rbac with both domains": (
        "sub, dom",
        "sub, dom, eft",
        "g = _, _, _",
        "g(r.sub, p.sub, r.dom) && r.dom == p.dom",
    ),
    "rbac with the row's domain": (
        "sub, obj",
        "sub, dom, obj, eft",
        "g = _, _, _",
        "g(r.sub, p.sub, p.dom) && r.obj == p.obj",
    ),
    "groups": ("sub, dom", "sub, dom, eft", "g = _, _, _", "grouped(r.sub, p.sub, r.dom)"),
    "outside groups": ("sub, dom", "sub, dom, eft", "g = _, _, _", "outside(r.sub, p.sub, r.dom)"),
    "sets": ("sub, obj", "sub, obj, eft", "", "has(r.sub, p.sub) && known(r.obj, p.obj)"),
    "tiers and instants": ("tier, now", "sub, obj, eft", "", "within(r.tier, p.sub) && during(r.now, p.obj)"),
    "lifts": ("sub, obj", "sub, obj, eft", "", f"{ANY_SUBJECT} && unlifted(r.obj, p.obj)"),
    "a set read in three ways": (
        "obj",
        "sub, dom, obj, eft",
        "",
        "has(r.obj, p.sub) && unlifted(r.obj, p.obj) && known(r.obj, p.dom)",
    ),
    "an explicit priority": ("sub, obj", "priority, sub, obj, eft", "g = _, _", "g(r.sub, p.sub) && r.obj == p.obj"),
}
SUBSETS = [(), ("a",), ("b",), ("a", "b"), ("a", "z")]
DAYS = ("2026-01-01", "2026-02-01", "2026-03-01")
SPANS = ("*", *(f"{one}/{two}" for one, two in (DAYS[:2], DAYS[1:], DAYS[::2])), f"{DAYS[1]}/")
CELLS: dict[str, dict[str, Sequence[str]]] = {
    "tiers and instants": {"sub": ("*", "1", "2", "1-2", "3+", "4+"), "obj": SPANS},
    "sets": {"sub": ("*", "a", "b"), "obj": ("*", "a", "b", "a|b")},
    "a set read in three ways": {"sub": ("*", "a", "b"), "dom": ("*", "a", "b"), "obj": ("-", "a", "b")},
    "lifts": {"sub": ("*", "a", "b"), "obj": ("-", "a", "b")},
    "groups": {"sub": ("*", "a", "b", "r1", "r2")},
    "outside groups": {"sub": ("*", "a", "b", "r1", "r2")},
}
PLAIN_CELLS = {"sub": ("a", "b", "r1", "r2"), "obj": ("*", "x", "y"), "dom": ("d1", "d2"), "priority": ("1", "2", "10")}
TEXTS = {"sub": ("a", "b", "r1", "r2", "z"), "obj": ("x", "y", "*", "z"), "dom": ("d1", "d2", "z")}
INSTANTS = tuple(parse_instant(day) for day in ("2025-12-31", *DAYS))
LINKS = {
    2: (("a", "r1"), ("b", "r1"), ("b", "r2"), ("r1", "r2")),
    3: (("a", "r1", "d1"), ("b", "r1", "d1"), ("b", "r2", "d2"), ("a", "r2", "d2")),
}
REPEATS = re.compile(r"csv:(\d+): this row is a duplicate of line (\d+)")


def values(shape: str, token: str) -> Sequence[Any]:
    """Return every kind of value that a request token can have, one of each class at least."""
    if shape == "tiers and instants":
        return ("1", "2", "3", "4", "5", "unclassified") if token == "tier" else INSTANTS
    if (shape, token) in (
        ("sets", "sub"),
        ("sets", "obj"),
        ("lifts", "obj"),
        ("groups", "sub"),
        ("a set read in three ways", "obj"),
    ):
        return SUBSETS if shape != "groups" else (*SUBSETS, "r1", ("r2",))
    if shape in ("groups", "outside groups") and token == "dom":
        return ((), ("d1",), ("d2",), ("d1", "d2"), ("z",))
    return TEXTS[token]


def model_of(shape: str, effect: str, links: Sequence[Sequence[str]] = ()) -> Any:
    """Return a Casbin model of a shape and an effect, with role links and without rows."""
    request, policy, roles, matcher = SHAPES[shape]
    text = (
        f"[request_definition]\nr = {request}\n[policy_definition]\np = {policy}\n"
        + (f"[role_definition]\n{roles}\n" if roles else "")
        + f"[policy_effect]\ne = {EFFECTS[effect]}\n[matchers]\nm = {matcher}\n"
    )
    model = read_model(text, "model.conf")
    if roles:
        model["g"]["g"].policy.extend(list(link) for link in links)
    return model


def stock(shape: str, effect: str, links: Sequence[Sequence[str]], rows: Sequence[Sequence[str]]) -> list[bool]:
    """Return what stock Casbin answers to every request under these rows."""
    model = model_of(shape, effect, links)
    model["p"]["p"].policy.extend(list(row) for row in rows)
    # What loading does to the rows of a file.
    model.sort_policies_by_priority()
    enforcer = stock_enforcer(model)
    enforcer.build_role_links()
    tokens = [token.removeprefix("r_") for token in model["r"]["r"].tokens]
    return [enforcer.enforce(*request) for request in product(*(values(shape, token) for token in tokens))]


@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_row_is_reported_exactly_if_stock_casbin_never_misses_it(shape: str, effect: str) -> None:
    """For small policies, a row has a finding if and only if every answer is the same without it (and its repeats)."""
    draw = random.Random(f"{shape} {effect}")
    columns = SHAPES[shape][1].split(", ")
    places = SHAPES[shape][2].count("_")
    cells = {**PLAIN_CELLS, **CELLS.get(shape, {}), "eft": ("allow", "deny")}
    seen: Counter[bool] = Counter()
    for _ in range(12):
        links = draw.sample(LINKS[places], draw.randint(1, len(LINKS[places]))) if places else []
        rows = [[draw.choice(cells[column]) for column in columns] for _ in range(draw.randint(2, 6))]
        numbered = [(at + 1, row) for at, row in enumerate(rows)]
        found = analyse_model(model_of(shape, effect, links), numbered, "policy.csv")
        reported = {int(text.split(":")[1]) for text in found}
        repeats = {int(at): int(of) for at, of in REPEATS.findall("\n".join(found))}
        for at in range(1, len(rows) + 1):
            kept = [row for number, row in numbered if repeats.get(number) != at]
            without = [row for number, row in numbered if number != at and repeats.get(number) != at]
            # With no row at all Casbin asks its matcher about empty texts; a row without an effect is as good as none.
            without = without or [[*rows[0][:-1], "none"]]
            same = stock(shape, effect, links, kept) == stock(shape, effect, links, without)
            assert (at in reported) == same, (rows, links, at, found)
            seen[same] += 1
    assert min(seen[True], seen[False]) >= 3


def findings(shape: str, effect: str, *rows: str, limits: Limits = LIMITS) -> list[str]:
    """Return what is found of rows written with commas, on the lines from 5 on."""
    numbered = [(at, [cell.strip() for cell in row.split(",")]) for at, row in enumerate(rows, 5)]
    model = model_of(shape, effect, LINKS[3 if "domain" in shape else 2])
    return list(analyse_model(model, numbered, "policy.csv", limits=limits))


OPEN = " (for the values named in rules and for any other one; `sub` and `obj` take any text)"


def test_sentences_name_lines_and_say_which_domains_are_open() -> None:
    """A duplicate, a cover, a row that comes too late, one that what follows makes idle, and one never looked at."""
    rows = ["a, x, allow", "*, x, allow", "a, x, deny", "b, y, allow", "b, y, allow"]
    unread = "this row never changes an outcome: the effect of the model does not look at rows that deny"
    assert findings("acl", "allow-override", *rows) == [
        f"policy.csv:5: this row never changes an outcome: line 6 allows whatever it allows{OPEN}",
        f"policy.csv:7: {unread}{OPEN}",
        f"policy.csv:9: this row is a duplicate of line 8: the same effect for the same requests{OPEN}",
    ]
    assert findings("acl", "priority", "*, x, allow", "a, x, deny", "a, y, deny", "b, y, allow", "*, y, allow") == [
        f"policy.csv:6: this row never changes an outcome: line 5 decides whatever it matches before it{OPEN}",
        f"policy.csv:8: this row never changes an outcome: where it decides, what follows it decides alike{OPEN}",
    ]
    rows = ["a, x, allow", "*, x, allow", "a, x, deny", "b, y, allow", "b, y, allow"]
    unread = "this row never changes an outcome: the effect of the model does not look at rows that deny"
    assert findings("acl", "allow-override", *rows) == [
        f"policy.csv:5: this row never changes an outcome: line 6 allows whatever it allows{OPEN}",
        f"policy.csv:7: {unread}{OPEN}",
        f"policy.csv:9: this row is a duplicate of line 8: the same effect for the same requests{OPEN}",
    ]
    assert findings("acl", "priority", "*, x, allow", "a, x, deny", "a, y, deny", "b, y, allow", "*, y, allow") == [
        f"policy.csv:6: this row never changes an outcome: line 5 decides whatever it matches before it{OPEN}",
        f"policy.csv:8: this row never changes an outcome: where it decides, what follows it decides alike{OPEN}",
    ]
    assert findings("acl", "allow-override", "a, x, allow", "a, y, none") == [
        f"policy.csv:6: this row never changes an outcome: its effect is neither `allow` nor `deny`{OPEN}"
    ]
    assert findings("rbac with both domains", "allow-override", "r1, d1, allow", "a, d1, allow")[0].startswith(
        "policy.csv:6: this row never changes an outcome: line 5 allows whatever it allows"
    )


def test_a_closed_domain_is_covered_by_its_values() -> None:
    """A deny of everything covers those of all tiers; a tier is no open text, and nothing is said of one."""
    rows = ["1-2, *, deny", "3+, *, deny", "4+, *, deny"]
    assert [text.split(" (")[0] for text in findings("tiers and instants", "deny-override", *rows)] == [
        "policy.csv:7: this row never changes an outcome: line 6 denies whatever it denies"
    ]
    assert findings("tiers and instants", "deny-override", "*, *, deny", *rows[:1])[0].startswith("policy.csv:6:")
    assert findings("tiers and instants", "deny-override", *rows[:2], "*, *, deny") == [
        f"policy.csv:{line}: this row never changes an outcome: line 7 denies whatever it denies" for line in (5, 6)
    ]


@pytest.mark.parametrize(
    ("matcher", "said"),
    [
        ("keyMatch(r.sub, p.sub) && r.obj == p.obj", "keyMatch"),
        ('r.sub == p.sub && r.obj == p.obj && r.sub != "x"', "r_sub != 'x'"),
        ("r.sub == p.sub && known(r.sub, p.obj)", "`r.sub` is read in ways that no single value suits"),
    ],
)
def test_what_is_not_understood_is_named_and_nothing_is_analysed(matcher: str, said: str) -> None:
    """One sentence with the file and the term, in place of findings that might be wrong."""
    text = (
        "[request_definition]\nr = sub, obj\n[policy_definition]\np = sub, obj\n[policy_effect]\n"
        f"e = some(where (p.eft == allow))\n[matchers]\nm = {matcher}\n"
    )
    found = analyse_model(read_model(text, "model.conf"), [(1, ["a", "x"]), (2, ["a", "x"])], "policy.csv")
    assert len(found) == 1
    assert found[0].startswith("policy.csv: not analysed: ") and said in found[0]


@pytest.mark.parametrize(
    ("shape", "row", "said"),
    [
        ("acl", "a, x", "line 6 has 2 values where `p` defines 3"),
        ("tiers and instants", "6, *, deny", "tiers are written"),
        ("an explicit priority", "high, a, x, deny", "priorities are numbers in some rows and words in others"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(shape: str, row: str, said: str) -> None:
    """A wrong arity, a cell that its function cannot read and priorities without order are said, not guessed at."""
    good = {"acl": "a, x, deny", "tiers and instants": "1, *, deny", "an explicit priority": "1, a, x, deny"}[shape]
    (found,) = findings(shape, "priority", good, row)
    assert found.startswith("policy.csv: not analysed: ") and said in found


def test_an_unread_effect_and_too_many_domains_are_named() -> None:
    """An effect that hangs on more than effects and order, and sets of more domains than can be tried."""
    model = model_of("acl", "priority")
    model["e"]["e"].value = "subjectPriority(p_eft) || deny"
    assert analyse_model(model, [(1, ["a", "x", "allow"])], "policy.csv")[0].startswith("policy.csv: not analysed: ")
    many = model_of("groups", "priority", [("a", "r1", f"d{at}") for at in range(7)])
    (found,) = analyse_model(many, [(1, ["r1", "*", "allow"])], "policy.csv")
    assert found == "policy.csv: not analysed: `r.dom` names any set of 7 role domains; 6 can be tried"


def test_rows_beyond_the_limit_are_said_to_be_undecided() -> None:
    """Many rows under a small limit: what is decided is reported, the rest is counted."""
    rows = [f"a{at}, x, allow" for at in range(300)]
    limits = Limits(analysis_steps_count=1_000)
    found = findings("acl", "allow-override", "a0, x, allow", *rows, limits=limits)
    assert "duplicate of line 5" in found[0]
    said = "takes over 200000 steps a rule (analysis_rule_steps_count) or 1000 in all (analysis_steps_count)"
    assert re.search(r": not decided for this row and \d+ more: ", found[-1]) and found[-1].endswith(said)
