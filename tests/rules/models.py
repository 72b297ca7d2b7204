"""Generated Casbin models, policies and requests of many shapes, and how answers are compared."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from casbin.persist.adapters import StringAdapter
from casbin.util import builtin_operators as operators
from hypothesis import strategies as st

from policy_engine.rules import CompiledEnforcer, stock_enforcer
from policy_engine.rules.functions import Declared
from policy_engine.rules.stock import read_model

ALLOW = "some(where (p.eft == allow))"
DENY = "!some(where (p.eft == deny))"
BOTH = f"{ALLOW} && {DENY}"
PRIORITY = "priority(p.eft) || deny"
SUBJECT = "subjectPriority(p.eft) || deny"


@dataclass(frozen=True)
class Shape:
    """A kind of model: definitions, matcher, and where the values of rows and requests are drawn from."""

    matcher: str
    rows: tuple[st.SearchStrategy[str], ...]
    request: tuple[st.SearchStrategy[Any], ...]
    r: str = "sub, obj, act"
    p: str = "sub, obj, act, eft"
    roles: Mapping[str, str] = field(default_factory=dict)
    links: st.SearchStrategy[str] | None = None
    effects: tuple[str, ...] = (ALLOW, DENY, BOTH, PRIORITY)
    functions: Mapping[str, Declared] = field(default_factory=dict)
    matching: Mapping[str, Callable[[Any, Any], bool]] = field(default_factory=dict)
    domain_matching: Mapping[str, Callable[[Any, Any], bool]] = field(default_factory=dict)
    rows_max: int = 8

    def text(self, effect: str) -> str:
        """Return the model.conf of the shape under an effect."""
        roles = "".join(f"{key} = {value}\n" for key, value in self.roles.items())
        return (
            f"[request_definition]\nr = {self.r}\n[policy_definition]\np = {self.p}\n"
            + (f"[role_definition]\n{roles}" if roles else "")
            + f"[policy_effect]\ne = {effect}\n[matchers]\nm = {self.matcher}\n"
        )


def words(text: str) -> st.SearchStrategy[str]:
    """Draw one of the words of a text."""
    return st.sampled_from(text.split())


class Raises:
    """An object whose attributes raise."""

    def __getattr__(self, name: str) -> Any:
        raise ZeroDivisionError("an attribute that raises")


class Equal:
    """An object that says it equals everything."""

    __hash__ = None  # type: ignore[assignment]  # not hashable on purpose

    def __eq__(self, other: object) -> bool:
        return True


NAMES = words("a b c d data")
STAR = words("a b c data *")
EFFECTS = words("allow allow deny deny Deny")
ODD = (
    st.sampled_from(
        (1, 0, -2.5, True, False, None, "", "*", "zzz", math.nan, math.inf, b"a", frozenset("ab"), ["a"], ("a", "b"))
    )
    | st.builds(lambda: {"a": 1})
    | st.builds(Raises)
    | st.builds(Equal)
    | st.builds(object)
    | st.builds(lambda: [math])
)
ASKED = st.one_of(NAMES, NAMES, NAMES, ODD)
LINKS = st.tuples(words("g"), NAMES, NAMES).map(", ".join)
DOMAIN_LINKS = st.tuples(words("g"), NAMES, NAMES, words("d1 d2 a b")).map(", ".join)
TWO_LINKS = st.tuples(words("g g2"), NAMES, NAMES).map(", ".join)
NUMBERS = st.sampled_from((-1, 0, 17, 18, 18.0, 18.5, 60, 61, True, math.nan, 10**30))
ATTRIBUTES = st.fixed_dictionaries(
    {}, optional={"age": NUMBERS | ODD, "name": NAMES | ODD, "owner": NAMES | ODD, "items": NAMES, "tags": ODD}
)
OBJECTS = ATTRIBUTES | ATTRIBUTES.map(lambda held: SimpleNamespace(**held)) | ASKED
RULES = st.sampled_from(
    (
        "r.sub.age > 18",
        "r.sub.age > 18 && r.sub.age < 60",
        "r.sub.age >= 18.0",
        "18 <= r.sub.age < 61",
        "r.sub.age == 18",
        "r.sub.age != 17",
        "r.sub.name == 'a'",
        'r.sub.name == "b" || r.sub.age > -1',
        "!(r.sub.name == 'a')",
        "r.sub.name in ('a'; 'b')".replace(";", ","),
        "'a' in r.sub.tags",
        "r.sub.name == r.obj.owner",
        "r.sub.missing > 1",
        "r.sub.age > 'x'",
        "r.sub.age +",
        "nothing(r.sub)",
        "r.sub.age",
        "r.sub.age - 18",
        "True",
        "r.sub.age * 1.0",
        "r.sub.name == 'a' 'b'",
        "r.sub.name == 'it\\'s 5'",
        "r.sub.items == 'a'",
        "p.act == 'a' && r.sub.age > 0",
        "r.nothing == 1",
        "regexMatch(r.sub.name, '^[ab]$')",
        "keyMatch(r.sub.name, p.act)",
    )
)
PATHS = words("/a /a/b /a/b/c /a/1/x /a/2/x /b /b/ / a /a?x=1 /ab /a/b?y")
PATTERNS = words(
    "/a /a/* /a/*/x /* * /:id /a/:id /a/{id} /a/{id}/x /a/{i}/{i} /b/* /[ab] (/a|/b) /a/** *.x [ /a( /a/b{1,2}"
)
ADDRESSES = words("10.0.0.1 10.0.0.255 192.168.1.7 ::1 fe80::1 10.0.0.1/24 nonsense 300.1.1.1") | ODD
NETWORKS = words("10.0.0.0/24 10.0.0.1 10.0.0.1/8 192.168.0.0/16 ::/0 fe80::/10 nonsense 0.0.0.0/0")
LISTS = st.lists(NAMES, max_size=3) | st.lists(NAMES, max_size=3).map(tuple) | st.lists(NAMES).map(frozenset) | ASKED


def same_start(value: Any, written: Any) -> bool:
    """A function of a user's own; raises for values without a first letter."""
    return bool(value[0] == written[0])


def pattern_shape(name: str) -> Shape:
    """Return a shape that matches objects by a pattern function."""
    return Shape(
        f"r.sub == p.sub && {name}(r.obj, p.obj) && r.act == p.act",
        (NAMES, PATTERNS, NAMES, EFFECTS),
        (ASKED, PATHS | ODD, ASKED),
    )


FOUR = (STAR, STAR, STAR, EFFECTS)
THREE = (ASKED, ASKED, ASKED)
SHAPES: dict[str, Shape] = {
    "acl": Shape("r.sub == p.sub && r.obj == p.obj && r.act == p.act", FOUR, THREE),
    "acl turned": Shape("p.act == r.act && p.sub == r.sub && r.obj != p.obj", FOUR, THREE),
    "stars": Shape(
        '(r.sub == p.sub || p.sub == "*") && (p.obj == "*" || r.obj == p.obj) && (r.act == p.act || p.act == "*")',
        FOUR,
        THREE,
    ),
    "stars in many columns": Shape(
        " && ".join(f'(r.{name} == p.{name} || p.{name} == "*")' for name in "uvwxy") + " && has(r.z, p.z)",
        (*[words("a b * *")] * 6, EFFECTS),
        (*[words("a a b") | ODD] * 5, LISTS),
        r="u, v, w, x, y, z",
        p="u, v, w, x, y, z, eft",
        rows_max=40,
    ),
    "stars and roles": Shape(
        " && ".join(f'(r.{name} == p.{name} || p.{name} == "*")' for name in "uvwx") + " && g(r.y, p.y)",
        (*[words("a b * *")] * 4, NAMES, EFFECTS),
        (*[words("a a b")] * 4, ASKED),
        r="u, v, w, x, y",
        p="u, v, w, x, y, eft",
        roles={"g": "_, _"},
        links=LINKS,
        rows_max=40,
    ),
    "superuser": Shape('r.sub == p.sub && r.obj == p.obj && r.act == p.act || r.sub == "b"', FOUR, THREE),
    "no effect column": Shape(
        "r.sub == p.sub && r.obj == p.obj", (STAR, STAR), (ASKED, ASKED), r="sub, obj", p="sub, obj"
    ),
    "constants": Shape('r.act == "a" && (True || r.sub == p.sub) && p.obj == "data"', FOUR, THREE),
    "negations": Shape("!(r.sub == p.sub) && !(r.obj == p.obj && r.act == p.act)", FOUR, THREE),
    "chains": Shape("r.sub == p.sub && 'a' <= r.act <= p.act", FOUR, THREE),
    "orders": Shape("r.sub >= p.sub && p.obj < r.obj", FOUR, THREE),
    "rbac": Shape("g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act", FOUR, THREE, roles={"g": "_, _"}, links=LINKS),
    "rbac with domains": Shape(
        "g(r.sub, p.sub, r.obj) && r.obj == p.obj && r.act == p.act",
        (NAMES, words("d1 d2 a b"), NAMES, EFFECTS),
        (ASKED, words("d1 d2 a d9") | ODD, ASKED),
        roles={"g": "_, _, _"},
        links=DOMAIN_LINKS,
    ),
    "rbac with the row's domain": Shape(
        "g(r.sub, p.sub, p.obj) && r.act == p.act",
        (NAMES, words("d1 d2 a b"), NAMES, EFFECTS),
        THREE,
        roles={"g": "_, _, _"},
        links=DOMAIN_LINKS,
    ),
    "resource roles": Shape(
        "g(r.sub, p.sub) && g2(r.obj, p.obj) && r.act == p.act",
        FOUR,
        THREE,
        roles={"g": "_, _", "g2": "_, _"},
        links=TWO_LINKS,
    ),
    "a role by name": Shape(
        'g(r.sub, "a") || g(r.obj, r.act) && r.act == p.act', FOUR, THREE, roles={"g": "_, _"}, links=LINKS
    ),
    "roles the other way": Shape("r.act == p.act && g(p.sub, r.sub)", FOUR, THREE, roles={"g": "_, _"}, links=LINKS),
    "explicit priority": Shape(
        "r.sub == p.sub && r.obj == p.obj",
        (words("1 2 10 20"), NAMES, NAMES, EFFECTS),
        (ASKED, ASKED),
        r="sub, obj",
        p="priority, sub, obj, eft",
    ),
    "subject priority": Shape(
        "g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act",
        FOUR,
        THREE,
        roles={"g": "_, _"},
        links=st.sampled_from(("g, a, b", "g, b, c", "g, a, c", "g, c, d", "g, b, d")),
        effects=(SUBJECT,),
    ),
    "objects": Shape("r.sub.name == r.obj.owner && r.act == p.act", FOUR, (OBJECTS, OBJECTS, ASKED)),
    "an attribute and a column": Shape(
        "r.act == p.act && r.sub.name == p.sub && r.sub.age >= 18", FOUR, (OBJECTS, ASKED, ASKED)
    ),
    "truths": Shape("r.sub.age && r.act == p.act || r.obj", FOUR, (OBJECTS, ASKED, ASKED)),
    "a truth at the end": Shape("r.act == p.act && r.obj", FOUR, THREE),
    "eval": Shape(
        "eval(p.sub) && r.act == p.act",
        (RULES, NAMES, NAMES, EFFECTS),
        (OBJECTS, OBJECTS, ASKED),
    ),
    "eval behind": Shape(
        "r.act == p.act && (p.obj == 'a' || eval(p.sub)) && eval(p.sub)",
        (RULES, NAMES, NAMES, EFFECTS),
        (OBJECTS, OBJECTS, ASKED),
    ),
    **{
        name: pattern_shape(name)
        for name in ("keyMatch", "keyMatch2", "keyMatch3", "keyMatch4", "keyMatch5", "regexMatch", "globMatch")
    },
    "patterns negated": Shape(
        "!keyMatch2(r.obj, p.obj) && (keyMatch(r.obj, p.obj) || regexMatch(r.act, '^[a-c]$'))",
        (NAMES, PATTERNS, NAMES, EFFECTS),
        (ASKED, PATHS | ODD, ASKED),
    ),
    "ipMatch": Shape(
        "ipMatch(r.sub, p.sub) && r.act == p.act", (NETWORKS, NAMES, NAMES, EFFECTS), (ADDRESSES, ASKED, ASKED)
    ),
    "keyGet": Shape(
        "keyGet(r.obj, p.obj) == r.act",
        (NAMES, words("/a/* /* /b /a/b*"), NAMES, EFFECTS),
        (ASKED, PATHS | ODD, words("b b/c /b 1/x a")),
    ),
    "in a list of the request": Shape("p.sub in r.sub && r.act == p.act", FOUR, (LISTS, ASKED, ASKED)),
    "in a list of the row": Shape(
        'r.sub in p.sub.split(";") && r.act not in ("a", "b")',
        (words("a;b b c;d;a *"), NAMES, NAMES, EFFECTS),
        THREE,
    ),
    "in a text": Shape("r.sub in p.obj", FOUR, THREE),
    "own functions": Shape(
        "same(r.sub, p.sub) && r.act == p.act",
        FOUR,
        THREE,
        functions={"same": Declared(same_start, pure=True)},
    ),
    "impure functions": Shape(
        "r.act == p.act && same(r.sub, p.sub)",
        FOUR,
        THREE,
        functions={"same": Declared(same_start, pure=False)},
    ),
    "arithmetic": Shape("r.sub + p.sub == 'ab' || r.act == p.act", FOUR, THREE),
    "a choice": Shape("(r.sub == p.sub if p.obj == 'a' else r.act == p.act)", FOUR, THREE),
    "published": Shape(
        "has(r.sub, p.sub) && during(r.act, p.act) && within(r.obj, p.obj)",
        (STAR, words("3+ 1-2 5 * nine"), words("* 2026-01-01/ /2026-01-01 nine"), EFFECTS),
        (LISTS, words("1 3 5 unclassified 9") | ODD, st.sampled_from((0, 1_767_225_600_000_000, -5)) | ODD),
    ),
}
PATTERN_SHAPES: dict[str, Shape] = {
    "pattern roles": Shape(
        "g(r.sub, p.sub) && g2(r.obj, p.obj) && r.act == p.act",
        (words("a b reader /a/:id"), words("pages /a/:id /b"), words("read write"), EFFECTS),
        (words("a b c"), words("/a/1 /a/2 /b /c pages"), words("read write")),
        roles={"g": "_, _", "g2": "_, _"},
        links=st.sampled_from(("g, a, reader", "g, b, a", "g2, /a/:id, pages", "g2, /b, pages", "g2, pages, all")),
        matching={"g2": operators.key_match2},
    ),
    "pattern domains": Shape(
        "g(r.sub, p.sub, r.obj) && r.act == p.act",
        (words("a b reader"), words("d1"), words("read write"), EFFECTS),
        (words("a b c"), words("d1 d2 x"), words("read write")),
        roles={"g": "_, _, _"},
        links=st.sampled_from(("g, a, reader, d1", "g, b, a, *", "g, b, reader, d2", "g, c, b, d*")),
        domain_matching={"g": operators.key_match},
    ),
    "patterns of roles": Shape(
        "g(r.sub, p.sub) && (r.obj == p.obj || g(r.sub, r.obj)) && r.act == p.act",
        (words("a role:a role:b reader"), words("x role:a"), words("read write"), EFFECTS),
        (words("a b c role:b"), words("x role:a role:c"), words("read write")),
        roles={"g": "_, _"},
        links=st.sampled_from(("g, a, role:*", "g, b, a", "g, role:*, reader", "g, c, role:b", "g, reader, role:a")),
        matching={"g": operators.key_match},
        rows_max=40,
    ),
    "pattern domains of rows": Shape(
        "g(r.sub, p.sub, p.obj) && r.act == p.act",
        (words("a b reader"), words("d1 d2 d3 x"), words("read write"), EFFECTS),
        (words("a b c"), words("d1 d2 x"), words("read write")),
        roles={"g": "_, _, _"},
        links=st.sampled_from(("g, a, reader, d*", "g, b, a, *", "g, b, reader, d2", "g, c, b, d*")),
        domain_matching={"g": operators.key_match},
        rows_max=40,
    ),
}


@st.composite
def policies(draw: st.DrawFn, shape: Shape, *, odd: bool = True, most: int | None = None) -> list[list[str]]:
    """Draw lines of a policy, now and then one with another number of values."""
    most = shape.rows_max if most is None else most
    lines = [["p", *row] for row in draw(st.lists(st.tuples(*shape.rows), min_size=1, max_size=most))]
    if shape.links is not None:
        lines += [link.split(", ") for link in draw(st.lists(shape.links, max_size=6))]
    if odd and draw(st.integers(0, 9)) == 0:
        lines.insert(draw(st.integers(0, len(lines))), ["p", *draw(st.tuples(*shape.rows))[:-1]])
    return lines


def requests(shape: Shape, lines: list[list[str]]) -> st.SearchStrategy[tuple[Any, ...]]:
    """Draw requests of which every second is about what some row says, so that rows match in earnest."""
    columns = [name.strip() for name in shape.p.split(",")]
    tokens = [name.strip() for name in shape.r.split(",")]
    rows = [line[1:] for line in lines if line[0] == "p" and len(line) == len(columns) + 1]

    def about(row: list[str]) -> st.SearchStrategy[tuple[Any, ...]]:
        cells = dict(zip(columns, row, strict=True))
        pairs = list(zip(tokens, shape.request, strict=True))
        told = [st.just(cells[name]) if name in cells else asked for name, asked in pairs]
        return st.tuples(*[mostly(said, asked) for said, asked in zip(told, shape.request, strict=True)])

    drawn = st.tuples(*shape.request)
    # Not `one_of`, which would flatten its parts and give each of their many branches the same weight.
    return (
        st.booleans().flatmap(lambda told: st.sampled_from(rows).flatmap(about) if told else drawn) if rows else drawn
    )


def mostly(usual: st.SearchStrategy[Any], other: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Draw the usual in seven cases of eight."""
    return st.integers(0, 7).flatmap(lambda number: usual if number else other)


def written(lines: list[list[str]]) -> StringAdapter:
    """Return an adapter that gives these lines."""
    return StringAdapter("\n".join(", ".join(line) for line in lines))


class Lines(StringAdapter):  # type: ignore[misc]  # casbin has no types
    """An adapter that gives cells as they are, commas and all."""

    def __init__(self, lines: list[list[str]]) -> None:
        super().__init__("")
        self._lines = lines

    def load_policy(self, model: Any) -> None:
        """Append each line to the rows of its kind."""
        for kind, *row in self._lines:
            model[kind[0]][kind].policy.append(list(row))


def compiled(shape: Shape, effect: str, lines: list[list[str]]) -> CompiledEnforcer:
    """Return the compiled enforcer of a model and its lines."""
    return CompiledEnforcer(
        read_model(shape.text(effect), "model"),
        Lines(lines),
        functions=shape.functions,
        matching=shape.matching,
        domain_matching=shape.domain_matching,
    )


def stock(shape: Shape, effect: str, lines: list[list[str]]) -> Any:
    """Return the stock enforcer of a model and its lines."""
    enforcer = stock_enforcer(read_model(shape.text(effect), "model"), Lines(lines))
    enforcer.add_function("keyGet", operators.key_get)
    for name, declared in shape.functions.items():
        enforcer.add_function(name, declared.function)
    for key, function in shape.matching.items():
        enforcer.add_named_matching_func(key, function)
    for key, function in shape.domain_matching.items():
        enforcer.add_named_domain_matching_func(key, function)
    if shape.matching or shape.domain_matching:
        enforcer.build_role_links()
    return enforcer


def answer(enforcer: Any, request: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return an enforcer's answer and row, or the kind of error and its text."""
    try:
        allowed, row = enforcer.enforce_ex(*request)
    except Exception as error:  # noqa: BLE001  whatever Casbin raises is what is compared
        return type(error), str(error)
    return allowed, list(row)
