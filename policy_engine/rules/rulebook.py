"""A policy ready to be compiled: its matcher parsed, its functions gathered, its links of roles as graphs.

Rules of the room: functions are Casbin's (made safe), the published ones, the caller's own with declared purity, and
the role definitions, in that order, a later one in the place of an earlier. Nothing here depends on rows.
Left to others: rows and groups (`rules.rows`), pattern roles (`rules.patternroles`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from casbin import util

from policy_engine.core.roles import NO_DOMAIN, Roles
from policy_engine.errors import LoadRefused
from policy_engine.limits import Limits
from policy_engine.rules.evaluation import Evaluation, role_function
from policy_engine.rules.expressions import Names, parse
from policy_engine.rules.functions import Declared, published
from policy_engine.rules.patternroles import PatternRoles
from policy_engine.rules.policy import Policy, load
from policy_engine.rules.remembered import Remembered
from policy_engine.rules.rowgroups import Layout
from policy_engine.rules.safefunctions import SAFE_FUNCTIONS
from policy_engine.rules.shapes import Shapes

Matching = Callable[[Any, Any], bool]


@dataclass(frozen=True, slots=True)
class Rulebook:
    """A policy with everything that judging its rows needs."""

    policy: Policy
    declared: Mapping[str, Declared]
    matching: Mapping[str, tuple[Matching | None, Matching | None]]
    names: Names
    roles: Mapping[str, Roles]
    evaluation: Evaluation
    layout: Layout | None
    shapes: Shapes | None
    remembered: Remembered
    limits: Limits

    @classmethod
    def read(
        cls,
        model: Any,
        source: Any,
        declared: Mapping[str, Declared],
        matching: Mapping[str, Matching],
        domain_matching: Mapping[str, Matching],
        limits: Limits,
    ) -> Rulebook:
        """Return the rulebook of a model and policy. Raises `LoadRefused`, and what Casbin raises while loading."""
        policy = load(model, source, limits)
        for name, function in declared.items():
            if not isinstance(function, Declared):
                message = f"the purity of `{name}` is not declared; pass Declared({name}, pure=True) or pure=False"
                raise LoadRefused(message, where=policy.where)
        _check_definitions({**matching, **domain_matching}, policy)
        patterns = {key: (matching.get(key), domain_matching.get(key)) for key in {**matching, **domain_matching}}
        roles = {key: _graph(policy, key, patterns) for key in policy.places}
        functions = _functions(policy, declared, roles)
        names = Names(
            {name: at for at, name in enumerate(policy.tokens)},
            {name: at for at, name in enumerate(policy.columns)},
            functions,
            frozenset(declared) - policy.places.keys(),
        )
        evaluation = _evaluation(policy, functions)
        try:
            shapes = Shapes(policy.matcher, names, policy.where) if evaluation.expands else None
            layout = None
            if shapes is None:
                layout = Layout(parse(policy.matcher, names, policy.where), names, policy.places)
        except LoadRefused as refused:
            raise LoadRefused(refused.message, where=policy.matcher_place) from None
        return cls(
            policy,
            declared,
            patterns,
            names,
            roles,
            evaluation,
            layout,
            shapes,
            Remembered(limits.remembered_bytes),
            limits,
        )

    def with_lines(self, lines: dict[str, list[Any]], roles: Mapping[str, Roles]) -> Rulebook:
        """Return the rulebook under other lines of role definitions, and the graphs that they make."""
        policy = replace(self.policy, lines=lines)
        functions = _functions(policy, self.declared, roles)
        names = replace(self.names, functions=functions)
        evaluation, remembered = _evaluation(policy, functions), Remembered(self.limits.remembered_bytes)
        return replace(self, policy=policy, roles=roles, names=names, evaluation=evaluation, remembered=remembered)

    def graph(self, key: str, lines: dict[str, list[Any]]) -> Roles:
        """Return the graph that lines of a role definition make, from the start."""
        return _graph(replace(self.policy, lines=lines), key, self.matching)


def _check_definitions(given: Mapping[str, Matching], policy: Policy) -> None:
    for key in given:
        if key not in policy.places:
            message = f"there is no role definition `{key}` to match patterns for; define it or correct the name"
            raise LoadRefused(message, where=policy.where)


def _graph(policy: Policy, key: str, patterns: Mapping[str, tuple[Matching | None, Matching | None]]) -> Roles:
    names, domains = patterns.get(key, (None, None))
    links = policy.links(key)
    if names is None and domains is None:
        return Roles(links)
    return PatternRoles(links, names, domains, with_domains=policy.places[key] > 2)


def _functions(policy: Policy, own: Mapping[str, Declared], roles: Mapping[str, Roles]) -> dict[str, Declared]:
    def has_link(code: str, group: str, domain: str) -> bool:
        return group in roles["g"].among(code, domain if policy.places["g"] > 2 else NO_DOMAIN, (group,))

    found = {name: Declared(function, pure=True) for name, function in SAFE_FUNCTIONS.items()}
    found["timeMatch"] = Declared(util.time_match_func, pure=False)  # refused in matchers; a row's text may hold it
    found |= {name: Declared(function, pure=True) for name, function in published(has_link).items()}
    found |= own
    found |= {
        key: Declared(role_function(roles[key], domains=places > 2), pure=True) for key, places in policy.places.items()
    }
    return found


def _evaluation(policy: Policy, functions: Mapping[str, Declared]) -> Evaluation:
    callables = {name: declared.function for name, declared in functions.items()}
    return Evaluation(policy.matcher, policy.tokens, policy.columns, callables)
