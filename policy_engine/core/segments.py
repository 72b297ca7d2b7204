"""An index in several segments: each compiled by itself over some of the rules, asked one after the other.

Rules of the room:
- A segment never changes. A release that differs from another in some rules takes over the segments of all others.
- Which rules lie in which segment changes no answer: positions are those of the whole release, ascending.
- Each segment costs about what one index costs, so segments are few.
Left to others: which rules make a segment (`rules.segments`), the index of one segment (`core.index`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from policy_engine.core.index import Index, positions
from policy_engine.core.postings import spread


class Segments:
    """Several indexes as one. `parts` are each index with the positions that its rules have in the release."""

    __slots__ = ("parts", "rule_count")

    def __init__(self, parts: Iterable[tuple[Index, Sequence[int]]]) -> None:
        self.parts = tuple(parts)
        self.rule_count = sum(index.rule_count for index, _ in self.parts)

    def places(self, values: Sequence[Any]) -> tuple[int, ...]:
        """Return the positions of every rule whose conditions all hold, ascending. Raises as `Index.matching`."""
        found: list[int] = []
        for index, places in self.parts:
            matching = index.matching(values)
            if matching:
                found += [places[at] for at in positions(matching)]
        found.sort()
        return tuple(found)

    def matching(self, values: Sequence[Any]) -> int:
        """Return the same rules as bits."""
        return spread(self.places(values))

    def readable(self, values: Sequence[Any]) -> bool:
        """Return whether no segment would raise on these values."""
        return all(index.readable(values) for index, _ in self.parts)
