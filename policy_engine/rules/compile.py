"""From a Casbin model with its lines to the compiled index: each conjunct of the matcher becomes an inverted term.

Rules of the room: the lines of the model are the only input, so that stock Casbin on the same lines must agree. Role
links are followed as Casbin follows them (a name has its own role; at most nine steps). A conjunct that no line
conditions is left out. Left to others: the terms themselves (`core.index`), lifting (`core.authorizer`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from policy_engine.core.index import Between, Equal, Index, Linked, NoneOf, OneOf, Role, Term
from policy_engine.core.instants import ENDLESS
from policy_engine.errors import LoadRefused
from policy_engine.rules.functions import ANY, NO_LIFT, TIER_WORDS, parse_interval, parse_names, parse_tiers
from policy_engine.rules.matcher import (
    EQUAL,
    EQUAL_OR_ANY,
    Conjunct,
    policy_columns,
    request_tokens,
    split_matcher,
)

ROLE_STEPS_COUNT = 9
"""Casbin's role manager looks ten levels deep, the name itself being the first."""


def compile_index(
    model: Any, where: str, *, without: Iterable[str] = (), editions: Iterable[frozenset[str]] = ()
) -> Index:
    """Return the index over a model's `p` lines, leaving out conjuncts of the functions named in `without`.

    `editions` are the sets of domains that requests will name. Raises `LoadRefused` for a matcher or a line that
    cannot be compiled.
    """
    lines: Sequence[Sequence[str]] = model["p"]["p"].policy
    columns = policy_columns(model)
    for number, line in enumerate(lines):
        if len(line) != len(columns):
            message = f"policy line {number + 1} has {len(line)} values where `p` defines {len(columns)}"
            raise LoadRefused(f"{message}; correct its arity", where=where)
    skipped = frozenset(without)
    builder = _Builder(model, lines, columns, tuple(editions), where)
    conjuncts = (part for part in split_matcher(model, where) if part.function not in skipped)
    terms = (builder.term(part) for part in conjuncts)
    return Index((term for term in terms if term is not None), len(lines))


class _Builder:
    """Builds the term of each conjunct over the same lines."""

    def __init__(
        self,
        model: Any,
        lines: Sequence[Sequence[str]],
        columns: tuple[str, ...],
        editions: tuple[frozenset[str], ...],
        where: str,
    ) -> None:
        self._model = model
        self._lines = lines
        self._columns = columns
        self._tokens = request_tokens(model)
        self._editions = editions
        self._where = where

    def term(self, part: Conjunct) -> Term | None:
        """Return the term, or `None` where no line has a condition."""
        written = self._column(part.column)
        positions = [self._tokens.index(token) for token in part.tokens]
        first = positions[0]
        if part.function == EQUAL:
            return Equal(first, [frozenset((value,)) for value in written])
        if part.function in (self._model["g"] or {}):
            return self._role(part, written, positions)
        if part.function == EQUAL_OR_ANY:
            if all(value == ANY for value in written):
                return None
            return Equal(first, [None if value == ANY else frozenset((value,)) for value in written])
        links = lambda wanted: _links(self._model, "g", wanted)  # noqa: E731  asked for by two functions of seven
        try:
            return published_term(part.function, positions, written, links, self._editions)
        except ValueError as error:
            place = next(at for at, value in enumerate(written) if not _readable(part.function, value))
            raise LoadRefused(f"policy line {place + 1}: {error}", where=self._where) from None

    def _role(self, part: Conjunct, written: Sequence[str], positions: list[int]) -> Role:
        domains: int | Sequence[str] | None = None
        if len(positions) == 2:
            domains = positions[1]
        elif part.domain_column is not None:
            domains = self._column(part.domain_column)
        links = _links(self._model, part.function, set(written))
        members: dict[str, list[tuple[str, str]]] = {}
        for domain, groups in links.items():
            for group, names in groups.items():
                members.setdefault(group, []).extend((name, domain) for name in names)
        return Role(positions[0], written, lambda role: members.get(role, ()), domains)

    def _column(self, name: str) -> list[str]:
        place = self._columns.index(name)
        return [line[place] for line in self._lines]


def published_term(
    function: str,
    positions: Sequence[int],
    written: Sequence[str],
    links: Callable[[set[str]], Mapping[str, Mapping[str, frozenset[str]]]],
    editions: Iterable[frozenset[str]] = (),
) -> Term | None:
    """Return the term of a published function over a column as it is written, `None` where no row has a condition.

    `links(groups)` gives domain -> group -> members. Raises `ValueError` for a cell that the function cannot read.
    """
    first = positions[0]
    if function == "unlifted":
        refused = [frozenset(() if key == NO_LIFT else (key,)) for key in written]
        return NoneOf(first, refused) if any(refused) else None
    if all(value == ANY for value in written):
        return None
    if function == "has":
        return OneOf(first, [None if value == ANY else frozenset((value,)) for value in written])
    if function == "within":
        return OneOf(first, [None if value == ANY else parse_tiers(value) for value in written], TIER_WORDS)
    if function == "known":
        return NoneOf(first, [frozenset() if value == ANY else parse_names(value) for value in written])
    if function == "during":
        whole = (-ENDLESS, ENDLESS)
        return Between(first, [whole if value == ANY else parse_interval(value) for value in written])
    groups = [None if value == ANY else value for value in written]
    members = links({group for group in groups if group is not None})
    return Linked(first, positions[1], groups, members, expected=editions, outside=function == "outside")


def _readable(function: str, value: str) -> bool:
    try:
        published_term(function, (0, 0), (value,), lambda wanted: {})
    except ValueError:
        return False
    return True


def _links(model: Any, key: str, wanted: set[str]) -> Mapping[str, Mapping[str, frozenset[str]]]:
    """Return domain -> role -> every name linked to it, for the wanted roles; the domain is empty where none is."""
    places = model["g"][key].value.count("_")
    users: dict[str, dict[str, list[str]]] = {}
    for line in model["g"][key].policy:
        domain = line[2] if places == 3 else ""
        users.setdefault(domain, {}).setdefault(line[1], []).append(line[0])
    return {domain: {role: _reach(below, role) for role in wanted & below.keys()} for domain, below in users.items()}


def _reach(below: Mapping[str, Sequence[str]], role: str) -> frozenset[str]:
    reached = {role}
    edge = {role}
    for _ in range(ROLE_STEPS_COUNT):
        edge = {user for name in edge for user in below.get(name, ())} - reached
        if not edge:
            break
        reached |= edge
    return frozenset(reached)
