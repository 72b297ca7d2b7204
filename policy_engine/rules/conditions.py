"""What a policy column may hold: one condition of one rule, checked against facets and tables.

Rules of the room: the matcher says which function reads a column and with which token; the token's vocabulary, the
tiers, the tables' groups and the form of an interval say what may stand there. Nothing is corrected.
Left to others: the shape of a rule (`rules.packs`), evaluating the condition (`rules.compile`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from policy_engine.core.release import Token
from policy_engine.errors import LoadRefused
from policy_engine.rules.facets import PERSONAL, PERSONAL_UNKNOWNS, Facets
from policy_engine.rules.functions import ANY, SEPARATOR, parse_interval, parse_tiers
from policy_engine.rules.groups import CompiledGroup, compile_group
from policy_engine.rules.matcher import Conjunct
from policy_engine.rules.tables import Tables

BESIDE: Final = {"known": "requires", "during": "valid", "unlifted": "lift"}
"""Functions whose columns a rule fills through a key of its own, beside `when`."""
Where = Callable[[], str]
"""Says in which file and line a condition stands; asked only where something is refused or first seen."""
_VALUE = re.compile(r"[A-Za-z0-9/][A-Za-z0-9 .:_+/@-]*")
"""What Casbin reads back as it was written. An interval without a beginning begins with its slash."""


class Named:
    """The groups and bounds that the conditions of one pack name, and the conditions found good in it."""

    __slots__ = ("bounds", "good", "groups")

    def __init__(self) -> None:
        self.groups: dict[str, CompiledGroup] = {}
        self.bounds: set[int] = set()
        self.good: set[tuple[str, str]] = set()


class Columns:
    """The policy columns of a model, with the function and token that read each; collects groups and bounds named."""

    def __init__(self, conjuncts: Iterable[Conjunct], columns: Iterable[str], facets: Facets, tables: Tables) -> None:
        self._tables = tables
        self._tokens: dict[str, Token] = {}
        self._functions: dict[str, str] = {}
        for part in conjuncts:
            self._tokens[part.column] = facets.token(part.tokens[0])
            self._functions[part.column] = part.function
        self.names = tuple(columns)
        self.groups: dict[str, CompiledGroup] = {}
        self.bounds: set[int] = set()
        self._named = Named()

    def collect(self) -> Named:
        """Return what will hold all that is named from now on, until this is called again."""
        self._named = Named()
        return self._named

    def take(self, groups: Mapping[str, CompiledGroup], bounds: Iterable[int]) -> None:
        """Take over what conditions name that were checked before, against the same facets and tables."""
        self.groups.update(groups)
        self.bounds.update(bounds)

    def read_by(self, function: str) -> str | None:
        """Return the column that a function reads, if the model has one."""
        return next((column for column, found in self._functions.items() if found == function), None)

    def source(self, column: str) -> str:
        """Return the source of the token that a column is compared with."""
        return self._tokens[column].source

    def group(self, text: str, where: Where) -> None:
        """Compile a group expression that a rule or a derivation names. Raises `LoadRefused`."""
        if text not in self.groups:
            self.groups[text] = compile_group(text, self._tables, where())
        self._named.groups[text] = self.groups[text]

    def check_name(self, column: str, where: Where) -> None:
        """Refuse a condition that no column of the model carries."""
        if "birth" in column:
            raise LoadRefused("a birth country decides nothing; remove the condition", where=where())
        function = self._functions.get(column)
        if function in BESIDE:
            raise LoadRefused(f"`{column}` stands beside `when`, as `{BESIDE[function]} = ...`", where=where())
        if function is None:
            known = ", ".join(name for name, found in self._functions.items() if found not in BESIDE)
            raise LoadRefused(f"`{column}` is no condition that the model has; use one of {known}", where=where())

    def check(self, column: str, value: str, where: Where) -> None:
        """Refuse a value that can never match, or that the column's function cannot read."""
        if (column, value) in self._named.good:
            return
        if value == ANY:
            raise LoadRefused(f'leave `{column}` out instead of writing "*"', where=where())
        if not _VALUE.fullmatch(value) or value != value.rstrip():
            message = (
                f"a value of `{column}` is letters, digits and . : _ + / @ -; no comma, bracket, quote or outer space"
            )
            raise LoadRefused(message, where=where())
        self._check_sense(column, value, where)
        self._named.good.add((column, value))

    def _check_sense(self, column: str, value: str, where: Where) -> None:
        function = self._functions[column]
        if function in ("grouped", "outside"):
            self.group(value, where)
        elif function == "within":
            self._tiers(value, where)
        elif function == "during":
            self._interval(value, where)
        else:
            self._check_word(column, value, where)

    def _check_word(self, column: str, value: str, where: Where) -> None:
        token = self._tokens[column]
        if token.values is not None and value not in token.values:
            words = ", ".join(sorted(token.values))
            raise LoadRefused(f"`{value}` is no value of `{token.name}`; use one of {words}", where=where())

    def personal(self, column: str, value: str) -> bool:
        """Return whether a condition tells of nationality."""
        source = self._tokens[column].source
        if source == "derive:unknown":
            return not PERSONAL_UNKNOWNS.isdisjoint(value.split(SEPARATOR))
        return source in PERSONAL

    @staticmethod
    def _tiers(value: str, where: Where) -> None:
        try:
            parse_tiers(value)
        except ValueError as error:
            raise LoadRefused(str(error), where=where()) from None

    def _interval(self, value: str, where: Where) -> None:
        try:
            found = parse_interval(value)
        except ValueError as error:
            raise LoadRefused(f"{error}; correct the interval", where=where()) from None
        self.bounds.update(found)
        self._named.bounds.update(found)
