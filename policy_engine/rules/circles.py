"""Roles that go in a circle: whether the role lines of a policy do, and which line closes the first one.

Rules of the room: the links of each domain are a graph of their own; a name that is its own role is a circle as well.
Left to others: how deep Casbin follows roles (`rules.compile`).
"""

from __future__ import annotations

from collections.abc import Sequence

from policy_engine.core.plain import Row

Link = tuple[tuple[str, ...], tuple[str, ...]]


def closing_line(kind: str, entries: Sequence[Row | None]) -> int | None:
    """Return the line of the `kind` row that closes the first circle, in order of lines; `None` where there is none.

    A circle that stands is found in time linear in the rows; its line then by halving.
    """
    rows = [(number, entry) for number, entry in enumerate(entries, 1) if entry is not None and entry[0] == kind]
    links = [((row[1], *row[3:]), (row[2], *row[3:])) for _, row in rows]
    if not _circular(links):
        return None
    straight, circular = 0, len(links)
    while circular - straight > 1:
        middle = (straight + circular) // 2
        if _circular(links[:middle]):
            circular = middle
        else:
            straight = middle
    return rows[circular - 1][0]


def _circular(links: Sequence[Link]) -> bool:
    """Return whether the links hold a circle: names without a role left are taken away until none is left to take."""
    above: dict[tuple[str, ...], int] = {}
    below: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for user, role in links:
        above[user] = above.get(user, 0) + 1
        above.setdefault(role, 0)
        below.setdefault(role, []).append(user)
    free = [name for name, count in above.items() if count == 0]
    taken = 0
    while free:
        taken += 1
        for user in below.get(free.pop(), ()):
            above[user] -= 1
            if above[user] == 0:
                free.append(user)
    return taken < len(above)
