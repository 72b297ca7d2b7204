"""The same policies and requests in Cedar's words, one `permit` for each Casbin `p` line.

Rules of the room: subjects, roles, actions and objects are entities; everything else a rule reads is context. A star is
a condition left out. What a Casbin pattern leaves open and what it does not is kept: where `keyMatch2` names one path
segment, Cedar's `like` (whose star crosses slashes) is narrowed by two more conditions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from benchmarks.shapes import Request, Row


def policies(shape: str, rows: Iterable[Row]) -> str:
    """Return the Cedar policies that mean what the rows mean under the shape's matcher."""
    permit = _PERMITS[shape]
    return "\n".join(permit(*row[1:]) for row in rows if row[0] == "p")


def entities(rows: Iterable[Row]) -> str:
    """Return the subjects and the roles they are in, as Cedar's JSON."""
    parents: dict[str, list[dict[str, str]]] = {}
    for kind, *columns in rows:
        if kind == "g":
            user, role = columns[0], "/".join(reversed(columns[1:]))
            parents.setdefault(user, []).append({"type": "Role", "id": role})
    return json.dumps(
        [{"uid": {"type": "User", "id": user}, "attrs": {}, "parents": found} for user, found in parents.items()]
    )


def request(shape: str, values: Request) -> dict[str, str]:
    """Return the request that asks Cedar what the values ask Casbin; the context is text already."""
    subject, *middle, thing, action = values
    context: dict[str, Any] = {}
    if shape == "table":
        context = dict(zip(("role", "tenant", "country"), middle, strict=True))
    elif shape == "rbac-domains":
        context = {"domain": middle[0]}
    elif shape == "abac-eval":
        name, age = (subject["Name"], subject["Age"]) if isinstance(subject, dict) else (subject.Name, subject.Age)
        subject, context = name, {"Age": age}
    elif shape in ("keymatch", "keymatch2"):
        thing, context = "path", {"path": thing}
    return {
        "principal": f'User::"{subject}"',
        "action": f'Action::"{action}"',
        "resource": f'Thing::"{thing}"',
        "context": json.dumps(context),
    }


def _permit(principal: str, action: str, resource: str, *conditions: str) -> str:
    when = f" when {{ {' && '.join(conditions)} }}" if conditions else ""
    return f"permit({principal}, {action}, {resource}){when};"


def _is(slot: str, kind: str, value: str) -> str:
    return slot if value == "*" else f'{slot} == {kind}::"{value}"'


def _table(sub: str, role: str, tenant: str, country: str, thing: str, act: str) -> str:
    named = (("role", role), ("tenant", tenant), ("country", country))
    conditions = [f'context.{name} == "{value}"' for name, value in named if value != "*"]
    who, what, on = _is("principal", "User", sub), _is("action", "Action", act), _is("resource", "Thing", thing)
    return _permit(who, what, on, *conditions)


def _rbac(role: str, thing: str, act: str) -> str:
    return _permit(f'principal in Role::"{role}"', _is("action", "Action", act), _is("resource", "Thing", thing))


def _domains(role: str, domain: str, thing: str, act: str) -> str:
    who = f'principal in Role::"{domain}/{role}"'
    what, on = _is("action", "Action", act), _is("resource", "Thing", thing)
    return _permit(who, what, on, f'context.domain == "{domain}"')


def _acl(sub: str, thing: str, act: str) -> str:
    return _permit(_is("principal", "User", sub), _is("action", "Action", act), _is("resource", "Thing", thing))


def _abac(rule: str, thing: str, act: str) -> str:
    what, on = _is("action", "Action", act), _is("resource", "Thing", thing)
    return _permit("principal", what, on, rule.replace("r.sub.", "context."))


def _actions(methods: str) -> str:
    names = methods.strip("^$()").split("|")
    return "action in [" + ", ".join(f'Action::"{name}"' for name in names) + "]"


def _paths(sub: str, pattern: str, methods: str) -> str:
    return _permit(_is("principal", "User", sub), _actions(methods), "resource", f'context.path like "{pattern}"')


def _named(sub: str, pattern: str, methods: str) -> str:
    before, after = pattern.split(":folder")
    conditions = (
        f'context.path like "{before}*{after}"',
        f'!(context.path like "{before}*/*{after}")',
        f'context.path != "{before}{after}"',
    )
    return _permit(_is("principal", "User", sub), _actions(methods), "resource", *conditions)


_PERMITS: dict[str, Callable[..., str]] = {
    "table": _table,
    "rbac": _rbac,
    "rbac-domains": _domains,
    "acl": _acl,
    "abac-eval": _abac,
    "keymatch": _paths,
    "keymatch2": _named,
}
