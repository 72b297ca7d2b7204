"""What a search listed, near or far: ids in order, and whether these are all. It grants nothing.

Left to others: searching (`services`), asking again to use what is listed (whoever uses it).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Listed:
    """Ids that were allowed when they were listed. `complete=False`: there may be more. Whoever uses one asks again."""

    ids: tuple[str, ...]
    complete: bool

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, id: object) -> bool:
        return id in self.ids
