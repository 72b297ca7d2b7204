"""Roles that go in a circle: whether the role lines of a policy do, and which line closes the first one.

Rules of the room: the links of each domain are a graph of their own; a name that is its own role is a circle as well.
Left to others: how deep Casbin follows roles (`rules.compile`).
"""

from __future__ import annotations

from collections.abc import Sequence

from policy_engine.core.plain import Row


def closing_line(kind: str, entries: Sequence[Row | None]) -> int | None:
    """Return the line of the `kind` row that closes the first circle, in order of lines; `None` where there is none.

    A circle that stands is found in time linear in the rows; its line then by halving.
    """
    numbers: dict[tuple[str, ...], int] = {}
    users: list[int] = []
    roles: list[int] = []
    lines: list[int] = []
    for line, row in enumerate(entries, 1):
        if row is not None and row[0] == kind:
            lines.append(line)
            users.append(numbers.setdefault((row[1], *row[3:]), len(numbers)))
            roles.append(numbers.setdefault((row[2], *row[3:]), len(numbers)))
    if not _circular(users, roles, len(lines), len(numbers)):
        return None
    straight, circular = 0, len(lines)
    while circular - straight > 1:
        middle = (straight + circular) // 2
        if _circular(users, roles, middle, len(numbers)):
            circular = middle
        else:
            straight = middle
    return lines[circular - 1]


def _circular(users: Sequence[int], roles: Sequence[int], count: int, names: int) -> bool:
    """Return whether the first links hold a circle: names without a role left are taken away until none is left."""
    above = [0] * names
    below: list[list[int]] = [[] for _ in range(names)]
    for at in range(count):
        above[users[at]] += 1
        below[roles[at]].append(users[at])
    free = [name for name in range(names) if above[name] == 0]
    taken = 0
    while free:
        taken += 1
        for user in below[free.pop()]:
            above[user] -= 1
            if above[user] == 0:
                free.append(user)
    return taken < names
