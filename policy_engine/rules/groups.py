"""Set expressions over country groups: `D:5 + MO + E:1 + E:2`, `D:1 + D:4 - A:5 - A:6`.

Rules of the room: read left to right; names and operators stand with one space between them; names are groups of one
table, or codes. Evaluated once, at load, for each edition of the table; each distinct expression becomes one group,
named by its text. An expression that holds nothing in any edition is refused.
Left to others: which expressions there are (`rules.packs`), asking them (`core.index`, Casbin's `g`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from policy_engine.errors import LoadRefused
from policy_engine.rules.tables import Tables

_NAME = r"[A-Za-z][A-Za-z0-9:_]*(?:-[A-Z0-9]{1,3})?"
_EXPRESSION = re.compile(rf"{_NAME}(?: [+-] {_NAME})*")


@dataclass(frozen=True, slots=True)
class CompiledGroup:
    """One expression: the table it belongs to, and its members at each of the table's editions."""

    text: str
    table: str
    editions: tuple[frozenset[str], ...]


def compile_group(text: str, tables: Tables, where: str) -> CompiledGroup:
    """Return the members that an expression has in each edition. Raises `LoadRefused` with what is wrong in it."""
    if not _EXPRESSION.fullmatch(text):
        message = 'this is no group expression; write groups and codes joined by " + " and " - ", such as "D:5 + MO"'
        raise LoadRefused(message, where=where)
    words = text.split(" ")
    names = words[0::2]
    table = _table_of(names, tables, where)
    editions: list[frozenset[str]] = []
    for members in tables.groups[table].members:
        found: frozenset[str] = frozenset()
        for operator, name in zip(("+", *words[1::2]), names, strict=True):
            codes = members.get(name, frozenset()) if name not in tables.codes else frozenset((name,))
            found = found | codes if operator == "+" else found - codes
        editions.append(found)
    if not any(editions):
        raise LoadRefused(f"the group `{text}` is an empty set in every edition; correct it", where=where)
    return CompiledGroup(text, table, tuple(editions))


def group_lines(groups: Mapping[str, CompiledGroup], tables: Tables) -> list[tuple[str, str, str]]:
    """Return the lines `g, member, group, edition` of all groups, sorted."""
    return sorted(
        (code, group.text, tables.groups[group.table].domain(edition))
        for group in groups.values()
        for edition, codes in enumerate(group.editions)
        for code in codes
    )


def _table_of(names: list[str], tables: Tables, where: str) -> str:
    used: list[str] = []
    for name in names:
        if name in tables.codes:
            continue
        owner = next((n for n, t in tables.groups.items() if any(name in m for m in t.members)), None)
        if owner is None:
            raise LoadRefused(f"there is no group or code `{name}` in the tables; correct it", where=where)
        if owner not in used:
            used.append(owner)
    if len(used) > 1:
        message = f"the expression mixes the tables {' and '.join(f'`{name}`' for name in used)}; use two rules"
        raise LoadRefused(message, where=where)
    if not used and not tables.groups:
        raise LoadRefused("there is no group table to hold this group; add one", where=where)
    return used[0] if used else min(tables.groups)
