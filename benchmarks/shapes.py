"""The shapes of policy that are measured: a Casbin model, as many lines as asked for, and requests with known answers.

Rules of the room: everything is arithmetic on a number, so two runs ask the same questions of the same policies. Of the
requests, those with an even number are allowed and those with an odd number are denied, each by a rule's near miss. A
*fresh* request carries at least one value that no request before it had. The exception is an allowed request where the
policy leaves nothing open (no star, pattern or attribute): its values must stand in the policy, so they are those of a
line not asked yet, and in a small policy they come round again.
Left to others: what Cedar calls the same thing (`cedar_text`), the engines (`enforcers`), timing (`side_by_side`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

DAYS = 365
STRIDE = 7_919  # a prime: numbers in turn reach lines far apart, and every line before any comes again
METHODS = ("^GET$", "^(GET|POST)$", "^(GET|POST|PUT)$")
Row = tuple[str, ...]
Request = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Person:
    """A request's subject with attributes, as Casbin's ABAC reads it."""

    Name: str
    Age: int


@dataclass(frozen=True, slots=True)
class Shape:
    """A kind of policy. `request(size, number, fresh)` is allowed when `number` is even; `fresh` is "" or unique."""

    name: str
    title: str
    model: str
    rows: Callable[[int], list[Row]]
    request: Callable[[int, int, str], Request]
    pattern: bool = False

    def repeated(self, size: int, pool: int = 16) -> list[Request]:
        """Return the small pool of requests that is asked again and again, allowed and denied in turn."""
        return [self.request(size, number, "") for number in range(pool)]

    def first_seen(self, size: int, start: int = 0) -> Iterator[Request]:
        """Return requests without end, allowed and denied in turn, each with values not seen before."""
        return (self.request(size, number, f"{number:x}x{number * STRIDE:x}") for number in count(start))


def _model(request: str, policy: str, matcher: str, roles: str = "") -> str:
    role = f"\n[role_definition]\ng = {roles}\n" if roles else ""
    return (
        f"[request_definition]\nr = {request}\n\n[policy_definition]\np = {policy}\n{role}\n"
        f"[policy_effect]\ne = some(where (p.eft == allow))\n\n[matchers]\nm = {matcher}\n"
    )


# A table of six columns. No row leaves both the object and the action open, so a strange pair of them meets none; no
# row leaves both the tenant and the object open, so that few rows match a request, however many rows there are.


def _table_row(at: int) -> Row:
    any_object = at % 7 == 0
    return (
        "p",
        f"user{at}" if at % 3 == 0 else "*",
        f"role{at % 20}" if at % 4 else "*",
        "*" if at % 5 == 0 and not any_object else f"tenant{at // 10}",
        f"country{at % 50}" if at % 6 >= 3 else "*",
        "*" if any_object else f"model{at // 4}",
        "*" if at % 11 == 0 and not any_object else f"act{at % 8}",
    )


def _table_request(size: int, number: int, fresh: str) -> Request:
    at = number // 2 * STRIDE % size
    at -= at % 3 == 0 and at > 0  # such a row leaves the subject open, so a fresh one is allowed
    if at % 3 == 0:
        at = 1
    _, *columns = _table_row(at)
    stranger = fresh or f"any{number}"
    values = [f"{stranger}-{place}" if value == "*" else value for place, value in enumerate(columns)]
    if number % 4 == 3 and fresh:
        return tuple(f"{stranger}-{place}" for place in range(6))
    if number % 2:
        values[4:] = [f"{stranger}-object", f"{stranger}-action"]
    return tuple(values)


# The layout of Casbin's own published benchmark, re-created: ten users for each role, ten roles for each object, and
# both `p` and `g` lines counted as rules.


def _roles(line: Callable[[int], Row], link: Callable[[int, int], Row], size: int) -> list[Row]:
    def lines() -> Iterator[Row]:
        for role in count():
            yield line(role)
            yield from (link(user, role) for user in range(10 * role, 10 * role + 10))

    return list(islice(lines(), size))


def _users(size: int) -> int:
    return size - -(-size // 11)


def _rbac_request(size: int, number: int, fresh: str) -> Request:
    user = number // 2 * STRIDE % _users(size)
    thing = f"data{user // 100}"
    if number % 2 == 0:
        return f"user{user}", thing, "read"
    if number % 4 == 1:
        return (f"user-{fresh}", thing, "read") if fresh else (f"user{user}", thing, "write")
    return f"user{user}", f"other-{fresh or number}", "read"


def _domains_request(size: int, number: int, fresh: str) -> Request:
    user = number // 2 * STRIDE % _users(size)
    role = user // 10
    domain, thing = f"domain{role // 10}", f"data{role}"
    if number % 2 == 0:
        return f"user{user}", domain, thing, "read"
    if number % 4 == 1:
        who = f"user-{fresh}" if fresh else f"user{user}"
        return (who, domain, thing, "read") if fresh else (who, f"domain{role // 10 + 1}", thing, "read")
    return f"user{user}", f"elsewhere-{fresh}" if fresh else domain, thing, "write"


def _acl_request(size: int, number: int, fresh: str) -> Request:
    user = number // 2 * STRIDE % size
    thing = f"data{user // 10}"
    if number % 2 == 0:
        return f"user{user}", thing, "read"
    if number % 4 == 1:
        return f"user{user}", f"other-{fresh or number}", "read"
    return (f"user-{fresh}", thing, "read") if fresh else (f"user{user}", thing, "write")


# Ages are in days, so that there are enough of them for an age never asked before; nobody is older than 100 years.


def _ages(at: int) -> tuple[int, int]:
    youngest = at % 50
    return youngest * DAYS, (youngest + 10 + at // 50 % 20) * DAYS


def _abac_row(at: int) -> Row:
    low, high = _ages(at)
    return "p", f"r.sub.Age > {low} && r.sub.Age < {high}", f"data{at // 5}", "read"


def _abac_request(size: int, number: int, fresh: str) -> Request:
    at = number // 2 * STRIDE % size
    low, high = _ages(at)
    name, thing = f"name-{fresh or number}", f"data{at // 5}"
    age = low + 1 + number % (high - low - 1) if number % 2 == 0 or number % 4 == 3 else 100 * DAYS + number
    if number % 4 == 3:
        thing = f"other-{fresh or number}"
    person: Any = Person(name, age) if number % 8 < 4 else {"Name": name, "Age": age}
    return person, thing, "read"


def _paths_row(at: int) -> Row:
    return "p", f"user{at // 10}", f"/user{at // 10}/folder{at % 10}/*", METHODS[at % 3]


def _paths_request(size: int, number: int, fresh: str) -> Request:
    at = number // 2 * STRIDE % size
    user, file = at // 10, fresh or f"file{number}"
    if number % 4 == 1:
        return f"user{user}", f"/user{user}/elsewhere/{file}", "GET"
    path = f"/user{user}/folder{at % 10}/{file}"
    if number % 2 and not fresh:
        return f"user{user}", path, "DELETE"
    return f"stranger-{fresh}" if number % 2 else f"user{user}", path, "GET"


def _named_row(at: int) -> Row:
    return "p", f"user{at // 10}", f"/users/{at // 10}/folders/:folder/part{at % 10}", METHODS[at % 3]


def _named_request(size: int, number: int, fresh: str) -> Request:
    at = number // 2 * STRIDE % size
    user, folder = at // 10, fresh or f"folder{number}"
    deeper = "/deeper" if number % 4 == 1 else ""
    path = f"/users/{user}/folders/{folder}{deeper}/part{at % 10}"
    return f"user{user}", path, "DELETE" if number % 4 == 3 else "GET"


def _counted(row: Callable[[int], Row]) -> Callable[[int], list[Row]]:
    return lambda size: [row(at) for at in range(size)]


_TABLE = ("sub", "role", "tenant", "country", "obj", "act")
_PATHS = "r.sub == p.sub && {}(r.obj, p.obj) && regexMatch(r.act, p.act)"

SHAPES = (
    Shape(
        "table",
        "table: 6 columns, star or equal",
        _model(
            ", ".join(_TABLE),
            ", ".join(_TABLE),
            " && ".join(f'(r.{column} == p.{column} || p.{column} == "*")' for column in _TABLE),
        ),
        _counted(_table_row),
        _table_request,
    ),
    Shape(
        "rbac",
        "RBAC",
        _model("sub, obj, act", "sub, obj, act", "g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act", "_, _"),
        lambda size: _roles(
            lambda role: ("p", f"role{role}", f"data{role // 10}", "read"),
            lambda user, role: ("g", f"user{user}", f"role{role}"),
            size,
        ),
        _rbac_request,
    ),
    Shape(
        "rbac-domains",
        "RBAC with domains",
        _model(
            "sub, dom, obj, act",
            "sub, dom, obj, act",
            "g(r.sub, p.sub, r.dom) && r.dom == p.dom && r.obj == p.obj && r.act == p.act",
            "_, _, _",
        ),
        lambda size: _roles(
            lambda role: ("p", f"role{role}", f"domain{role // 10}", f"data{role}", "read"),
            lambda user, role: ("g", f"user{user}", f"role{role}", f"domain{role // 10}"),
            size,
        ),
        _domains_request,
    ),
    Shape(
        "acl",
        "ACL: one subject each",
        _model("sub, obj, act", "sub, obj, act", "r.sub == p.sub && r.obj == p.obj && r.act == p.act"),
        _counted(lambda at: ("p", f"user{at}", f"data{at // 10}", "read")),
        _acl_request,
    ),
    Shape(
        "abac-eval",
        "ABAC: eval(p.sub_rule)",
        _model("sub, obj, act", "sub_rule, obj, act", "eval(p.sub_rule) && r.obj == p.obj && r.act == p.act"),
        _counted(_abac_row),
        _abac_request,
        pattern=True,
    ),
    Shape(
        "keymatch",
        "keyMatch and regexMatch",
        _model("sub, obj, act", "sub, obj, act", _PATHS.format("keyMatch")),
        _counted(_paths_row),
        _paths_request,
        pattern=True,
    ),
    Shape(
        "keymatch2",
        "keyMatch2 and regexMatch",
        _model("sub, obj, act", "sub, obj, act", _PATHS.format("keyMatch2")),
        _counted(_named_row),
        _named_request,
        pattern=True,
    ),
)


def named(name: str) -> Shape:
    """Return the shape of that name."""
    return next(shape for shape in SHAPES if shape.name == name)
